"""What the package has to say while a command runs, and how a player's failure and a terminal are dealt with."""

from __future__ import annotations

import json
import logging
import os
import pty
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moss_tts.audio import players
from moss_tts.audio.pcm import wav_header
from moss_tts.cli import speak_text
from moss_tts.cli.messages import messages_shown
from moss_tts.errors import MossTTSWarning
from support.command_line import runner

TALK = ["generate", "Hello.", "--seed", 1, "--max-tokens", 4, "-m"]


def test_a_line_of_the_log_and_a_note_on_the_request_look_alike(run, checkpoints):
    samples = np.zeros(24_000, np.int16)
    samples[::7] = 3000
    Path("stream.wav").write_bytes(wav_header(24_000, 1, 0) + samples.tobytes())
    of_the_log = run(*TALK, checkpoints["delay"], "--ref-audio", "stream.wav")
    of_the_request = run("say", "Привет, Anna.", "--seed", 1)
    for ended, words in ((of_the_log, "stream.wav: its header does not say"), (of_the_request, "reads English only")):
        assert ended.code == 0
        (line,) = [line for line in ended.err.splitlines() if words in line]
        assert line.startswith("warning: ")
        assert line.count("warning") == 1


def test_a_stale_index_is_a_warning_of_the_command(run, copied):
    directory = copied("delay")
    index = {"weight_map": {"lm_heads.0.weight": "model-00001-of-00002.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    ended = run(*TALK, directory, "--quiet")
    assert ended.code == 0
    (line,) = [line for line in ended.err.splitlines() if "shards" in line]
    assert line.startswith("warning: ")


def test_levels_are_named_and_everything_is_as_it_was_afterwards(capsys):
    log, before = logging.getLogger("moss_tts"), warnings.showwarning
    handlers, propagate = list(log.handlers), log.propagate
    with messages_shown():
        logging.getLogger("moss_tts.server").error("it failed")
        logging.getLogger("moss_tts.server").info("all is well")
        warnings.warn("left out", MossTTSWarning, stacklevel=1)
    assert capsys.readouterr().err.splitlines() == ["error: it failed", "warning: left out"]
    assert (log.handlers, log.propagate, warnings.showwarning) == (handlers, propagate, before)


def test_warnings_of_others_are_left_as_they_are():
    with pytest.warns(UserWarning, match="theirs"), messages_shown():
        warnings.warn("theirs", UserWarning, stacklevel=1)


# ------------------------------------------------------------------------------------------------ terminals


def on_a_terminal(*arguments: object, cwd: Path) -> tuple[int, bytes, bytes]:
    """Run moss-tts with a terminal as its standard output: exit code, what the terminal got, standard error."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "moss_tts", *map(str, arguments)]
    ended = subprocess.run(command, stdout=slave, stderr=subprocess.PIPE, cwd=cwd, timeout=600, check=False)
    os.close(slave)
    try:
        shown = os.read(master, 1000)
    except OSError:  # Linux says so where nothing was written
        shown = b""
    os.close(master)
    return ended.returncode, shown, ended.stderr


def test_raw_audio_is_not_written_to_a_terminal(tmp_path):
    code, shown, told = on_a_terminal("say", "Hello.", "--output", "-", cwd=tmp_path)
    assert (code, shown) == (2, b"")
    assert told.count(b"\n") == 1
    assert b"> speech.pcm" in told
    assert b"| player" in told


# -------------------------------------------------------------------------------------------------- players


@pytest.fixture
def broken_player(tmp_path, monkeypatch):
    """The only player there is prints a lot, and cannot play."""
    player = tmp_path / "bin" / "aplay"
    player.parent.mkdir()
    player.write_text("#!/bin/sh\necho 'ALSA lib x.c: what it tried' >&2\necho 'aplay: no card.' >&2\nexit 1\n")
    player.chmod(0o755)
    monkeypatch.setattr(players.shutil, "which", lambda name: str(player) if name == "aplay" else None)
    monkeypatch.setattr(players.find_player, "__defaults__", (players.shutil.which,))


@pytest.mark.usefixtures("broken_player")
def test_a_player_that_fails_is_one_sentence_and_the_file_is_whole(capfd, checkpoints, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = runner(capfd)
    ended = run(*TALK, checkpoints["delay"], "--play", "-o", "a.wav")
    whole = run(*TALK, checkpoints["delay"], "--stream", "-o", "b.wav")
    assert (ended.code, whole.code) == (1, 0)
    said = [line for line in (ended.out + ended.err).splitlines() if "aplay" in line or "ALSA" in line]
    assert said == ["warning: aplay could not play the audio: aplay: no card. The audio file is written nevertheless."]
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_no_player_is_told_before_anything_is_loaded(run, monkeypatch):
    monkeypatch.setattr(players.find_player, "__defaults__", (lambda _: None,))
    ended = run("say", "Hello.", "--play")
    assert ended.code == 1
    assert "ffplay, aplay, afplay" in ended.err
    assert not Path("speech.wav").exists()


def test_what_cannot_grow_cannot_be_played_meanwhile(run):
    ended = run("say", "Hello.", "--play", "-o", "a.mp3")
    assert ended.code == 2
    assert "a.mp3 must end in .wav, because the file is written while its audio is made" in ended.err


def test_a_listener_who_leaves_keeps_what_was_written(run, checkpoints, tmp_path, monkeypatch):
    player = tmp_path / "bin" / "ffplay"
    player.parent.mkdir()
    player.write_text("#!/bin/sh\nhead -c 10000 >/dev/null\n")
    player.chmod(0o755)
    monkeypatch.setattr(players.find_player, "__defaults__", (lambda name: str(player) if name == "ffplay" else None,))
    text = "It was a bright cold day. " * 60
    ended = run("generate", text, "-m", checkpoints["delay"], "--long-form", "--seed", 1, "--play", "-o", "a.wav")
    assert ended.code == 0
    assert "a.wav holds the audio that was made before" in ended.err
    assert soundfile.info("a.wav").frames > 0


# ---------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize("command", ["say", "generate"])
@pytest.mark.parametrize("given", [[], [""], ["-"], [" \n"]])
def test_no_text_is_told_with_the_ways_to_give_one(run, command, given, monkeypatch):
    ended = run(command, *given)
    assert ended.code == 2
    assert ended.err == ("moss-tts: There is no text to speak. Give a text in quotes, a file with --file, or a pipe.\n")
    monkeypatch.setattr(sys, "stdin", None)
    assert run(command).err == ended.err


def test_a_list_without_voices_says_how_to_add_one(run, tmp_path):
    ended = run("voices", "list", "--voices", tmp_path / "none")
    assert (ended.code, ended.out) == (0, "")
    assert str(tmp_path / "none") in ended.err
    assert "moss-tts voices add alice alice.wav" in ended.err
    assert json.loads(run("voices", "list", "--voices", tmp_path / "none", "--json").out) == []


def test_the_end_of_a_command_says_what_to_do_next(run, monkeypatch):
    monkeypatch.setattr("moss_tts.server.lifecycle.serve", lambda *given: given[3]("http://x") or 0)
    served, made = run("serve", "--port", 0), run("demo-checkpoint", "my demo")
    assert served.out == "http://x\n"  # programs read the first line
    assert "Ctrl-C stops" in served.err
    assert made.err == "Try it: moss-tts generate \"Hello.\" --model 'my demo'\n"


WRITING = [
    ("say", "Hello.", "-o", "locked/a.wav"),
    ("say", "Hello.", "--subtitles", "locked/a.srt"),
    ("read", "book.txt", "-o", "locked/book"),
    ("read", "book.txt", "-o", "locked"),
    ("read", "book.txt", "-o", "locked/book.m4b"),
    ("read", "book.txt", "--report", "locked/book.html"),
    ("read", "book.txt", "--read-along", "locked/book.epub"),
    ("batch", "jobs.jsonl", "-o", "locked"),
    ("batch", "jobs.jsonl", "-o", "locked/jobs"),
    ("dub", "film.srt", "-o", "locked/film.wav"),
    ("check-device", "-o", "locked/page.md"),
]


@pytest.mark.parametrize("words", WRITING, ids=" ".join)
def test_a_place_that_cannot_be_written_is_told_before_hours_of_work(run, monkeypatch, words):
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK and Path(path) == Path("locked")))
    Path("locked").mkdir()
    Path("book.txt").write_text("It was cold.")
    Path("jobs.jsonl").write_text('{"text": "It was cold."}')
    Path("film.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nIt was cold.\n")
    monkeypatch.setattr(speak_text.Source, "load", lambda *_: pytest.fail("loaded"))
    ended = run(*words)
    assert ended.code == 2
    assert f"you may not write into the directory {Path('locked').absolute()}; name another." in ended.err


def test_generate_says_first_which_variant_it_takes_and_why(run, checkpoints, tmp_path):
    (tmp_path / "moss-ttsd-de").symlink_to(checkpoints["delay"])
    flags = ["--model", tmp_path / "moss-ttsd-de", "--output", tmp_path / "a.wav", "--max-tokens", "2"]
    told = run("generate", "[S1] Hello.", *flags).err.splitlines()[0]
    assert told == "moss-ttsd-de: variant ttsd, told by 'ttsd' in its name"
    told = run("generate", "Hello.", "--preset", "moss_tts", *flags).err.splitlines()[0]
    assert told == "moss-ttsd-de: variant moss_tts, as --preset says"
