"""The hub: which files a checkpoint has, which of them are on this machine, and fetching the others.

Files lie in huggingface_hub's own cache, and its own environment (HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT,
HF_HUB_OFFLINE) decides where and how. Complete files are used as they are; the hub is asked only for the others.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, TypedDict, Unpack

from huggingface_hub import (
    HfApi,
    constants,
    get_cached_repo_tree,
    hf_hub_download,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError
from huggingface_hub.utils import tqdm

from moss_tts.adapters import CONFIG as ADAPTER_CONFIG
from moss_tts.checkpoints.hub_failures import hub_door
from moss_tts.checkpoints.names import (
    CODEC_DIRECTORIES,
    PIPELINE_FOLDERS,
    PIPELINE_INDEX,
    HubName,
    is_pipeline,
    no_model,
)
from moss_tts.device.memory import size
from moss_tts.device.thread import closing
from moss_tts.errors import CheckpointError, HubError, NotHereError
from moss_tts.weights.layout import first_names, weight_files

# Files that are needed to run; other files are fetched for other programs and for people.
NEEDED = ("*.json", "*.jinja", "*.safetensors", "vae/*.pth")
CHECKPOINT_FILES = (*NEEDED, "*.txt", "*.model", "LICENSE*", "README.md")
# Weights of torch.save, which are used if there are no others.
PICKLED = "pytorch_model*.bin"
CONFIG = "config.json"
# A download that has not grown for this long has ended.
SECONDS_LEFT_ALONE = 3600

# (what, bytes to come) -> a context in which that many bytes are told of, as they come
Show: TypeAlias = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]


@dataclass(frozen=True)
class HubFile:
    """A file on the hub: its path, relative to the checkpoint that it belongs to, and its size in bytes."""

    path: str
    nbytes: int


@dataclass(frozen=True)
class Listing:
    """What the hub has of a checkpoint.

    Attributes:
        name: hub id of a repository, or ORG/REPO/FOLDER.
        revision: branch, tag or commit that was asked for; None: the main branch.
        commit: the commit of that revision.
        files: the files that belong to a checkpoint; others are ignored.
    """

    name: str
    revision: str | None
    commit: str
    files: tuple[HubFile, ...]

    @property
    def place(self) -> HubName:
        """Where it is."""
        return HubName.of(self.name)

    @property
    def description(self) -> str:
        """The file that says what it is."""
        return description_of(file.path for file in self.files)

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(file.nbytes for file in self.files)

    def missing(self) -> tuple[HubFile, ...]:
        """The files that are not here, small ones first."""
        absent = [file for file in self.files if not self._is_here(file.path)]
        return tuple(sorted(absent, key=lambda file: file.nbytes))

    def _is_here(self, path: str) -> bool:
        found = try_to_load_from_cache(self.place.id, self.place.path(path), revision=self.commit)
        return isinstance(found, str)


def description_of(paths: Iterable[str]) -> str:
    """The one among the files of a checkpoint that says what it is."""
    present = set(paths)
    return PIPELINE_INDEX if PIPELINE_INDEX in present and CONFIG not in present else CONFIG


# ------------------------------------------------------------------------------------------------- asking it


def kept(name: str, revision: str | None = None) -> Path:
    """The directory of a checkpoint that was fetched; the hub is not asked.

    Raises:
        NotHereError: it was not fetched, or only a part of it.
    """
    place = HubName.of(name)
    with hub_door(name, "could not be looked for", revision):
        snapshot = _snapshot(place, revision)
        if snapshot is None or not any((snapshot / place.path(file)).is_file() for file in (CONFIG, PIPELINE_INDEX)):
            which = name if revision is None else f"revision {revision!r} of {name}"
            raise NotHereError(
                f"there is no directory {name!r} here, and {which} has not been fetched from the hub; "
                f"`moss-tts download {name}` does that."
            )
        if not _is_whole(snapshot, place):
            raise NotHereError(
                f"{name} is incomplete, because its download was interrupted; `moss-tts download {name}` completes it."
            )
    return snapshot / place.folder


def _snapshot(place: HubName, revision: str | None) -> Path | None:
    """The directory of a commit in the cache; None if nothing of it was fetched."""
    try:
        return Path(snapshot_download(place.id, revision=revision, allow_patterns=[], local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _is_whole(snapshot: Path, place: HubName) -> bool:
    """Whether all files of a checkpoint are here that are needed to run."""
    directory = snapshot / place.folder
    try:
        there = [HubFile(file.path, file.size) for file in get_cached_repo_tree(place.id, revision=snapshot.name)]
    except CachedRepoTreeNotFoundError:
        there = []  # nothing has listed that commit
    try:
        return all((directory / file.path).is_file() for file in _of_checkpoint(there, place, NEEDED)) and (
            is_pipeline(directory) or bool(weight_files(directory))
        )
    except CheckpointError:
        return False


def is_kept(name: str, revision: str | None = None) -> bool:
    """Whether all of a checkpoint was fetched."""
    try:
        kept(name, revision)
    except NotHereError:
        return False
    return True


def listing(name: str, revision: str | None = None, token: str | None = None) -> Listing:
    """What the hub has of a checkpoint.

    Raises:
        HubError: the hub does not answer, or the repository is not a checkpoint.
    """
    place, looked_up = HubName.of(name), "could not be looked up on the hub"
    with hub_door(name, looked_up if is_kept(name, revision) else f"is not here yet, and {looked_up}", revision):
        timeout = constants.HF_HUB_ETAG_TIMEOUT
        info = HfApi(token=token).model_info(place.id, revision=revision, files_metadata=True, timeout=timeout)
        files = [HubFile(entry.rfilename, entry.size or 0) for entry in info.siblings or []]
        listed = Listing(name, revision, str(info.sha), tuple(_of_checkpoint(files, place)))
    if listed.description not in [file.path for file in listed.files]:
        raise HubError(_no_checkpoint(name, [PurePosixPath(file.path) for file in files]))
    return listed


def _no_checkpoint(name: str, paths: Sequence[PurePosixPath]) -> str:
    """A sentence that says why a place on the hub is no checkpoint, and what its repository has."""
    place = HubName.of(name)
    if adapters := [path.parent for path in paths if path.name == ADAPTER_CONFIG and path.is_relative_to(place.folder)]:
        return no_model(name, str(place.id / min(adapters)))
    folders = sorted({f"{place.id}/{path.parent}" for path in paths if path.name == CONFIG and len(path.parts) > 1})
    inside = f" Checkpoints are in {first_names(folders)}: give one of these." if folders else ""
    return f"{name} is on the hub, but is not a checkpoint: it has no {CONFIG}.{inside}"


def _of_checkpoint(
    files: Iterable[HubFile], place: HubName, patterns: Sequence[str] = (*CHECKPOINT_FILES, PICKLED)
) -> Iterator[HubFile]:
    """The files of one checkpoint among those of a repository, which may hold others in its folders."""
    start = place.path("")
    inside = [HubFile(file.path.removeprefix(start), file.nbytes) for file in files if file.path.startswith(start)]
    is_model_of_parts = description_of(file.path for file in inside) == PIPELINE_INDEX
    folders = (".", *(PIPELINE_FOLDERS if is_model_of_parts else CODEC_DIRECTORIES))
    has_safetensors = {PurePosixPath(file.path).parent for file in inside if file.path.endswith(".safetensors")}
    for file in inside:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts:
            raise HubError(f"the hub names a file that would lie elsewhere: {file.path!r}.")
        if str(path.parent) not in folders or not any(map(path.match, patterns)):
            continue
        if path.suffix not in (".bin", ".pth") or path.parent not in has_safetensors:
            yield file


# -------------------------------------------------------------------------------------------------- fetching


@contextmanager
def _bar(name: str, nbytes: int) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal and in a notebook, for programs that have none of their own."""
    with tqdm(desc=name, total=nbytes, unit="B", unit_scale=True, disable=None) as bar:
        yield bar.update


