"""What `say` returns, what `write_audio` takes, and what the package shows to editors and notebooks."""

from __future__ import annotations

import base64
import inspect
import re
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest

import moss_tts
from moss_tts.long_form import CONTINUITIES, Continuity
from moss_tts.presets import PRESETS, PresetName
from moss_tts.prompts.messages import FINAL_ROLE, Mode
from moss_tts.prompts.options import OPTIONS, GenerateOptions

TEXT = 'He said "eight, not 7"'


@pytest.fixture(scope="module")
def model():
    with moss_tts.load() as model:
        yield model


@pytest.fixture(scope="module")
def speech(model):
    return model.say(TEXT, seed=1)


def test_say_is_generate_in_one_object(model, speech):
    [result] = model.generate(TEXT, seed=1)
    assert np.array_equal(speech, result.audio)
    assert (speech.sample_rate, speech.seed, speech.finish_reason) == (result.sample_rate, 1, "stop")
    assert speech.seconds == result.samples / result.sample_rate
    assert speech.timings.frames == result.token_count
    assert speech.timings.prompt_rows == result.prompt["tokens"]
    assert speech.timings.seconds > 0
    assert speech.timings.real_time_factor > 0
    assert speech.timings.peak_memory > 1e6


def test_a_speech_is_an_array(speech):
    assert np.asarray(speech).dtype == np.float32
    assert np.asarray(speech, dtype=np.float64).dtype == np.float64
    assert len(speech) == len(speech.audio)
    assert float(np.abs(speech).max()) > 0.01


def test_its_repr_is_one_short_line(speech, model):
    text = repr(speech)
    assert text == f"<Speech 'He said \"eight, not 7\"': {speech.seconds:.2f} s at 24000 Hz, stop, seed 1>"
    long = repr(model.say("One word follows another.\n" * 3, seed=1))
    assert len(long) < 120
    assert "\n" not in long


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_it_is_saved(speech, tmp_path, suffix):
    path = speech.save(tmp_path / f"speech.{suffix}")
    again = moss_tts.read_audio(path)
    assert again.sample_rate == speech.sample_rate
    assert again.seconds == pytest.approx(speech.seconds, abs=0.1)
    assert path.read_bytes()[:4] == speech.encode(suffix)[:4]


def test_a_notebook_shows_a_player(speech):
    page = speech._repr_html_()
    [data] = re.findall(r'<audio controls src="data:audio/flac;base64,([^"]+)">', page)
    assert base64.b64decode(data)[:4] == b"fLaC"
    assert "He said" in page
    assert "<Speech" not in page  # as text, not as a tag


def test_play_gives_the_audio_to_a_player(speech, monkeypatch):
    played = []

    class Player:
        def open(self, sample_rate, channels):
            played.append((sample_rate, channels))

        def write(self, pcm):
            played.append(len(pcm))

        def close(self, complete):
            played.append(complete)

    monkeypatch.setattr("moss_tts.audio.players.find_player", Player)
    speech.play()
    assert played == [(speech.sample_rate, 1), 2 * len(speech.audio), True]


def test_segments_and_progress_of_a_long_text(model):
    told = []
    speech = model.say("A sentence of some words. " * 8, seed=1, on_progress=told.append)
    assert len(speech.segments) == len(told) > 1
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert sum(segment.emitted_samples for segment in speech.segments) == len(speech)


def test_progress_of_a_short_text(model):
    told = []
    model.say(TEXT, seed=1, on_progress=told.append)
    assert told == [1.0]


def test_say_does_not_stream(model):
    with pytest.raises(moss_tts.RequestError, match="Use generate"):
        model.say(TEXT, stream=True)


def test_bad_options_are_refused_as_by_generate(model):
    with pytest.raises(moss_tts.UnknownOptionError, match="seed"):
        model.say(TEXT, sede=1)


