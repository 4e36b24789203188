"""A hub on this machine, for programs that are told of it by HF_ENDPOINT; and its cache, for programs that need none.

It speaks what huggingface_hub asks of the real one to look a model up and to fetch it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ABOUT = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?")
FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
# Bytes of a file that is sent with faults.
LARGE = 10_000
UNKNOWN = (401, {"X-Error-Code": "RepoNotFound"})
GATED = (403, {"X-Error-Code": "GatedRepo"})


def cache_entry(cache: Path, name: str, source: Path) -> Path:
    """A repository in the layout of the hub's local cache, all its files small ones."""
    folder = cache / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    (folder / "blobs").mkdir(parents=True)
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        blob = folder / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copyfile(path, blob)
        target = snapshot / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(os.path.relpath(blob, target.parent))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return snapshot


@dataclass
class Repository:
    """What the hub has under a name.

    Attributes:
        files: path -> content.
        refusal: status and headers of every answer, in place of what is asked for.
        closed: the same of every answer with a file: what a repository holds may be known, and not open to all.
        breaks: how many more answers with a large file end in its middle.
        empty: whether these end before its first byte.
        seconds: that each answer waits.
        pause: waited for in the middle of a large file.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    refusal: tuple[int, dict[str, str]] | None = None
    closed: tuple[int, dict[str, str]] | None = None
    breaks: int = 0
    empty: bool = False
    seconds: float = 0.0
    pause: threading.Event | None = None

    @classmethod
    def of(cls, directory: Path) -> Repository:
        """A checkpoint as its makers would upload it."""
        paths = [path for path in directory.rglob("*") if path.is_file()]
        return cls({path.relative_to(directory).as_posix(): path.read_bytes() for path in paths})


@dataclass
class Hub:
    """A hub, its address, what it was asked for: (method, path, Range), and with which tokens."""

    repositories: dict[str, Repository]
    address: str = ""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Of a program that is to use this hub, with a cache of its own."""
        ours = {"HF_ENDPOINT": self.address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
        return os.environ | ours | {"HF_HUB_ETAG_TIMEOUT": "300", "HF_HUB_DOWNLOAD_TIMEOUT": "300"} | more

    def fetched(self) -> list[str]:
        """Paths of the files that were sent, or begun."""
        return [match[3] for method, path, _ in self.asked if method == "GET" and (match := FILE.fullmatch(path))]


@contextmanager
def hub_of(repositories: dict[str, Repository]) -> Iterator[Hub]:
    """A hub that has these repositories, by their ids."""
    hub = Hub(repositories)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answer", (_Answer,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Answer(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        self.hub.tokens |= {token for token in [self.headers.get("Authorization")] if token}
        about, file = ABOUT.fullmatch(path), FILE.fullmatch(path)
        name, revision = (about[1], about[3]) if about else (file[1], file[2]) if file else ("", None)
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self._send(*UNKNOWN)
        time.sleep(repository.seconds)
        if repository.refusal is not None:
            return self._send(*repository.refusal)
        if revision not in (None, "main", COMMIT):
            return self._send(404, {"X-Error-Code": "RevisionNotFound"})
        if about:
            return self._send(200, {}, self._listing(name, repository, tree=about[2] == "tree"))
        if repository.closed is not None:
            return self._send(*repository.closed)
        return self._file(repository, file[3], body)

    def _listing(self, name: str, repository: Repository, tree: bool) -> bytes:
        if tree:
            return json.dumps(
                [
                    {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for path, content in repository.files.items()
                ]
            ).encode()
        siblings = [{"rfilename": path, "size": len(content)} for path, content in repository.files.items()]
        return json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode()

    def _file(self, repository: Repository, path: str, body: bool) -> None:
        content = repository.files.get(path)
        if content is None:
            return self._send(404, {"X-Error-Code": "EntryNotFound"})
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(content).hexdigest()}"', "Accept-Ranges": "bytes"}
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            return self._send(206, headers, content[first : last + 1], repository, body)
        return self._send(200, headers, content, repository, body)

    def _send(
        self,
        status: int,
        headers: dict[str, str],
        content: bytes = b"",
        repository: Repository | None = None,
        body: bool = True,
    ) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if not body:
            return
        large = repository is not None and len(content) > LARGE
        half = len(content) // 2
        if large and repository.breaks:
            repository.breaks -= 1
            self.wfile.write(content[: 0 if repository.empty else half])
            self.close_connection = True
            return
        if large and repository.pause is not None:
            self.wfile.write(content[:half])
            self.wfile.flush()
            repository.pause.wait()
            content = content[half:]
        self.wfile.write(content)
