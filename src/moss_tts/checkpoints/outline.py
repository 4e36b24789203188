"""A checkpoint of the hub before it is fetched: its descriptions, and its weight files with headers and holes.

Code that needs only the shapes of a checkpoint treats this like a checkpoint on this machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi, hf_hub_download

from moss_tts.checkpoints.hub import CONFIG, HubFile, Listing, counter
from moss_tts.checkpoints.hub_failures import hub_door
from moss_tts.errors import CheckpointError
from moss_tts.weights.layout import INDEX_FILE, is_pickled, read_json

# Files that describe a checkpoint, without its weights and its vocabulary.
DESCRIPTIONS = (CONFIG, "generation_config.json", "tokenizer_config.json", "chat_template.jinja", INDEX_FILE)


def read_config(listed: Listing, token: str | None = None) -> dict[str, Any]:
    """config.json of a checkpoint on the hub, or model_index.json of a model of several parts.

    Raises:
        HubError: the hub does not give it.
        CheckpointError: it is no JSON object.
    """
    with TemporaryDirectory(prefix="moss-tts-") as place:
        _description(listed, HubFile(listed.description, 0), Path(place), token)
        try:
            return read_json(Path(place) / listed.description)
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(place, listed.name)) from error


@contextmanager
def outlines(*parts: tuple[Listing, str], token: str | None = None) -> Iterator[Path]:
    """A directory that looks like a checkpoint, with these repositories at these places.

    Raises:
        HubError: the hub does not give it.
        CheckpointError: its weights are pickled, so that its tensors are known once all of it is here.
    """
    with TemporaryDirectory(prefix="moss-tts-") as root:
        for listed, place in parts:
            for file in listed.files:
                _outline(listed, file, Path(root) / place, token)
        yield Path(root)


def _outline(listed: Listing, file: HubFile, place: Path, token: str | None) -> None:
    target = place / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_pickled(target):
        raise CheckpointError(
            f"{listed.name} has its weights in {file.path}, which can be looked at once it is here: "
            f"`moss-tts download {listed.name}` fetches it."
        )
    if target.suffix == ".safetensors":
        _write_hollow(target, _header(listed, file, token), file.nbytes)
    elif PurePosixPath(file.path).name in DESCRIPTIONS:
        _description(listed, file, place, token)
    else:
        target.touch()


def _description(listed: Listing, file: HubFile, place: Path, token: str | None) -> None:
    with hub_door(listed.name, "could not be looked at on the hub", listed.revision):
        quiet, commit = counter(lambda _: None), listed.commit
        path = listed.place.path(file.path)
        found = hf_hub_download(listed.place.id, path, revision=commit, local_dir=place, token=token, tqdm_class=quiet)
        Path(found).replace(place / file.path)


def _header(listed: Listing, file: HubFile, token: str | None) -> dict[str, Any]:
    """The header of a safetensors file, which lies in its first bytes."""
    with hub_door(listed.name, "could not be looked at on the hub", listed.revision):
        read = HfApi(token=token).parse_safetensors_file_metadata
        found = read(listed.place.id, listed.place.path(file.path), revision=listed.commit)
        tensors = {
            name: {"dtype": one.dtype, "shape": list(one.shape), "data_offsets": list(one.data_offsets)}
            for name, one in found.tensors.items()
        }
        return {"__metadata__": found.metadata, **tensors} if found.metadata else tensors


def _write_hollow(path: Path, header: dict[str, Any], nbytes: int) -> None:
    """Write a safetensors file of that length without its values: the hole takes no space on a disk."""
    raw = json.dumps(header, separators=(",", ":")).encode()
    end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    # Writers pad headers with blanks.
    length = max(len(raw), nbytes - 8 - end)
    with path.open("wb") as file:
        file.write(length.to_bytes(8, "little") + raw.ljust(length))
        file.truncate(8 + length + end)
