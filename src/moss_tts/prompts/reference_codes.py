"""References as code matrices: files are read, waveforms resampled and encoded, kept codes taken.

Letters: C channels, S samples per channel, Q codebooks, F frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from moss_tts.atomic import expanded, open_regular
from moss_tts.audio.codes import CodeMatrix, is_code_matrix, orient_codes
from moss_tts.audio.files import check_readable, decode_audio, read_audio
from moss_tts.audio.references import (
    AudioArray,
    AudioFile,
    CodeArray,
    CodeFile,
    Joined,
    Reference,
    RegisteredVoice,
    as_reference,
)
from moss_tts.audio.waveform import (
    Samples,
    Waveform,
    as_waveform,
    audible_channels,
    errors_name,
    normalize_loudness,
    resample,
)
from moss_tts.codec import MossAudioTokenizer
from moss_tts.codec.config import CodecConfig
from moss_tts.errors import AudioError, RequestError

LoadCodec: TypeAlias = Callable[[], MossAudioTokenizer]


def encode_references(
    references: Sequence[object], codec: LoadCodec, n_vq: int, sampling_rate: int, *, levelled: bool = True
) -> list[CodeMatrix]:
    """Codes (F, n_vq) of each reference, in order; all waveforms go through one call of the codec.

    Args:
        references: references in any form that `as_reference` knows, in any mixture.
        codec: gives the codec; asked for only if there is a waveform.
        n_vq: codebooks Q of the model.
        sampling_rate: the rate of the model, and of waveforms without a rate.
        levelled: whether waveforms are brought to one loudness first.

    Raises:
        AudioError: a file or waveform that cannot serve; the message says which and why.
        RequestError: a code matrix of the wrong shape, or something that is no reference.
    """
    known = [as_reference(value, f"reference {position}") for position, value in enumerate(references, 1)]
    names = [_name(position, reference) for position, reference in enumerate(known, 1)]
    loaded = [_load(*named, codec, n_vq, sampling_rate) for named in zip(known, names, strict=True)]
    waveforms = [(item, name) for item, name in zip(loaded, names, strict=True) if isinstance(item, Waveform)]
    encoded = iter(_encode(waveforms, codec(), n_vq, levelled) if waveforms else [])
    return [
        _kept(reference, next(encoded), codec) if isinstance(item, Waveform) else item
        for reference, item in zip(known, loaded, strict=True)
    ]


def load_waveform(reference: Reference, sampling_rate: int) -> Samples:
    """A recording as mono samples (S,) at a rate, its loudness untouched.

    Raises:
        AudioError: it cannot serve as a reference.
    """
    name = _name(1, reference)
    return _heard(_load_waveform(reference, name, sampling_rate), name, 1, sampling_rate)[0]


def check_files(references: Iterable[Reference]) -> None:
    """Refuse references to files that cannot be opened, before the files are needed.

    Raises:
        AudioError: such a file.
    """
    for reference in references:
        match reference:
            case AudioFile(path) | CodeFile(path):
                check_readable(path)
            case RegisteredVoice():
                check_readable(reference.sample)
            case Joined(parts):
                check_files(parts)


def _name(position: int, reference: Reference) -> str:
    """The name of a reference in error messages."""
    match reference:
        case AudioFile(path) | CodeFile(path):
            return path
        case RegisteredVoice():
            return f"voice {reference.name!r}"
    return f"reference {position}"


def _load(reference: Reference, name: str, codec: LoadCodec, n_vq: int, sampling_rate: int) -> CodeMatrix | Waveform:
    match reference:
        case CodeFile(path):
            return _oriented(_read_codes(expanded(path), name), name, n_vq)
        case CodeArray(codes):
            return _oriented(codes, name, n_vq)
        case RegisteredVoice() if (kept := reference.kept_codes(codec().fingerprint, n_vq)) is not None:
            return kept
    return _load_waveform(reference, name, sampling_rate)


def _load_waveform(reference: Reference, name: str, sampling_rate: int) -> Waveform:
    match reference:
        case AudioFile(path):
            return read_audio(path)
        case RegisteredVoice():
            with errors_name(name):
                return decode_audio(_content(reference.sample))
        case AudioArray(samples, rate):
            with errors_name(name):
                return as_waveform(samples, sampling_rate if rate is None else rate)
    raise RequestError(f"{name} must be a recording, got a {type(reference).__name__}")


def _content(file: Path) -> bytes:
    """The bytes of a file. Errors do not name its path, because not everybody may know it."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise AudioError(f"its recording cannot be read: {error.strerror}") from error


