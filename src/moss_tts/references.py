"""References of any kind as code matrices: files, waveforms and codes, mixed, in order.

What has to be encoded goes through the codec in one call; where all are codes, the codec is not asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from moss_tts.audio import (
    MAX_SECONDS,
    as_waveform,
    check_audible,
    normalize_loudness,
    read_audio,
    resample,
    with_channels,
)
from moss_tts.checkpoint import check_safetensors
from moss_tts.codec import MossAudioTokenizer
from moss_tts.codes import CodeMatrix, is_code_matrix, orient_codes
from moss_tts.errors import AudioError, CheckpointError

# Files that hold one integer matrix instead of audio.
CODE_SUFFIXES = (".npy", ".safetensors")


def encode_references(
    references: Sequence[Any], codec: Callable[[], MossAudioTokenizer], n_vq: int, sampling_rate: int
) -> list[CodeMatrix]:
    """Codes (F, n_vq) of each reference.

    Args:
        references: paths of audio (or of .npy, .safetensors with codes), waveforms (S,), (S, C) or (C, S) at
            `sampling_rate`, pairs (waveform, its rate), or integer code matrices.
        codec: asked for if anything has to be encoded.
        n_vq: codebooks.
        sampling_rate: of the model.

    Raises:
        AudioError: a reference that cannot serve, named by its position or its file.
        RequestError: codes of a shape that cannot be.
    """
    loaded = [_loaded(reference, sampling_rate, _name(index, reference)) for index, reference in enumerate(references)]
    waveforms = {index: value for index, value in enumerate(loaded) if not is_code_matrix(value)}
    codes = {index: orient_codes(value, n_vq) for index, value in enumerate(loaded) if index not in waveforms}
    if waveforms:
        names = [_name(index, references[index]) for index in waveforms]
        encoded = _encode(list(waveforms.values()), names, codec(), n_vq)
        codes |= dict(zip(waveforms, encoded, strict=True))
    return [codes[index] for index in range(len(references))]


def _encode(waveforms: list[np.ndarray], names: list[str], codec: MossAudioTokenizer, n_vq: int) -> list[CodeMatrix]:
    channels, frame = codec.config.channels, codec.config.downsample_rate
    heard = [with_channels(waveform, channels) for waveform in waveforms]
    for waveform, name in zip(heard, names, strict=True):
        check_audible(waveform, name)
        if len(waveform) < frame:
            seconds = frame / codec.config.sampling_rate
            raise AudioError(f"{name} is shorter than one frame ({seconds:g} s).")
    ready = [mx.array(normalize_loudness(waveform).T) for waveform in heard]
    return [np.array(row).T for row in codec.batch_encode(ready, num_quantizers=n_vq).rows()]


def load_waveform(reference: Any, sampling_rate: int, name: str = "reference") -> np.ndarray:
    """A path, waveform or (waveform, rate) as samples (S,) or (S, C) at `sampling_rate`.

    Raises:
        AudioError: not audio, not finite, or too long.
    """
    if isinstance(reference, str | os.PathLike):
        waveform = read_audio(reference)
        samples, rate = as_waveform(waveform.samples, str(reference)), waveform.sample_rate
    elif isinstance(reference, tuple) and len(reference) == 2:
        samples, rate = as_waveform(reference[0], name), int(reference[1])
    else:
        samples, rate = as_waveform(reference, name), sampling_rate
    if len(samples) > MAX_SECONDS * rate:
        raise AudioError(f"{name} is longer than {MAX_SECONDS:g} s; cut it to the part that is wanted.")
    if not len(samples):
        raise AudioError(f"{name} holds no samples.")
    return resample(samples, rate, sampling_rate)


def _loaded(reference: Any, sampling_rate: int, name: str) -> np.ndarray:
    """Samples of a waveform, or the matrix of codes as given."""
    if is_code_matrix(reference):
        return np.asarray(reference)
    if isinstance(reference, str | os.PathLike) and Path(reference).suffix.lower() in CODE_SUFFIXES:
        return _read_codes(Path(reference).expanduser())
    return load_waveform(reference, sampling_rate, name)


def _read_codes(file: Path) -> np.ndarray:
    if not file.is_file():
        raise AudioError(f"{file} is not a file.")
    try:
        arrays = _arrays_of(file)
    except (ValueError, OSError, CheckpointError) as error:
        raise AudioError(f"{file} cannot be read as codes: {error}") from error
    if len(arrays) != 1 or not is_code_matrix(arrays[0]):
        raise AudioError(f"{file} must hold one integer matrix of codes and nothing else.")
    return arrays[0]


def _arrays_of(file: Path) -> list[np.ndarray]:
    if file.suffix.lower() == ".npy":
        return [np.load(file, allow_pickle=False)]
    check_safetensors(file)
    weights: Any = mx.load(str(file))
    return [np.array(value) for value in weights.values()]


def _name(index: int, reference: Any) -> str:
    return str(reference) if isinstance(reference, str | os.PathLike) else f"reference {index + 1}"
