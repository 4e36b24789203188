"""The checkpoints that are on this machine: in the package, in the hub's cache, in a directory of copies."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound
from huggingface_hub.utils import CachedRepoInfo

from moss_tts.checkpoints.downloads import is_codec
from moss_tts.checkpoints.hub import CONFIG, is_kept
from moss_tts.checkpoints.hub_failures import hub_door
from moss_tts.checkpoints.names import (
    CODEC_DIRECTORIES,
    PIPELINE_INDEX,
    PUBLISHED,
    HubName,
    check_pipeline,
    is_pipeline,
    suggestion,
)
from moss_tts.checkpoints.packaged import packaged_voice
from moss_tts.errors import CheckpointError, ConfigError, RequestError
from moss_tts.weights.layout import read_json


@dataclass(frozen=True)
class Kept:
    """A checkpoint that is here.

    Attributes:
        name: the value for --model; None for the packaged voice, which needs no --model.
        kind: "speech model", "sound model" or "codec".
        nbytes: the bytes that it takes on the disk.
        directory: its directory.
        complete: whether all of it is here.
        fetched: whether it came from the hub, so that it can be fetched again.
    """

    name: str | None
    kind: str
    nbytes: int
    directory: Path
    complete: bool = True
    fetched: bool = False


def checkpoints_here(beside: Path) -> list[Kept]:
    """The packaged voice, the checkpoints fetched from the hub, and the copies in a directory."""
    return [*_packaged(), *_fetched(), *_copies(beside)]


def _packaged() -> Iterator[Kept]:
    try:
        directory = packaged_voice()
    except CheckpointError:
        return  # a build without it
    yield Kept(None, "speech model", bytes_of(directory), directory)


def _fetched() -> Iterator[Kept]:
    for repository in sorted(_repositories(), key=lambda repository: repository.repo_id):
        directory = _newest(repository)
        kind = kind_of(directory) or _published_kind(repository.repo_id)
        if kind is not None:
            nbytes, complete = bytes_of(repository.repo_path / "blobs"), is_kept(repository.repo_id)
            yield Kept(repository.repo_id, kind, nbytes, directory, complete, fetched=True)
        if kind != "sound model":  # the parts of one have folders
            yield from _in_folders(repository.repo_id, directory)


def _in_folders(hub_id: str, snapshot: Path) -> Iterator[Kept]:
    """The checkpoints in the folders of a repository."""
    for directory in sorted(path.parent for path in snapshot.rglob(CONFIG) if path.parent != snapshot):
        if directory.name not in CODEC_DIRECTORIES and (kind := kind_of(directory)):
            name = f"{hub_id}/{directory.relative_to(snapshot).as_posix()}"
            yield Kept(name, kind, bytes_of(directory), directory, is_kept(name), fetched=True)


def _copies(beside: Path) -> Iterator[Kept]:
    for directory in sorted(path for path in beside.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if kind := kind_of(directory):
            yield Kept(directory.name, kind, bytes_of(directory), directory.resolve())


def _repositories() -> list[CachedRepoInfo]:
    """The models in the hub's cache, of whatever kind."""
    with hub_door(constants.HF_HUB_CACHE, "could not be looked through"):
        try:
            found = scan_cache_dir(constants.HF_HUB_CACHE)
        except CacheNotFound:
            return []
    return [repository for repository in found.repos if repository.repo_type == "model" and repository.revisions]


def _newest(repository: CachedRepoInfo) -> Path:
    """The snapshot that a name without a revision means, else the newest."""
    main = repository.refs.get("main")
    return (main or max(repository.revisions, key=lambda revision: revision.last_modified)).snapshot_path


def kind_of(directory: Path) -> str | None:
    """The kind of the checkpoint in a directory: "speech model", "sound model", "codec" or None."""
    try:
        if is_pipeline(directory):
            check_pipeline(read_json(directory / PIPELINE_INDEX))
            return "sound model"
        return "codec" if is_codec(read_json(directory / "config.json")) else "speech model"
    except (CheckpointError, ConfigError):
        return None


def _published_kind(name: str) -> str | None:
    """The kind of a published repository, before its config.json is fetched."""
    return next((published.kind for published in PUBLISHED if published.id == name), None)


def bytes_of(directory: Path) -> int:
    """The bytes of the files of a directory; links count as the files that they point to."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def remove(name: str) -> int:
    """Delete what was fetched of a checkpoint from the hub's cache, all its revisions.

    Returns:
        How many bytes that frees.

    Raises:
        RequestError: there is nothing of that name in the cache.
        CheckpointError: it cannot be deleted.
    """
    repositories = {repository.repo_id: repository for repository in _repositories()}
    if name not in repositories:
        raise RequestError(_not_in_the_cache(name, repositories.keys()))
    found = repositories[name]
    nbytes = bytes_of(found.repo_path / "blobs")
    with hub_door(name, "could not be deleted"):
        # Revisions are told apart by their commits alone, and repositories may share one.
        alone = replace(scan_cache_dir(constants.HF_HUB_CACHE), repos=frozenset({found}))
        alone.delete_revisions(*(revision.commit_hash for revision in found.revisions)).execute()
    if found.repo_path.exists():
        raise CheckpointError(f"{found.repo_path} could not be deleted completely; check whether you may delete it.")
    return nbytes


def _not_in_the_cache(name: str, known: Collection[str]) -> str:
    if Path(name).is_dir():
        return f"{name} is a directory of your own and was not downloaded; delete it like any other directory."
    if (hub_id := HubName.of(name).id) in known:
        return f"{name} is a part of {hub_id}, which is deleted as a whole: `moss-tts models remove {hub_id}`."
    meant = suggestion(name)
    if meant and meant.id in known:
        return f"{name} was not fetched from the hub; {meant.id} was."
    return f"{name} was not fetched from the hub; `moss-tts models` shows what was."
