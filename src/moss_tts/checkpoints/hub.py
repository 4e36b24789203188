"""The hub: which files a checkpoint has, which of them are on this machine, and fetching the others.

Files lie in huggingface_hub's own cache, and its own environment (HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT,
HF_HUB_OFFLINE) decides where and how. Complete files are used as they are; the hub is asked only for the others.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, TypedDict, Unpack

from huggingface_hub import (
    HfApi,
    constants,
    hf_hub_download,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects, tqdm

from moss_tts.adapters import CONFIG as ADAPTER_CONFIG
from moss_tts.checkpoints.hub_failures import hub_door
from moss_tts.checkpoints.names import PIPELINE_INDEX, is_pipeline, no_model
from moss_tts.device.memory import size
from moss_tts.device.thread import closing
from moss_tts.errors import CheckpointError, HubError, NotHereError
from moss_tts.weights.layout import weight_files

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
    """A file of a repository: its path there, and its size in bytes."""

    path: str
    nbytes: int


@dataclass(frozen=True)
class Listing:
    """What the hub has of a checkpoint.

    Attributes:
        name: hub id.
        revision: branch, tag or commit that was asked for; None: the main branch.
        commit: the commit of that revision.
        files: the files that belong to a checkpoint; others are ignored.
    """

    name: str
    revision: str | None
    commit: str
    files: tuple[HubFile, ...]

    @property
    def description(self) -> str:
        """The file that says what it is."""
        paths = [file.path for file in self.files]
        return PIPELINE_INDEX if PIPELINE_INDEX in paths and CONFIG not in paths else CONFIG

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(file.nbytes for file in self.files)

    def missing(self) -> tuple[HubFile, ...]:
        """The files that are not here, small ones first."""
        absent = [file for file in self.files if not self._is_here(file.path)]
        return tuple(sorted(absent, key=lambda file: file.nbytes))

    def _is_here(self, path: str) -> bool:
        return isinstance(try_to_load_from_cache(self.name, path, revision=self.commit), str)


# ------------------------------------------------------------------------------------------------- asking it


def kept(name: str, revision: str | None = None) -> Path:
    """The directory of a checkpoint that was fetched; the hub is not asked.

    Raises:
        NotHereError: it was not fetched, or only a part of it.
    """
    with hub_door(name, "could not be looked for", revision):
        try:
            directory = snapshot_download(name, revision=revision, allow_patterns=list(NEEDED), local_files_only=True)
            if not is_pipeline(Path(directory)):
                weight_files(Path(directory))
        except (IncompleteSnapshotError, CheckpointError) as error:
            raise NotHereError(
                f"{name} is incomplete, because its download was interrupted; `moss-tts download {name}` completes it."
            ) from error
        except LocalEntryNotFoundError as error:
            which = name if revision is None else f"revision {revision!r} of {name}"
            raise NotHereError(
                f"there is no directory {name!r} here, and {which} has not been fetched from the hub; "
                f"`moss-tts download {name}` does that."
            ) from error
    return Path(directory)


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
    looked_up = "could not be looked up on the hub"
    with hub_door(name, looked_up if is_kept(name, revision) else f"is not here yet, and {looked_up}", revision):
        timeout = constants.HF_HUB_ETAG_TIMEOUT
        info = HfApi(token=token).model_info(name, revision=revision, files_metadata=True, timeout=timeout)
        files = [HubFile(entry.rfilename, entry.size or 0) for entry in info.siblings or []]
        listed = Listing(name, revision, str(info.sha), tuple(_of_checkpoint(files)))
    if listed.description not in [file.path for file in listed.files]:
        places = [PurePosixPath(name) / file.path for file in files if PurePosixPath(file.path).name == ADAPTER_CONFIG]
        if places:
            raise HubError(no_model(name, str(min(places).parent)))
        raise HubError(f"{name} is on the hub, but is not a checkpoint: it has no {CONFIG}.")
    return listed


def _of_checkpoint(files: list[HubFile]) -> Iterator[HubFile]:
    has_safetensors = {PurePosixPath(file.path).parent for file in files if file.path.endswith(".safetensors")}
    patterns = [*CHECKPOINT_FILES, PICKLED, f"*/{PICKLED}"]
    for file in filter_repo_objects(files, allow_patterns=patterns, key=lambda file: file.path):
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts:
            raise HubError(f"the hub names a file that would lie elsewhere: {file.path!r}.")
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
    name, revision = listed.name, listed.revision
    check_room(listed)
    with hub_door(name, "could not be fetched from the hub", revision):
        # This fetches the list of all files as well, which shows later whether a download was interrupted.
        only, quiet = [CONFIG, PIPELINE_INDEX], counter(lambda _: None)
        directory = Path(snapshot_download(name, revision=revision, token=token, allow_patterns=only, tqdm_class=quiet))
        _drop_leftovers(directory)
        missing = listed.missing()
        with _show.get()(name, sum(file.nbytes for file in missing)) as on_bytes:
            for file in missing:
                bar = counter(on_bytes)
                hf_hub_download(name, file.path, revision=listed.commit, token=token, tqdm_class=bar)
    return directory


def fetch_files(name: str, folder: str, files: Sequence[str], token: str | None = None) -> Path:
    """The directory of a folder in a repository, with these files; those that are here are not fetched again.

    Args:
        name: hub id.
        folder: a path in the repository; "" is the repository itself.
        files: names of files in that folder.
        token: hub token, if not the one that is logged in.

    Raises:
        HubError: the hub does not give them.
    """
    paths = [f"{folder}/{file}" if folder else file for file in files]
    found = [try_to_load_from_cache(name, path) for path in paths]
    if any(not isinstance(path, str) for path in found):
        # All of them: what is here can be of an older commit.
        with hub_door(name, f"does not give {' and '.join(paths)}"):
            found = [hf_hub_download(name, path, token=token, tqdm_class=counter(lambda _: None)) for path in paths]
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
