"""References: recordings that a model hears, in each form that callers give them. They are told apart here, once.

Letters: C channels, S samples per channel, Q codebooks, F frames.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias

from moss_tts.audio.codes import CODE_SUFFIXES, CodeMatrix, is_code_matrix
from moss_tts.audio.waveform import HasAudio
from moss_tts.errors import RequestError


@dataclass(frozen=True)
class AudioFile:
    """A file with audio, by the path that the caller wrote."""

    path: str


@dataclass(frozen=True)
class CodeFile:
    """A file with one code matrix (.npy or .safetensors), by the path that the caller wrote."""

    path: str


@dataclass(frozen=True, eq=False)
class AudioArray:
    """A waveform in memory.

    Attributes:
        samples: (S,), (C, S) or (S, C), of NumPy or MLX.
        rate: the rate in Hz; None is the model's.
    """

    samples: Any
    rate: Any = None


@dataclass(frozen=True, eq=False)
class CodeArray:
    """A code matrix (F, Q) or (Q, F) in memory, of NumPy or MLX."""

    codes: Any


@dataclass(frozen=True, eq=False)
class Joined:
    """Several recordings heard as one.

    Waveforms are joined before they are encoded. As soon as one of them is codes, codes are joined instead: an
    approximation, for the codec's context does not cross the seams.
    """

    parts: tuple[Reference, ...]


class RegisteredVoice(ABC):
    """A recording on disk that is encoded once for each codec, and keeps its codes."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What people call it."""

    @property
    @abstractmethod
    def sample(self) -> Path:
        """The recording."""

    @abstractmethod
    def kept_codes(self, codec: str, n_vq: int) -> CodeMatrix | None:
        """Codes (F, Q) of a codec, by its fingerprint; None where they were not made yet."""

    @abstractmethod
    def keep_codes(self, codec: str, codes: CodeMatrix) -> None:
        """Keep codes (F, Q) that were made of the recording."""


Reference: TypeAlias = AudioFile | CodeFile | AudioArray | CodeArray | RegisteredVoice | Joined


def as_reference(value: object, name: str) -> Reference:
    """A reference from what a caller gave.

    An array of integers is codes, never PCM; integer PCM comes with its rate.

    Args:
        value: a path, a waveform, a pair (waveform, its rate), a Speech or result, a code matrix, or a Reference.
        name: the name of the option or place, for messages.

    Raises:
        RequestError: anything else.
    """
    match value:
        case AudioFile() | CodeFile() | AudioArray() | CodeArray() | RegisteredVoice() | Joined():
            return value
        case str() | os.PathLike():
            path = os.fspath(value)
            return CodeFile(path) if Path(path).suffix.lower() in CODE_SUFFIXES else AudioFile(path)
        case HasAudio():
            return AudioArray(value.audio, value.sample_rate)
        case (samples, rate) if _is_rated(value):
            return AudioArray(samples, rate)
        case _ if is_code_matrix(value):
            return CodeArray(value)
        case _ if _is_array(value):
            return AudioArray(value)
    raise RequestError(
        f"{name} must be a path, a waveform, a pair (waveform, its rate), a speech or a code matrix, "
        f"got a {type(value).__name__}"
    )


def as_references(value: object, name: str) -> tuple[Reference | None, ...]:
    """References from one or a list of them; None entries, speakers without a recording, keep their place.

    Raises:
        RequestError: an entry that is no reference.
    """
    entries = value if is_list(value) else (value,)
    return tuple(None if entry is None else as_reference(entry, name) for entry in entries)  # type: ignore[attr-defined]


def is_list(value: object) -> bool:
    """Whether a value is a list of references, rather than one waveform with its rate."""
    return isinstance(value, list | tuple) and not _is_rated(value)


def _is_rated(value: object) -> bool:
    is_pair = isinstance(value, tuple) and len(value) == 2
    return is_pair and _is_array(value[0]) and isinstance(value[1], Real)  # type: ignore[index]


def _is_array(value: object) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")
