"""The models of `moss-tts serve` as its options name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from moss_tts import cli
from moss_tts.checkpoints.packaged import packaged_voice
from moss_tts.cli.served_models import read_duration, read_models
from moss_tts.cli.speak_text import Source
from moss_tts.errors import RequestError
from support.sounds import GOLDEN

OPTIONS = Source("", dtype="float32", kv_bits=8)


def named(*given: str, name: str | None = None, lora: tuple[str, ...] = (), source: Source = OPTIONS):
    return {one.name: one for one in read_models(given, name, lora, source)}


def test_one_model_is_named_as_before():
    assert {name: one.source.model for name, one in named().items()} == {"tiny_voice": str(packaged_voice())}
    assert list(named("OpenMOSS-Team/MOSS-TTS")) == ["MOSS-TTS"]
    assert list(named("some/dir", name="mine")) == ["mine"]
    [mine] = named("mine=some/dir", lora=("ada=adapters/ada:0.5",)).values()
    assert (mine.name, mine.source.model, mine.source.kv_bits) == ("mine", "some/dir", 8)
    assert (mine.source.adapters, mine.weights) == ({"ada": "adapters/ada"}, {"ada": 0.5})


def test_a_directory_with_an_equals_sign_has_no_name(tmp_path):
    directory = tmp_path / "a=b"
    directory.mkdir()
    assert {name: one.source.model for name, one in named(str(directory)).items()} == {"a=b": str(directory)}


def test_several_models_have_names_and_adapters_of_their_own(tmp_path):
    models = named(f"big={tmp_path}", f"rain={GOLDEN}", lora=("big/ada=adapters/ada", "big/bob=adapters/bob:2"))
    assert list(models) == ["big", "rain"]
    assert models["big"].source.adapters == {"ada": "adapters/ada", "bob": "adapters/bob"}
    assert models["big"].weights == {"ada": 0.0, "bob": 2.0}
    # A sound model has no context to keep in 8 bit.
    assert (models["rain"].source.dtype, models["rain"].source.kv_bits) == ("float32", None)
    limited = named(f"big={tmp_path}", f"rain={GOLDEN}", source=Source("", kv_bits=8, max_memory=3.0))
    assert (limited["rain"].source.max_memory, limited["rain"].source.kv_bits) == (3.0, None)


@pytest.mark.parametrize(
    ("given", "more", "said"),
    [
        (("a=x", "y"), {}, "needs a name: --model NAME=y"),
        (("a=x", "a=y"), {}, "names 'a' twice"),
        (("-a=x", "b=y"), {}, "must be DIR, HUB_ID or NAME=DIR"),
        (("a=", "b=y"), {}, "must be DIR, HUB_ID or NAME=DIR"),
        (("a=x",), {"name": "b"}, "give only one of them"),
        (("a=x", "b=y"), {"name": "c"}, "--name is for a server with one model; here are 2"),
        (("a=x", "b=y"), {"source": Source("", codec="z")}, "--codec is for a server with one model"),
        (("a=x", "b=y"), {"source": Source("", revision="z")}, "--revision is for a server with one model"),
        (("a=x", "b=y"), {"lora": ("ada=z",)}, "such as a/ada=adapters/ada"),
        (("a=x", "b=y"), {"lora": ("c/ada=z",)}, "The models are a, b"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, more, said):
    with pytest.raises(RequestError, match=said):
        named(*given, **more)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("0", 0), ("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), (" 10 M ", 600), ("never", None)],
)
def test_durations(given, seconds):
    assert read_duration("--keep-alive", given) == seconds


@pytest.mark.parametrize("given", ["", "ten", "-1", "1d", "inf", "nan", "10 minutes", "m"])
def test_what_is_no_duration(given):
    with pytest.raises(RequestError, match="--keep-alive must be a time such as 90s, 10m or 2h, or 0, or never"):
        read_duration("--keep-alive", given)


def test_the_command_refuses_before_it_loads(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setenv("MOSS_TTS_VOICES", str(tmp_path))
    for arguments, said in (
        (["--keep-alive", "soon"], "--keep-alive must be a time"),
        (["--max-loaded", "0"], "max-loaded"),
        (["--model", "x", "--model", "y"], "needs a name"),
    ):
        with pytest.raises(SystemExit) as exit_:
            cli.main(["serve", *arguments])
        assert exit_.value.code == 2
        assert said in capsys.readouterr().err
