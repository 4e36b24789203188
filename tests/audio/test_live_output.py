"""Audio that goes out while it is made: valid at any moment, the same samples everywhere, clean ends."""

import io
import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from moss_tts.audio import live_output, players
from moss_tts.audio.live_output import GrowingWav, PcmPipe, SinkFailedError, pcm_format, send_on
from moss_tts.audio.pcm import as_float, as_pcm, wav_header
from moss_tts.audio.players import find_player
from moss_tts.cli.speak_live import STDOUT, is_live, open_sinks
from moss_tts.cli.terminal import Terminal
from moss_tts.errors import AudioError, GenerationError, RequestError
from moss_tts.result import GenerationResult

RATE = 24000


def chunk(audio, last=False):
    return GenerationResult.of(
        np.asarray(audio, np.float32),
        sample_rate=RATE,
        frames=1,
        prompt_rows=3,
        seconds=0.1,
        peak_memory=0,
        streaming=True,
        finish_reason="stop" if last else None,
        seed=1,
    )


def chunks_of(audio, sizes):
    edges = np.minimum(np.cumsum([0, *sizes]), len(audio))
    pieces = [audio[start:end] for start, end in itertools.pairwise(edges)] + [audio[edges[-1] :]]
    return [chunk(piece, last=piece is pieces[-1]) for piece in pieces]


waveforms = st.one_of(
    stn.arrays(np.float32, st.integers(1, 300), elements=st.floats(-1.5, 1.5, width=32)),
    stn.arrays(np.float32, st.tuples(st.integers(1, 300), st.just(2)), elements=st.floats(-1.5, 1.5, width=32)),
)


@given(stn.arrays(np.int16, st.integers(0, 50)))
def test_pcm_survives_floats(pcm):
    assert np.array_equal(as_pcm(as_float(pcm)), pcm)


@given(waveforms)
def test_pcm_is_the_nearest_value_and_never_wraps(audio):
    assert np.abs(as_float(as_pcm(audio)) - np.clip(audio, -1, 1)).max() <= 1 / 2**15


@given(waveforms, st.lists(st.integers(0, 100), max_size=5))
def test_a_growing_wav_is_valid_and_complete_after_every_chunk(tmp_path_factory, audio, sizes):
    path = tmp_path_factory.mktemp("wav") / "speech.wav"
    done = 0
    for result in send_on(chunks_of(audio, sizes), [GrowingWav(path)]):
        done += result.samples
        samples, rate = soundfile.read(path, dtype="int16")
        assert rate == RATE
        assert np.array_equal(samples, as_pcm(audio[:done]))
    assert done == len(audio)
    assert path.read_bytes()[:44] == wav_header(RATE, 1 if audio.ndim == 1 else 2, path.stat().st_size - 44)


def test_a_killed_writer_leaves_at_worst_uncounted_samples(tmp_path):
    path = tmp_path / "speech.wav"
    wav = GrowingWav(path)
    wav.open(RATE, 1)
    wav.write(as_pcm(np.full(10, 0.5)).tobytes())
    with path.open("ab") as behind:
        behind.write(b"\1\2\3\4")  # what a write looks like before its header is there
    wav.close(complete=False)
    assert len(soundfile.read(path)[0]) == 10


def test_a_wav_that_is_full_says_what_else_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(live_output, "MAX_WAV_BYTES", 100)
    with pytest.raises(AudioError, match=r"4 GiB.*\.flac"):
        list(send_on([chunk(np.zeros(40))], [GrowingWav(tmp_path / "a.wav")]))


def test_a_failure_keeps_what_was_written(tmp_path):
    def failing():
        yield chunk(np.full(7, 0.25))
        raise GenerationError("segment 1 failed")

    path = tmp_path / "speech.wav"
    with pytest.raises(GenerationError):
        list(send_on(failing(), [GrowingWav(path)]))
    assert len(soundfile.read(path)[0]) == 7


@given(waveforms)
def test_a_pipe_carries_the_samples_and_nothing_else(audio):
    stream, said = io.BytesIO(), []
    list(send_on(chunks_of(audio, [10]), [PcmPipe(stream, said.append)]))
    assert stream.getvalue() == as_pcm(audio).astype("<i2").tobytes()
    assert said == [pcm_format(RATE, 1 if audio.ndim == 1 else 2)]


def test_a_reader_that_leaves_ends_the_work_without_an_error():
    reading, writing = os.pipe()
    asked = []

    def results():
        for number in range(1000):
            asked.append(number)
            yield chunk(np.zeros(40_000))

    with os.fdopen(writing, "wb") as stream:
        threading.Timer(0.05, lambda: os.close(reading)).start()
        list(send_on(results(), [PcmPipe(stream, str)]))
    assert len(asked) < 1000


# ------------------------------------------------------------------------------------------------------ players


