"""Where the server listens."""

from __future__ import annotations

import socket

from moss_tts.errors import RequestError


def bound(host: str, port: int) -> socket.socket:
    """A place to listen at. Nobody is let in before the server runs.

    Raises:
        RequestError: it is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, its connections get TCP_NODELAY from asyncio: without it, the end of an answer on a kept connection
    # waits 40 ms for the client's word that it has the beginning.
    place = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((host, port))
    except OSError as error:
        place.close()
        why = error.strerror or error
        raise RequestError(f"cannot listen on {host}, port {port}: {why}; choose another --host or --port") from error
    return place


def address(place: socket.socket) -> str:
    """The URL of a place."""
    host, port = place.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
