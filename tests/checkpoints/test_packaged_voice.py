"""The voice in the package really speaks: a recogniser that never saw it writes down what it says.

Without a recogniser the tests that listen are skipped, and say what to install.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import moss_tts
from moss_tts.audio.pcm import as_pcm
from moss_tts.checkpoints.packaged import packaged_voice
from moss_tts.cli import main
from moss_tts.errors import MossTTSWarning, RequestError
from moss_tts.model import Model
from support.serving import assert_same_speech, serving

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
    told = list(voice.generate(STORY, long_form=True, long_form_continuity=continuity, seed=1))
    spoken = np.concatenate([result.audio for result in told])
    assert word_errors(ears, [STORY], [spoken]) <= MOST_WORD_ERRORS


@heard_by_whisper
def test_a_seed_is_a_reading_and_another_is_another(voice: Model, ears: recogniser.Recogniser) -> None:
    one, again, other = (next(voice.generate(SENTENCES[0], seed=seed)).audio for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert one.shape != other.shape or not np.array_equal(one, other)
    assert word_errors(ears, [SENTENCES[0]] * 2, [one, other]) <= MOST_WORD_ERRORS


# ------------------------------------------------------------------------------------------- what people type

LETTER = """Dear Ms. O'Neil,

“Café Zoë” opens on March 3rd, 2024 at 10:30 a.m. — it cost $3.50 [pause 0.5s] and 50% of us came

Yours, J. Smith"""


def test_every_way_to_speak_gives_the_same_audio_of_what_people_type(voice: Model, tmp_path: Path) -> None:
    (whole,) = voice.generate(LETTER, seed=1)
    streamed = np.concatenate([chunk.audio for chunk in voice.generate(LETTER, seed=1, stream=True)])
    np.testing.assert_allclose(streamed, whole.audio, atol=1e-4)
    [(_, batched)] = voice.generate_batch([{"text": LETTER, "seed": 1}])
    np.testing.assert_allclose(batched.audio, whole.audio, atol=1e-4)  # type: ignore[union-attr]
    for command in ("say", "generate"):
        with pytest.raises(SystemExit) as ended:
            main([command, LETTER, "--seed", "1", "--output", str(tmp_path / f"{command}.wav"), "--quiet"])
        assert ended.value.code == 0
        written, _ = soundfile.read(tmp_path / f"{command}.wav", dtype="int16")
        assert np.abs(written.astype(int) - as_pcm(whole.audio)).max() <= 4


def test_a_server_speaks_it_likewise_and_says_what_it_leaves_out(voice: Model, tmp_path: Path) -> None:
    text = "Hello there, it cost $3.50 👍"
    with pytest.warns(MossTTSWarning, match="👍"):
        (wanted,) = voice.generate(text, seed=1)
    with serving(packaged_voice(), tmp_path) as served:
        body = {"input": text, "seed": 1, "response_format": "pcm", "instructions": "An old man"}
        response = served.post(json=body)
        assert_same_speech(np.frombuffer(response.content, "<i2"), wanted.audio)
        assert "instruction" in response.headers["X-Warning"]
        assert "\\U0001f44d" in response.headers["X-Warning"]
        assert_same_speech(served.pcm({"input": LETTER, "seed": 1}), next(voice.generate(LETTER, seed=1)).audio)
        refused = served.post(json={"input": "👍"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")


def test_segments_are_short_end_in_a_stop_and_pauses_are_silence(voice: Model) -> None:
    plan = voice.request({"text": LETTER}).plan
    assert all(len(segment.text) <= 74 and segment.text[-1] in ".!?" for segment in plan)
    assert sum(segment.silence_after for segment in plan) == 0.5
    assert "three dollars and fifty cents" in " ".join(segment.text for segment in plan)


@pytest.mark.parametrize(
    ("text", "options", "named"),
    [
        ("Hello there 👍", {}, "👍"),
        ("Hello [laugh] there.", {}, "[laugh]"),
        ("你好，世界。", {}, "你"),
        ("Hello there.", {"instruction": "An old man"}, "instruction"),
        ("Hello there.", {"language": "German"}, "German"),
        ("Hello there.", {"duration_s": 3.0}, "duration_s"),
        ("Hello there.", {"ref_audio": (np.ones(24_000, np.float32), 24_000)}, "ref_audio"),
        ("Hello there.", {"long_form": True, "long_form_max_chars": 200}, "long_form_max_chars"),
    ],
)
def test_what_the_voice_cannot_follow_is_a_warning(
    voice: Model, text: str, options: dict[str, Any], named: str
) -> None:
    with pytest.warns(MossTTSWarning, match=re.escape(named)):
        voice.generate(text, **options).close()


def test_english_is_no_reason_for_a_warning(voice: Model) -> None:
    for language in ("English", "en", "en-GB"):
        voice.generate("Hello there.", language=language).close()


@pytest.mark.parametrize("text", ["👍", "...", "***", "[laugh]"])
def test_nothing_to_say_is_refused(voice: Model, text: str) -> None:
    with pytest.raises(RequestError, match="nothing to speak"):
        voice.generate(text)