_show: ContextVar[Show] = ContextVar("show", default=_bar)


@contextmanager
def shown_by(show: Show) -> Iterator[None]:
    """Show downloads inside this context in a program's own way."""
    before = _show.set(show)
    try:
        yield
    finally:
        _show.reset(before)


def fetch(listed: Listing, token: str | None = None) -> Path:
    """Fetch the missing files of a checkpoint, one by one.

    A connection that breaks is continued where it broke. After an interruption, files that were complete are kept, and
    the one that was under way begins anew.

    Returns:
        Its directory in the cache.

    Raises:
        CheckpointError: the disk is too small.
        HubError: the hub does not give it.
    """
    name, place, revision = listed.name, listed.place, listed.revision
    check_room(listed)
    with hub_door(name, "could not be fetched from the hub", revision):
        # This fetches the list of all files as well, which shows later whether a download was interrupted.
        only, quiet = [escape(place.path(file)) for file in (CONFIG, PIPELINE_INDEX)], counter(lambda _: None)
        snapshot = Path(
            snapshot_download(place.id, revision=revision, token=token, allow_patterns=only, tqdm_class=quiet)
        )
        _drop_leftovers(snapshot)
        missing = listed.missing()
        with _show.get()(name, sum(file.nbytes for file in missing)) as on_bytes:
            for file in missing:
                path, bar = place.path(file.path), counter(on_bytes)
                hf_hub_download(place.id, path, revision=listed.commit, token=token, tqdm_class=bar)
    return snapshot / place.folder


