"""The command line: what it writes, what it says, and how it exits."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer
from rich.console import Console

from moss_tts import cli
from moss_tts.checkpoints import footprint, inspection
from moss_tts.checkpoints.demo import write_demo_checkpoint
from moss_tts.cli import inspection_text, speak_text
from moss_tts.cli.output_files import Recording, record
from moss_tts.cli.terminal import Terminal
from moss_tts.device import blas, compiled
from moss_tts.device.blas import BlasState, BlasStatus
from moss_tts.device.compiled import CState, CStatus
from moss_tts.errors import CheckpointError, GenerationError, RequestError
from moss_tts.model import Model
from moss_tts.presets import PRESETS
from moss_tts.prompts.options import OPTIONS
from moss_tts.request import resolve_generation_request
from moss_tts.result import GenerationResult
from moss_tts.weights.layout import parameter_shapes, read_weights
from support.command_line import pipe


def commands() -> dict[str, Any]:
    return typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


def spoken(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="int16")[0]


# ------------------------------------------------------------------------------------------------- generate


def test_every_option_of_generate_has_its_flag():
    own = {"model", "codec", "dtype", "revision", "file", "output", "play", "quiet", "speaker", "speaker_text", "help"}
    own |= {"max_memory", "codec_dtype", "kv_bits", "tied_heads", "lora", "subtitles", "words", "recogniser", "mark"}
    flags = {parameter.name for parameter in commands()["generate"].params}
    assert (flags - own) | {"dialogue_speakers", "adapters"} == set(OPTIONS)
    assert own - {"help"} <= flags


def test_flags_are_the_options_with_hyphens():
    for parameter in commands()["generate"].params:
        if parameter.param_type_name == "option" and parameter.name not in ("help", "model", "output"):
            assert f"--{parameter.name.replace('_', '-')}" in parameter.opts


def test_a_narrow_terminal_cuts_no_option_off(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for name, command in commands().items():
        help_ = run(*name.split(), "--help").out
        for parameter in command.params:
            for flag in (*parameter.opts, *parameter.secondary_opts):
                assert not flag.startswith("-") or re.search(rf"{flag}[ ,]", help_), (name, flag)


def test_help_names_every_preset():
    help_ = next(p.help for p in commands()["generate"].params if p.name == "preset")
    assert set(PRESETS) <= set(re.findall(r"\w+", help_))


@pytest.mark.parametrize("command", ["generate", "read"])
def test_help_names_the_default_of_max_tokens_for_every_preset(command):
    help_ = next(p.help for p in commands()[command].params if p.name == "max_tokens")
    default = resolve_generation_request({"text": "a"}, "moss_tts").max_tokens
    assert f"The default is {default}, or " in help_
    others = {name: preset.max_tokens for name, preset in PRESETS.items() if preset.max_tokens != default}
    assert all(f"{limit} for {name}" in help_ for name, limit in others.items())


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"moss_tts_local_v1_5"}))
def test_every_preset_speaks(run, checkpoints, preset):
    prompt = ["--ambient-sound", "rain"] if preset == "soundeffect" else ["[S1] Hello."]
    ended = run("generate", *prompt, "-m", checkpoints["delay"], "--preset", preset, "--max-tokens", 4)
    assert ended.code == 0
    assert soundfile.info("speech.wav").samplerate == 24000


@pytest.mark.parametrize("architecture", ["delay", "local", "local_v1_5", "nano", "realtime"])
def test_the_file_holds_what_the_model_speaks(run, checkpoints, models, architecture):
    ended = run("generate", "Hello.", "-m", checkpoints[architecture], "--seed", 3, "--max-tokens", 20, "-o", "a.wav")
    assert ended.code == 0
    whole = next(models[architecture].generate("Hello.", seed=3, max_tokens=20))
    np.testing.assert_allclose(spoken(Path("a.wav")) / 32768, np.clip(whole.audio, -1, 1), atol=2e-4)
    assert f"{whole.samples / whole.sample_rate:.2f} s of audio" in ended.out
    assert f"finish reason: {whole.finish_reason}, seed 3" in ended.out


def test_a_seed_repeats_and_streaming_changes_nothing(run, checkpoints):
    for name, arguments in (
        ("a", ["--seed", 1]),
        ("b", ["--seed", 1]),
        ("c", ["--seed", 1, "--no-stream"]),
        ("d", ["--seed", 2]),
    ):
        run("generate", "Hello.", "-m", checkpoints["delay"], "--max-tokens", 12, "-o", f"{name}.wav", *arguments)
    a, b, c, d = (spoken(Path(f"{name}.wav")) for name in "abcd")
    np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(a, c, atol=4)
    assert not np.array_equal(a, d[: len(a)])


def test_a_random_seed_is_told_and_can_be_used_again(run, checkpoints):
    ended = run("generate", "Hello.", "-m", checkpoints["delay"], "--max-tokens", 8, "-o", "a.wav")
    seed = re.search(r"seed (\d+)", ended.out)[1]
    run("generate", "Hello.", "-m", checkpoints["delay"], "--max-tokens", 8, "-o", "b.wav", "--seed", seed)
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_the_suffix_says_the_format(run, checkpoints, suffix):
    output = Path(f"a.{suffix}")
    output.write_text("replaced")
    ended = run("generate", "Hello.", "-m", checkpoints["delay"], "--seed", 1, "--max-tokens", 8, "-o", output)
    assert ended.code == 0
    info = soundfile.info(output)
    assert info.format == suffix.upper()
    assert info.duration == pytest.approx(8 * 0.08, abs=0.1)


@pytest.mark.parametrize("way", ["argument", "file", "pipe", "dash"])
def test_text_comes_from_anywhere(run, checkpoints, monkeypatch, way):
    text = "Grüße. 你好。"
    Path("text.txt").write_text("\ufeff" + text, encoding="utf-8")
    if way in ("pipe", "dash"):
        pipe(monkeypatch, text)
    given = {"argument": [text], "file": ["--file", "text.txt"], "pipe": [], "dash": ["-"]}[way]
    seen = []
    monkeypatch.setattr(Model, "generate", lambda *_, **options: seen.append(options) or iter(()))
    run("generate", *given, "-m", checkpoints["delay"])
    assert seen[0]["text"] == text


def test_a_sound_does_not_wait_for_text(run, checkpoints, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    ended = run(
        "generate", "-m", checkpoints["delay"], "--preset", "soundeffect", "--ambient-sound", "rain", "--tokens", 3
    )
    assert ended.code == 0


def test_recordings_reach_the_model(run, checkpoints):
    name = "a=b: c.wav"
    soundfile.write(name, 0.1 * np.random.default_rng(0).standard_normal(24000), 24000)
    generate = ["generate", "-m", checkpoints["delay"], "--max-tokens", 3]
    assert run(*generate, "Hello.", "--ref-audio", name, "--ref-audio", name).code == 0
    assert run(*generate, "Hello.", "--mode", "continuation", "--ref-audio", name, "--ref-text", "Ho.").code == 0
    dialogue = ["--speaker", f"S2={name}", "--speaker-text", "S2=x = y: z"]
    assert run(*generate, "[S1] Hi. [S2] Ho.", "--preset", "ttsd", *dialogue).code == 0


def test_a_conversation_is_read_from_json(run, checkpoints):
    Path("talk.json").write_text(json.dumps([{"role": "user", "text": "Hello."}]))
    generate = ["generate", "-m", checkpoints["delay"], "--max-tokens", 3]
    assert run(*generate, "--conversation", "talk.json").code == 0
    Path("talk.json").write_text("{")
    ended = run(*generate, "--conversation", "talk.json")
    assert ended.code == 2
    assert "talk.json is not JSON" in ended.err


def test_a_budget_is_warned_about_and_quiet_is_quiet(run, checkpoints):
    generate = ["generate", "Hello.", "-m", checkpoints["delay"], "--seed", 1, "--max-tokens", 2]
    loud, quiet = run(*generate), run(*generate, "--quiet")
    assert "finish reason: length" in loud.out
    assert "--max-tokens" in loud.err
    assert (quiet.out, quiet.err) == ("", loud.err.partition("\n")[2])


def test_verbose_adds_figures(run, checkpoints):
    ended = run("generate", "Hello.", "-m", checkpoints["delay"], "--seed", 1, "--max-tokens", 2, "-v")
    assert re.search(r"prompt \d+ rows, 2 frames .* peak memory", ended.out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Hello.", "--bogus"], "No such option: --bogus"),
        (["Hello.", "--seed", "x"], "'--seed'"),
        (["Hello.", "--seed", "-1"], "seed must be an integer in 0.."),
        (["Hello.", "--temperature", "nan"], "temperature must be 0, or a number"),
        (["Hello.", "--top-p", "2"], "top_p must be a number"),
        (["Hello.", "--mode", "sing"], "mode must be one of"),
        ([""], "text"),
        ([" \n"], "text"),
        (["Hello.", "--instruction", "a", "--instruct", "b"], "instruct"),
        (["Hello.", "--n-vq-for-inference", "2"], "n_vq_for_inference"),
        (["Hello.", "--dtype", "float16"], "overflows"),
        (["Hello.", "--file", "text.txt"], "The text was given twice"),
        (["--file", "latin.txt"], "not UTF-8"),
        (["--file", "none.txt"], "none.txt"),
        (["Hello.", "--ref-audio", "none.wav"], "none.wav"),
        (["Hello.", "--conversation", "none.json"], "none.json"),
        (["Hello.", "--speaker", "text.txt"], "S1=..."),
        (["Hello.", "--speaker", "S1=text.txt"], "needs --speaker-text S1"),
        (["Hello.", "--speaker-text", "S1=a"], "needs --speaker S1"),
        (["Hello.", "--speaker", "S1=none.wav", "--speaker-text", "S1=a"], "no file none.wav"),
        (["Hello.", "--speaker", "S1=text.txt", "--speaker", "S1=text.txt"], "S1 twice"),
        (["Hello.", "-o", "a.aac"], ".wav, .flac, .mp3, .ogg"),
        (["Hello.", "-o", "."], "is a directory"),
        (["Hello.", "-o", "nowhere/a.wav"], "no directory nowhere"),
        (["Hello.", "--long-form-min-chars", "9"], "long_form"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(run, checkpoints, arguments, message):
    Path("text.txt").write_text("Hello.")
    Path("latin.txt").write_bytes(b"caf\xe9")
    ended = run("generate", "-m", checkpoints["delay"], *arguments)
    assert ended.code == 2
    assert message in ended.err
    assert sum(": variant " not in line for line in ended.err.splitlines()) == 1
    assert not list(Path().glob("*.wav"))


def test_wrong_values_are_found_before_anything_is_loaded(run, monkeypatch):
    monkeypatch.setattr(speak_text.Source, "load", lambda *_: pytest.fail("loaded"))
    for arguments in (["--top-k", -1], ["-o", "a.xyz"]):
        assert run("generate", "Hello.", "-m", "any", *arguments).code == 2


@pytest.mark.parametrize("memory", ["inf", "nan"])
def test_memory_is_a_number(run, checkpoints, memory):
    ended = run("generate", "Hello.", "-m", checkpoints["delay"], "--max-memory", memory)
    assert ended.code == 2
    assert f"--max-memory must be a number of GB, got {memory}" in ended.err


@pytest.mark.parametrize("command", [[], ["inspect"], ["bogus"]])
def test_missing_arguments(run, command):
    ended = run(*command)
    assert ended.code == (2 if command else 0)
    assert ("Usage" in ended.out) if not command else (len(ended.err.splitlines()) == 1)


def test_what_fails_is_one_line_and_exit_code_1(run, copied):
    Path("noise.wav").write_text("no audio")
    checkpoint = copied("delay")
    generate = ["generate", "Hello.", "-o", "a.wav", "-m"]
    failures = [
        run(*generate, checkpoint, "--ref-audio", "noise.wav"),
        run(*generate, "nowhere"),
        run(*generate, checkpoint / "audio_tokenizer"),
        run(*generate, checkpoint, "--codec", checkpoint),
    ]
    (checkpoint / "tokenizer.json").unlink()
    failures.append(run(*generate, checkpoint))
    (checkpoint / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes()[:-100])
    failures.append(run(*generate, checkpoint))
    assert [failure.code for failure in failures] == [1] * len(failures)
    for failure in failures:
        assert sum(": variant " not in line for line in failure.err.splitlines()) == 1, failure.err
    assert not Path("a.wav").exists()


# --------------------------------------------------------------------------------------------- interruption


def interrupted_after(count: int, error: type[BaseException] | BaseException) -> Callable[..., Iterator[Any]]:
    """Model.generate that is interrupted when so many results have come."""
    real = Model.generate

    def generate(self: Model, *arguments: Any, **options: Any) -> Iterator[GenerationResult]:
        for index, result in enumerate(real(self, *arguments, **options)):
            if index == count:
                raise error
            yield result

    return generate


def test_an_interrupt_keeps_what_is_decoded(run, checkpoints, monkeypatch):
    generate = ["generate", "Hello.", "-m", checkpoints["delay"], "--seed", 1, "--max-tokens", 30, "-o"]
    assert run(*generate, "whole.wav").code == 0
    monkeypatch.setattr(Model, "generate", interrupted_after(2, KeyboardInterrupt()))
    ended = run(*generate, "part.wav")
    assert ended.code == 130
    assert "finish reason: cancelled" in ended.out
    assert "part.wav holds the audio that was made before" in ended.err
    part = spoken(Path("part.wav"))
    assert len(part) > 0
    np.testing.assert_array_equal(part, spoken(Path("whole.wav"))[: len(part)])


def test_an_interrupt_before_the_first_audio_writes_nothing(run, checkpoints, monkeypatch):
    monkeypatch.setattr(Model, "generate", interrupted_after(0, KeyboardInterrupt()))
    ended = run("generate", "Hello.", "-m", checkpoints["delay"])
    assert ended.code == 130
    assert "no audio was made" in ended.err
    assert not list(Path().iterdir())


def test_ctrl_c_stops_within_a_frame_and_loses_nothing(run, checkpoints, monkeypatch):
    real = record

    def pressed(results: Any, show: Callable[[Recording], None]) -> Recording:
        def show_and_press(recording: Recording) -> None:
            show(recording)
            if len(recording.results) == 1:
                os.kill(os.getpid(), signal.SIGINT)

        return real(results, show_and_press)

    monkeypatch.setattr(speak_text, "record", pressed)
    before = signal.getsignal(signal.SIGINT)
    ended = run("generate", "Hello.", "-m", checkpoints["delay"], "--seed", 1, "--max-tokens", 60)
    assert ended.code == 130
    assert "finish reason: cancelled" in ended.out
    assert 0 < len(spoken(Path("speech.wav"))) < 60 * 1920
    assert signal.getsignal(signal.SIGINT) is before


def test_a_failure_keeps_what_is_decoded_and_is_told(run, checkpoints, monkeypatch):
    monkeypatch.setattr(Model, "generate", interrupted_after(1, GenerationError("segment 3 failed")))
    ended = run("generate", "Hello.", "-m", checkpoints["delay"], "--seed", 1)
    assert ended.code == 1
    assert "segment 3 failed" in ended.err
    assert len(spoken(Path("speech.wav"))) > 0


def test_progress_is_drawn_on_a_terminal_only():
    result = GenerationResult.of(
        np.zeros(24000, np.float32),
        sample_rate=24000,
        frames=12,
        prompt_rows=3,
        seconds=0.5,
        peak_memory=0,
        streaming=True,
        finish_reason="stop",
        seed=1,
    )
    for is_terminal in (True, False):
        screen = io.StringIO()
        console = Console(file=screen, force_terminal=is_terminal, width=100)
        terminal = Terminal(stderr=console)
        with terminal.loading("it"):
            pass
        with terminal.speaking(lambda recording: recording.seconds / 2) as show:
            show(Recording((result,), "stop"))
        assert ("1.0 s of audio, 2.0 x real time" in screen.getvalue()) == is_terminal


# --------------------------------------------------------------------------------------------------- inspect


@pytest.mark.parametrize("architecture", ["delay", "local", "local_v1_5", "nano", "realtime"])
def test_inspect_tells_what_a_checkpoint_is(run, checkpoints, models, architecture):
    text, machine = run("inspect", checkpoints[architecture]), run("inspect", checkpoints[architecture], "--json")
    assert (text.code, machine.code) == (0, 0)
    facts, model = json.loads(machine.out), models[architecture]
    assert facts["runs"]
    assert facts["problems"] == []
    assert facts["model"]["architecture"] == model.architecture.name
    assert facts["model"]["variant"] == model.preset.name
    assert facts["model"]["codebooks"] == model.config.n_vq
    assert facts["codec"]["sampling_rate"] == model.sample_rate
    assert model.architecture.name in text.out
    assert "It runs here." in text.out


def test_inspect_says_nothing_of_a_text_channel_that_is_given(run, tmp_path):
    realtime = run("inspect", str(write_demo_checkpoint(tmp_path / "realtime", "realtime"))).out
    assert "audio sampling" in realtime
    assert "text sampling" not in realtime


def test_inspect_counts_as_the_files_and_the_loaded_network_do(checkpoints, delay_model):
    facts = inspection.inspect_checkpoint(checkpoints["delay"])
    weights = read_weights(checkpoints["delay"])
    assert facts.weights.tensors == len(weights)
    assert facts.weights.parameters == sum(weight.size for weight in weights.values())
    loaded = parameter_shapes(delay_model.architecture.network)
    assert facts.memory.model_bytes == 4 * sum(int(np.prod(shape)) for shape in loaded.values())
    assert facts.memory.compute_dtype == "float32"


def test_inspect_evaluates_nothing(checkpoints, monkeypatch):
    for name in ("eval", "async_eval"):
        monkeypatch.setattr(inspection.mx, name, lambda *_: pytest.fail("evaluated"))
    assert inspection.inspect_checkpoint(checkpoints["local"]).runs


def test_inspect_shows_that_the_demo_speaks_noise(run, checkpoints):
    assert "it speaks noise" in run("inspect", checkpoints["delay"]).out


def test_inspect_reads_a_codec(run, checkpoints):
    ended = run("inspect", checkpoints["delay"] / "audio_tokenizer")
    assert ended.code == 0
    assert ended.out.startswith("codec ")
    assert "24000 Hz mono" in ended.out


def drop(*names: str) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        for name in names:
            (directory / name).rename(directory / f"away-{Path(name).name}")

    return change


def rewrite(name: str, **values: object) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        raw = json.loads((directory / name).read_text())
        (directory / name).write_text(json.dumps({**raw, **values}))

    return change


def cut(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (drop("tokenizer.json"), "no tokenizer.json"),
        (rewrite("tokenizer_config.json", chat_template=None), "chat template"),
        (drop("audio_tokenizer"), "has no codec: none of audio_tokenizer"),
        (drop("audio_tokenizer/model.safetensors"), "model*.safetensors"),
        (drop("model.safetensors"), "model*.safetensors"),
        (cut, "an incomplete copy?"),
        (rewrite("config.json", mystery=1), "mystery"),
        (rewrite("config.json", n_vq=5), "lacks"),
        (rewrite("config.json", sampling_rate=48000), "does not fit the model"),
        (rewrite("audio_tokenizer/config.json", mystery=1), "mystery"),
    ],
)
def test_inspect_lists_what_is_wrong(run, copied, change, problem):
    directory = copied("delay")
    change(directory)
    text, machine = run("inspect", directory), run("inspect", directory, "--json")
    assert (text.code, machine.code) == (1, 1)
    assert "It does not run here:" in text.out
    assert problem in text.out
    facts = json.loads(machine.out)
    assert not facts["runs"]
    assert any(problem in sentence for sentence in facts["problems"])


@pytest.mark.parametrize("status", BlasStatus)
def test_inspect_has_words_for_every_state_of_openblas(status):
    words = inspection_text.openblas(BlasState(status, "libopenblas.so", "no Fortran"))
    assert ("libopenblas.so" in words) is (status is BlasStatus.IN_USE)
    assert ("no Fortran" in words) is (status is BlasStatus.NOT_LOADED)


@pytest.mark.parametrize("status", CStatus)
def test_inspect_has_words_for_every_state_of_the_c(status):
    words = inspection_text.c_of_our_own(CState(status, "no compiler"))
    assert ("no compiler" in words) is (status is CStatus.NOT_COMPILED)
    assert ("MOSS_TTS_C=0" in words) is (status is CStatus.SWITCHED_OFF)


def test_inspect_names_the_state_of_the_machine(run, checkpoints, monkeypatch):
    monkeypatch.setattr(blas, "_state", BlasState(BlasStatus.NOT_LOADED, error="no Fortran"))
    monkeypatch.setattr(compiled, "_state", CState(CStatus.NOT_NEEDED))
    text, machine = run("inspect", checkpoints["delay"]), run("inspect", checkpoints["delay"], "--json")
    assert "OpenBLAS        could not be loaded: no Fortran (" in text.out
    assert "C code          not needed without OpenBLAS" in text.out
    facts = json.loads(machine.out)["machine"]
    assert facts["openblas"] == {"status": "not_loaded", "library": None, "error": "no Fortran"}
    assert facts["c"] == {"status": "not_needed", "error": None}


def test_inspect_finds_that_memory_is_too_small(checkpoints, monkeypatch):
    monkeypatch.setattr(footprint, "machine_memory", lambda: 1000)
    (problem,) = inspection.inspect_checkpoint(checkpoints["delay"]).problems
    assert "memory" in problem


def test_inspect_counts_a_smaller_codec(run, checkpoints):
    whole, small = (
        json.loads(run("inspect", checkpoints["delay"], "--json", "--codec-dtype", name).out)["memory"]
        for name in ("float32", "bfloat16")
    )
    assert small["codec_decoder_bytes"] == whole["codec_smaller"]["bfloat16"]
    assert small["codec_encoder_bytes"] == whole["codec_encoder_bytes"]


def test_inspect_refuses_what_is_no_checkpoint(run, tmp_path):
    for name in (tmp_path, tmp_path / "nothing"):
        ended = run("inspect", name)
        assert ended.code == 1
        assert sum(": variant " not in line for line in ended.err.splitlines()) == 1


# ------------------------------------------------------------------------------------------ demo checkpoints


@pytest.mark.parametrize("architecture", ["delay", "local", "local_v1_5", "nano", "realtime"])
def test_demo_checkpoints_repeat_by_seed(run, tmp_path, architecture):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert run("demo-checkpoint", tmp_path / name, "--architecture", architecture, "--seed", seed).code == 0
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c
    assert sum(path.stat().st_size for path in (tmp_path / "a").rglob("*") if path.is_file()) < 4_000_000


def test_demo_checkpoints_say_that_they_are_noise(run, tmp_path):
    assert "noise" in run("demo-checkpoint", tmp_path / "a").out
    assert "noise" in (tmp_path / "a" / "NOTE.txt").read_text()


def test_demo_checkpoints_overwrite_nothing(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("precious")
    for target in (tmp_path / "mine", tmp_path / "mine" / "file"):
        assert run("demo-checkpoint", target).code == 1
    assert (tmp_path / "mine" / "file").read_text() == "precious"
    with pytest.raises(CheckpointError):
        write_demo_checkpoint(tmp_path / "mine")
    with pytest.raises(RequestError, match="delay, local"):
        write_demo_checkpoint(tmp_path / "new", "unheard_of")


# ----------------------------------------------------------------------------------------------- the program


def test_version_and_module():
    from moss_tts import __version__

    ended = subprocess.run([sys.executable, "-m", "moss_tts", "--version"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout.strip()) == (0, f"moss-tts {__version__}")


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["generate", "x", "--bogus"]])
def test_help_waits_for_nothing_slow(arguments):
    script = (
        "import sys\nfrom moss_tts.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: pass\n"
        "print(*{'mlx', 'transformers', 'numpy', 'huggingface_hub'} & set(sys.modules), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stderr.splitlines()[-1] == ""
