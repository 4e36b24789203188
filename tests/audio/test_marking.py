"""The mark of files: there in every format, gone on demand, and no reason for two runs to differ."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import pytest
import soundfile

import moss_tts
from moss_tts.audio.files import WRITABLE_FORMATS, decode_audio, write_audio
from moss_tts.audio.live_output import GrowingWav, send_on
from moss_tts.audio.marking import PROGRAM, mark_of
from moss_tts.audio.pcm import wav_header
from moss_tts.model import Model
from moss_tts.result import Speech
from moss_tts.server.formats import FORMATS, new_encoder
from support.serving import serving

MARK = mark_of("tiny_voice")
TONE = 0.3 * np.sin(np.arange(24_000) / 9).astype(np.float32)


def comment(content: bytes) -> str | None:
    """The comment that FFmpeg finds in a file."""
    with av.open(io.BytesIO(content)) as container:
        tags: dict[str, Any] = {**container.streams[0].metadata, **container.metadata}
    return {name.lower(): value for name, value in tags.items()}.get("comment")


@pytest.fixture(scope="module")
def model() -> Model:
    return moss_tts.load()


@pytest.fixture(scope="module")
def speech(model) -> Speech:
    return model.say("Hello.", seed=1)


def test_the_mark_says_what_made_it_in_ascii():
    assert MARK == f"Synthetic audio, made by tiny_voice with {PROGRAM}"
    assert mark_of() == f"Synthetic audio, made with {PROGRAM}"
    assert mark_of("Stimme-Ä").isascii()


@pytest.mark.parametrize("suffix", WRITABLE_FORMATS)
def test_files_are_marked_unless_they_should_not_be(speech, tmp_path, suffix):
    files = [speech.save(tmp_path / f"{number}{suffix}") for number in "ab"]
    marked, again = (file.read_bytes() for file in files)
    plain = speech.save(tmp_path / f"c{suffix}", mark=False).read_bytes()
    assert (comment(marked), comment(plain)) == (MARK, None)
    assert marked == again == speech.encode(suffix[1:])
    assert np.array_equal(decode_audio(marked).samples, decode_audio(plain).samples)


def test_results_are_marked_and_bare_samples_are_not(model, tmp_path):
    results = list(model.generate("Hello.", seed=1, stream=True))
    samples = results[0].audio
    for audio, mark, wanted in (
        (results, None, mark_of()),
        (results, False, None),
        (samples, None, None),
        (samples, True, mark_of()),
        (samples, "Anything.", "Anything."),
    ):
        rate = 24_000 if audio is samples else None
        assert comment(write_audio(tmp_path / "a.flac", audio, rate, mark=mark).read_bytes()) == wanted


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("format_", sorted(FORMATS.keys() - {"pcm"}))
def test_responses_are_marked(format_, whole):
    def made(mark: str | None) -> bytes:
        encoder = new_encoder(format_, 24_000, 1, whole, mark)
        return b"".join([encoder.feed(part) for part in np.split(TONE, 6)] + [encoder.close()])

    marked, plain = made(MARK), made(None)
    assert (comment(marked), comment(plain)) == (MARK, None)
    assert marked == made(MARK)
    assert np.array_equal(decode_audio(marked).samples, decode_audio(plain).samples)
    assert decode_audio(marked).seconds == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("mark", [None, "odd", "even"])
def test_a_growing_wav_is_marked_from_its_first_moment(speech, tmp_path, mark):
    path = tmp_path / "a.wav"
    for _ in send_on([speech, speech], [GrowingWav(path, mark)]):
        assert comment(path.read_bytes()) == mark
        samples, rate = soundfile.read(path)
        assert (len(samples) % len(speech), rate) == (0, speech.sample_rate)
    assert len(samples) == 2 * len(speech)
    assert path.read_bytes().startswith(wav_header(speech.sample_rate, 1, 4 * len(speech), mark))


@pytest.mark.parametrize("format_", ["mp3", "wav"])
def test_a_server_marks_as_it_is_told(checkpoints, tmp_path, format_):
    pcm = (2**14 * TONE).astype("<i2").tobytes()
    for mark in (MARK, None):
        with serving(checkpoints["delay"], tmp_path, mark=mark) as running:
            body = {"input": "Hello.", "max_tokens": 6, "response_format": format_}
            for stream in (True, False):
                assert comment(running.post(json=body | {"stream": stream}).content) == mark
            path = f"/v1/audio/encode?sample_rate=24000&response_format={format_}"
            running.headers["Content-Type"] = "audio/pcm"
            answer = running.post(path, data=pcm)
            assert comment(answer.content) == mark