def fetch_files(name: str, files: Sequence[str], token: str | None = None) -> Path:
    """The directory of a repository, or of a folder in one, with these files; what is here is not fetched again.

    Args:
        name: hub id, or ORG/REPO/FOLDER.
        files: names of files there.
        token: hub token, if not the one that is logged in.

    Raises:
        HubError: the hub does not give them.
    """
    place = HubName.of(name)
    paths = [place.path(file) for file in files]
    found = [try_to_load_from_cache(place.id, path) for path in paths]
    if any(not isinstance(path, str) for path in found):
        # All of them: what is here can be of an older commit.
        with hub_door(name, f"does not give {' and '.join(files)}"):
            found = [hf_hub_download(place.id, path, token=token, tqdm_class=counter(lambda _: None)) for path in paths]
    return Path(str(found[0])).parent


def check_room(*listings: Listing) -> None:
    """Refuse a disk that has no room for what is missing.

    Raises:
        CheckpointError: says how much it would take.
    """
    needed = sum(file.nbytes for listed in listings for file in listed.missing())
    cache = Path(constants.HF_HUB_CACHE)
    place = next(path for path in (cache, *cache.parents) if path.exists())
    if (free := shutil.disk_usage(place).free) < needed:
        names = " and ".join(listed.name for listed in listings)
        raise CheckpointError(
            f"{names}: {size(needed)} to fetch, but the disk of {cache} has only {size(free)} left; make room, or name "
            f"another place with HF_HUB_CACHE."
        )


def _drop_leftovers(directory: Path) -> None:
    """Delete the files of killed downloads: each has a name of its own, which huggingface_hub never reads again."""
    for path in (directory.parents[1] / "blobs").glob("*.*.incomplete"):
        if time.time() - path.stat().st_mtime > SECONDS_LEFT_ALONE:
            path.unlink(missing_ok=True)


class _BarOptions(TypedDict, total=False):
    """The options of a progress bar that matter here."""

    total: int


def counter(on_bytes: Callable[[int], object]) -> type:
    """A progress bar that draws nothing, and reports how many bytes of a file have come."""

    class Counter(tqdm):
        """Takes the reports of huggingface_hub about a file."""

        def __init__(self, *arguments: Any, **options: Unpack[_BarOptions]) -> None:
            super().__init__(*arguments, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            """Bytes that were written. A process that ends does not wait for the others."""
            if closing.is_set():
                raise KeyboardInterrupt
            on_bytes(int(n or 0))

        def update_transfer(self, n: float | None = 1) -> None:
            """Bytes on their way, which are fewer where they are compressed; nobody is told."""

        def set_transfer_postfix_str(self, *_: Any, **options: Unpack[_BarOptions]) -> None:
            """The speed on the way."""

    return Counter