def _kept(reference: Reference, codes: CodeMatrix, codec: LoadCodec) -> CodeMatrix:
    """Codes that were made of a reference; a registered voice keeps them."""
    if isinstance(reference, RegisteredVoice):
        reference.keep_codes(codec().fingerprint, codes)
    return codes


def _oriented(codes: object, name: str, n_vq: int) -> CodeMatrix:
    try:
        return orient_codes(codes, n_vq)
    except RequestError as error:
        raise RequestError(f"{name}: {error}; give integer PCM as a pair (samples, rate)") from error


def _encode(
    waveforms: Sequence[tuple[Waveform, str]], codec: MossAudioTokenizer, n_vq: int, levelled: bool
) -> list[CodeMatrix]:
    prepared = [_prepared(waveform, name, codec.config, levelled) for waveform, name in waveforms]
    encoded = codec.batch_encode(prepared, num_quantizers=n_vq)
    return [np.ascontiguousarray(np.array(row).T, dtype=np.int32) for row in encoded.rows()]


def _prepared(waveform: Waveform, name: str, config: CodecConfig, levelled: bool) -> Samples:
    """(S,), or (C, S) for a codec of several channels, at its rate and, if levelled, the loudness of training."""
    samples = _heard(waveform, name, config.channels, config.sampling_rate)
    if samples.shape[1] < config.downsample_rate:
        raise AudioError(
            f"{name}: the waveform lasts {1000 * waveform.seconds:.0f} ms; it must last at least one frame of "
            f"{1000 / config.frame_rate:.0f} ms"
        )
    loud = normalize_loudness(samples) if levelled else samples
    return loud[0] if config.channels == 1 else loud


def _heard(waveform: Waveform, name: str, channels: int, sampling_rate: int) -> Samples:
    """(channels, S) at a rate."""
    with errors_name(name):
        mixed = audible_channels(waveform.samples, channels)
    return resample(mixed, waveform.sample_rate, sampling_rate)


def _read_codes(file: Path, name: str) -> npt.NDArray[Any]:
    """The one integer matrix in a file."""
    try:
        open_regular(file).close()
        arrays = _CODE_READERS[file.suffix.lower()](file)
    except (OSError, ValueError, EOFError, SafetensorError) as error:
        raise AudioError(f"{name}: cannot be read as codes: {error}") from error
    if len(arrays) != 1 or not is_code_matrix(arrays[0]):
        held = ", ".join(f"{array.dtype} {array.shape}" for array in arrays) or "nothing"
        raise AudioError(f"{name}: must hold one integer matrix of codes; it holds {held}")
    return arrays[0]


def _read_npy(file: Path) -> list[npt.NDArray[Any]]:
    # The file is mapped: a header that claims terabytes is compared with the file's size, and nothing is allocated.
    return [np.lib.format.open_memmap(file, mode="r")]


def _read_safetensors(file: Path) -> list[npt.NDArray[Any]]:
    with safe_open(file, framework="numpy") as tensors:
        return [tensors.get_tensor(key) for key in tensors.keys()]


_CODE_READERS: dict[str, Callable[[Path], list[npt.NDArray[Any]]]] = {
    ".npy": _read_npy,
    ".safetensors": _read_safetensors,
}
