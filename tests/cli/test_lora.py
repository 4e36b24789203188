"""`--lora NAME=DIR[:WEIGHT]`: its forms, and what is spoken with it."""

import json
import re

import pytest
import soundfile

import moss_tts
from moss_tts.bulk.jobs import read_jobs
from moss_tts.cli.arguments import read_lora, spoken_by
from moss_tts.cli.speak_text import Source
from moss_tts.dubbing.voices import voiced
from moss_tts.errors import RequestError
from moss_tts.text.cast import Casting
from moss_tts.weights.layout import read_weights
from support.adapters import linears_of, write_adapter
from support.command_line import runner


def test_forms(tmp_path):
    colon = tmp_path / "a:2"
    colon.mkdir()
    assert read_lora(["ada=x/y", "mood=z:-0.5"]) == ({"ada": "x/y", "mood": "z"}, {"ada": 1.0, "mood": -0.5})
    assert read_lora([f"ada={colon}"]) == ({"ada": str(colon)}, {"ada": 1.0})
    assert read_lora(["ada=x"], usual=0.0)[1] == {"ada": 0.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["ada"], "--lora must be NAME=DIR"),
        (["=dir"], "--lora must be NAME=DIR"),
        (["ada="], "--lora must be NAME=DIR"),
        (["ada=:1"], "--lora must be NAME=DIR"),
        (["ada=x", "ada=y"], "--lora names 'ada' twice"),
        (["ada=x:loud"], "the weight must be a number, got 'loud'"),
    ],
)
def test_other_forms_are_refused(given, message):
    with pytest.raises(RequestError, match=message):
        read_lora(given)


def test_it_is_spoken(capsys, checkpoints, tmp_path):
    directory = write_adapter(tmp_path / "ada", linears_of(read_weights(checkpoints["delay"])))
    model = moss_tts.load(checkpoints["delay"], adapters={"ada": directory})
    run = runner(capsys)
    for value, weight in ((f"ada={directory}", 1.0), (f"ada={directory}:0.5", 0.5)):
        speech = ["generate", "Hello.", "-m", checkpoints["delay"], "--seed", "1", "--max-tokens", "5"]
        assert run(*speech, "-o", tmp_path / "a.wav", "--lora", value).code == 0
        expected = next(model.generate("Hello.", seed=1, max_tokens=5, adapters={"ada": weight})).audio
        assert soundfile.read(tmp_path / "a.wav")[0] == pytest.approx(expected, abs=1e-3)
    ended = run(*speech, "-o", tmp_path / "b.wav", "--lora", f"ada={directory}:nan")
    assert ended.code != 0
    assert "of either sign" in ended.err
    assert not (tmp_path / "b.wav").exists()


