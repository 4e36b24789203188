"""The option lexicon: applied before a text is cut, for a voice and a language, and undone in subtitles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moss_tts
from moss_tts.cli.arguments import spoken_by
from moss_tts.errors import RequestError
from moss_tts.model import Model
from moss_tts.presets import PRESETS
from moss_tts.request import resolve_generation_request
from moss_tts.text.lexicon import Lexicon
from moss_tts.voices import Voices
from support.serving import serving

LEXICON = {"GIF": "jiff", "Nguyễn": "/ŋwiən/"}
TEXT = "A GIF is small. Nguyễn made it."
RECORDING = np.sin(np.arange(12_000) / 9).astype(np.float32) / 3, 24_000


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("GIF = guiff\nJPEG = jaypeg\n[French]\nGIF = giffe\n")
    return path


def resolved(**options: Any) -> Any:
    return resolve_generation_request({"text": TEXT, **options}, "moss_tts")


def test_every_form_of_a_lexicon_is_taken(file):
    wanted = TEXT.replace("GIF", "guiff")
    for given in (file, str(file), [file], Lexicon.read(file), {"GIF": "guiff"}, [LEXICON, file, {"Nguyễn": "Nguyễn"}]):
        assert resolved(lexicon=given).text == wanted
    assert resolved(lexicon=file, language="French").text == TEXT.replace("GIF", "giffe")
    for given in (3, [3], {"GIF": 3}, "nowhere.txt"):
        with pytest.raises(RequestError, match="lexicon"):
            resolved(lexicon=given)


def test_a_lexicon_that_changes_nothing_changes_nothing():
    assert resolved(seed=1, lexicon={"PNG": "ping"}) == resolved(seed=1)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_ipa_is_for_models_that_read_it(preset):
    text = {"ambient_sound": "Rain"} if PRESETS[preset].prompt_field == "ambient_sound" else {}
    request = resolve_generation_request({"text": TEXT, "lexicon": LEXICON, **text}, preset)
    reads = preset in ("moss_tts", "moss_tts_local", "moss_tts_local_v1_5")
    assert ("/ŋwiən/" in request.text) is reads
    assert any("does not read IPA" in note for note in request.notes) is not reads


def test_messages_of_a_conversation_are_respelt():
    conversation = [{"role": "user", "text": TEXT}]
    request = resolve_generation_request({"conversation": conversation, "lexicon": LEXICON}, "ttsd")
    assert request.messages[0].text == TEXT.replace("GIF", "jiff")
    assert any("'Nguyễn'" in note for note in request.notes)


def test_words_are_replaced_before_the_text_is_cut_and_subtitles_show_the_writers():
    long = {"long_form": True, "long_form_min_chars": 10, "long_form_target_chars": 15, "long_form_max_chars": 20}
    request = resolved(lexicon={"GIF": "picture of some kind", "Nguyễn": "Win"}, **long)
    joined = " ".join(segment.text for segment in request.plan)
    assert joined == "A picture of some kind is small. Win made it."
    assert len(request.plan) > 2
    assert "".join(segment.written.replace(" ", "") for segment in request.plan) == TEXT.replace(" ", "")


def test_cues_show_what_was_written(delay_model):
    speech = delay_model.say(TEXT, seed=1, max_tokens=8, lexicon=LEXICON)
    assert [cue.text for cue in speech.cues] == [TEXT]


def test_the_packaged_voice_says_what_the_lexicon_says():
    with moss_tts.load() as model:
        said = model.say("A GIF.", seed=1, lexicon={"GIF": "jiff"})
        assert np.array_equal(said, model.say("A jiff.", seed=1))
        with pytest.warns(moss_tts.MossTTSWarning, match="does not read IPA"):
            model.say("Nguyen.", seed=1, lexicon={"Nguyen": "/ŋwiən/"})


@pytest.fixture
def voices(file, tmp_path, monkeypatch) -> Voices:
    """A directory with the voice ada, which has a lexicon."""
    monkeypatch.setenv("MOSS_TTS_VOICES", str(tmp_path / "voices"))
    voices = Voices()
    voices.add("ada", RECORDING, lexicon=file)
    return voices


def test_a_voice_has_a_lexicon_and_the_callers_comes_first(voices):
    text = "A GIF and a JPEG."
    for named, wanted in (({}, "A guiff and a jaypeg."), ({"lexicon": {"GIF": "jiff"}}, "A jiff and a jaypeg.")):
        assert resolved(**{"text": text, "voice": "ada", **named}).text == wanted
    command = spoken_by({"voice": "ada", "lexicon": None})
    assert command["lexicon"] == [voices["ada"].directory / "lexicon.txt"]
    with pytest.raises(RequestError, match="there is no ="):
        voices.add("bob", RECORDING, lexicon=__file__)
    assert "bob" not in voices


@pytest.fixture(scope="module")
def heard(checkpoints) -> Model:
    return moss_tts.load(checkpoints["delay"])


def test_over_http_lexicons_have_names(checkpoints, heard, voices):
    lexicons = {"names": Lexicon.of({"GIF": "jiff"}), "more": Lexicon.of({"GIF": "guiff"})}
    options = {"seed": 1, "max_tokens": 6}
    with serving(checkpoints["delay"], voices.directory, lexicons=lexicons) as running:
        assert running.get("/v1/models").json()["data"][0]["lexicons"] == ["names", "more"]
        for named, text in ((None, "A GIF."), ("names", "A jiff."), (["names", "more"], "A guiff.")):
            expected = next(heard.generate(text, **options)).audio
            made = np.asarray(running.pcm({"input": "A GIF.", "lexicon": named, **options})) / 32768
            np.testing.assert_allclose(made, expected, atol=1e-3)
        expected = next(heard.generate("A guiff.", ref_audio=voices["ada"], **options)).audio
        made = np.asarray(running.pcm({"input": "A GIF.", "voice": "ada", **options})) / 32768
        np.testing.assert_allclose(made, expected, atol=1e-3)
        answer = running.post(json={"input": "A GIF.", "lexicon": "nobody"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "lexicon")
        assert "names, more" in answer.json()["error"]["message"]
