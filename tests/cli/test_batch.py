"""`moss-tts batch`: files of jobs, what is kept, what is said, and how it ends."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pysubs2
import pytest
import soundfile
import typer

from moss_tts import cli
from moss_tts.bulk import speaking
from moss_tts.bulk.jobs import SHARED
from moss_tts.bulk.kept_results import KeptResults
from moss_tts.cli.speak_text import Source
from moss_tts.prompts.options import OPTIONS

LONG = "It was cold.\n\n[pause 1s]\n\nThen it rained."
JOBS = [
    {"id": "short", "text": "Hello there, 3 of you", "seed": 1, "max_tokens": 12},
    {"id": "long/text", "text": LONG, "seed": 2, "max_tokens": 12, "long_form": True, "long_form_max_chars": 30},
    {"text": "Slower.", "seed": 3, "max_tokens": 12, "speed": 0.5},
]
for name in ("min", "target"):
    JOBS[1][f"long_form_{name}_chars"] = 10


def written(*jobs: dict[str, Any]) -> str:
    Path("jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    return "jobs.jsonl"


def rows(directory: str = "out") -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in Path(directory, "results.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row for row in found}


def samples(name: str) -> np.ndarray:
    return soundfile.read(f"out/{name}.wav", dtype="int16")[0].astype(int)


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("out").iterdir()}


def test_jobs_are_spoken_as_they_are_alone(run, checkpoints, models):
    arguments = ("-m", checkpoints["delay"], "-o", "out", "--subtitles", ".srt")
    ended = run("batch", written(*JOBS), *arguments)
    assert ended.code == 0
    assert "out: 3 of 3 jobs done, " in ended.out
    cut = [row["line"] for row in rows().values() if row["finish_reason"] == "length"]
    assert [f"line {line} " in ended.err for line in (1, 2, 3)] == [line in cut for line in (1, 2, 3)]
    for job, name in zip(JOBS, ("short", "long_text", "3"), strict=True):
        options = {key: value for key, value in job.items() if key != "id"}
        alone = models["delay"].say(**options)
        heard, rate = soundfile.read(f"out/{name}.wav")
        np.testing.assert_allclose(heard, np.clip(alone.audio, -1, 1), atol=2e-4)
        row = rows()[job.get("id", "3")]
        assert (row["status"], row["file"], row["seed"]) == ("done", f"{name}.wav", job["seed"])
        assert row["seconds"] == pytest.approx(len(heard) / rate, abs=1e-3)
        assert row["finish_reason"] == alone.finish_reason
        cues = pysubs2.load(f"out/{name}.srt")
        assert [cue.end for cue in cues] == pytest.approx([1000 * cue.end for cue in alone.cues], abs=1)
    assert list(rows()) == ["short", "long/text", "3"]


def test_a_failed_job_does_not_lose_the_others(run, checkpoints):
    failing = {"id": "bad", "text": "In a voice.", "ref_audio": "nowhere.wav"}
    ended = run("batch", written(failing, *JOBS), "-m", checkpoints["delay"], "-o", "out", "--format", "mp3")
    assert ended.code == 1
    assert "warning: line 1 (bad) failed: nowhere.wav: cannot be read" in ended.err
    assert "1 failed; out/results.jsonl says why" in ended.err
    assert "out: 3 of 4 jobs done, 1 failed, " in ended.out
    assert (rows()["bad"]["status"], "nowhere.wav" in rows()["bad"]["error"]) == ("failed", True)
    assert {path.name for path in Path("out").iterdir()} == {"results.jsonl", "short.mp3", "long_text.mp3", "4.mp3"}


def test_what_is_done_is_not_spoken_again(run, checkpoints, monkeypatch):
    arguments = ("batch", "jobs.jsonl", "-m", checkpoints["delay"], "-o", "out", "--batch", 2)
    written(*JOBS)
    assert run(*arguments).code == 0
    before = samples("3"), samples("short")
    spoken = []
    write = speaking.write_audio
    monkeypatch.setattr(
        speaking, "write_audio", lambda path, *more, **named: spoken.append(path.name) or write(path, *more, **named)
    )
    # One is changed, one is new, and the file of one is lost.
    Path("out/3.wav").unlink()
    written(JOBS[0] | {"seed": 7}, *JOBS[1:], {"id": "new", "text": "A new one.", "max_tokens": 8})
    ended = run(*arguments)
    assert "4 of 4 jobs done, 1 of them before" in ended.out
    assert sorted(spoken) == ["3.wav", "new.wav", "short.wav"]
    # Beside other jobs, a sample may be rounded otherwise.
    assert np.abs(samples("3") - before[0]).max() <= 1
    assert not np.array_equal(samples("short"), before[1])

    def refuse(_: Source) -> Any:
        raise AssertionError("nothing is left to speak")

    monkeypatch.setattr(Source, "load_speech", refuse)
    ended = run(*arguments)
    assert (ended.code, ended.err) == (0, "")
    assert "4 of 4 jobs done, 4 of them before" in ended.out


def test_ctrl_c_keeps_what_is_done(run, checkpoints, monkeypatch):
    arguments = ("batch", written(*JOBS), "-m", checkpoints["delay"], "-o", "out", "--batch", 1)
    assert run(*arguments).code == 0
    whole = contents()
    for path in Path("out").iterdir():
        path.unlink()
    add = KeptResults.add

    def interrupted(self: KeptResults, row: dict[str, Any]) -> None:
        add(self, row)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(KeptResults, "add", interrupted)
        ended = run(*arguments)
    assert ended.code == 130
    assert "Interrupted. Run the same command again to speak the other 2." in ended.err
    assert {path.name for path in Path("out").iterdir()} == {"results.jsonl", "short.wav"}
    assert run(*arguments).code == 0
    assert contents() == whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format", "aiff"), "--format must be one of wav, flac, mp3, ogg"),
        (("--subtitles", "a.srt"), "give only a suffix"),
        (("--output", "jobs.jsonl"), "is a file; name a directory"),
        (("--output", "nowhere/out"), "there is no directory"),
        (("--words",), "Name their file with --subtitles"),
        (("--voice", "nobody"), "line 1: There is no voice 'nobody'"),
        (("--speed", "9"), "line 1: speed must be a number in 0.25..4"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_loaded(run, arguments, message, monkeypatch, tmp_path):
    monkeypatch.setenv("MOSS_TTS_VOICES", str(tmp_path / "voices"))
    ended = run("batch", written({"text": "Hello."}), *arguments)
    assert (ended.code, message in ended.err) == (2, True), ended.err
    assert {path.name for path in Path().iterdir()} == {"jobs.jsonl"}


def test_a_missing_file_is_one_sentence(run):
    ended = run("batch", "nowhere.jsonl")
    assert (ended.code, ended.err) == (2, "moss-tts: nowhere.jsonl cannot be read: No such file or directory.\n")


def test_an_option_of_the_command_is_a_default_or_the_same_for_all_jobs():
    command = typer.main.get_command(cli.app).commands["batch"]  # type: ignore[attr-defined]
    names = {"batch" if one.name == "at_once" else one.name for one in command.params} - {"jobs", "help"}
    assert names - set(OPTIONS) == SHARED - {"play"}
