"""`moss-tts follow`: text in as it comes, sound out while it does."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from moss_tts.cli.incoming import IncomingTurns, decoded, split_turns
from moss_tts.errors import RequestError
from support.command_line import pipe

TEXT = "Well, this is the first clause, and that is more. Then, after a while, all went home again. Ça, c’est dit."
OPTIONS = ("--seed", 5, "--max-tokens", 6)
FIGURES = re.compile(r"(\d+) ms to first text, (\d+) ms to first sound, (\d+) ms starved\n\Z")


def spoken(path: str) -> np.ndarray:
    return soundfile.read(path, dtype="int16")[0]


def heard(model, *texts: str) -> np.ndarray:
    """The samples of turns in one session."""
    with model.session(seed=5, max_tokens=6) as session:
        audio = np.concatenate([chunk.audio for text in texts for chunk in session.speak([text])])
    return np.clip(audio, -1, 1)


def test_the_file_holds_what_a_session_speaks(run, checkpoints, delay_model, monkeypatch):
    pipe(monkeypatch, TEXT)
    ended = run("follow", "-m", checkpoints["delay"], *OPTIONS, "-o", "a.wav")
    assert ended.code == 0, ended.err
    np.testing.assert_allclose(spoken("a.wav") / 32768, heard(delay_model, TEXT), atol=2e-4)
    assert "a.wav: " in ended.err
    assert "seed 5" in ended.err
    assert FIGURES.search(ended.err)
    assert ended.out == ""


def test_a_lexicon_changes_what_is_spoken(run, checkpoints, delay_model, monkeypatch):
    Path("words.txt").write_text("first = second")
    pipe(monkeypatch, TEXT)
    ended = run("follow", "-m", checkpoints["delay"], *OPTIONS, "-o", "a.wav", "--lexicon", "words.txt")
    assert ended.code == 0, ended.err
    wanted = heard(delay_model, TEXT.replace("first", "second"))
    np.testing.assert_allclose(spoken("a.wav") / 32768, wanted, atol=2e-4)


def test_a_blank_line_ends_a_turn(run, checkpoints, delay_model, monkeypatch):
    pipe(monkeypatch, "\n\nThe first of them.\n \n\n...\n\nThe second\none.\n\n")
    ended = run("follow", "-m", checkpoints["delay"], *OPTIONS, "-o", "a.wav", "--turns")
    assert ended.code == 0, ended.err
    wanted = heard(delay_model, "The first of them.", "The second\none.")
    np.testing.assert_allclose(spoken("a.wav") / 32768, wanted, atol=2e-4)
    assert "warning: the text of the turn has no word" in ended.err
    assert "in 3 turns" in ended.err


@pytest.mark.parametrize("options", [("--user-text", "Where were you?"), ("--user-audio", "q.wav")])
def test_what_the_user_said_is_refused_where_the_prompt_has_no_place(run, checkpoints, monkeypatch, options):
    soundfile.write("q.wav", np.zeros(8000), 8000)
    pipe(monkeypatch, TEXT)
    ended = run("follow", "-m", checkpoints["delay"], *options, "-o", "a.wav")
    assert ended.code == 2
    assert f"no place for what the user said, so {options[0]} cannot be followed" in ended.err


def test_what_the_user_said_goes_with_the_first_turn(delay_model):
    """To a session that takes it."""
    begun: list[dict[str, object]] = []

    class Listening:
        def turn(self, **user: object) -> Any:
            begun.append(user)
            return delay_model.session(seed=5, max_tokens=6).turn()

    incoming = IncomingTurns(Listening(), iter(["One.", None, "Two.", None]), {"user_text": "Where were you?"})  # type: ignore[arg-type]
    while (turn := incoming.next()) is not None:
        assert sum(chunk.samples for chunk in turn)
        incoming.done()
    assert begun == [{"user_text": "Where were you?"}, {}]


@pytest.mark.parametrize("text", ["One.\n\nTwo.\r\n \r\n\n\nThree\nfour. \n", "\n\n \n", "a\n\n\nb\n\t\nc", ""])
def test_turns_do_not_depend_on_pieces(text):
    def turns(pieces) -> list[str]:
        joined = "".join("|" if piece is None else piece for piece in split_turns(iter(pieces)))
        return [turn.strip() for turn in joined.split("|") if turn.strip()]

    whole = turns([text])
    assert whole == [turn.strip() for turn in re.split(r"\n[ \t\r]*\n\s*", text) if turn.strip()]
    for seed in range(20):
        draw = random.Random(seed)
        cuts = sorted(draw.choices(range(len(text) + 1), k=4))
        assert turns([text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]) == whole


def test_words_go_on_before_their_line_ends():
    pieces = split_turns(iter(["Hello, ", "this is\n", "it"]))
    assert [next(pieces) for _ in range(3)] == ["Hello, ", "this is", "\nit"]


def test_bytes_become_text_as_soon_as_they_can():
    blocks = iter([*(bytes([one]) for one in "\ufeffé€".encode()), b""])
    assert list(decoded(lambda: next(blocks))) == ["é", "€"]


@pytest.mark.parametrize("raw", [b"Hello \xff", b"Hello \xe2\x82"])
def test_other_bytes_are_refused(run, checkpoints, monkeypatch, raw):
    pipe(monkeypatch, raw)
    ended = run("follow", "-m", checkpoints["delay"], "-o", "a.wav")
    assert ended.code == 2
    assert "standard input is not UTF-8 text" in ended.err


def test_usage_errors_come_before_anything_is_loaded(run, checkpoints, monkeypatch):
    for arguments, message in (
        (["-o", "a.mp3"], "must end in .wav"),
        (["-o", "nowhere/a.wav"], "there is no directory nowhere"),
        (["-o", "a.wav", "--seed", -1], "seed must be"),
        (["-o", "a.wav", "--speaker", "S1=a.wav"], "--speaker-text S1=..."),
        (["-o", "a.wav", "--lora", "x"], "--lora"),
        (["-o", "a.wav", "--preset", "soundeffect"], "speaks no text"),
    ):
        pipe(monkeypatch, "Hello.")
        ended = run("follow", "-m", checkpoints["delay"], *arguments)
        assert ended.code == 2, ended.err
        assert message in ended.err
    pipe(monkeypatch, " \n")
    ended = run("follow", "-m", checkpoints["delay"], "-o", "a.wav")
    assert (ended.code, "no text to follow" in ended.err) == (2, True)


def test_without_a_file_it_is_played(run, checkpoints, delay_model, monkeypatch, tmp_path):
    player = tmp_path / "aplay"
    player.write_text(f"#!/bin/sh\ncat >> {tmp_path / 'played'}\n")
    player.chmod(0o755)
    monkeypatch.setattr("moss_tts.audio.players.find_player.__defaults__", (lambda _: str(player),))
    monkeypatch.setattr("moss_tts.audio.players.PLAYERS", ("aplay",))
    pipe(monkeypatch, TEXT)
    ended = run("follow", "-m", checkpoints["delay"], *OPTIONS)
    assert ended.code == 0, ended.err
    samples = np.frombuffer((tmp_path / "played").read_bytes()[44:], "<i2")
    np.testing.assert_allclose(samples / 32768, heard(delay_model, TEXT), atol=2e-4)


# ----------------------------------------------------------------------------------- a process of its own


# The command, which says when a turn is over.
TOLD = """
import sys
from moss_tts import cli
from moss_tts.cli.incoming import IncomingTurns

