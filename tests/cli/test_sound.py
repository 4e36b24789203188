"""moss-tts with a sound model: the command sound, generate, and a model that is fetched from the hub."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import moss_tts
from moss_tts.checkpoints import hub as fetching
from moss_tts.checkpoints.hub import HubFile, Listing
from moss_tts.checkpoints.kept import kind_of
from moss_tts.checkpoints.names import PIPELINE_INDEX, HubName
from support.sounds import GOLDEN

SHORT = ("--seconds", 0.5, "--steps", 2)


def test_a_sound_is_written_and_its_seed_is_told(run, tmp_path):
    ended = run("sound", "Rain on tin", "--model", GOLDEN, *SHORT, "--seed", 3, "-o", "rain.wav", "-v")
    assert ended.code == 0, ended.err
    assert re.match(r"rain.wav: 0.50 s of audio in .* finish reason: stop, seed 3\n", ended.out)
    made = moss_tts.read_audio(tmp_path / "rain.wav")
    assert (made.samples.shape, made.sample_rate) == ((1, 600), 1200)
    run("sound", "Rain on tin", "--model", GOLDEN, *SHORT, "--seed", 3, "-o", "again.wav", "--guidance", 4, "-q")
    assert (tmp_path / "again.wav").read_bytes() == (tmp_path / "rain.wav").read_bytes()


def test_generate_makes_sounds_too_and_says_what_it_left_out(run, tmp_path):
    ended = run("generate", "--ambient-sound", "Rain", "--model", GOLDEN, "--seconds", 0.1, "--top-k", 3)
    assert ended.code == 0, ended.err
    assert "top_k has no meaning, so it was left out" in ended.err
    assert (tmp_path / "speech.wav").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sound", "Rain", "--model", GOLDEN, "--steps", 0), "steps must be an integer in 1..1000, got 0"),
        (("sound", "Rain", "--model", GOLDEN, "--seconds", 31), "seconds must be in 0.1..3"),
        (("sound", " ", "--model", GOLDEN), "There is no text"),
        (("sound", "Rain", "--model", GOLDEN, "-o", "-"), "Name a file for this sound"),
        (("sound", "Rain", "--model", GOLDEN, "-o", "rain.xyz"), "must end in"),
        (("sound", "Rain", "--model", GOLDEN, "--seconds", 0), "seconds must be in 0.1..3 for this model, got 0"),
        (("sound", "Rain", "--model", GOLDEN, "--seconds", -1), "seconds must be in 0.1..3 for this model, got -1"),
        (("bench", "--model", GOLDEN, "--kv-bits", 8), "has no kv_bits; leave it out"),
        (("bench", "--model", GOLDEN, "--frames", 9), "--frames is for speech models, and this is a sound model"),
        (("inspect", GOLDEN, "--codec", "x"), "--codec is for speech models"),
        (("inspect", GOLDEN, "--codec-dtype", "8bit"), "--codec-dtype is for speech models"),
        (("read", "tale.txt", "--model", GOLDEN), "sfx2 makes sounds and speaks no text; use `moss-tts sound`"),
        (("follow", "--model", GOLDEN, "-o", "rain.wav"), "sfx2 makes sounds and speaks no text"),
        (("generate", "Rain", "--model", GOLDEN, "--stream"), "cannot be streamed"),
        (("generate", "Rain", "--model", GOLDEN, "--kv-bits", 8), "has no kv_bits; leave it out"),
    ],
)
def test_wrong_usage_is_one_sentence(run, tmp_path, arguments, message):
    (tmp_path / "tale.txt").write_text("It was late, at 7")
    ended = run(*arguments)
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1


def test_inspect_describes_sound_models(run, tmp_path):
    ended = run("inspect", GOLDEN)
    assert (ended.code, ended.out.splitlines()[0]) == (0, f"sound model {GOLDEN}")
    assert "up to 3 s at 1200 Hz" in ended.out
    told = json.loads(run("inspect", GOLDEN, "--json").out)
    assert (told["kind"], told["runs"], told["computes_in"]) == ("sound model", True, "float32")
    assert told["needed_bytes"] > told["memory"]["transformer"]
    assert "no weight file has a sum to compare it with" in run("inspect", GOLDEN, "--verify").out
    shutil.copytree(GOLDEN, tmp_path / "broken", ignore=shutil.ignore_patterns("text_encoder"))
    assert "lacks text_encoder/ (text encoder)" in run("inspect", tmp_path / "broken").err


def test_bench_times_sound_models(run):
    told = json.loads(run("bench", "--model", GOLDEN, "--json").out)
    assert told["whole"] == told["description"] + told["steps"] * told["step"] + told["decoding"]
    assert min(told["step"], told["decoding"], told["peak"]) > 0
    assert re.search(r"sound +about \d+ s for 100 steps", run("bench", "--model", GOLDEN).out)


def test_a_model_that_needs_more_memory_is_refused(run, tmp_path):
    ended = run("sound", "Rain", "--model", GOLDEN, "--max-memory", 0.0001)
    assert (ended.code, "it needs" in ended.err) == (1, True)
    assert not (tmp_path / "sound.wav").exists()


def test_a_speech_model_is_no_sound_model(run, checkpoints):
    ended = run("sound", "Rain", "--model", checkpoints["delay"])
    assert (ended.code, "is no sound model" in ended.err) == (2, True)


def test_convert_refuses_options_of_speech_for_sounds(run, tmp_path):
    ended = run("convert", "--hf-path", GOLDEN, "--mlx-path", "copy", "--codec", "x")
    assert (ended.code, "--codec is for speech models" in ended.err) == (2, True)
    assert not (tmp_path / "copy").exists()


def test_models_shows_it(run, tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "MOSS-SoundEffect-v2.0")
    assert re.search(r"MOSS-SoundEffect-v2.0 +sound model", run("models").out)
    (tmp_path / "MOSS-SoundEffect-v2.0" / PIPELINE_INDEX).write_text('{"_class_name": "FluxPipeline"}')
    assert kind_of(tmp_path / "MOSS-SoundEffect-v2.0") is None


def listed(paths: list[str]) -> Listing:
    files = [HubFile(path, 1) for path in paths]
    return Listing("a/b", None, "0", tuple(fetching._of_checkpoint(files, HubName.of("a/b"))))


def test_of_a_repository_the_parts_are_fetched():
    paths = [path.relative_to(GOLDEN).as_posix() for path in GOLDEN.rglob("*") if path.is_file()]
    found = listed([*paths, "README.md", "demo.mp4", "vae/vae_128d_48k.pt", "x.pth"])
    assert {file.path for file in found.files} == {*paths, "README.md"}
    assert found.description == PIPELINE_INDEX
    both = listed([*paths, "vae/diffusion_pytorch_model.safetensors"])
    assert "vae/vae_128d_48k.pth" not in {file.path for file in both.files}
    assert listed(["config.json", PIPELINE_INDEX]).description == "config.json"


@pytest.mark.slow
def test_it_is_fetched_once_and_then_makes_sounds_offline(tmp_path):
    import subprocess
    import sys

    from support.hub import Repository, hub_of

    name = "OpenMOSS-Team/MOSS-SoundEffect-v2.0"
    source = str(Path(moss_tts.__file__).parents[1])

    with hub_of({name: Repository.of(GOLDEN)}) as hub:

        def moss_tts_(*arguments: object, **environment: str) -> str:
            settings = hub.environment(tmp_path / "home", **{"PYTHONPATH": source, **environment})
            command = [sys.executable, "-m", "moss_tts", *map(str, arguments)]
            ended = subprocess.run(command, env=settings, cwd=tmp_path, capture_output=True, text=True, timeout=600)
            assert ended.returncode == 0, ended.stderr
            return ended.stdout

        assert f"{name} is complete" in moss_tts_("download", name)
        made = moss_tts_("sound", "Rain", "--model", name, *SHORT, HF_HUB_OFFLINE="1")
    assert made.startswith("sound.wav: 0.50 s of audio")
