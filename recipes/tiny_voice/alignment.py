"""Which letter and which phonemes each codec frame says, from the teacher's own durations.

The teacher decides how long each phoneme lasts before it makes any sound. Words of phonemes and words of text
correspond one to one nearly always; inside a word, phonemes are spread evenly over the letters.
F frames, P phonemes of a sentence.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

from .data import FRAME, teacher

STEP = 600  # samples of one unit of the teacher's durations
DURATIONS = "/Clip_output_0"  # the value in the teacher's graph: frames of each phoneme
INSIDE = (0.2, 0.5, 0.8)  # where in a frame a phoneme is looked up
PHONEMES = 192  # ids of the teacher's alphabet lie below this
UNKNOWN = -1


@cache
def duration_model():
    """The teacher's network as far as its durations."""
    import onnx
    import onnxruntime

    graph = onnx.load(teacher().model_path)
    cut = onnx.utils.Extractor(graph).extract_model(["ids", "speed"], [DURATIONS])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(cut.SerializeToString(), options, providers=["CPUExecutionProvider"])


def durations(ids: list[int]) -> np.ndarray:
    """Samples of each phoneme (P,)."""
    inputs = {"ids": np.asarray([ids], np.int64), "speed": np.ones(1, np.float32)}
    return np.round(duration_model().run(None, inputs)[0]).astype(np.int64).ravel() * STEP


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where the words of `text` begin and end."""
    spans, start = [], 0
    for word in text.split():
        begin = text.index(word, start)
        start = begin + len(word)
        spans.append((begin, start))
    return spans


def letters(text: str, readings: list[str]) -> list[int]:
    """The index in `text` of each phoneme and blank of `readings`, UNKNOWN where words do not correspond."""
    spans = word_spans(text)
    words = [word for reading in readings for word in reading.split(" ")]
    if len(words) != len(spans):
        return [UNKNOWN] * sum(len(reading) + 1 for reading in readings)
    found = []
    for word, (begin, end) in zip(words, spans, strict=True):
        found += [begin + (2 * n + 1) * (end - begin) // (2 * len(word)) for n in range(len(word))]
        found.append(end - 1)  # the blank after it
    return found


def alignment(text: str, frames: int) -> np.ndarray:
    """int16 (F, 1 + len(INSIDE)): the index of the letter at each frame's middle, and phoneme ids across it."""
    h = teacher()
    readings = [reading.strip() for reading in h.phonemize(text)]
    places = letters(text, readings)
    spoken, ids, samples, start = [], [], [], 0
    for reading in readings:
        keep = [c in h.vocab for c in reading]
        here = places[start : start + len(reading)]
        start += len(reading) + 1
        kept = [place for place, known in zip(here, keep, strict=True) if known]
        spoken += [kept[0], *kept, kept[-1]]
        ids += h.ids(reading)
        samples.append(durations(h.ids(reading)))
    ends = np.cumsum(np.concatenate(samples))
    if -(-ends[-1] // FRAME) != frames:
        return np.full((frames, 1 + len(INSIDE)), UNKNOWN, np.int16)
    times = (np.arange(frames)[:, None] + np.asarray((0.5, *INSIDE))) * FRAME
    which = np.minimum(np.searchsorted(ends, times, side="right"), len(ends) - 1)
    found = np.asarray(ids)[which]
    found[:, 0] = np.asarray(spoken)[which[:, 0]]
    return found.astype(np.int16)


def align_line(line: str) -> np.ndarray:
    frames, text = line.split("\t")
    return alignment(text, int(frames))


def align_line_unknown(line: str) -> np.ndarray:
    return np.full((int(line.split("\t")[0]), 1 + len(INSIDE)), UNKNOWN, np.int16)


def write_alignment(state: Path, workers: int, known: bool = True) -> None:
    """`state`/alignment.npy, frame by frame beside codes.npy; nothing is `known` without the teacher."""
    lines = (state / "codes.tsv").read_text().splitlines()
    with ProcessPoolExecutor(workers) as pool:
        align = align_line if known else align_line_unknown
        found = np.concatenate(list(pool.map(align, lines, chunksize=100)))
    np.save(state / "alignment.npy", found)
    share = (found >= 0).mean(0)
    print(f"alignment: {share[1]:.3f} of all frames have phonemes, {share[0]:.3f} a letter")