done = IncomingTurns.done

def told(incoming):
    done(incoming)
    print("a turn is over", file=sys.stderr, flush=True)

IncomingTurns.done = told
cli.main()
"""


def following(checkpoint: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", TOLD, "follow", "-m", str(checkpoint), "--seed", "5", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def until_a_turn_is_over(process: subprocess.Popen[bytes]) -> None:
    assert any(line == b"a turn is over\n" for line in iter(process.stderr.readline, b""))


@pytest.fixture
def heeded_in_children():
    """A process that was started in the background ignores Ctrl-C, and so would its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def write(process: subprocess.Popen[bytes], text: str) -> None:
    process.stdin.write(text.encode())
    process.stdin.flush()


def test_sound_comes_while_the_text_is_open(checkpoints):
    with following(checkpoints["delay"], "--output", "-") as process:
        write(process, "Well, this is the first clause, and")
        assert len(os.read(process.stdout.fileno(), 4096)) > 0
        write(process, " that is more.")
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0
    assert out
    assert FIGURES.search(err.decode())


@pytest.mark.usefixtures("heeded_in_children")
def test_ctrl_c_stops_the_turn_and_then_leaves(checkpoints):
    """The next turn is what it is without the one that was stopped."""
    with following(checkpoints["delay"], "--output", "-", "--turns") as process:
        write(process, "Well, this is the first clause, and")
        os.read(process.stdout.fileno(), 4096)
        process.send_signal(signal.SIGINT)
        until_a_turn_is_over(process)
        write(process, " this is not heard any more.\n\nThe second one, which is.\n\n")
        os.read(process.stdout.fileno(), 4096)
        write(process, "A third")
        process.stdin.close()
        process.stdin = None
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()
    assert "in 3 turns" in err.decode()


@pytest.mark.usefixtures("heeded_in_children")
def test_ctrl_c_between_turns_leaves(checkpoints):
    with following(checkpoints["delay"], "--output", "-", "--turns", "--max-tokens", "6") as process:
        write(process, "The first of them.\n\n")
        os.read(process.stdout.fileno(), 4096)
        until_a_turn_is_over(process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err.decode()
    assert "Traceback" not in err.decode()


def test_a_listener_who_leaves_ends_it(checkpoints):
    with following(checkpoints["delay"], "--output", "-") as process:
        write(process, "Well, this is the first clause, and")
        os.read(process.stdout.fileno(), 4096)
        process.stdout.close()
        process.stdout = None
        write(process, " that is more. And one more sentence of it.")
        assert process.wait(300) == 0
        assert "Traceback" not in process.stderr.read().decode()


@pytest.mark.parametrize(
    "raw", [b"Hello \xff", b"Hello \xff and more", b"\xef\xbb\xbfabc\xff", "Gr\u00fc\u00df".encode() + b"\xe2\x28"]
)
@pytest.mark.parametrize("size", [1, 4, 99])
def test_a_bad_byte_is_told_with_its_place(raw, size):
    blocks = iter([*(raw[at : at + size] for at in range(0, len(raw), size)), b""])
    with pytest.raises(RequestError, match="at byte 6"):
        list(decoded(lambda: next(blocks)))


@pytest.mark.parametrize("command", ["follow", "generate"])
def test_standard_output_that_is_closed_is_told(run, checkpoints, monkeypatch, command):
    pipe(monkeypatch, b"Hello there.")
    monkeypatch.setattr("sys.stdout", None)
    ended = run(command, *(["Hello there."] if command == "generate" else []), "-m", checkpoints["delay"], "-o", "-")
    assert (ended.code, "standard output, which is closed" in ended.err) == (2, True)
