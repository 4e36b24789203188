"""`moss-tts dub`: tracks, measured on their samples; what is kept, what is said, how it ends."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moss_tts.audio.files import read_audio
from moss_tts.bulk.kept_results import KeptResults
from moss_tts.cli.dub_film import Destination
from moss_tts.dubbing.track import write_track
from moss_tts.errors import GenerationError
from moss_tts.model import Model

pysubs2 = pytest.importorskip("pysubs2", reason="the extra dub is not installed")
av = pytest.importorskip("av", reason="the extra dub is not installed")

WORDS = [
    "Stop!",
    "It was cold that night",
    "Did you hear it, or was it the wind",
    'The sign says "no entry"',
    "40 of them",
]


def film(cues: int, name: str = "film.srt", prefix: str = "") -> Path:
    """Cues of 0.6 to 3 s, between them no time at all to 1 s."""
    draws = np.random.default_rng(5)
    subtitles, now = pysubs2.SSAFile(), 250
    for number in range(cues):
        length = int(draws.integers(600, 3000))
        subtitles.append(pysubs2.SSAEvent(now, now + length, f"{prefix}{WORDS[number % len(WORDS)]}"))
        now += length + int(draws.choice([0, 40, 400, 1000]))
    subtitles.save(name)
    return Path(name)


def heard(path: str) -> list[tuple[float, float]]:
    return [(cue.start / 1000, cue.end / 1000) for cue in pysubs2.load(path)]


def test_fifty_cues_begin_at_their_times_and_none_reaches_into_the_next(run, checkpoints):
    wanted = heard(str(film(50)))
    arguments = ("-m", checkpoints["delay"], "--seed", 1, "-o", "t.wav", "--subtitles", "heard.srt")
    ended = run("dub", "film.srt", *arguments)
    assert ended.code == 0, ended.err
    track, rate = soundfile.read("t.wav")
    found = heard("heard.srt")
    assert len(found) == len(wanted) == 50
    for place, ((start, end), (wanted_start, _)) in enumerate(zip(found, wanted, strict=True)):
        assert start == pytest.approx(wanted_start, abs=0.001)
        # The words are heard at once, on the samples themselves, and nothing is heard after them.
        first = track[round(wanted_start * rate) : round((wanted_start + 0.04) * rate)]
        assert np.abs(first).max() > 0.001, place
        after = found[place + 1][0] if place < 49 else len(track) / rate
        assert end <= after + 0.0005
        assert not track[round((end + 0.001) * rate) : round((after - 0.001) * rate)].any()
    assert len(track) / rate == pytest.approx(max(wanted[-1][1], found[-1][1]), abs=0.001)
    fit = int(ended.out.split("t.wav: ")[1].split(" of 50 cues fit")[0])
    late = sum(end > wanted_end + 0.02 for (_, end), (_, wanted_end) in zip(found, wanted, strict=True))
    assert 0 < fit <= 50 - late
    assert ended.out.count("\n ") >= 50 - fit  # a row of the table for each of the others
    assert "ffmpeg -i film.mp4 -i t.wav -map 0:v -map 1:a -c:v copy -c:a aac film.dubbed.mp4" in ended.out
    assert not Path("t.wav.work").exists()


@pytest.mark.slow
def test_ctrl_c_loses_nothing_and_changes_nothing(run, checkpoints, monkeypatch):
    film(4)
    arguments = ("dub", "film.srt", "-m", checkpoints["delay"], "--seed", 1, "--batch", 1, "-o", "t.flac")
    assert run(*arguments).code == 0
    whole = Path("t.flac").read_bytes()
    Path("t.flac").unlink()
    add, added = KeptResults.add, list[str]()

    def interrupted(self, row):
        add(self, row)
        added.append(row["id"])
        if len(added) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(KeptResults, "add", interrupted)
    ended = run(*arguments)
    assert (ended.code, "run the same command again to continue" in ended.err) == (130, True)
    assert not Path("t.flac").exists()
    Path("t.flac.work/.4-1.flac.0.incomplete").touch()  # as a kill leaves it
    assert run(*arguments).code == 0
    assert not Path("t.flac.work").exists()
    assert Path("t.flac").read_bytes() == whole
    assert len(added) == len(set(added)) == 4


def test_other_formats_have_the_same_track(run, checkpoints):
    film(2)
    Path("film.mkv").write_bytes(b"")
    seconds = []
    for suffix in ("wav", "m4a"):
        ended = run("dub", "film.srt", "-m", checkpoints["delay"], "--seed", 1, "-o", f"t.{suffix}")
        assert ended.code == 0, ended.err
        seconds.append(read_audio(f"t.{suffix}").seconds)
        codec = "aac" if suffix == "wav" else "copy"
        assert f"ffmpeg -i film.mkv -i t.{suffix} -map 0:v -map 1:a -c:v copy -c:a {codec} film.dubbed.mkv" in ended.out
    assert seconds == pytest.approx([seconds[0]] * 2, abs=0.05)


@pytest.mark.parametrize("film_suffix", [".mp4", ".mkv", ".mov", ".m4v", ".webm", ".avi"])
@pytest.mark.parametrize("track_suffix", [".m4a", ".mp3", ".ogg"])
def test_the_printed_command_puts_the_track_into_the_film(tmp_path, film_suffix, track_suffix, monkeypatch):
    """With ffmpeg itself; the subtitles of a film are often named with their language."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    monkeypatch.chdir(tmp_path)
    video = {".webm": "libvpx", ".avi": "mpeg4"}.get(film_suffix, "libx264")
    make = ["ffmpeg", "-v", "error", "-f", "lavfi"]
    subprocess.run([*make, "-i", "testsrc=d=1:s=64x64", "-c:v", video, f"a film{film_suffix}"], check=True)
    write_track(Path(f"t{track_suffix}"), [np.zeros(24000, np.int16)], 24000, 1, "film", None)
    told = Destination(Path("a film.en.srt"), Path(f"t{track_suffix}")).muxing()
    subprocess.run([*shlex.split(told), "-v", "error"], check=True, stdin=subprocess.DEVNULL)
    with av.open(f"a film.dubbed{film_suffix}") as dubbed:
        assert [stream.type for stream in dubbed.streams] == ["video", "audio"]


