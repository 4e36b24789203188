"""Files of jobs: what each line means, and what is said of lines that mean nothing."""

from __future__ import annotations

import json

import pytest

from moss_tts.bulk.jobs import content_of, file_name, read_jobs
from moss_tts.bulk.kept_results import KeptResults
from moss_tts.errors import RequestError


def jobs_of(*lines: object, **defaults: object) -> list:
    content = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return read_jobs(content.encode(), "jobs.jsonl", defaults)


def test_a_job_has_its_line_as_its_id_and_the_defaults_of_the_command():
    first, second = jobs_of({"text": "One."}, "", {"id": 7, "text": "Two.\u2028", "speed": 2}, "\r", speed=None, seed=3)
    assert (first.id, first.line, first.name, first.options) == ("1", 1, "1", {"text": "One.", "seed": 3})
    assert (second.id, second.line, second.options) == ("7", 3, {"text": "Two.\u2028", "speed": 2, "seed": 3})


def test_a_default_voice_gives_way_and_lexicons_add_up(tmp_path):
    (tmp_path / "all.txt").write_text("GIF = jiff\n")
    [job] = jobs_of(
        {"text": "A GIF.", "ref_audio": "a.wav", "lexicon": {"a": "eh"}}, voice="ada", lexicon=[tmp_path / "all.txt"]
    )
    assert "voice" not in job.options
    assert job.options["lexicon"] == [tmp_path / "all.txt", {"a": "eh"}]


def test_the_text_may_be_in_a_file(tmp_path):
    (tmp_path / "one.txt").write_text("\ufeffFrom a file.")
    [job] = jobs_of({"file": str(tmp_path / "one.txt")})
    assert job.options == {"text": "From a file."}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: this is not JSON"),
        ("[1]", "line 2: a job must be a JSON object, got [1]"),
        ('{"text": "a", "text": "b"}', "line 2: this is not JSON: the key 'text' is there twice"),
        ('{"text": "a", "speed": NaN}', "line 2: this is not JSON: NaN is no number"),
        ({"txt": "a"}, "line 2: there is no field 'txt'; did you mean 'text'?"),
        ({"text": "a", "output": "b.wav"}, "line 2: output is the same for all jobs; give it to the command"),
        ({"text": "a", "stream": True}, "line 2: stream is no field of a job"),
        ({"text": "a", "temperature": -1}, "line 2: temperature must be 0, or a number"),
        ({"text": "a", "voice": "nobody"}, "line 2: There is no voice 'nobody'"),
        ({"text": "a", "lexicon": "nowhere.txt"}, "line 2: "),
        ({"seed": 1}, "line 2: it has no text"),
        ({"text": "a", "file": "a.txt"}, "line 2: the text was given twice"),
        ({"file": "nowhere.txt"}, "line 2: file 'nowhere.txt' cannot be read"),
        ({"file": "/dev/zero"}, "line 2: file '/dev/zero' cannot be read as UTF-8 text: [Errno 22] it is a pipe or a"),
        ({"text": "a", "id": True}, "line 2: id must be a text or an integer, got True"),
        ({"text": "a", "id": "/.."}, "line 2: the id '/..' has no letter"),
        ({"text": "a", "id": "a" * 201}, "is too long for the name of a file"),
        ({"text": "a", "id": "First"}, "line 2: its files would have the same name as those of line 1, 'First'"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_with_its_number(line, message, monkeypatch, tmp_path):
    monkeypatch.setenv("MOSS_TTS_VOICES", str(tmp_path))
    with pytest.raises(RequestError) as error:
        jobs_of({"id": "first", "text": "One."}, line)
    assert message in str(error.value)
    assert str(error.value).startswith("jobs.jsonl, line 2: ")


def test_all_wrong_lines_are_named_up_to_five():
    with pytest.raises(RequestError) as error:
        jobs_of(*({"txt": "a"} for _ in range(7)))
    assert "line 1: " in str(error.value)
    assert "line 5: " in str(error.value)
    assert str(error.value).endswith("And 2 more lines.")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\n \n", "has no jobs"), (b'{"text": "a"}\n{"text": "\xff"}', "line 2: this is not UTF-8")],
)
def test_files_without_jobs_are_refused(content, message):
    with pytest.raises(RequestError, match=message):
        read_jobs(content, "jobs.jsonl", {})


@pytest.mark.parametrize(
    ("id_", "name"),
    [("a/b:c", "a_b_c"), (" ../x ", "x"), ("Zoë 2.1", "Zoë 2.1"), ("Zoe\u0308", "Zoë"), ("a\0b", "a_b"), ("-n", "-n")],
)
def test_ids_become_names_of_files(id_, name):
    assert file_name(id_) == name


def test_the_content_of_a_job_changes_with_its_files(tmp_path):
    recording = tmp_path / "a.wav"
    recording.write_bytes(b"one")
    options = {"text": "a", "ref_audio": str(recording)}
    before = content_of(options, {"suffix": ".wav"})
    assert content_of(dict(reversed(options.items())), {"suffix": ".wav"}) == before
    assert content_of(options, {"suffix": ".mp3"}) != before
    assert content_of(options | {"seed": 1}, {"suffix": ".wav"}) != before
    recording.write_bytes(b"two")
    assert content_of(options, {"suffix": ".wav"}) != before


def test_a_line_that_a_kill_left_half_written_is_no_result(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"")
    done = {"id": "a", "status": "done", "file": "a.wav", "content": "x"}
    results = tmp_path / "results.jsonl"
    results.write_text(json.dumps(done) + '\n{"id": "b", "sta')
    kept = KeptResults(tmp_path)
    assert kept.done("a", "x") == done
    assert kept.done("a", "y") is kept.done("b", "x") is None
    kept.add({"id": "b", "status": "failed", "error": "no"})
    assert [json.loads(line)["id"] for line in results.read_text().splitlines()] == ["a", "b"]
    (tmp_path / "a.wav").unlink()
    assert kept.done("a", "x") is None


@pytest.mark.parametrize("content", ["nonsense\n{}\n", '[1]\n{"id": "a"}\n'])
def test_another_file_of_that_name_is_not_touched(tmp_path, content):
    (tmp_path / "results.jsonl").write_text(content)
    with pytest.raises(RequestError, match=r"line 1, is no result of a job. Move the file away"):
        KeptResults(tmp_path)
    assert (tmp_path / "results.jsonl").read_text() == content
