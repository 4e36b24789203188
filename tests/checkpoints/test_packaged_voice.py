"""The voice in the package really speaks: a recogniser that never saw it writes down what it says.

Without a recogniser the tests that listen are skipped, and say what to install.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moss_tts
from moss_tts.checkpoints.packaged import packaged_voice
from moss_tts.model import Model

sys.path.insert(0, str(Path(__file__).parents[2] / "evals"))

import metrics
import recogniser
import speech

heard_by_whisper = pytest.mark.skipif(not recogniser.installed(), reason=recogniser.MISSING)
MOST_BYTES = 25_000_000
# Of the sentences that training never saw; evals/speech.py reports 50 of them.
SENTENCES = speech.read_sentences(speech.HELD_OUT, 10)
MOST_WORD_ERRORS = 0.25
STORY = " ".join(SENTENCES[:4])


@pytest.fixture(scope="module")
def voice() -> Model:
    return moss_tts.load(packaged_voice())


@pytest.fixture(scope="module")
def ears() -> recogniser.Recogniser:
    return recogniser.Recogniser()


def word_errors(ears: recogniser.Recogniser, wanted: list[str], spoken: list[Any]) -> float:
    heard = [ears.hear(audio, 24_000) for audio in spoken]
    return metrics.word_error_rate([metrics.compare(*pair) for pair in zip(wanted, heard, strict=True)])


def test_it_fits_into_the_package_and_says_what_it_is() -> None:
    files = [path for path in packaged_voice().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    card = (packaged_voice() / "README.md").read_text(encoding="utf-8")
    assert all(word in card for word in ("license:", "hibari", "WER", "Limits"))


@heard_by_whisper
def test_held_out_sentences_are_understood(voice: Model, ears: recogniser.Recogniser) -> None:
    spoken = [next(voice.generate(sentence, seed=0)).audio for sentence in SENTENCES]
    assert word_errors(ears, SENTENCES, spoken) <= MOST_WORD_ERRORS


@heard_by_whisper
def test_what_is_streamed_is_understood_and_is_the_whole(voice: Model, ears: recogniser.Recogniser) -> None:
    wanted, spoken = SENTENCES[:3], []
    for sentence in wanted:
        chunks = [chunk.audio for chunk in voice.generate(sentence, seed=1, stream=True, streaming_interval=0.5)]
        assert len(chunks) > 2
        spoken.append(np.concatenate(chunks))
        np.testing.assert_allclose(spoken[-1], next(voice.generate(sentence, seed=1)).audio, atol=1e-4)
    assert word_errors(ears, wanted, spoken) <= MOST_WORD_ERRORS


@heard_by_whisper
def test_each_of_a_batch_is_understood_and_is_as_alone(voice: Model, ears: recogniser.Recogniser) -> None:
    wanted = SENTENCES[3:8]
    together = dict(voice.generate_batch([{"text": sentence, "seed": 2 + n} for n, sentence in enumerate(wanted)]))
    spoken = [together[n].audio for n in range(len(wanted))]
    assert word_errors(ears, wanted, spoken) <= MOST_WORD_ERRORS
    np.testing.assert_allclose(spoken[4], next(voice.generate(wanted[4], seed=6)).audio, atol=1e-4)


@heard_by_whisper
@pytest.mark.parametrize("continuity", ["voice", "continue"])
def test_a_story_is_understood_in_every_continuity(voice: Model, ears: recogniser.Recogniser, continuity: str) -> None:
    plan = {"long_form_min_chars": 20, "long_form_target_chars": 60, "long_form_max_chars": 100}
    told = list(voice.generate(STORY, long_form=True, long_form_continuity=continuity, seed=1, **plan))
    spoken = np.concatenate([result.audio for result in told])
    assert word_errors(ears, [STORY], [spoken]) <= MOST_WORD_ERRORS


@heard_by_whisper
def test_a_seed_is_a_reading_and_another_is_another(voice: Model, ears: recogniser.Recogniser) -> None:
    one, again, other = (next(voice.generate(SENTENCES[0], seed=seed)).audio for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert one.shape != other.shape or not np.array_equal(one, other)
    assert word_errors(ears, [SENTENCES[0]] * 2, [one, other]) <= MOST_WORD_ERRORS
