"""References, in any of the forms callers give them, as code matrices.

A reference is a path (audio, or codes in .npy or .safetensors), a waveform at the model's rate, a pair
(waveform, its rate), an integer code matrix, or a registered voice, which keeps its codes. A two-dimensional
integer array alone is codes, never PCM.
Letters: C channels, S samples per channel, Q codebooks, F frames.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeGuard, runtime_checkable

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from moss_tts.audio.codes import CodeMatrix, is_code_matrix, orient_codes
from moss_tts.audio.files import (
    Samples,
    Waveform,
    as_waveform,
    check_audible,
    errors_name,
    fit_channels,
    normalize_loudness,
    read_audio,
    resample,
)
from moss_tts.codec import MossAudioTokenizer
from moss_tts.codec.config import CodecConfig
from moss_tts.errors import AudioError, RequestError

# A path, a waveform, a pair of a waveform and its rate, or a code matrix.
Reference: TypeAlias = object
LoadCodec: TypeAlias = Callable[[], MossAudioTokenizer]


@runtime_checkable
class KeepsCodes(Protocol):
    """A recording that is encoded once for each codec: a registered voice."""

    def __fspath__(self) -> str:
        """The recording."""
        ...

    def kept_codes(self, codec: str, n_vq: int) -> CodeMatrix | None:
        """Codes (F, Q) of a codec, by its fingerprint; None where they were not made yet."""
        ...

    def keep_codes(self, codec: str, codes: CodeMatrix) -> None:
        """Keep codes (F, Q) that were made of the recording."""
        ...


def encode_references(
    references: Sequence[Reference], codec: LoadCodec, n_vq: int, sampling_rate: int
) -> list[CodeMatrix]:
    """Codes (F, n_vq) of each reference, in order; all waveforms go through one call of the codec.

    Args:
        references: paths, waveforms, pairs or code matrices, in any mixture.
        codec: gives the codec; asked for only if there is a waveform.
        n_vq: codebooks Q of the model.
        sampling_rate: of the model, and of waveforms that come without a rate.

    Raises:
        AudioError: a file or waveform that cannot serve; the message says which and why.
        RequestError: a code matrix of the wrong shape.
        TypeError: something that is no reference.
    """
    references = [_kept(reference, codec, n_vq) for reference in references]
    names = [_name(position, reference) for position, reference in enumerate(references, 1)]
    loaded = [_load(*named, n_vq, sampling_rate) for named in zip(references, names, strict=True)]
    waveforms = [(item, name) for item, name in zip(loaded, names, strict=True) if isinstance(item, Waveform)]
    encoded = iter(_encode(waveforms, codec(), n_vq) if waveforms else [])
    codes = [next(encoded) if isinstance(item, Waveform) else item for item in loaded]
    for reference, made in zip(references, codes, strict=True):
        if isinstance(reference, KeepsCodes):
            reference.keep_codes(codec().fingerprint, made)
    return codes


def _kept(reference: Reference, codec: LoadCodec, n_vq: int) -> Reference:
    """The codes that a registered voice keeps, if it has some; any other reference as it is."""
    if not isinstance(reference, KeepsCodes):
        return reference
    codes = reference.kept_codes(codec().fingerprint, n_vq)
    return reference if codes is None else codes


def load_waveform(reference: Reference, sampling_rate: int) -> Samples:
    """A path, a waveform or a pair as mono samples (S,) at a rate, its loudness untouched.

    Raises:
        AudioError: it cannot serve as a reference.
        TypeError: it is none of these.
    """
    name = _name(1, reference)
    waveform = _load_waveform(reference, name, sampling_rate)
    return _heard(waveform, name, 1, sampling_rate)[0]


def _name(position: int, reference: Reference) -> str:
    """What error messages call a reference."""
    return os.fspath(reference) if isinstance(reference, str | os.PathLike) else f"reference {position}"


def _load(reference: Reference, name: str, n_vq: int, sampling_rate: int) -> CodeMatrix | Waveform:
    if isinstance(reference, str | os.PathLike) and Path(reference).suffix.lower() in _CODE_READERS:
        return _oriented(_read_codes(Path(reference).expanduser(), name), name, n_vq)
    if is_code_matrix(reference):
        return _oriented(reference, name, n_vq)
    return _load_waveform(reference, name, sampling_rate)


def _oriented(codes: object, name: str, n_vq: int) -> CodeMatrix:
    try:
        return orient_codes(codes, n_vq)
    except RequestError as error:
        raise RequestError(f"{name}: {error}; integer PCM is given as (samples, rate)") from error


def _load_waveform(reference: Reference, name: str, sampling_rate: int) -> Waveform:
    if isinstance(reference, str | os.PathLike):
        return read_audio(reference)
    samples, rate = reference if _is_pair(reference) else (reference, sampling_rate)
    if not hasattr(samples, "shape"):
        raise TypeError(
            f"{name} must be a path, a waveform, a pair (waveform, rate) or a code matrix; "
            f"got a {type(samples).__name__}"
        )
    with errors_name(name):
        return as_waveform(samples, rate)


def _is_pair(reference: Any) -> TypeGuard[tuple[object, object]]:
    return isinstance(reference, tuple) and len(reference) == 2


def _encode(waveforms: Sequence[tuple[Waveform, str]], codec: MossAudioTokenizer, n_vq: int) -> list[CodeMatrix]:
    prepared = [_prepared(waveform, name, codec.config) for waveform, name in waveforms]
    encoded = codec.batch_encode(prepared, num_quantizers=n_vq)
    return [np.ascontiguousarray(np.array(row).T, dtype=np.int32) for row in encoded.rows()]


def _prepared(waveform: Waveform, name: str, config: CodecConfig) -> Samples:
    """(S,), or (C, S) for a codec of several channels, at its rate and the loudness of training."""
    samples = _heard(waveform, name, config.channels, config.sampling_rate)
    if samples.shape[1] < config.downsample_rate:
        raise AudioError(
            f"{name}: the waveform lasts {1000 * waveform.seconds:.0f} ms; "
            f"one frame of {1000 / config.frame_rate:.0f} ms is the least"
        )
    loud = normalize_loudness(samples)
    return loud[0] if config.channels == 1 else loud


def _heard(waveform: Waveform, name: str, channels: int, sampling_rate: int) -> Samples:
    """(channels, S) at a rate. Channels can cancel each other out, so silence is looked for once mixed."""
    mixed = fit_channels(waveform.samples, channels)
    with errors_name(name):
        check_audible(mixed)
    return resample(mixed, waveform.sample_rate, sampling_rate)


def _read_codes(file: Path, name: str) -> npt.NDArray[Any]:
    """The one integer matrix in a file."""
    try:
        arrays = _CODE_READERS[file.suffix.lower()](file)
    except (OSError, ValueError, EOFError, SafetensorError) as error:
        raise AudioError(f"{name}: cannot be read as codes: {error}") from error
    if len(arrays) != 1 or not is_code_matrix(arrays[0]):
        held = ", ".join(f"{array.dtype} {array.shape}" for array in arrays) or "nothing"
        raise AudioError(f"{name}: must hold one integer matrix of codes; it holds {held}")
    return arrays[0]


def _read_npy(file: Path) -> list[npt.NDArray[Any]]:
    # Mapped, so that a header that promises terabytes is measured against the file and not allocated.
    return [np.lib.format.open_memmap(file, mode="r")]


def _read_safetensors(file: Path) -> list[npt.NDArray[Any]]:
    with safe_open(file, framework="numpy") as tensors:
        return [tensors.get_tensor(key) for key in tensors.keys()]


_CODE_READERS: dict[str, Callable[[Path], list[npt.NDArray[Any]]]] = {
    ".npy": _read_npy,
    ".safetensors": _read_safetensors,
}
