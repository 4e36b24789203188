"""Where the server listens, and how many connections it can hold."""

from __future__ import annotations

import resource
import socket

from moss_tts.errors import RequestError

# Connections that the system holds until they are accepted.
WAITING_TO_BE_ACCEPTED = 1024
# Those accepted in one turn of the event loop, which counts them only in the turn after the next.
ACCEPTED_AT_ONCE = 16
MOST_CONNECTIONS = 1024
# Bytes that the system takes for a client ahead of it. It would take megabytes, and say nothing for minutes of whether
# a client that plays what it hears still reads.
MOST_UNSENT = 2**16


def bound(host: str, port: int) -> socket.socket:
    """A socket to listen on. No client is let in before the server runs.

    Raises:
        RequestError: it is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, its connections get TCP_NODELAY from asyncio: without it, the end of an answer on a kept connection
    # waits 40 ms for the client's word that it has the beginning.
    place = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            place.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MOST_UNSENT)
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


def most_connections() -> int:
    """The connections that may be open together: each is a file, and half of the files are kept for other things."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else max(1, min(MOST_CONNECTIONS, files // 2))
