"""The page at / and /docs, in a headless Chromium, on a telephone and on a desk; and nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

pytest.importorskip("fastapi", reason="the extra server is not installed")

import moss_tts
from moss_tts.audio.files import write_audio
from moss_tts.checkpoints.packaged import packaged_voice
from moss_tts.server.app import PAGE
from moss_tts.subtitles.formats import srt, vtt
from moss_tts.text.lexicon import Lexicon
from moss_tts.voices import NAME, RESERVED, Voices
from moss_tts.weights.layout import read_weights
from support.adapters import linears_of, write_adapter
from support.serving import Serving, assert_same_speech, serving

BROWSER = Path(__file__).parents[1] / "browser"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
Use = Callable[..., Any]
Servers = Callable[[str], Serving]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alice(tmp_path_factory) -> Path:
    """Three seconds of noise."""
    path = tmp_path_factory.mktemp("recordings") / "alice.wav"
    write_audio(path, 0.1 * np.random.default_rng(0).standard_normal(72000), 24000)
    return path


@pytest.fixture(scope="module")
def servers(checkpoints, alice, tmp_path_factory) -> Iterator[Servers]:
    """A server by its name, started when it is first asked for. The name of a checkpoint tells its variant."""

    def checkpoint(name: str) -> Path:
        return Path(shutil.copytree(checkpoints["delay"], tmp_path_factory.mktemp("named") / name))

    def voices() -> Path:
        directory = tmp_path_factory.mktemp("voices")
        known = Voices(directory)
        known.add("alice", alice, transcript="It was dry.", description="Calm")
        known.add("silent", alice)
        return directory

    names = Lexicon.of({"there": "everywhere"})

    def adapted() -> Any:
        layers = linears_of(read_weights(checkpoints["delay"]))
        root = tmp_path_factory.mktemp("adapters")
        lora = {name: write_adapter(root / name, layers, seed) for seed, name in enumerate(("ada", "old & slow"))}
        return serving(checkpoint("MOSS-TTS"), voices(), lora=lora, adapters={"ada": 0.5})

    kinds: dict[str, Callable[[], Any]] = {
        "packaged": lambda: serving(packaged_voice(), tmp_path_factory.mktemp("none")),
        "plain": lambda: serving(checkpoint("MOSS-TTS"), tmp_path_factory.mktemp("own"), max_frames=4096),
        "endless": lambda: serving(checkpoint("MOSS-TTS"), tmp_path_factory.mktemp("endless")),
        "brief": lambda: serving(checkpoint("MOSS-TTS"), voices(), max_reference_s=2.0),
        "dialogue": lambda: serving(checkpoint("MOSS-TTSD"), voices()),
        "design": lambda: serving(checkpoint("MOSS-VoiceGenerator"), voices()),
        "effect": lambda: serving(checkpoint("MOSS-SoundEffect"), voices()),
        "pair": lambda: serving(
            checkpoint("MOSS-TTS"),
            voices(),
            more={"fast": checkpoints["nano"]},
            max_loaded=1,
            lexicons={"names": names},
        ),
        "adapted": adapted,
        "locked": lambda: serving(checkpoint("MOSS-TTS"), voices(), api_key="secret"),
    }
    with ExitStack() as stack:
        yield cache(lambda name: stack.enter_context(kinds[name]()))


def using(width: int) -> Use:
    """Runs a use of the page at a width, and gives what it found."""
    if CHROMIUM is None or shutil.which("node") is None:
        pytest.skip("needs chromium and node (Debian: apt install chromium nodejs npm)")
    if not all((BROWSER / "node_modules" / name).is_dir() for name in ("playwright-core", "axe-core")):
        pytest.skip("needs playwright-core and axe-core: npm install --prefix tests/browser")

    def run(server: Serving, name: str, file: object = "") -> Any:
        command = ["node", BROWSER / "page.js", CHROMIUM, server.url, str(width), name, str(file)]
        used = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        assert used.returncode == 0, used.stderr
        return json.loads(used.stdout)

    return run


@pytest.fixture(params=[390, 1280])
def use(request) -> Use:
    """A use of the page on a telephone and on a desk."""
    return using(request.param)


@pytest.fixture
def once() -> Use:
    """A use that is the same at every width."""
    return using(1280)


# ------------------------------------------------------------------------------------------------- speaking


def test_it_speaks_and_the_speech_can_be_kept_in_every_format(use, servers):
    server = servers("packaged")
    found = use(server, "byKeyboard")
    spoken = next(moss_tts.load(packaged_voice()).generate("Hello there.", seed=1)).audio
    assert found["wav"]["name"] == "speech-1.wav"
    assert_same_speech(soundfile.read(io.BytesIO(content(found["wav"])), dtype="int16")[0], spoken)
    for format_, file in found["files"].items():
        assert file["name"] == f"speech-1.{format_}"
        with av.open(io.BytesIO(content(file))) as container:
            samples = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0)) * 24000
        assert abs(samples - len(spoken)) < 3000, format_


def content(file: dict[str, str]) -> bytes:
    return base64.b64decode(file["content"])


@pytest.mark.parametrize("name", ["untilTheSoundEnds", "whyItEnded"])
def test_what_is_heard_and_what_is_said_of_it(use, servers, name):
    use(servers("packaged"), name)


def test_stop_ends_the_sound_and_the_request(use, servers):
    server = servers("endless")
    before = server.outcome("cancelled")
    use(server, "whileItIsMade")
    server.wait_until_idle()
    assert server.outcome("cancelled") == before + 2


def test_each_adapter_has_a_weight(use, servers):
    use(servers("adapted"), "adapterWeights")


# --------------------------------------------------------------------------------------------------- voices

ALWAYS = ["speed", "seed", "max_tokens", "temperature", "repetition_penalty", "top_p", "top_k"]


@pytest.mark.parametrize(
    ("server", "fields", "label", "is_kept"),
    [
        ("packaged", [], "Text", False),
        ("plain", ["Voice", "instructions", "language", "duration_s", "long_form"], "Text", True),
        (
            "dialogue",
            ["Speaker [S1]", "Speaker [S2]", "instructions", "scene", "language", "long_form"],
            "Script",
            False,
        ),
        ("design", ["instructions", "duration_s", "long_form"], "Text", True),
        ("effect", ["duration_s"], "Sound", False),
    ],
)
def test_fields_that_the_model_cannot_use_are_hidden(use, servers, server, fields, label, is_kept):
    found = use(servers(server), "whatTheModelFollows")
    assert [name for name in found["fields"] if name not in ALWAYS] == fields
    assert (found["label"], found["isKept"]) == (label, is_kept)
    assert found["note"] == ("This voice speaks English only." if server == "packaged" else "")


def test_a_file_is_a_voice(use, servers, delay_model, alice):
    found = use(servers("plain"), "aFile", alice)
    cloned = next(delay_model.generate("Hello there.", seed=1, duration_s=0.5, reference=alice))
    assert_same_speech(np.array(found["samples"], np.int16), cloned.audio)


def test_a_recording_is_limited_listened_to_and_used(use, servers, alice):
    use(servers("brief"), "aRecording", alice)


def test_names_are_corrected_and_voices_are_listened_to(use, servers):
    use(servers("plain"), "names")
    assert servers("plain").get("/v1/audio/voices").json()["data"] == []


def test_every_name_becomes_one_that_the_server_takes(once, servers):
    typed = ["Alice", "-a_b", "  Two  Words ", "Straße", "Łódź", "小红", "default", "a" * 100, "...", "Ωmega", "é"]
    corrected = once(servers("plain"), "corrections", json.dumps(typed))
    assert corrected[:7] == ["alice", "a_b", "two-words", "strasse", "lodz", "voice", "default-voice"]
    assert all(NAME.fullmatch(name) and name not in RESERVED for name in corrected), corrected


def test_two_speakers(use, servers, alice):
    use(servers("dialogue"), "aDialogue", alice)


# -------------------------------------------------------------------------------------------------- keeping


def test_all_of_it_survives_a_reload(use, servers, alice):
    use(servers("plain"), "afterAReload", alice)


@pytest.mark.parametrize("name", ["bounds", "withoutStorage"])
def test_what_is_kept_has_bounds_and_is_no_condition(once, servers, name):
    once(servers("packaged"), name)


def test_the_key_is_asked_for_where_the_server_wants_one(use, servers):
    use(servers("locked"), "aKey")


def test_no_key_is_asked_for_where_the_server_wants_none(once, servers):
    once(servers("plain"), "noKey")


def test_errors_are_told_in_words(use, servers):
    use(servers("plain"), "whatGoesWrong")


# ---------------------------------------------------------------------------------------------------- looks


@pytest.mark.parametrize("name", ["arrangement", "accessible", "documentation"])
def test_how_it_looks(use, servers, name):
    use(servers("plain"), name)


@pytest.mark.parametrize("name", ["aModel", "aModelThatIsLoaded"])
def test_a_model_is_chosen(use, servers, name):
    server = servers("pair")
    server.post("/v1/models/demo/load")
    use(server, name)


def test_one_model_is_no_choice(once, servers):
    once(servers("plain"), "oneModel")


def test_speed_lexicon_and_subtitles(once, servers):
    server = servers("pair")
    found = once(server, "subtitles")
    with server.models.first.source.load() as model:
        names = Lexicon.of({"there": "everywhere"})
        cues = model.say("Hello there.", seed=1, speed=2, lexicon=names, streaming_interval=0.24).cues
    for form, written in (("srt", srt(cues)), ("vtt", vtt(cues))):
        assert base64.b64decode(found[form]).decode() == written
    assert "Hello there." in srt(cues)


def test_asking_for_a_key_is_accessible(use, servers):
    use(servers("locked"), "accessibleWithKey")


def test_the_page_names_nobody_else(servers):
    server = servers("plain")
    page = server.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "style=" not in page.text
    for path in ("/", "/docs", *(f"/static/{file.name}" for file in PAGE.iterdir())):
        file = server.get(path)
        assert file.status_code == 200
        assert not re.search("https?:|//[a-z]+[.]", file.text), path


def test_files_of_the_page_stay_small():
    assert {file.name: lines for file in PAGE.iterdir() if (lines := file.read_text().count("\n")) > 400} == {}


def test_browsers_ask_for_files_again(servers):
    server = servers("plain")
    answer = server.get("/static/page.js")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["etag"]
