"""What a checkpoint may and may not do while it is loaded: run nothing, fetch nothing, fail in one sentence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

import moss_tts
from moss_tts.checkpoints import hub
from moss_tts.errors import CheckpointError, CodecNotFoundError, ConfigError, MossTTSError, RequestError
from support.hub import cache_entry
from support.runtime_laws import TEXT, speak

SOURCE = Path(moss_tts.__file__).parent.parent


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Code in a Python of its own, offline."""
    settings = {"PYTHONPATH": str(SOURCE), "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def one_sentence(error: BaseException) -> bool:
    return "\n" not in str(error) and 10 < len(str(error)) < 600


# ------------------------------------------------------------------------------------------- nothing is run

SPY = "from pathlib import Path\nPath({flag!r}).touch()\nclass Spy:\n    pass\n"
AUTO_MAP = {
    "AutoTokenizer": ["spy.Spy", "spy.Spy"],
    "AutoConfig": "spy.Spy",
    "AutoModel": "spy.Spy",
    "AutoProcessor": "spy.Spy",
}


@pytest.mark.parametrize("tokenizer_class", ["PreTrainedTokenizerFast", "Spy", None])
def test_code_that_comes_with_a_checkpoint_is_never_run(copied, tmp_path, delay_model, tokenizer_class):
    directory, flag = copied("delay"), tmp_path / "was-run"
    for folder in (directory, directory / "audio_tokenizer"):
        (folder / "spy.py").write_text(SPY.format(flag=str(flag)))
        change_json(folder / "config.json", auto_map=AUTO_MAP)
    change_json(directory / "tokenizer_config.json", auto_map=AUTO_MAP, tokenizer_class=tokenizer_class)
    result = speak(moss_tts.load(directory), max_tokens=2)
    assert (result.audio == speak(delay_model, max_tokens=2).audio).all()
    assert not flag.exists()


def test_pickled_weights_are_read_as_a_table_and_never_run(copied):
    directory = copied("delay")
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(CheckpointError, match=r"cannot be read as a table of tensors.*Nothing of it was run"):
        moss_tts.load(directory)


def test_an_index_cannot_point_out_of_its_directory(copied, tmp_path):
    directory = copied("delay")
    shutil.copy(directory / "model.safetensors", tmp_path / "elsewhere.safetensors")
    index = {"weight_map": {"lm_heads.0.weight": "../elsewhere.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"elsewhere\.safetensors"):
        moss_tts.load(directory)


def test_importing_the_package_loads_neither_mlx_nor_transformers():
    heavy = ("mlx.core", "transformers", "torch", "huggingface_hub", "soundfile")
    done = run_python(f"import sys, moss_tts\nprint([name for name in {heavy} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_importing_a_model_loads_neither_what_rounds_weights_nor_what_plays():
    """Whatever speaks imports this module; conversion and players are for commands of their own."""
    other = (
        "checkpoints.gptq",
        "checkpoints.plan",
        "checkpoints.convert",
        "audio.live_output",
        "audio.players",
        "books",
        "server",
    )
    names = [f"moss_tts.{name}" for name in other] + ["av"]
    done = run_python(f"import sys, moss_tts.model\nprint([name for name in {names} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


# -------------------------------------------------------------------------------------- nothing is fetched


@pytest.fixture
def no_download(monkeypatch):
    """A directory needs no hub: asking it is a failure."""

    def refuse(*arguments: Any, **options: Any) -> str:
        raise AssertionError(f"asked the hub for {arguments} {options}")

    for name in ("snapshot_download", "hf_hub_download", "HfApi"):
        monkeypatch.setattr(hub, name, refuse)


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize("name", ["delay", "local", "local_v1_5", "nano", "realtime"])
def test_a_directory_is_loaded_and_spoken_with_no_hub(checkpoints, name):
    assert speak(moss_tts.load(checkpoints[name]), max_tokens=2).samples > 0
    assert speak(moss_tts.load(str(checkpoints[name])), max_tokens=1).samples > 0


@pytest.mark.usefixtures("no_download")
def test_a_named_codec_directory_needs_no_hub(copied):
    directory = copied("delay")
    codec = (directory / "audio_tokenizer").rename(directory.parent / "elsewhere")
    assert speak(moss_tts.load(directory, codec=codec), max_tokens=1).samples > 0
    change_json(directory / "config.json", audio_tokenizer_name_or_path=str(codec))
    assert speak(moss_tts.load(directory), max_tokens=1).samples > 0


def test_a_directory_has_no_revision(checkpoints):
    with pytest.raises(CheckpointError, match="revision 'main' applies to hub ids only"):
        moss_tts.load(checkpoints["delay"], revision="main")


def test_offline_a_hub_id_that_is_not_cached_is_refused_at_once():
    with pytest.raises(CheckpointError, match="OpenMOSS-Team/MOSS-TTS is not here yet") as caught:
        moss_tts.load("OpenMOSS-Team/MOSS-TTS")
    assert one_sentence(caught.value)


@pytest.mark.parametrize(
    "name",
    ["", "plain", "../missing", "./missing", "a/b/.c", "/no/such/place", "~/no-such-place", "a--b/c", "a..b/c", "x/.."],
)
@pytest.mark.usefixtures("no_download")
def test_what_is_neither_a_directory_nor_an_id_is_refused_without_asking(name):
    with pytest.raises(CheckpointError, match="neither a directory nor a hub id") as caught:
        moss_tts.load(name)
    assert one_sentence(caught.value)


def test_a_file_is_no_checkpoint(checkpoints):
    with pytest.raises(CheckpointError, match="is a file; a checkpoint is the directory that holds"):
        moss_tts.load(checkpoints["delay"] / "model.safetensors")


def test_a_cached_checkpoint_and_its_cached_codec_work_offline(copied, tmp_path, delay_model):
    directory = copied("delay")
    codec = (directory / "audio_tokenizer").rename(tmp_path / "codec")
    change_json(directory / "config.json", audio_tokenizer_name_or_path="Some/Codec")
    cache_entry(tmp_path / "home" / "hub", "Some/MOSS-TTS", directory)
    cache_entry(tmp_path / "home" / "hub", "Some/Codec", codec)
    code = (
        "import moss_tts\n"
        "model = moss_tts.load('Some/MOSS-TTS')\n"
        f"(result,) = model.generate({TEXT!r}, seed=1, max_tokens=3)\n"
        "print(result.samples)"
    )
    done = run_python(code, HF_HOME=str(tmp_path / "home"))
    assert done.stdout.strip() == str(speak(delay_model, max_tokens=3).samples), done.stderr


# ------------------------------------------------------------------------------------------- broken in part


def drop(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


def put(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda directory: (directory / name).write_bytes(content)


def cut(name: str, share: float) -> Callable[[Path], None]:
    """A copy that was broken off."""

    def shorten(directory: Path) -> None:
        content = (directory / name).read_bytes()
        (directory / name).write_bytes(content[: int(len(content) * share)])

    return shorten


def without_template(directory: Path) -> None:
    change_json(directory / "tokenizer_config.json", chat_template=None)


def template(source: str) -> Callable[[Path], None]:
    return lambda directory: change_json(directory / "tokenizer_config.json", chat_template=source)


BREAKAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (drop("config.json"), r"config\.json does not exist"),
    "empty config": (put("config.json", b""), r"config\.json cannot be read as JSON"),
    "config of another model": (put("config.json", b'{"model_type": "llama"}'), "'llama'.*moss_tts_delay"),
    "config without a type": (put("config.json", b"{}"), "model_type None"),
    "no weights": (drop("model.safetensors"), r"holds no model\*\.safetensors"),
    "weights cut off": (cut("model.safetensors", 0.7), "incomplete copy"),
    "weights cut off in the header": (cut("model.safetensors", 0.0001), "cut off in its header"),
    "empty weights": (put("model.safetensors", b""), "not a safetensors file"),
    "no tokenizer": (drop("tokenizer.json"), r"no tokenizer\.json"),
    "broken tokenizer": (put("tokenizer.json", b"{}"), "tokenizer"),
    "tokenizer cut off": (cut("tokenizer.json", 0.5), "tokenizer"),
    "broken tokenizer config": (put("tokenizer_config.json", b"["), "tokenizer"),
    "no chat template": (without_template, "chat template"),
    "chat template of another syntax": (template("{% for m in %}"), "chat template"),
    "chat template that refuses": (template("{{ raise_exception('no') }}"), "chat template"),
    "chat template that swallows": (template("hello"), "chat template"),
    "chat template that repeats": (template("{{ messages[0].content * 2 }}"), "chat template"),
    "broken codec config": (put("audio_tokenizer/config.json", b"{"), r"config\.json"),
    "no codec config": (drop("audio_tokenizer/config.json"), r"config\.json does not exist"),
    "no codec weights": (drop("audio_tokenizer/model.safetensors"), r"audio_tokenizer holds no model"),
    "codec cut off": (cut("audio_tokenizer/model.safetensors", 0.5), "incomplete copy"),
}


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize(("breakage", "words"), BREAKAGES.values(), ids=BREAKAGES)
def test_a_broken_checkpoint_says_what_is_broken(copied, breakage, words):
    directory = copied("delay")
    breakage(directory)
    with pytest.raises((CheckpointError, ConfigError), match=words) as caught:
        speak(moss_tts.load(directory))
    assert one_sentence(caught.value)


@pytest.mark.parametrize(
    "breakage",
    ["no chat template", "chat template of another syntax", "chat template that swallows", "broken tokenizer"],
)
def test_what_prompts_need_is_checked_while_loading(copied, breakage):
    """Not at the first request, which may come hours later."""
    directory = copied("delay")
    BREAKAGES[breakage][0](directory)
    with pytest.raises((CheckpointError, ConfigError)):
        moss_tts.load(directory)


def test_a_tokenizer_of_another_checkpoint_is_refused(copied, checkpoints):
    """Its im_start is not the config's."""
    directory = copied("delay")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoints["local_v1_5"] / name, directory)
    with pytest.raises((CheckpointError, ConfigError), match="tokenizer"):
        speak(moss_tts.load(directory))


def test_a_codec_is_no_model(checkpoints):
    with pytest.raises(ConfigError, match=r"codec.*not a speech model"):
        moss_tts.load(checkpoints["delay"] / "audio_tokenizer")


def test_weights_of_another_architecture_are_refused(copied, checkpoints):
    directory = copied("delay")
    shutil.copy(checkpoints["local"] / "model.safetensors", directory)
    with pytest.raises(CheckpointError, match="lacks"):
        moss_tts.load(directory)


def test_half_written_shards_are_named(copied):
    directory = copied("delay")
    weights = dict(mx.load(str(directory / "model.safetensors")))
    mx.eval(weights)
    names, files = sorted(weights), ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for part, file in enumerate(files):
        mx.save_safetensors(str(directory / file), {name: weights[name] for name in names[part::2]})
    (directory / "model.safetensors").unlink()
    index = {"weight_map": {name: files[number % 2] for number, name in enumerate(names)}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    assert speak(moss_tts.load(directory), max_tokens=1).samples > 0
    cut(files[1], 0.9)(directory)
    with pytest.raises(CheckpointError, match=files[1]):
        moss_tts.load(directory)
    (directory / files[1]).unlink()
    with pytest.raises(CheckpointError, match=files[1]):
        moss_tts.load(directory)


@pytest.mark.parametrize("dtype", ["float16", "int8", "auto"])
def test_types_that_cannot_be_computed_in_are_refused(checkpoints, dtype):
    with pytest.raises(RequestError, match=f"float32, bfloat16, got '{dtype}'"):
        moss_tts.load(checkpoints["delay"], dtype=dtype)


# --------------------------------------------------------------------------------------- requests, at call time


class NotAsked:
    """Stands where nothing may be asked of."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"asked for {name}")

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        raise AssertionError(f"called with {arguments} {options}")


@pytest.mark.parametrize(
    "options",
    [{"temprature": 1.0}, {"tokens": 0}, {"seed": -1}, {"preset": "?"}, {"mode": "continuation"}, {"text": " "}],
)
def test_a_bad_request_costs_nothing(delay_model, monkeypatch, options):
    """Refused when generate is called, with codec, network and references untouched."""
    monkeypatch.setattr(delay_model, "codec", NotAsked())
    monkeypatch.setattr(delay_model, "processor", NotAsked())
    monkeypatch.setattr(delay_model.architecture, "reading", NotAsked())
    with pytest.raises(RequestError) as caught:
        delay_model.generate(**{"text": TEXT} | options)
    assert one_sentence(caught.value)


@pytest.mark.parametrize(
    ("option", "nearest"),
    [("temprature", "temperature"), ("ref_audios", "ref_audio"), ("max_token", "max_tokens"), ("langauge", "language")],
)
def test_an_unknown_option_is_a_type_error_that_names_the_nearest(delay_model, option, nearest):
    with pytest.raises(TypeError, match=f"'{option}'.*'{nearest}'"):
        delay_model.generate(TEXT, **{option: 1})


def test_every_error_is_one_of_ours():
    assert issubclass(CodecNotFoundError, MossTTSError)
    assert issubclass(RequestError, ValueError)
    assert issubclass(ConfigError, ValueError)
