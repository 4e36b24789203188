"""Every error this package raises on purpose.

MossTTSError
├── ConfigError (ValueError)          config.json is not a model of this family, or contradicts itself
├── CheckpointError                   weight files that are missing, broken, or do not fit the config
│   └── HubError                      the hub does not give what was asked of it
│       └── NotHereError              a checkpoint of the hub that was not fetched, or only in part
├── CodecNotFoundError                no codec in any of the places that were searched
├── BackendNotFoundError (ImportError)    MLX cannot be imported, for want of a backend
├── RequestError (ValueError)         an argument of a request is wrong, or two contradict each other
│   ├── UnknownOptionError (TypeError)    a keyword that generate does not have
│   └── UnknownVoiceError             a voice that is not registered
├── AudioError (ValueError)           audio that cannot be read, or cannot serve as a reference
├── CheckFailedError                  a golden or a law does not hold on this machine
└── GenerationError                   generation failed; nothing was wrong with the request
    ├── PendingTextError              a turn of a session has more text than it may keep; push it again later
    └── TurnOverError                 a turn of a session is over, and takes no more text

A MossTTSWarning says what was done otherwise than asked; speech goes on.

A message says what is wrong, what was given, what is allowed and, where it helps, what to do: in one line, and in
bounded length, whatever the value is that it repeats.
"""

from __future__ import annotations

MOST_CHARACTERS = 2000
_SHOWN_CHARACTERS = 120


def shown(value: object) -> str:
    """A value as a message repeats it: one line, and not much of a long one."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # Python does not write integers of more than 4300 digits, nor what is nested too deeply.
        return f"a value of type {type(value).__name__} that is too large to be written here"
    return _clipped(text, _SHOWN_CHARACTERS)


def first_of(names: list[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _clipped(text: str, most: int) -> str:
    line = "".join(sign if sign.isprintable() else " " for sign in text)
    return line if len(line) <= most else f"{line[: most - 23]} ... {line[-18:]}"


class MossTTSWarning(UserWarning):
    """Something of a request that a checkpoint cannot follow, or a text that is spoken otherwise than it is written."""


class MossTTSError(Exception):
    """Base of all errors this package raises on purpose."""

    def __str__(self) -> str:
        """The message in one line that can be printed."""
        return _clipped(super().__str__(), MOST_CHARACTERS)


class ConfigError(MossTTSError, ValueError):
    """config.json is not a model of this family, or contradicts itself."""


class CheckpointError(MossTTSError):
    """Weight files that are missing, broken, or do not fit the config."""


class HubError(CheckpointError):
    """The hub does not give what was asked of it."""


class NotHereError(HubError):
    """A checkpoint of the hub that was not fetched, or only in part."""


class CodecNotFoundError(MossTTSError):
    """No codec in any of the places that were searched."""


class BackendNotFoundError(MossTTSError, ImportError):
    """MLX cannot be imported, for want of a backend."""


class RequestError(MossTTSError, ValueError):
    """An argument of a request is wrong, or two contradict each other."""


class UnknownOptionError(RequestError, TypeError):
    """A keyword that generate does not have."""


class UnknownVoiceError(RequestError):
    """A voice that is not registered."""


class AudioError(MossTTSError, ValueError):
    """Audio that cannot be read, or cannot serve as a reference."""


class CheckFailedError(MossTTSError):
    """A golden or a law does not hold on this machine."""


class GenerationError(MossTTSError):
    """Generation failed; nothing was wrong with the request."""


class PendingTextError(GenerationError):
    """A turn of a session has more text than it may keep; push it again later."""


class TurnOverError(GenerationError):
    """A turn of a session is over, and takes no more text."""