def fake_player(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def only_players(tmp_path, monkeypatch):
    """A PATH with nothing but the players a test puts there."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setattr(players.shutil, "which", lambda name: _there(directory / name))
    return directory


def _there(path: Path) -> str | None:
    return str(path) if path.exists() else None


@pytest.mark.parametrize("name", ["ffplay", "aplay"])
def test_a_player_hears_a_wav_of_unknown_length(only_players, tmp_path, name):
    fake_player(only_players, name, f"exec cat > {tmp_path}/heard")
    audio = np.linspace(-1, 1, 100)
    list(send_on(chunks_of(audio, [30]), [find_player(players.shutil.which)]))
    heard = (tmp_path / "heard").read_bytes()
    assert heard[:44] == wav_header(RATE, 1, 2**32 - 1)
    assert heard[44:] == as_pcm(audio).tobytes()


def test_a_player_of_files_gets_the_whole_at_the_end(only_players, tmp_path):
    fake_player(only_players, "afplay", f'exec cp "$1" {tmp_path}/heard.wav')
    audio = np.linspace(-1, 1, 100)
    list(send_on(chunks_of(audio, [30]), [find_player(players.shutil.which)]))
    assert np.array_equal(soundfile.read(tmp_path / "heard.wav", dtype="int16")[0], as_pcm(audio))


def test_a_player_that_is_closed_ends_the_work(only_players):
    fake_player(only_players, "ffplay", "exit 0")
    results = (chunk(np.zeros(100_000)) for _ in range(100))
    assert len(list(send_on(results, [find_player(players.shutil.which)]))) < 100


# What ffplay and aplay print on a machine without a sound card, and the exit code with which each of them ends.
NO_CARD = "ALSA lib pcm.c:2666:(snd_pcm_open_noupdate) Unknown PCM default"
FAILURES = [
    ("ffplay", 0, f"{NO_CARD}\n[error] No more tries, audio open failed\n[fatal] Failed to open file", "No more tries"),
    ("ffplay", 1, "[error] pipe:0: Invalid data\n", "pipe:0: Invalid data"),
    ("aplay", 1, f"{NO_CARD}\naplay: main:850: audio open error: No such file", "aplay: main:850: audio open error"),
    ("afplay", 1, "Error: AudioQueueStart failed (-66680)", "Error: AudioQueueStart failed"),
    ("afplay", 3, "", "it ended with exit code 3"),
]


@pytest.mark.parametrize("dies", ["at once", "at the end"])
@pytest.mark.parametrize(("name", "code", "printed", "reason"), FAILURES)
def test_a_player_that_fails_gives_its_reason_alone_and_the_file_is_whole(
    only_players, tmp_path, capfd, name, code, printed, reason, dies
):
    reads = "" if dies == "at once" or name == "afplay" else "cat > /dev/null"
    fake_player(only_players, name, f"{reads}\nprintf '%s' '{printed}' >&2\necho noise\nexit {code}")
    results = (chunk(np.full(30_000, 0.25)) for _ in range(20))
    failures = []
    sinks = [GrowingWav(tmp_path / "a.wav"), find_player(players.shutil.which)]
    assert len(list(send_on(results, sinks, failures.append))) == 20
    (failure,) = failures
    assert str(failure).startswith(f"{name} could not play the audio: {reason}")
    assert len(str(failure).splitlines()) == 1
    assert len(soundfile.read(tmp_path / "a.wav")[0]) == 20 * 30_000
    assert capfd.readouterr() == ("", "")


def test_a_player_that_fails_is_an_error_where_nobody_minds_it(only_players):
    fake_player(only_players, "aplay", "exit 1")
    with pytest.raises(SinkFailedError):
        list(send_on([chunk(np.zeros(10))], [find_player(players.shutil.which)]))


def test_what_a_player_prints_while_it_plays_is_no_failure(only_players, capfd):
    fake_player(only_players, "ffplay", "cat > /dev/null\necho 'ALSA lib pcm.c: underrun occurred' >&2")
    assert len(list(send_on([chunk(np.zeros(10))], [find_player(players.shutil.which)]))) == 1
    assert capfd.readouterr() == ("", "")


def test_a_player_is_stopped_when_the_work_is(only_players):
    fake_player(only_players, "ffplay", "exec sleep 600")
    sent = send_on((chunk(np.zeros(10)) for _ in range(3)), [find_player(players.shutil.which)])
    next(sent)
    started = time.monotonic()
    sent.close()
    assert time.monotonic() - started < 300


@pytest.mark.usefixtures("only_players")
def test_a_machine_without_players_is_told_what_was_looked_for():
    with pytest.raises(AudioError, match=r"ffplay, aplay, afplay.*--output -"):
        find_player(players.shutil.which)


# ------------------------------------------------------------------------------------------------- command line


@pytest.mark.parametrize(
    ("output", "stream", "play", "live"),
    [
        ("-", None, False, True),
        ("a.wav", True, False, True),
        ("a.wav", None, False, False),
        ("a.mp3", True, False, False),
        ("a.wav", False, True, True),
    ],
)
def test_when_audio_goes_out_live(output, stream, play, live):
    assert is_live(Path(output), stream, play) is live


def test_only_a_wav_can_grow(tmp_path):
    with pytest.raises(RequestError, match=r"\.wav"):
        open_sinks(tmp_path / "a.mp3", False, Terminal())
    assert len(open_sinks(STDOUT, False, Terminal())) == 1


def moss_tts(*arguments, **options):
    command = [sys.executable, "-m", "moss_tts", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=600, **options)


def test_the_command_pipes_the_samples_that_it_writes_to_a_file(checkpoints, tmp_path):
    told = ["Hello there.", "--model", checkpoints["delay"], "--seed", 4, "--max-tokens", 20]
    piped = moss_tts("generate", *told, "--output", "-")
    written = moss_tts("generate", *told, "--stream", "--output", tmp_path / "a.wav")
    assert (piped.returncode, written.returncode) == (0, 0), piped.stderr + written.stderr
    assert piped.stdout == soundfile.read(tmp_path / "a.wav", dtype="int16")[0].tobytes()
    assert pcm_format(RATE, 1).encode() in piped.stderr


def test_a_broken_pipe_ends_the_command_cleanly(checkpoints):
    text = "It was a bright cold day. " * 60
    command = (
        f'"{sys.executable}" -m moss_tts generate "{text}" -m "{checkpoints["delay"]}" --long-form -o - | head -c 9'
    )
    ended = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False, timeout=600)
    assert len(ended.stdout) == 9
    assert b"Traceback" not in ended.stderr
    assert b"rror" not in ended.stderr
    assert ended.returncode == 0