def test_warnings_point_at_the_caller(model):
    with pytest.warns(moss_tts.MossTTSWarning) as warned:
        model.say("Grüße 🎉 to all", seed=1)
    assert warned[0].filename == __file__
    with pytest.warns(moss_tts.MossTTSWarning) as warned:
        model.generate_batch([{"text": "Grüße 🎉 to all", "seed": 1}])
    assert warned[0].filename == __file__


def test_a_speech_is_a_reference(speech, local_model):
    from_speech = [r.audio for r in local_model.generate("Hi there", ref_audio=speech, seed=1, max_tokens=4)]
    pair = (speech.audio, speech.sample_rate)
    from_pair = [r.audio for r in local_model.generate("Hi there", ref_audio=pair, seed=1, max_tokens=4)]
    assert np.array_equal(from_speech[0], from_pair[0])


def test_a_speech_becomes_a_voice(speech, tmp_path):
    voice = moss_tts.Voices(tmp_path).add("eight", speech)
    assert voice.record.seconds == pytest.approx(speech.seconds)


# ----------------------------------------------------------------------------------------------- write_audio


def test_results_are_written_in_each_form(model, speech, tmp_path):
    def written(audio, *rate):
        return moss_tts.write_audio(tmp_path / "speech.wav", audio, *rate).read_bytes()

    whole = written(speech)
    # An array has no mark of what made it.
    assert written(speech.audio, speech.sample_rate)[-len(speech.audio) * 2 :] in whole
    assert written(model.generate(TEXT, seed=1)) == whole
    assert written(list(model.generate(TEXT, seed=1))) == whole
    [result] = model.generate(TEXT, seed=1)
    assert written(result) == whole
    streamed = written(model.generate(TEXT, seed=1, stream=True))
    assert len(streamed) == len(whole)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(100, np.float32), "sample_rate"),
        (iter([]), "nothing to write"),
    ],
)
def test_what_cannot_be_written_is_said(audio, message, tmp_path):
    with pytest.raises(moss_tts.AudioError, match=message):
        moss_tts.write_audio(tmp_path / "speech.wav", audio)


def test_a_rate_that_contradicts_the_result_is_said(speech, tmp_path):
    with pytest.raises(moss_tts.AudioError, match="24000 and 44100 Hz"):
        moss_tts.write_audio(tmp_path / "speech.wav", speech, 44100)


def test_a_suffix_is_refused_before_anything_is_spoken(tmp_path):
    def results():
        raise AssertionError("asked for")
        yield

    with pytest.raises(moss_tts.AudioError, match=r"\.wav, \.flac"):
        moss_tts.write_audio(tmp_path / "speech.doc", results())


# ---------------------------------------------------------------------------------------------- for editors


def test_literals_are_the_names_that_are_allowed():
    assert set(get_args(PresetName)) == set(PRESETS)
    assert set(get_args(Mode)) == set(FINAL_ROLE)
    assert get_args(Continuity) == CONTINUITIES


@pytest.mark.parametrize("method", ["generate", "say", "generate_async"])
def test_notebooks_see_every_option(method):
    names = inspect.signature(getattr(moss_tts.Model, method)).parameters
    assert set(OPTIONS) <= set(names)
    assert set(GenerateOptions.__annotations__) <= set(names)
    assert "options" not in names


def test_the_models_repr_says_what_it_is(model, local_model):
    assert repr(model) == "<moss_tts.Model tiny_voice: MOSS-TTS Local, preset moss_tts_local, 24000 Hz>"
    assert "closed" not in repr(local_model)


def test_a_type_checker_sees_types(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import moss_tts\n"
        "model = moss_tts.load()\n"
        'reveal_type(model.say("Hello.", mode="generation"))\n'
        'model.say("Hello.", mode="continue")\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-incremental", str(program)], capture_output=True, text=True, check=False
    )
    assert 'Revealed type is "moss_tts.result.Speech"' in done.stdout
    assert "error:" in done.stdout
    assert '"continue"' in done.stdout or "incompatible type" in done.stdout
