"""The preset table, its names, and the rules that prompts and sampling read from it."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_tts.errors import RequestError
from moss_tts.presets import ALIASES, PRESETS, resolve_preset

TABLE = {
    "moss_tts": (1.7, 0.8, 25, 1.0),
    "moss_tts_local": (1.0, 0.95, 50, 1.1),
    "moss_tts_local_v1_5": (1.7, 0.8, 25, 1.0),
    "nano": (0.8, 0.95, 25, 1.2),
    "ttsd": (1.1, 0.9, 50, 1.1),
    "voice_generator": (1.5, 0.6, 50, 1.1),
    "soundeffect": (1.5, 0.6, 50, 1.2),
}


def test_audio_sampling_is_the_published_table():
    assert {name: dataclasses.astuple(preset.audio) for name, preset in PRESETS.items()} == TABLE


@pytest.mark.parametrize("preset", PRESETS.values(), ids=str)
def test_no_preset_penalises_the_text_channel_or_makes_it_greedy(preset):
    temperature = 1.0 if preset.name in ("moss_tts_local_v1_5", "nano") else 1.5
    assert dataclasses.astuple(preset.text) == (temperature, 1.0, 50, 1.0)


def test_rules_that_differ_are_fields():
    ttsd, effect = PRESETS["ttsd"], PRESETS["soundeffect"]
    assert (ttsd.template.scene, ttsd.template.tokens, ttsd.normalizes_text) == (True, False, False)
    assert effect.prompt_field == "ambient_sound"
    others = [preset for name, preset in PRESETS.items() if name != "ttsd"]
    assert not any(preset.template.scene for preset in others)
    assert all(preset.prompt_field == "text" for preset in PRESETS.values() if preset is not effect)


def test_what_a_variant_follows_stands_in_its_prompt():
    """A length is written where the template has a place for it, and so is a scene."""
    for preset in PRESETS.values():
        assert ("length" in preset.follows) == preset.template.tokens
        assert ("scene" in preset.follows) == preset.template.scene
    assert "reference" not in PRESETS["voice_generator"].follows | PRESETS["soundeffect"].follows


@given(st.sampled_from([*PRESETS, *ALIASES]), st.sampled_from(["", " ", "\t"]), st.booleans(), st.booleans())
def test_names_ignore_case_dashes_and_blanks(name, blank, upper, dashes):
    spelled = name.replace("_5", ".5").replace("_", "-") if dashes else name
    spelled = blank + (spelled.upper() if upper else spelled) + blank
    assert resolve_preset(spelled) is PRESETS[ALIASES.get(name, name)]


@pytest.mark.parametrize("name", ["", "moss", "tts", "ttsd2"])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(
        RequestError, match=r"unknown preset.*moss_tts, moss_tts_local, moss_tts_local_v1_5, nano, ttsd"
    ):
        resolve_preset(name)


def test_realtime_is_refused_by_that_word():
    with pytest.raises(RequestError, match=r"(?i)realtime.*another runtime"):
        resolve_preset("Realtime")


@pytest.mark.parametrize("name", [None, 3, ["ttsd"]])
def test_a_preset_is_a_name(name):
    with pytest.raises(RequestError, match="must be a name"):
        resolve_preset(name)


def test_presets_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["ttsd"].name = "other"
