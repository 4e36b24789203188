"""Adapters over HTTP: the field, the operator's weights, and what is refused."""

import json

import numpy as np
import pytest
import requests
import soundfile

import moss_tts
from moss_tts.errors import RequestError
from moss_tts.voices import Voices
from moss_tts.weights.layout import read_weights
from support.adapters import linears_of, write_adapter
from support.serving import serving

OPTIONS = {"seed": 1, "max_tokens": 6}
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def adapter(checkpoints, tmp_path_factory):
    directory = tmp_path_factory.mktemp("adapter") / "ada"
    return write_adapter(directory, linears_of(read_weights(checkpoints["delay"])))


def test_the_field_and_the_operators_weights(checkpoints, adapter, tmp_path):
    model = moss_tts.load(checkpoints["delay"], adapters={"ada": adapter})
    with serving(checkpoints["delay"], tmp_path, lora={"ada": adapter}, adapters={"ada": 0.5}) as running:
        served = running.get("/v1/models").json()["data"][0]
        assert (served["adapters"], served["defaults"]["adapters"]) == (["ada"], {"ada": 0.5})
        for weights, named in ((0.5, {}), (0.0, {"adapters": {}}), (1.5, {"adapters": {"ada": 1.5}})):
            expected = next(model.generate("Hello.", adapters={"ada": weights}, **OPTIONS)).audio
            made = np.asarray(running.pcm({"input": "Hello.", **OPTIONS, **named})) / 32768
            np.testing.assert_allclose(made, expected, atol=1e-3)


@pytest.mark.parametrize("wrong", [{"bob": 1.0}, {"ada": "much"}, {"ada": 1e300}, ["ada"]])
def test_what_is_refused(checkpoints, adapter, tmp_path, wrong):
    with serving(checkpoints["delay"], tmp_path, lora={"ada": adapter}) as running:
        answer = running.post(json={"input": "Hello.", "adapters": wrong})
        assert answer.status_code == 400
        assert "adapter" in json.dumps(answer.json()["error"])


def test_an_adapter_is_named_once(checkpoints, adapter, tmp_path):
    body = '{"input": "Hello.", "adapters": {"ada": 0.5, "ada": 1.0}}'
    with serving(checkpoints["delay"], tmp_path, lora={"ada": adapter}) as running:
        answers = [
            requests.post(f"{running.url}/v1/audio/speech", body, headers=running.headers | JSON, timeout=60),
            running.post(files={"input": (None, "Hello."), "adapters": (None, '{"ada": 0.5, "ada": 1.0}')}),
        ]
    for answer in answers:
        assert answer.status_code == 400
        assert "the key 'ada' is there twice" in answer.json()["error"]["message"]


def test_a_voice_brings_its_adapter(checkpoints, adapter, tmp_path):
    recording = np.sin(np.arange(12_000) / 9).astype(np.float32) / 3, 24_000
    voice = Voices(tmp_path).add("ada", recording, adapters={"ada": 1.5})
    assert Voices(tmp_path)["ada"].record == voice.record
    model = moss_tts.load(checkpoints["delay"], adapters={"ada": adapter})
    with serving(checkpoints["delay"], tmp_path, lora={"ada": adapter}, adapters={"ada": 0.25}) as running:
        for named, weight in (({}, 1.5), ({"adapters": {"ada": 0.5}}, 0.5), ({"adapters": {"ada": 0}}, 0)):
            expected = next(model.generate("Hello.", ref_audio=voice, adapters={"ada": weight}, **OPTIONS)).audio
            assert np.array_equal(next(model.generate("Hello.", voice=voice, **named, **OPTIONS)).audio, expected)
            made = np.asarray(running.pcm({"input": "Hello.", "voice": "ada", **OPTIONS, **named})) / 32768
            np.testing.assert_allclose(made, expected, atol=1e-3)


def test_a_voice_without_adapters_is_written_as_before(tmp_path):
    recording = np.sin(np.arange(12_000) / 9).astype(np.float32) / 3, 24_000
    voice = Voices(tmp_path).add("ada", recording)
    assert "adapters" not in json.loads((voice.directory / "voice.json").read_text())
    with pytest.raises(RequestError, match="adapters: the weight of 'ada' must be 0, or"):
        Voices(tmp_path).add("bob", recording, adapters={"ada": float("nan")})


def test_a_voice_that_is_registered_over_http_brings_its_adapter(checkpoints, adapter, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.sin(np.arange(12_000) / 9) / 3, 24_000)
    form = {"name": "ada", "adapters": json.dumps({"ada": 1.5})}
    with serving(checkpoints["delay"], tmp_path / "voices", lora={"ada": adapter}) as running:

        def added(**fields):
            return running.post("/v1/audio/voices", data={**form, **fields}, files={"audio_sample": path.read_bytes()})

        assert added().json()["adapters"] == {"ada": 1.5}
        assert running.get("/v1/audio/voices/ada").json()["adapters"] == {"ada": 1.5}
        spoken = {"input": "Hello.", "voice": "ada", **OPTIONS}
        assert np.array_equal(running.pcm(spoken), running.pcm({**spoken, "adapters": {"ada": 1.5}}))
        assert not np.array_equal(running.pcm(spoken), running.pcm({**spoken, "adapters": {"ada": 0}}))
        for wrong, message in (
            ('{"bob": 1}', "no adapter 'bob'"),
            ('{"ada": 1e300}', "ada"),
            ("{", "JSON"),
        ):
            answer = added(name="bob", adapters=wrong)
            assert answer.status_code == 400
            assert message in answer.json()["error"]["message"]
            assert answer.json()["error"]["param"].startswith("adapters")
