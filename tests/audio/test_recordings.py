"""What people record and send: old telephone formats, headers of streams, damaged files. Each is read or refused."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moss_tts.audio.files import decode_audio, encode_audio, read_audio
from moss_tts.audio.quiet import quiet_libraries
from moss_tts.audio.waveform import audible_channels
from moss_tts.errors import AudioError

RATE = 8000
CASES = Path(__file__).parent.parent / "cases" / "recordings"
TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)
# Noise, so that it does not fit into a single page of a compressed file.
LONG = (np.tile(TONE, 10) + 0.05 * np.random.default_rng(0).standard_normal(10 * RATE)).astype(np.float32)
# Raw samples say nothing of themselves, SD2 keeps its header in another file, and these cannot be written.
HEADLESS = {"RAW", "SD2"}


def encoded(container: str, encoding: str | None = None, samples: np.ndarray = TONE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, encoding, format=container)
    return file.getvalue()


def writable() -> list[tuple[str, str]]:
    kinds = [
        (c, e) for c in soundfile.available_formats() if c not in HEADLESS for e in soundfile.available_subtypes(c)
    ]
    return [(container, encoding) for container, encoding in kinds if is_written(container, encoding)]


def is_written(container: str, encoding: str) -> bool:
    try:
        return bool(encoded(container, encoding, TONE[:99]))
    except soundfile.LibsndfileError:
        return False


@pytest.mark.parametrize(("container", "encoding"), writable())
def test_all_that_libsndfile_writes_is_read(container, encoding, tmp_path):
    """Also where it cannot seek (GSM 6.10, G.721, NMS), or fails to (DWVW)."""
    file = tmp_path / "tone"
    soundfile.write(file, TONE, RATE, encoding, format=container)
    read = read_audio(file)
    # Blocks of some encodings are longer than what is left to say.
    assert len(TONE) <= read.samples.shape[1] < len(TONE) + 400
    heard = read.samples[0, : len(TONE)]
    spectrum = np.abs(np.fft.rfft(heard))
    assert spectrum.argmax() * read.sample_rate / len(heard) == pytest.approx(440 * read.sample_rate / RATE, rel=0.01)
    assert np.sqrt(np.mean(heard**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.2)


@pytest.mark.parametrize("name", ["phone_gsm.wav", "phone_g721.au", "data_size_0.wav"])
def test_recordings_of_telephones_and_pipes_are_read(name):
    read = read_audio(CASES / name)
    assert read.sample_rate == 8000
    assert read.seconds == pytest.approx(1, abs=0.05)
    assert np.abs(read.samples).max() == pytest.approx(0.45, abs=0.05)


# ------------------------------------------------------------------------------------- headers without a length


def patched(content: bytes, marker: bytes, offset: int, value: bytes) -> bytes:
    start = content.find(marker) + offset
    return content[:start] + value + content[start + len(value) :]


def endless() -> dict[str, bytes]:
    """Files whose headers do not say how long they are, as pipes leave them."""
    made = {}
    for value in (0, 0x7FFFFFFF, 0xFFFFFFFF):
        size = struct.pack("<I", value)
        for container, encoding in (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "GSM610"), ("WAVEX", "PCM_16")):
            content = patched(encoded(container, encoding), b"data", 4, size)
            made[f"{container} {encoding} data {value}"] = content
            made[f"{container} {encoding} both {value}"] = patched(content, b"RIFF", 4, size)
    for value in (0, 2**64 - 1):
        size = struct.pack("<Q", value)
        content = patched(encoded("RF64"), b"ds64", 16, size)
        made[f"RF64 data {value}"] = content
        made[f"RF64 all {value}"] = patched(patched(content, b"ds64", 8, size), b"ds64", 24, size)
        made[f"W64 {value}"] = patched(encoded("W64"), b"data", 16, size)
    for value in (0, 8, 2**32 - 1):
        size = struct.pack(">I", value)
        made[f"AIFF {value}"] = patched(patched(encoded("AIFF"), b"SSND", 4, size), b"COMM", 10, size)
    for value in (0, 2**32 - 1):
        made[f"AU {value}"] = patched(encoded("AU"), b".snd", 8, struct.pack(">I", value))
    return made


ENDLESS = endless()


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_header_without_a_length_costs_no_sample(kind):
    read = decode_audio(ENDLESS[kind])
    assert len(TONE) <= read.samples.shape[1] < len(TONE) + 400
    np.testing.assert_allclose(read.samples[0, 400 : len(TONE)], TONE[400:], atol=0.1)


def test_such_a_header_is_told_of_by_name(caplog):
    read_audio(CASES / "data_size_0.wav")
    assert f"{CASES / 'data_size_0.wav'}: its header does not say how long it is" in caplog.text


@pytest.mark.parametrize("container", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3"])
def test_what_is_there_of_a_file_that_was_cut_off_is_read(container):
    long = LONG
    content = encoded(container, samples=long)
    read = decode_audio(content[: len(content) // 2])
    assert 0.3 * len(long) < read.samples.shape[1] < 0.6 * len(long)


def test_a_missing_end_is_told_of(caplog):
    content = encoded("MP3", samples=LONG)
    decode_audio(content[: len(content) // 2])
    assert re.search(r"the recording: it is damaged or cut off; [45]\.\d+ s of it were read", caplog.text)


@pytest.mark.parametrize("length", [0, 1, 4, 12, 20, 43, 44])
@pytest.mark.parametrize("container", ["WAV", "RF64", "AIFF", "AU"])
def test_headers_alone_are_refused(container, length):
    with pytest.raises(AudioError):
        decode_audio(encoded(container)[: min(length, 24 if container == "AU" else length)])


# ----------------------------------------------------------------------------------------------- other damage


def test_rates_and_channels_that_change_are_read_as_the_first(caplog):
    read = read_audio(CASES / "rate_changes.aac")
    assert (len(read.samples), read.sample_rate) == (1, 24_000)
    assert read.seconds > 1
    assert not caplog.text


def test_tags_in_any_encoding_do_not_matter():
    assert read_audio(CASES / "tags_not_utf8.m4a").seconds == pytest.approx(1, abs=0.1)


def test_an_unknown_encoding_is_refused():
    with pytest.raises(AudioError, match=r"unknown_codec\.webm: not audio that can be decoded: its encoding is not"):
        read_audio(CASES / "unknown_codec.webm")


@pytest.mark.parametrize("container", ["FLAC", "MP3"])
def test_damage_costs_little_more_than_what_it_hit(container, caplog):
    content = bytearray(encoded(container, samples=LONG))
    for share in (3, 4, 5, 6):
        start = share * len(content) // 10
        content[start : start + 500] = bytes(500)
    assert decode_audio(bytes(content)).seconds > 7
    # libsndfile keeps it to itself where it puts silence into the place of flac's frames.
    assert ("damaged" in caplog.text) == (container == "MP3")


# -------------------------------------------------------------------------------------------- cancelled channels


@pytest.mark.parametrize("residue", [0, 1e-3, 1e-2])
def test_channels_that_cancel_each_other_are_named(residue):
    with pytest.raises(AudioError, match="the channels cancel each other"):
        audible_channels(np.stack([TONE, -TONE * (1 - residue)]), 1)


def test_a_recording_out_of_phase_is_refused_for_it():
    samples = read_audio(CASES / "out_of_phase.wav").samples
    with pytest.raises(AudioError, match="the channels cancel each other"):
        audible_channels(samples, 1)
    np.testing.assert_array_equal(audible_channels(samples, 2), samples)


def test_other_channels_are_mixed_though_one_is_silent_or_shifted():
    quiet = np.zeros_like(TONE)
    assert audible_channels(np.stack([TONE, quiet]), 1).shape == (1, len(TONE))
    assert audible_channels(np.stack([quiet] * 7 + [TONE]), 1).shape == (1, len(TONE))
    assert audible_channels(np.stack([TONE, np.roll(TONE, 7)]), 1).shape == (1, len(TONE))
    with pytest.raises(AudioError, match="silent"):
        audible_channels(np.stack([quiet, quiet]), 1)


# ----------------------------------------------------------------------------------------------------- silence


def damaged_mp3() -> bytes:
    """A file that libmpg123 has much to say about."""
    content = bytearray(encode_audio(LONG, 16_000, ".mp3"))
    noise = np.random.default_rng(0)
    for place in noise.integers(1000, len(content), 200):
        content[place] = noise.integers(256)
    return bytes(content)


def test_libraries_say_nothing_and_python_what_it_likes(capfd):
    content = damaged_mp3()
    soundfile.read(io.BytesIO(content))
    assert "mpg123" in capfd.readouterr().err, "this file no longer proves anything"
    with quiet_libraries():
        decode_audio(content)
        print("ours", file=sys.stderr)
        os.write(2, b"raw\n")
    assert capfd.readouterr().err == "ours\nraw\n"
    soundfile.read(io.BytesIO(content))
    assert "mpg123" in capfd.readouterr().err


def test_threads_may_be_quiet_at_a_time(capfd):
    content = damaged_mp3()
    threads = [threading.Thread(target=decode_audio, args=(content,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert capfd.readouterr().err == ""
    soundfile.read(io.BytesIO(content))
    assert "mpg123" in capfd.readouterr().err


def test_a_recording_from_a_process_of_its_own_is_quiet_too(tmp_path):
    """No test runner has its hands on the streams there."""
    file = tmp_path / "damaged.mp3"
    file.write_bytes(damaged_mp3())
    script = f"from moss_tts.audio.files import read_audio; print(read_audio({str(file)!r}).seconds)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 2
    assert re.fullmatch(rf"({file}: [^\n]+\n)+", done.stderr)
