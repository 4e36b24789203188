"""Recordings that were made to do harm, and decoders that fail: one sentence within seconds, whatever happens."""

from __future__ import annotations

import io
import os
from pathlib import Path

import av
import numpy as np
import pytest

from moss_tts.audio import av_process, decoders
from moss_tts.audio.files import decode_audio, encode_audio, read_audio, write_audio
from moss_tts.audio.waveform import MAX_SECONDS
from moss_tts.device import confined
from moss_tts.errors import AudioError, RequestError
from moss_tts.voices import Voices

TONE = (0.3 * np.sin(np.arange(24_000) / 9)).astype(np.float32)


def recorded(container: str, codec: str, seconds: int = 1) -> bytes:
    """A tone, as PyAV writes it."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        track = out.add_stream(codec, rate=24_000, layout="mono")
        for _ in range(seconds):
            samples = (TONE[None] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = 24_000
            out.mux(track.encode(frame))
        out.mux(track.encode(None))
    return file.getvalue()


M4A = recorded("ipod", "aac")


def complaint(content: bytes, max_seconds: float = MAX_SECONDS) -> str:
    with pytest.raises(AudioError) as caught:
        decode_audio(content, max_seconds)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------ limits


def test_only_encodings_that_people_record_with_are_opened():
    assert decode_audio(M4A).seconds == pytest.approx(1, abs=0.1)
    assert "its encoding, adpcm_yamaha, is not one that is read here" in complaint(recorded("wav", "adpcm_yamaha"))


def test_a_decode_has_a_deadline(monkeypatch):
    monkeypatch.setattr(av_process, "MAX_TIME", 0.0)
    assert complaint(M4A) == "not audio that can be decoded: its decoder is not done after 0 s"


def test_a_decoder_has_a_bound_on_its_memory(monkeypatch):
    monkeypatch.setattr(av_process, "MAX_MEMORY", 2**20)
    assert complaint(M4A) == "not audio that can be decoded: its decoder takes more memory than 1 MiB"


def test_a_recording_that_is_too_long_is_not_decoded_to_its_end():
    """A stream does not say how long it is: the samples are counted as they come."""
    assert complaint(recorded("adts", "aac", seconds=3), max_seconds=0.5).endswith("at most 0 s are allowed")


# --------------------------------------------------------------------------------------------- decoders that fail

FAILURES = {
    "crashes": "import os; os.abort()",
    "raises": "raise UnicodeDecodeError('utf-8', b'x', 0, 1, 'no')",
    "says nothing": "",
    "talks": "import sys; sys.stderr.write('double free')",
    "says something else": "import sys; sys.stderr.write('[1, 2]')",
    "has half a sample": (
        'import sys; sys.stdout.write("x"); sys.stderr.write(\'{"samples": 9, "channels": 1, "rate": 8000}\')'
    ),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_decoder_that_fails_refuses_the_file(kind, tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    program.write_text(FAILURES[kind])
    monkeypatch.setattr(av_process, "PROGRAM", program)
    assert complaint(M4A) == "not audio that can be decoded: its decoder failed"


def test_a_decoder_that_does_not_end_itself_is_ended(tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    number = tmp_path / "number"
    program.write_text(
        f"import os, signal\nwith open({str(number)!r}, 'w') as file: file.write(str(os.getpid()))\n"
        "os.kill(os.getpid(), signal.SIGSTOP)"
    )
    monkeypatch.setattr(av_process, "PROGRAM", program)
    monkeypatch.setattr(av_process, "MAX_TIME", 0.5)
    monkeypatch.setattr(confined, "GRACE", 0.0)
    assert complaint(M4A) == "not audio that can be decoded: its decoder is not done after 0.5 s"
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)


@pytest.mark.parametrize("error", [UnicodeDecodeError("utf-8", b"x", 0, 1, "no"), RuntimeError(), MemoryError()])
def test_whatever_libsndfile_fails_with_is_an_audio_error(error, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(decoders, "_read_sound", fail)
    assert complaint(encode_audio(TONE, 24_000, ".wav")) == "not audio that can be decoded: its decoder failed"


# ------------------------------------------------------------------------------------------------------ places


def test_a_pipe_and_a_device_are_refused_without_waiting(tmp_path):
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    for place in (pipe, Path("/dev/zero")):
        with pytest.raises(AudioError, match=rf"{place}: cannot be read: it is a pipe or a device, not a file"):
            read_audio(place)


@pytest.mark.parametrize("name", ["codes.npy", "codes.safetensors"])
def test_codes_are_not_read_from_a_pipe(name, tmp_path, delay_model):
    os.mkfifo(tmp_path / name)
    with pytest.raises(AudioError, match="it is a pipe or a device, not a file"):
        delay_model.say("Hello.", reference=str(tmp_path / name), max_tokens=2)


@pytest.mark.parametrize(
    ("path", "words"), [("~no-such-user/x.wav", r"~no-such-user is no home directory"), ("a\0.wav", "is not a path")]
)
def test_a_path_that_cannot_be_is_the_requests_error(path, words):
    for call in (read_audio, Voices, lambda p: write_audio(p, TONE, 24_000)):
        with pytest.raises(RequestError, match=words):
            call(path)
