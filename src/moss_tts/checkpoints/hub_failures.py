"""Each failure of huggingface_hub as one sentence: what happened, and what to do.

Its own messages are not shown to people: they name classes, files and arguments of that library.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from logging import CRITICAL

from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import logging

from moss_tts.checkpoints.names import HUB_ID, HubName, suggestion
from moss_tts.errors import HubError, MossTTSError

# Errors of httpx or httpx2, whichever this release of huggingface_hub uses, by name; the first that fits is used.
NO_HUB = "{hub} does not answer as a hub does; check HF_ENDPOINT, the proxy, and whether the network has a log-in page"
NETWORK = {
    "ProxyError": "the proxy refuses the connection to {hub}; check HTTPS_PROXY, then try again",
    "ConnectError": "{hub} cannot be reached; check the network, and HF_ENDPOINT if it is set, then try again",
    "TimeoutException": "{hub} did not answer in time; try again",
    "TransportError": "the connection to {hub} was lost; try again, and complete files are not downloaded again",
    "TooManyRedirects": NO_HUB,
}
STATUS = {
    401: "{hub} does not accept the token; log in again with `hf auth login`, or correct HF_TOKEN",
    403: "your token does not allow this; change its permissions at {hub}/settings/tokens",
    404: "{hub} does not have it",
    413: "{hub} says that this is too large",
    429: "{hub} has received too many requests from this address; wait some minutes, or log in with `hf auth login`",
}
DISK = {
    errno.ENOSPC: "the disk of {cache} is full; free some space, or name another place with HF_HUB_CACHE",
    errno.EDQUOT: "the quota of {cache} is used up; free some space, or name another place with HF_HUB_CACHE",
    errno.EACCES: "you may not write into {cache}; name another place with HF_HUB_CACHE",
    errno.EPERM: "you may not write into {cache}; name another place with HF_HUB_CACHE",
    errno.EROFS: "{cache} is read-only; name another place with HF_HUB_CACHE",
}
OFFLINE = "HF_HUB_OFFLINE is set, so {hub} is not asked; unset it, then try again"


@contextmanager
def hub_door(name: str, task: str, revision: str | None = None) -> Iterator[None]:
    """The context of every call of huggingface_hub: its log stays quiet, its errors become a HubError.

    Args:
        name: the hub id that the call is about.
        task: what is done with it, as in "was not fetched".
        revision: the revision that was asked for.

    Raises:
        HubError: whatever went wrong, in a sentence.
    """
    level = logging.get_verbosity()
    logging.set_verbosity(CRITICAL)
    try:
        yield
    except MossTTSError:
        raise
    except Exception as error:
        raise HubError(f"{name} {task}: {reason(error, name, revision)}.") from error
    finally:
        logging.set_verbosity(level)


def reason(error: BaseException, name: str, revision: str | None = None) -> str:
    """Why something failed, as a clause without a full stop."""
    error = _first(error)
    for kind, words in _KINDS.items():
        if isinstance(error, kind):
            return words(name, revision)
    return _general(error).format(hub=constants.ENDPOINT, cache=constants.HF_HUB_CACHE)


def _first(error: BaseException) -> BaseException:
    """The first error behind one that says "not in the cache either"."""
    while isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _general(error: BaseException) -> str:
    """The words for an error that tells nothing of the repository."""
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        ours = f"{{hub}} answers {status}"
        return STATUS.get(status) or (f"{ours}, which is an error of the hub; try later" if status >= 500 else ours)
    if _certificate(error):
        return "the certificate of {hub} is not trusted on this machine; a proxy of your network may have replaced it"
    names = {kind.__name__ for kind in type(error).__mro__}
    if network := next((words for kind, words in NETWORK.items() if kind in names), None):
        return network
    if isinstance(error, OSError) and error.errno is not None:
        return DISK.get(error.errno, f"{error.strerror} ({error.filename or '{cache}'})")
    if isinstance(error, OSError):
        # huggingface_hub's own: a file of another length than was promised.
        return "a file did not arrive completely; try again, and complete files are not downloaded again"
    # An answer that cannot be read.
    return (
        NO_HUB
        if isinstance(error, ValueError | LookupError | TypeError)
        else f"huggingface_hub failed ({type(error).__name__})"
    )


def _certificate(error: BaseException | None) -> bool:
    """Whether an error comes from a certificate."""
    while error is not None:
        if isinstance(error, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


# -------------------------------------------------------------------------------------- about the repository


def _unknown(name: str, _: str | None) -> str:
    meant, hub_id = suggestion(name), HubName.of(name).id
    other = f"; OpenMOSS publishes {meant.id}" if meant else ""
    what = "of that name" if hub_id == name else hub_id
    return (
        f"{constants.ENDPOINT} has no public repository {what}; check the name, or log in with `hf auth login` "
        f"if it is private{other}"
    )


def _gated(name: str, _: str | None) -> str:
    page = f"{constants.ENDPOINT}/{HubName.of(name).id}"
    return f"its owner must give you access; ask for it at {page}, then log in with `hf auth login`"


def _revision(name: str, revision: str | None) -> str:
    page = f"{constants.ENDPOINT}/{HubName.of(name).id}/tree/main"
    return f"it has no revision {revision!r}; its branches and tags are at {page}"


def _name(name: str, _: str | None) -> str:
    return "hub ids do not look like this" if HUB_ID.fullmatch(name) else "a hub id looks like 'OpenMOSS-Team/MOSS-TTS'"


# In this order: some of them are kinds of others.
_KINDS: Mapping[type[BaseException], Callable[[str, str | None], str]] = {
    OfflineModeIsEnabled: lambda *_: OFFLINE.format(hub=constants.ENDPOINT),
    GatedRepoError: _gated,
    RepositoryNotFoundError: _unknown,
    RevisionNotFoundError: _revision,
    DisabledRepoError: lambda *_: "the hub has disabled it",
    LocalEntryNotFoundError: lambda *_: "it is not here yet",
    EntryNotFoundError: lambda *_: "one of its files is not on the hub",
    LocalTokenNotFoundError: lambda *_: "you are not logged in; log in with `hf auth login`, or set HF_TOKEN",
    FileMetadataError: lambda *_: NO_HUB.format(hub=constants.ENDPOINT),
    HFValidationError: _name,
}
