"""This runtime inside the real mlx-audio: skipped without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import moss_tts
from moss_tts.checkpoints.demo import write_demo_checkpoint

pytest.importorskip("mlx_audio.tts", reason="needs mlx-audio: pip install mlx-audio==0.6.2")
TEXT = "Hello there."
OPTIONS: dict[str, Any] = {"seed": 3, "max_tokens": 20}


@pytest.fixture(scope="module", params=["delay", "local", "nano"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_checkpoint(tmp_path_factory.mktemp("inside") / "demo", request.param)


@pytest.fixture(scope="module")
def inside(directory: Path) -> Any:
    """A model of mlx-audio's own loader."""
    import mlx_audio.tts

    import moss_tts.mlx_audio  # noqa: F401

    return mlx_audio.tts.load(str(directory))


@pytest.fixture(scope="module")
def wanted(directory: Path) -> np.ndarray:
    return moss_tts.load(directory).say(TEXT, **OPTIONS).audio


def test_audio_is_that_of_this_runtime(inside: Any, wanted: np.ndarray):
    from mlx_audio.tts.models.base import GenerationResult

    [result] = inside.generate(TEXT, **OPTIONS)
    assert type(result) is GenerationResult
    assert result.is_final_chunk
    np.testing.assert_array_equal(np.array(result.audio), wanted)


def test_a_stream_is_the_same_audio(inside: Any, wanted: np.ndarray):
    chunks = list(inside.generate(TEXT, stream=True, streaming_interval=0.08, **OPTIONS))
    assert len(chunks) > 1
    assert [chunk.is_final_chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    np.testing.assert_allclose(np.concatenate([np.array(chunk.audio) for chunk in chunks]), wanted, atol=1e-5)


def test_what_the_programs_send_unasked_says_nothing(inside: Any, wanted: np.ndarray):
    unasked = {"lang_code": "en", "gender": "male", "pitch": 1.0, "speed": 1.0, "exaggeration": 0.5, "voice": None}
    [result] = inside.generate(TEXT, **unasked, **inside.generate_config, **OPTIONS)
    np.testing.assert_array_equal(np.array(result.audio), wanted)


@pytest.mark.parametrize("voice", ["default", "alloy", "Nova"])
def test_names_that_clients_of_openai_have_to_send_are_the_models_own_voice(
    inside: Any, wanted: np.ndarray, voice: str
):
    [result] = inside.generate(TEXT, voice=voice, **OPTIONS)
    np.testing.assert_array_equal(np.array(result.audio), wanted)


@pytest.mark.parametrize("option", [{"gender": "female"}, {"pitch": 2.0}, {"cfg_scale": 2.0}, {"lang_code": "b"}])
def test_options_that_do_not_exist_here_are_refused(inside: Any, option: dict[str, Any]):
    with pytest.raises(moss_tts.RequestError, match=next(iter(option))):
        inside.generate(TEXT, **option)


def test_other_models_of_mlx_audio_are_untouched():
    import mlx_audio.tts.models.kokoro as kokoro
    from mlx_audio.tts.utils import get_model_and_args
    from mlx_audio.utils import get_model_category

    import moss_tts.mlx_audio  # noqa: F401

    assert get_model_and_args("kokoro", ["kokoro"]) == (kokoro, "kokoro")
    assert get_model_category("moss_tts_realtime", ["any"]) == "tts"


@pytest.mark.slow
def test_its_command_line_speaks_with_this_runtime(directory: Path, wanted: np.ndarray, tmp_path: Path):
    command = [sys.executable, "-m", "moss_tts.mlx_audio", "seed=3", "tts.generate", "--model", str(directory)]
    options = ["--text", TEXT, "--max_tokens", "20", "--output_path", str(tmp_path)]
    source = str(Path(moss_tts.__file__).parents[1])
    (tmp_path / "sounddevice.py").touch()  # the real one needs PortAudio, though nothing is played here
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, str(tmp_path)])}
    done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, timeout=600)
    assert (tmp_path / "audio_000.wav").is_file(), done.stdout + done.stderr
    audio, _ = soundfile.read(tmp_path / "audio_000.wav")
    np.testing.assert_allclose(np.ravel(audio), np.ravel(wanted), atol=1e-4)
