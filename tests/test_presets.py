"""The preset table, its names, and the rules that prompts and sampling read from it."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_tts.errors import RequestError
from moss_tts.presets import ALIASES, PRESETS, resolve_preset, variant_in

TABLE = {
    "moss_tts": (1.7, 0.8, 25, 1.0),
    "moss_tts_local": (1.0, 0.95, 50, 1.1),
    "moss_tts_local_v1_5": (1.7, 0.8, 25, 1.0),
    "nano": (0.8, 0.95, 25, 1.2),
    "realtime": (0.8, 0.6, 30, 1.1),
    "ttsd": (1.1, 0.9, 50, 1.1),
    "voice_generator": (1.5, 0.6, 50, 1.1),
    "soundeffect": (1.5, 0.6, 50, 1.2),
}


def test_audio_sampling_is_the_published_table():
    assert {name: dataclasses.astuple(preset.audio) for name, preset in PRESETS.items()} == TABLE


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
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
        RequestError, match=r"unknown preset.*moss_tts, moss_tts_local, moss_tts_local_v1_5, nano, realtime, ttsd"
    ):
        resolve_preset(name)


def test_realtime_is_a_preset_with_a_window():
    assert resolve_preset("MOSS-TTS-Realtime") is PRESETS["realtime"]
    assert PRESETS["realtime"].window == 50


@pytest.mark.parametrize("name", [None, 3, ["ttsd"]])
def test_a_preset_is_a_name(name):
    with pytest.raises(RequestError, match="must be a name"):
        resolve_preset(name)


def test_presets_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["ttsd"].name = "other"


NAMES = {
    # Published ones, and what converters make of their names.
    "OpenMOSS-Team/MOSS-TTS": None,
    "OpenMOSS-Team/MOSS-TTS-v1.5": None,
    "OpenMOSS-Team/MOSS-TTSD-v1.0": "ttsd",
    "fnlp/MOSS-TTSD-v0.5": "ttsd",
    "OpenMOSS-Team/MOSS-VoiceGenerator": "voice_generator",
    "OpenMOSS-Team/MOSS-SoundEffect": "soundeffect",
    "mlx-community/MOSS-TTSD-v1.0-4bit": "ttsd",
    "mlx-community/MOSS-TTS-8bit": None,
    "mlx-community/MOSS-VoiceGenerator-bf16": "voice_generator",
    "MOSS-TTSD-v1.0-GGUF": "ttsd",
    "moss_ttsd_v1.0-8bit": "ttsd",
    "MOSS-TTSD1.0": "ttsd",
    "MOSS-TTSDv1": "ttsd",
    "MossTTSD": "ttsd",
    "MOSSTTSD-4bit": "ttsd",
    "MOSS_Voice_Generator": "voice_generator",
    "moss-voice-generator-1.7b": "voice_generator",
    "MossVoiceGenerator": "voice_generator",
    "moss_sound_effect": "soundeffect",
    "Moss-Sound-Effect-v1": "soundeffect",
    # Fine-tunes: letters that meet by chance are no word.
    "moss-tts-de": None,
    "moss-tts-d": None,
    "MOSS-TTS-Dutch-v1": None,
    "moss-tts-distilled": None,
    "MOSS-TTS-dpo": None,
    "MOSS-TTS-Danish": None,
    "moss.tts.deutsch": None,
    "moss_tts_drama": None,
    "MOSS-TTS_dialogue-free": None,
    "moss-tts-nb-norwegian": None,
    "moss-tts-voice-acting": None,
    "moss-tts-voices-of-generators": None,
    "moss-tts-sound": None,
    "moss-tts-effects": None,
    "moss-tts-roleplay-v2": None,
    "mosstts-de": None,
    "mosstts-d-500": None,
    "postttsd": None,
    "ttsdx": None,
    "something": None,
    "checkpoint-500": None,
    "": None,
    "東京-moss-tts": None,
    # Fine-tunes of variants.
    "moss-ttsd-de": "ttsd",
    "TTSD-German-LoRA": "ttsd",
    "german-podcast-ttsd-v2": "ttsd",
    "me/MOSS-TTSD-v1.0-Norwegian": "ttsd",
    "moss-voicegenerator-cartoon": "voice_generator",
    "cartoon-voice-generator": "voice_generator",
    "SoundEffect-foley": "soundeffect",
    "me/moss-soundeffect-foley-4bit/": "soundeffect",
    # Others' conversions and ports.
    "hans00/MOSS-TTSD-v0.7-GGUF": "ttsd",
    "moss-ttsd-v0.7-q4_k_m.gguf": "ttsd",
    "actnowai/MOSS-TTSD-v1.0-MLX-8bit": "ttsd",
    "luisarn/MOSS-TTS-v1.5-MLX-8bit": None,
    "mlx-community/MOSS-TTS-8B-8bit": None,
    "mlx-community/MOSS-SoundEffect-MLX-4bit": "soundeffect",
    "OpenMOSS-Team/MOSS-TTS-GGUF": None,
    "MOSS_TTS_FIRST_CLASS_Q4_K_M": None,
    "moss_voicegen_a100_40g": "voice_generator",
    "MOSS-VoiceGen-1.7B": "voice_generator",
    "sfx-moss-soundeffect-v1": "soundeffect",
    "OpenMOSS-Team--MOSS-VoiceGenerator": "voice_generator",
    "MossTTSDelayModel": None,
    "moss_tts_delay": None,
    "laion/moss-1.5-roleplay-finetune": None,
    "NbAiLab/nb-tts-norwegian-voices": None,
    "laion/MOSS-VoiceGenerator-GRPO-LoRA": "voice_generator",
    # Directories as people name theirs.
    "My MOSS TTSD copy (2)": "ttsd",
    "MOSS TTS (German)": None,
    "MOSS.TTSD.v1.0.Q4_K_M": "ttsd",
    "MOSS-TTSD_v1_0_Q8": "ttsd",
    "moss-ttsd 2026-11-29": "ttsd",
    "MOSS-TTSD-int8": "ttsd",
    "MOSS-SoundEffects-4bit": "soundeffect",
    "moss sound effects, games": "soundeffect",
    "MOSSVoiceGenerator": "voice_generator",
    # Languages and their codes.
    "moss-tts-de_DE": None,
    "moss-tts-da": None,
    "mossttsde": None,
    "MOSS-TTSDanish": None,
    "moss-ttsd\u00e4nisch": None,
    "moss-ttsda\u0308nisch": None,
    "MOSS-TTSD\u5bf9\u8bdd\u6a21\u578b": "ttsd",
}


@pytest.mark.parametrize(("name", "preset"), NAMES.items())
def test_whole_words_of_a_name_tell_the_variant(name, preset):
    found = variant_in(name, "moss_tts")
    assert (found and found[0].name) == preset


@pytest.mark.parametrize("architecture", ["moss_tts_local", "moss_tts_local_v1_5"])
def test_an_architecture_with_one_variant_has_no_other_name(architecture):
    assert variant_in("moss-ttsd-de", architecture) is None
