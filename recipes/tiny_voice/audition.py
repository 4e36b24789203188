"""Which speakers are fit to learn from: what a recogniser hears of them, how they sound, how much they differ."""

import json
from pathlib import Path

import numpy as np

from .data import RATE
from .listen import error_rate, evaluation, hear, rating
from .teachers import Speaker, read_aloud


def likeness(audio: np.ndarray) -> np.ndarray:
    """A unit vector that is near that of other audio (S,) by the same speaker, as evals/voices.py computes it."""
    return evaluation("likeness").likeness(audio, RATE)


def audition(speaker: Speaker, texts: list[str]) -> dict:
    """One speaker's figures, and the mean of its likenesses."""
    waves = [read_aloud(speaker, text).audio for text in texts]
    heard = [hear(wave, text) for wave, text in zip(waves, texts, strict=True)]
    vectors = np.stack([likeness(wave) for wave in waves])
    mean = vectors.mean(0) / np.linalg.norm(vectors.mean(0))
    return {
        "speaker": speaker.name,
        "wer": round(error_rate(heard), 4),
        "mos": round(float(np.mean([rating(wave) for wave in waves])), 3),
        "letters_per_second": round(sum(map(len, texts)) * RATE / sum(map(len, waves)), 2),
        "itself": round(float((vectors @ mean).mean()), 3),
        "likeness": mean.tolist(),
    }


def audition_all(speakers: list[Speaker], texts: list[str], report: Path) -> None:
    """Prints and writes every speaker's figures, with the speaker that is most like it; those in `report` are kept."""
    found = json.loads(report.read_text()) if report.exists() else {}
    for speaker in speakers:
        if speaker.name not in found:
            found[speaker.name] = audition(speaker, texts)
            report.write_text(json.dumps(found))
            print({key: value for key, value in found[speaker.name].items() if key != "likeness"}, flush=True)
    for name, near in nearest(found).items():
        print(f"{name}: most like {near[0]} ({near[1]:.2f}), itself {found[name]['itself']}")


def nearest(found: dict[str, dict]) -> dict[str, tuple[str, float]]:
    """Of each speaker the most similar other one, and how similar."""
    names = list(found)
    table = np.array([found[name]["likeness"] for name in names])
    alike = table @ table.T - 2 * np.eye(len(names))
    return {name: (names[int(row.argmax())], float(row.max())) for name, row in zip(names, alike, strict=True)}