@pytest.mark.parametrize("command", ["say Hello.", "generate Hello.", "bench", "serve --port 0", "read book.txt"])
def test_every_command_that_speaks_has_it(capsys, monkeypatch, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text("It was late.")
    ended = runner(capsys)(*command.split(), "--lora", "ada=missing:0.5")
    assert ended.code != 0
    assert "adapter 'ada': there is no directory 'missing'" in ended.err


def test_an_adapter_is_inspected(capsys, tmp_path):
    layers = {"model.layers.0.mlp.up_proj": (8, 4), "lm_heads.3": (6, 4)}
    directory = write_adapter(
        tmp_path / "ada", layers, rank=3, base_model_name_or_path="ORG/BASE", auto_mapping={"base_model_class": "Moss"}
    )
    run = runner(capsys)
    ended = run("inspect", directory)
    assert ended.code == 0
    for said in ("LoRA adapter", "ORG/BASE, a Moss", "2 layers: lm_heads, up_proj", "3; 66 values", "used with --lora"):
        assert said in ended.out
    facts = json.loads(run("inspect", directory, "--json").out)["adapter"]
    assert (facts["base"], facts["ranks"], facts["targets"]) == ("ORG/BASE", [3], ["lm_heads", "up_proj"])
    (directory / "adapter_model.safetensors").write_bytes(b"short")
    ended = run("inspect", directory)
    assert ended.code == 1
    assert "It does not run here" in ended.out


def test_what_a_file_says_of_an_adapter_does_not_steer_the_terminal(capsys, tmp_path):
    told = {"base_model_name_or_path": "\x1b[31mred\nIt runs.", "auto_mapping": {"base_model_class": "\x1b[2J\x07"}}
    directory = write_adapter(tmp_path / "ada", {"lm_heads.3": (6, 4)}, **told)
    ended = runner(capsys)("inspect", directory)
    assert "red It runs." in ended.out
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", ended.out)


def test_adapters_count_for_the_limit_of_memory(capsys, checkpoints, tmp_path):
    directory = write_adapter(tmp_path / "ada", linears_of(read_weights(checkpoints["delay"])), rank=64)
    limit = ["-m", checkpoints["delay"], "-o", tmp_path / "a.wav", "--max-tokens", "2", "--max-memory"]
    needed = json.loads(runner(capsys)("inspect", checkpoints["delay"], "--json").out)["needed_bytes"]
    run, most = runner(capsys), needed / 1e9 + 1e-5
    assert run("generate", "Hello.", *limit, most).code == 0
    ended = run("generate", "Hello.", *limit, most, "--lora", f"ada={directory}")
    assert ended.code != 0
    assert "of memory, but only" in ended.err


def test_a_book_is_not_continued_with_another_adapter(checkpoints, tmp_path):
    layers = linears_of(read_weights(checkpoints["delay"]))
    first, other = (str(write_adapter(tmp_path / str(seed), layers, seed=seed)) for seed in (1, 2))
    prints = [
        Source(str(checkpoints["delay"]), adapters=adapters).fingerprint()
        for adapters in ({}, {"ada": first}, {"ada": other}, {"ada": first, "b": other}, {"ada": other, "b": first})
    ]
    assert len(set(prints)) == len(prints)
    assert prints[1] == Source(str(checkpoints["delay"]), adapters={"ada": first}).fingerprint()


def test_a_registered_voice_with_an_adapter(capsys, checkpoints, monkeypatch, tmp_path):
    monkeypatch.setenv("MOSS_TTS_VOICES", str(tmp_path / "voices"))
    soundfile.write(tmp_path / "a.wav", [0.3, -0.3] * 6_000, 24_000)
    run = runner(capsys)
    assert run("voices", "add", "ada", tmp_path / "a.wav", "--adapter", "ada=0.5").code == 0
    assert run("voices", "list").out.split("  ")[-1] == "[adapters: ada 0.5]\n"
    assert run("voices", "add", "bob", tmp_path / "a.wav", "--adapter", "ada").code != 0
    assert spoken_by({"voice": "ada"})["adapters"] == {"ada": 0.5}
    assert spoken_by({"voice": "ada", "adapters": {"ada": 1.0, "b": 2.0}})["adapters"] == {"ada": 1.0, "b": 2.0}
    ended = run("generate", "Hello.", "-m", checkpoints["delay"], "-o", tmp_path / "b.wav", "--voice", "ada")
    assert ended.code != 0
    assert "no adapter 'ada', which the request or its voice wants; it was loaded without any" in ended.err


@pytest.fixture
def ada(capsys, monkeypatch, tmp_path):
    """A registered voice with an adapter of weight 0.5."""
    monkeypatch.setenv("MOSS_TTS_VOICES", str(tmp_path / "voices"))
    soundfile.write(tmp_path / "a.wav", [0.3, -0.3] * 6_000, 24_000)
    assert runner(capsys)("voices", "add", "ada", tmp_path / "a.wav", "--adapter", "warm=0.5").code == 0


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize(
    ("given", "voice", "weights"),
    [
        (["warm=DIR", "dry=DIR"], "ada", {"warm": 0.5, "dry": 1.0}),
        (["warm=DIR:2"], "ada", {"warm": 2.0}),
        (["warm=DIR"], None, {"warm": 1.0}),
        ([], "missing", {}),
    ],
)
def test_without_a_weight_that_of_the_voice_stands(given, voice, weights):
    assert read_lora(given, voice=voice)[1] == weights


@pytest.mark.usefixtures("ada")
def test_a_voice_that_speaks_among_others_keeps_its_weights():
    """The weight of the command is for all others; a job's own weights and a cast's come before those of a voice."""
    jobs = [{"voice": "ada"}, {}, {"voice": "ada", "adapters": {"dry": 1.0}}]
    lines = "\n".join(json.dumps({"text": "Hello.", **job}) for job in jobs)
    found = read_jobs(lines.encode(), "jobs", {"adapters": {"warm": 0.0}})
    assert [job.options["adapters"] for job in found] == [{"warm": 0.5}, {"warm": 0.0}, {"dry": 1.0}]
    with pytest.raises(RequestError, match="jobs, line 1: There is no voice 'bob'"):
        read_jobs(b'{"text": "Hello.", "voice": "bob"}', "jobs", {"adapters": {"warm": 0.0}})
    for casting, weights in (
        (Casting("ada"), {"warm": 0.5}),
        (Casting("ada", None, (("warm", 2.0),)), {"warm": 2.0}),
        (Casting(None, 3), {"warm": 0.0}),
    ):
        assert voiced({"adapters": {"warm": 0.0}}, casting)["adapters"] == weights
