"""Replicas of the speech server behind one route, with Ray Serve. docs/scaling.md says how and when.

    python deploy/ray_serve/speech.py --model DIR --replicas 2     # all on this machine
    serve run speech:build model=DIR replicas=8 gpus=1             # on a cluster, from this directory

A replica is a whole server: a model, a device's thread, a batch of its own. Ray's proxy hands each request to the
replica that has the fewest. Voices are files, so replicas share them where they share a directory.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import ray
from pydantic import BaseModel
from ray import serve

import moss_tts
from moss_tts.server.app import create_app
from moss_tts.server.models import Models
from moss_tts.server.served_model import ModelSource
from moss_tts.server.settings import Settings
from moss_tts.voices import default_directory

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


class Options(BaseModel):
    """What an operator decides.

    Attributes:
        model: a checkpoint directory that every machine has, or a hub id.
        replicas: servers.
        gpus: of each replica; 0 computes on the CPU.
        cpus: that Ray keeps free for each replica.
        max_batch: requests that a replica speaks side by side.
        voices: directory of the registered voices; shared by all machines, or none can be added over HTTP.
        api_key: that clients must send.
    """

    model: str
    replicas: int = 2
    gpus: float = 0
    cpus: float = 1
    max_batch: int = 16
    voices: Path | None = None
    api_key: str | None = None


class Replica:
    """One server. Ray calls the constructor, then asks for the application."""

    def __init__(self, options: Options) -> None:
        self.settings = Settings(
            max_batch=options.max_batch,
            voices=options.voices or default_directory(),
            api_key=options.api_key,
            # The proxy is in front of it, and which names it has is the operator's business.
            hosts=("*",),
        )
        name = Path(options.model).name
        self.models = Models([ModelSource(name, lambda: moss_tts.load(options.model))], self.settings)
        self.models.start()

    def __serve_build_asgi_app__(self) -> Any:
        """The application, with the replica's name on each of its answers."""
        return Signed(create_app(self.settings, self.models), serve.get_replica_context().replica_id.unique_id)

    def check_health(self) -> None:
        """Let Ray start another replica when this one's device is lost."""
        if not self.models.alive:
            raise RuntimeError("the device's thread has ended")


class Signed:
    """Says in a header which replica answered."""

    def __init__(self, app: Any, name: str) -> None:
        self._app, self._header = app, (b"x-replica", name.encode())

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        """Answer."""

        async def signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), self._header]}
            await send(message)

        await self._app(scope, receive, signed)


def build(options: Options) -> Any:
    """The application that `serve run` starts."""
    deployment = serve.deployment(
        name="speech",
        num_replicas=options.replicas,
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
        # A replica bounds its own queue, and says when to come back.
        max_ongoing_requests=options.max_batch * 8,
        graceful_shutdown_timeout_s=30,
    )
    return deployment(serve.ingress()(Replica)).bind(options)


def main() -> None:
    """Serve on this machine until somebody ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--gpus", type=float, default=0, help="of each replica")
    parser.add_argument("--voices", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    ray.init(num_cpus=given.replicas + 1, include_dashboard=False)
    serve.start(http_options={"host": given.host, "port": given.port})
    options = Options(model=given.model, replicas=given.replicas, gpus=given.gpus, voices=given.voices)
    serve.run(build(options), name="speech")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        serve.shutdown()


if __name__ == "__main__":
    main()