def test_a_speaker_without_a_recording_keeps_one_voice(run, checkpoints, monkeypatch):
    """The longest words are spoken first, and are the reference of the others."""
    film(4)
    kept = list[dict]()
    add = KeptResults.add
    monkeypatch.setattr(KeptResults, "add", lambda self, row: kept.append(row) or add(self, row))
    assert run("dub", "film.srt", "-m", checkpoints["delay"], "-o", "t.wav").code == 0
    assert kept[0]["id"] == "3-1"
    assert sorted(row["id"] for row in kept) == ["1-1", "2-1", "3-1", "4-1"]


def test_what_cannot_be_spoken_is_named_and_the_rest_is_there(run, checkpoints, monkeypatch):
    film(3)
    request = Model.request

    def failing(self, options):
        if options["text"] == WORDS[0]:
            raise GenerationError("nothing came out.")
        return request(self, options)

    arguments = ("dub", "film.srt", "-m", checkpoints["delay"], "-o", "t.wav", "--subtitles", ".srt")
    with monkeypatch.context() as patch:
        patch.setattr(Model, "request", failing)
        ended = run(*arguments)
    assert ended.code == 1
    assert "line 2 could not be spoken: nothing came out." in ended.err
    assert [cue.plaintext for cue in pysubs2.load("t.srt")] == WORDS[1:3]
    kept = sorted(path.name for path in Path("t.wav.work").glob("*.flac"))
    assert kept == ["2-1.flac", "3-1.flac"]
    # Only what failed is spoken again.
    added = list[str]()
    add = KeptResults.add
    monkeypatch.setattr(KeptResults, "add", lambda self, row: added.append(row["id"]) or add(self, row))
    assert (run(*arguments).code, added) == (0, ["1-1"])
    assert not Path("t.wav.work").exists()


def test_what_the_voice_does_not_follow_is_told_once(run):
    film(2)
    ended = run("dub", "film.srt", "-o", "t.wav", "--instruction", "An old man", "--seed", 1)
    assert ended.code == 0
    assert ended.err.count("does not follow instruction") == 1


def test_a_plan_shows_words_and_voices(run):
    Path("cast.txt").write_text('"Ada" = default, seed 7\n')
    Path("film.vtt").write_text(
        "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ada>Hello, 3 of you\n\n00:03.000 --> 00:04.000\n[sighs]\n"
    )
    ended = run("dub", "film.vtt", "--plan", "--cast", "cast.txt")
    assert (ended.code, ended.out) == (0, "0:00:01.0  default, seed 7: Hello, 3 of you\nnot spoken: [sighs]\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "t.opus"), "--output t.opus must end in .m4a, .wav, .flac, .mp3, .ogg"),
        (("-o", "nowhere/t.wav"), "there is no directory nowhere"),
        (("--fastest", "0.5"), "--fastest must be a number in 1..4"),
        (("--subtitles", "film.srt"), "would replace the subtitles that are spoken"),
        (("--temperature", "-1"), "temperature must be"),
        (("--voice", "nobody"), "There is no voice 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_loaded(run, arguments, message, monkeypatch, tmp_path):
    monkeypatch.setenv("MOSS_TTS_VOICES", str(tmp_path / "voices"))
    film(1)
    ended = run("dub", "film.srt", *arguments)
    assert (ended.code, message in ended.err) == (2, True), ended.err
    assert {path.name for path in Path().iterdir()} == {"film.srt"}


def test_a_film_without_words_is_told(run):
    Path("film.srt").write_text("00:00:01,000 --> 00:00:02,000\n[silence]\n")
    ended = run("dub", "film.srt")
    assert (ended.code, ended.err) == (2, "moss-tts: film.srt has no words to speak.\n")
