"""The server, used by programs that know nothing of it: OpenAI's client, players, bridges, fuzzers."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import shutil
import subprocess
import wave
from typing import Any

import numpy as np
import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings

pytest.importorskip("fastapi", reason="the extra server is not installed")

from moss_tts.audio.files import encode_audio
from support.serving import PATIENCE, assert_same_speech, serving

BODY = {"input": "Hello there.", "model": "tts-1", "voice": "alloy"}
LENGTH = {"seed": 1, "max_tokens": 12}


@pytest.fixture(scope="module")
def served(checkpoints, tmp_path_factory) -> Any:
    with serving(checkpoints["delay"], tmp_path_factory.mktemp("voices"), max_chars=300, max_frames=40) as running:
        yield running


@pytest.fixture(scope="module")
def expected(delay_model) -> np.ndarray:
    return next(delay_model.generate("Hello there.", **LENGTH)).audio


def pcm(content: bytes) -> np.ndarray:
    return np.frombuffer(content, "<i2")


# --------------------------------------------------------------------------------------- OpenAI's own client


@pytest.fixture
def client(served) -> Any:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openai_speech(client, expected, tmp_path):
    speech = client.audio.speech.create(**BODY, response_format="pcm", extra_body=LENGTH)
    assert_same_speech(pcm(speech.content), expected)
    speech = client.audio.speech.create(**BODY, speed=1.0, instructions="Glad", extra_body=LENGTH)
    speech.write_to_file(tmp_path / "speech.mp3")
    assert (tmp_path / "speech.mp3").read_bytes()[:2] in (b"\xff\xf3", b"\xff\xfb", b"ID")


def test_openai_speaks_faster(client, expected):
    speech = client.audio.speech.create(**BODY, response_format="pcm", speed=2.0, extra_body=LENGTH)
    assert len(pcm(speech.content)) == round(expected.shape[0] / 2)


def test_openai_streams(client, expected):
    with client.audio.speech.with_streaming_response.create(
        **BODY, response_format="pcm", extra_body=LENGTH | {"streaming_interval": 0.1}
    ) as response:
        parts = list(response.iter_bytes(1024))
    assert len(parts) > 1
    assert_same_speech(pcm(b"".join(parts)), expected)


def test_openai_reads_events_line_by_line(client, expected):
    """As its examples do: stream_format sse, and the audio of each delta."""
    with client.audio.speech.with_streaming_response.create(
        **BODY, response_format="pcm", stream_format="sse", extra_body=LENGTH
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    *deltas, done = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert all(delta.keys() == {"type", "audio"} and delta["type"] == "speech.audio.delta" for delta in deltas)
    assert done["type"] == "speech.audio.done"
    assert done["usage"].keys() == {"input_tokens", "output_tokens", "total_tokens"}
    assert_same_speech(pcm(b"".join(base64.b64decode(delta["audio"]) for delta in deltas)), expected)


def test_openai_errors_have_the_field(client):
    import openai

    with pytest.raises(openai.BadRequestError) as refused:
        client.audio.speech.create(**BODY | {"voice": "nobody"})
    assert (refused.value.param, refused.value.code) == ("voice", "voice_not_found")
    with pytest.raises(openai.NotFoundError) as refused:
        client.audio.speech.create(**BODY | {"model": "org/model"})
    assert refused.value.param == "model"
    with pytest.raises(openai.BadRequestError) as refused:
        client.audio.speech.create(**BODY, speed=5.0)
    assert refused.value.param == "speed"


def test_openai_models_and_voices(client, expected):
    [model] = client.models.list().data
    assert client.models.retrieve(model.id).id == "demo"
    if not hasattr(client.audio, "voices"):
        pytest.skip("this release of openai has no voices")
    recording = encode_audio(expected, 24000, ".wav")
    voice = client.audio.voices.create(name="alice", audio_sample=("a.wav", recording, "audio/wav"), consent="cons_1")
    assert (voice.id, voice.object, voice.type) == ("alice", "audio.voice", "audio_sample")
    assert client.audio.speech.create(**BODY | {"voice": {"id": "alice"}}, extra_body=LENGTH).content
    assert client.audio.voices.delete("alice").deleted


@pytest.mark.parametrize(
    "body",
    [
        {"model": "tts-1", "voice": "alloy", "response_format": "pcm"},
        {"model": "tts-1", "voice": "default", "response_format": "wav", "speed": 1.0, "stream_format": "audio"},
        {"model": "gpt-4o-mini-tts", "voice": "ash", "response_format": "mp3", "speed": 1.0, "stream_format": "sse"},
    ],
    ids=["pipecat", "livekit", "livekit as it comes"],
)
def test_requests_of_voice_agents(served, body):
    """docs/agents.md names the releases whose requests these are."""
    response = served.post(json={"input": "Hello there.", **body})
    assert response.status_code == 200, response.text
    is_event = body.get("stream_format") == "sse"
    assert (b"speech.audio.delta" in response.content) == is_event
    assert len(response.content) > 1000


# --------------------------------------------------------------------------------------------- other readers


def test_an_sse_client(served, expected):
    sseclient = pytest.importorskip("sseclient")
    body = BODY | LENGTH | {"stream_format": "sse", "response_format": "pcm"}
    response = requests.post(f"{served.url}/v1/audio/speech", json=body, stream=True, timeout=PATIENCE)
    events = [json.loads(event.data) for event in sseclient.SSEClient(response).events()]
    assert [event["type"] for event in events[-2:]] == ["speech.audio.delta", "speech.audio.done"]
    audio = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert_same_speech(pcm(audio), expected)


@pytest.mark.parametrize("format_", ["mp3", "opus", "aac", "flac", "wav"])
def test_ffprobe_and_ffmpeg_take_every_format(served, expected, format_, tmp_path):
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed")
    for stream in (True, False):
        body = BODY | LENGTH | {"response_format": format_, "stream": stream}
        content = requests.post(f"{served.url}/v1/audio/speech", json=body, timeout=PATIENCE).content
        # From a pipe, as a player of a stream reads it.
        command = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=codec_type,sample_rate"]
        probed = subprocess.run([*command, "-of", "json", "-"], input=content, capture_output=True, check=True)
        assert probed.stderr == b""
        [track] = json.loads(probed.stdout)["streams"]
        assert track["codec_type"] == "audio"
        (tmp_path / "speech").write_bytes(content)
        decode = ["ffmpeg", "-v", "error", "-i", tmp_path / "speech", "-f", "s16le", "-ac", "1", "-ar", "24000", "-"]
        samples = pcm(subprocess.run(decode, capture_output=True, check=True).stdout)
        # Encoders of lossy formats pad at both ends.
        assert 0 <= len(samples) - len(expected) < 4000


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["mp3", "opus", "aac", "flac", "wav", "pcm"])
def test_ffplay_plays_every_format_from_a_pipe(served, format_):
    """To the end, in the time that the audio takes, without a word of complaint."""
    if shutil.which("ffplay") is None:
        pytest.skip("ffplay is not installed")
    response = requests.post(
        f"{served.url}/v1/audio/speech", json=BODY | LENGTH | {"response_format": format_}, timeout=PATIENCE
    )
    command = ["ffplay", "-nodisp", "-autoexit", "-loglevel", "error"]
    if format_ == "pcm":
        # All that a player must know is in the headers.
        assert (response.headers["x-sample-format"], response.headers["x-channels"]) == ("s16le", "1")
        command += ["-f", "s16le", "-ar", response.headers["x-sample-rate"], "-ch_layout", "mono"]
    silent = os.environ | {"SDL_AUDIODRIVER": "dummy", "SDL_VIDEODRIVER": "dummy"}
    played = subprocess.run(
        [*command, "-"], input=response.content, env=silent, capture_output=True, timeout=PATIENCE, check=True
    )
    assert played.stderr == b""


def test_a_bridge_to_home_assistant(served, expected):
    """What wyoming_openai does: an async client, WAV as a stream, its header read before the rest is there."""
    openai = pytest.importorskip("openai")
    wyoming = pytest.importorskip("wyoming.audio")

    async def bridge() -> list[Any]:
        events: list[Any] = []
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
            voices = requests.get(f"{served.url}/v1/audio/voices", timeout=PATIENCE).json()["voices"]
            async with client.audio.speech.with_streaming_response.create(
                model="tts-1",
                voice=voices[0]["id"],
                input="Hello there.",
                response_format="wav",
                speed=1.0,
                extra_body=LENGTH,
            ) as response:
                header = b""
                async for part in response.iter_bytes(512):
                    if not events:
                        header += part
                        if len(header) < 44:
                            continue
                        with wave.open(io.BytesIO(header[:44]), "rb") as opened:
                            form = {
                                "rate": opened.getframerate(),
                                "width": opened.getsampwidth(),
                                "channels": opened.getnchannels(),
                            }
                        events.append(wyoming.AudioStart(**form))
                        part = header[44:]
                    events.append(wyoming.AudioChunk(audio=part, **form))
                events.append(wyoming.AudioStop())
        return events

    start, *chunks, stop = asyncio.run(bridge())
    assert (start.rate, start.width, start.channels) == (24000, 2, 1)
    assert stop.event().type == "audio-stop"
    assert_same_speech(pcm(b"".join(chunk.audio for chunk in chunks)), expected)


def test_prometheus_reads_the_metrics(served):
    parser = pytest.importorskip("prometheus_client.parser")
    before = served.outcome("ok")
    served.pcm({"input": "Hi.", "max_tokens": 5})
    served.post(json={"input": ""})
    families = {family.name: family for family in parser.text_string_to_metric_families(served.get("/metrics").text)}
    assert served.outcome("ok") == before + 1
    assert {"moss_tts_requests", "moss_tts_frames", "moss_tts_first_audio_seconds"} <= families.keys()
    assert families["moss_tts_first_audio_seconds"].type == "histogram"


def test_open_webui_finds_models_and_voices(served):
    assert [model["id"] for model in served.get("/v1/audio/models").json()["models"]] == ["demo"]
    assert {"id", "name"} == set(served.get("/v1/audio/voices").json()["voices"][0])


# --------------------------------------------------------------------------------------------------- fuzzing


def test_no_request_of_the_schema_breaks_the_server(served):
    """Examples that the schema allows, and such as break it: all get an answer below 500."""
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis import GenerationMode

    schemathesis.serializer.alias("audio/pcm", "application/octet-stream")
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert {"/v1/audio/speech", "/v1/audio/voices", "/health"} <= {operation.path for operation in operations}
    seen: set[int] = set()
    for operation in operations:
        examples = 40 if operation.path == "/v1/audio/speech" else 10
        for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
            if mode is GenerationMode.POSITIVE or operation.body:
                seen |= answers(operation.as_strategy(generation_mode=mode), examples)
    assert {200, 400} <= seen


def answers(cases: Any, examples: int) -> set[int]:
    """Statuses of requests that a strategy makes."""
    seen: set[int] = set()

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def check(case: Any) -> None:
        response = case.call(timeout=PATIENCE)
        seen.add(response.status_code)
        assert response.status_code < 500, (response.text, case.as_curl_command())

    check()
    return seen


def test_the_schema_names_every_field(served):
    schema = served.get("/openapi.json").json()
    speech = schema["paths"]["/v1/audio/speech"]["post"]["requestBody"]["content"]
    assert set(speech) == {"application/json", "multipart/form-data"}
    fields = schema["components"]["schemas"]["SpeechBody"]["properties"]
    assert {"input", "voice", "seed", "ambient_sound", "long_form_parallel", "dialogue_speakers"} <= fields.keys()
    # Whatever is referred to is there.
    named = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(schema)))
    assert named <= schema["components"]["schemas"].keys()
