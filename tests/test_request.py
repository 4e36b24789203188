"""Requests: aliases, ranges, contradictions, precedence, and the messages they become."""

import dataclasses
import math
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_tts.audio.references import AudioArray, AudioFile, CodeArray, CodeFile, Joined, as_reference
from moss_tts.errors import ConfigError, RequestError, UnknownOptionError
from moss_tts.long_form import LongFormOptions
from moss_tts.presets import PRESETS
from moss_tts.prompts.dialogue import MAX_SPEAKERS, DialogueSpeaker
from moss_tts.prompts.messages import AssistantMessage, UserMessage, build_user_message
from moss_tts.prompts.options import LONG_FORM, OPTIONS, GenerateOptions
from moss_tts.request import reject_unknown_options, resolve_generation_request
from moss_tts.text.cleanup import normalize_text
from moss_tts.text.tags import has_words, join_transcript

CODES = np.zeros((5, 16), dtype=np.int32)
SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty")


def resolve(text="Hello.", variant="ttsd", generation_config=None, **options):
    """A request to a checkpoint of that variant; the default leaves text as it is."""
    return resolve_generation_request({"text": text, **options}, variant, generation_config)


def but_for_the_seed(request):
    """A request with its seed, which is drawn, made the same as that of others."""
    return dataclasses.replace(request, seed=0)


def complaint(**options):
    with pytest.raises(RequestError) as error:
        resolve(**options)
    return str(error.value)


# Unknown options and plain types.


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("temprature", "temperature"), ("instructions", "instruction"), ("ref_adio", "ref_audio")],
)
def test_unknown_options_name_the_nearest(typo, meant):
    with pytest.raises(UnknownOptionError, match=f"unknown option '{typo}'; did you mean '{meant}'") as error:
        resolve(**{typo: 1})
    assert isinstance(error.value, TypeError)


@given(st.text(max_size=20))
def test_every_unknown_option_is_an_error(name):
    if name not in OPTIONS:
        with pytest.raises(UnknownOptionError, match="did you mean"):
            reject_unknown_options([name], OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_none_is_not_given(name):
    request = resolve(**{"text": "Hello.", name: None} if name != "text" else {})
    assert but_for_the_seed(request) == but_for_the_seed(resolve())


@pytest.mark.parametrize("name", OPTIONS)
def test_no_option_takes_an_object(name):
    assert name in complaint(**{"long_form": True, name: object()})


WRONG = {
    "tokens": [0, -1, 1.5, True, "3"],
    "duration_s": [0, -1.0, math.nan, math.inf, True, "3"],
    "seconds": [0, -0.1],
    "temperature": [-0.1, math.nan, math.inf, "hot", True],
    "top_p": [0, 1.01, -1],
    "top_k": [-1, 2.5],
    "repetition_penalty": [0, -1],
    "repetition_window": [-1, 2.5, True],
    "text_temperature": [-1],
    "audio_top_p": [0],
    "seed": [-1, 2**32, 1.0],
    "max_tokens": [0, True],
    "n_vq_for_inference": [0, 1.0],
    "stream": [1, "yes"],
    "streaming_interval": [0, -1, math.inf],
    "mode": ["speak", ""],
    "text": [3, b"hi", "\ud800"],
    "language": [3],
    "long_form_min_chars": [0],
    "long_form_prefix_audio_seconds": [-1],
    "long_form_retry_attempts": [-1, 1.0],
    "ref_audio": [3.5, [b"wav"]],
    "conversation": [[], "hi"],
    "preset": ["bass"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, bad in WRONG.items() for value in bad])
def test_values_out_of_range_are_refused_by_name(name, value):
    assert name in complaint(**{"long_form": True, name: value})


HUGE = {"10**400": 10**400, "-10**5000": -(10**5000), "2**63": 2**63, "1e308": 1e308, "5e-324": 5e-324}
NUMBERS = [name for name, kind in get_type_hints(GenerateOptions).items() if kind in (int | None, float | None)]


@pytest.mark.parametrize("value", HUGE.values(), ids=HUGE)
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_that_nobody_can_mean_are_refused(name, value):
    """Python neither makes floats of the first two nor writes the second one out; MLX takes neither of the others."""
    assert len(complaint(**{"long_form": True, name: value})) < 300


@pytest.mark.parametrize(("name", "value"), [("top_k", 0), ("temperature", 0), ("top_p", 1), ("seed", 2**32 - 1)])
def test_the_ends_of_ranges_are_allowed(name, value):
    resolve(**{name: value})


def test_numpy_numbers_are_numbers():
    request = resolve(tokens=np.int64(7), temperature=np.float32(0.5), seed=np.uint32(3))
    assert (request.tokens, request.sampling.audio.temperature, request.seed) == (7, 0.5, 3)
    assert type(request.tokens) is int


def test_requests_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        resolve().text = "other"


# Text and aliases.


@pytest.mark.parametrize("text", [None, "", "  \n"])
@pytest.mark.parametrize("preset", PRESETS)
def test_the_field_that_carries_the_prompt_is_required(preset, text):
    field = PRESETS[preset].prompt_field
    wanted = {"text": "The text is empty. Give", "ambient_sound": "ambient_sound is empty. Describe"}[field]
    assert complaint(**{"text": "Hello.", "variant": preset, field: text}).startswith(wanted)


def test_soundeffect_needs_no_text():
    request = resolve(text=None, preset="soundeffect", ambient_sound="rain", seconds=5)
    assert (request.text, request.ambient_sound, request.tokens) == (None, "rain", 63)
    (message,) = request.messages
    assert (message.text, message.ambient_sound, message.tokens) == (None, "rain", 63)


@pytest.mark.parametrize("text", ["\u200b \u200b", "👍", "***", "...", "[pause 1s]", "[S1]", "“ — ”", "¿?"])
@pytest.mark.parametrize("options", [{}, {"normalize_text": False}, {"long_form": True}])
def test_text_without_a_letter_or_digit_is_refused(text, options):
    assert "nothing to speak" in complaint(text=text, preset="moss_tts", **options)
    assert "nothing to speak" in complaint(text=None, conversation=[{"role": "user", "text": text}])
    assert "nothing to speak" in complaint(text=None, ambient_sound=text, preset="soundeffect")


@pytest.mark.parametrize("text", ["7", "é", "你好", "①", "[S1] Hi", "[pause 1s] ½"])
def test_one_letter_or_digit_is_something_to_say(text):
    assert resolve(text).text == text


@given(st.text())
def test_clean_up_leaves_words_where_there_are_some(text):
    assert has_words(normalize_text(text)) or not has_words(text)


@pytest.mark.parametrize(("preset", "cleans"), [("moss_tts", True), ("moss_tts_local", False), ("ttsd", False)])
def test_clean_up_follows_the_preset_unless_told_otherwise(preset, cleans):
    messy, clean = "Hi\u200b  there.", "Hi there."
    assert resolve(messy, preset).messages[0].text == (clean if cleans else messy)
    assert resolve(messy, preset, normalize_text=True).messages[0].text == clean
    assert resolve(messy, preset, normalize_text=False).messages[0].text == messy
    # Long texts are cut before they are cleaned.
    assert resolve(messy, preset).text == messy


def test_instruct_is_instruction():
    assert resolve(instruct="calm").instruction == "calm"
    assert resolve(instruct="calm", instruction="calm").instruction == "calm"
    assert resolve(instruct="  ", instruction="calm").instruction == "calm"
    assert "'calm' and 'loud'" in complaint(instruction="calm", instruct="loud")


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [(None, "Reference transcript: I said."), ("calm", "calm\nReference transcript: I said.")],
)
def test_a_transcript_is_a_line_of_instruction_when_generating(instruction, expected):
    request = resolve(ref_audio="a.wav", ref_text="I said.", instruction=instruction)
    assert request.instruction == expected
    assert request.messages[0].text == "Hello."


@pytest.mark.parametrize("name", ["ref_text", "instruct", "language", "quality", "scene", "ref_audio"])
def test_blank_text_is_absent(name):
    assert but_for_the_seed(resolve(**{name: " \n"})) == but_for_the_seed(resolve())


def test_references_keep_their_order_and_their_gaps():
    assert resolve(ref_audio="a.wav").reference == (AudioFile("a.wav"),)
    assert resolve(reference=["a.wav", None, "c.wav"]).reference == (AudioFile("a.wav"), None, AudioFile("c.wav"))
    assert resolve(reference=CODES).reference[0].codes is CODES
    assert resolve(reference=[]).reference == resolve(reference=[None]).reference == ()
    assert "Give only one" in complaint(reference="a.wav", ref_audio="a.wav")


def test_a_waveform_with_its_rate_is_one_reference():
    pair = (np.zeros(9, dtype=np.float32), 16000)
    speaker = {"ref_audio": pair, "ref_text": "I am one."}
    for (only,) in (
        resolve(reference=pair).reference,
        build_user_message("Hi.", pair).reference,
        resolve("[S1] Hi.", dialogue_speakers=[speaker]).reference,
    ):
        assert (only.samples, only.rate) == pair
    rated, file = resolve(reference=[pair, "b.wav"]).reference
    assert (rated.samples, rated.rate, file) == (*pair, AudioFile("b.wav"))


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("a.wav", AudioFile),
        (Path("a.m4a"), AudioFile),
        ("a.NPY", CodeFile),
        (CODES, CodeArray),
        (np.zeros(9), AudioArray),
        ((np.zeros(9, np.int16), np.int64(16000)), AudioArray),
        (Joined(()), Joined),
    ],
)
def test_references_become_types_once(given, kind):
    reference = as_reference(given, "ref_audio")
    assert type(reference) is kind
    assert as_reference(reference, "ref_audio") is reference


def test_scene_is_refused_where_the_prompt_has_no_place_for_it():
    assert resolve(scene="beach").messages[0].scene == "beach"
    assert "preset moss_tts has no place for scene" in complaint(preset="moss_tts", scene="beach")


# Lengths and budgets.


@given(st.floats(0.001, 1000))
def test_durations_are_frames_of_80_ms_rounded_up(seconds):
    expected = max(1, math.ceil(seconds * 12.5))
    assert resolve(duration_s=seconds).tokens == resolve(seconds=seconds).tokens == expected


def test_tokens_win_over_duration_s_over_seconds():
    assert resolve(tokens=7, duration_s=1, seconds=2).tokens == 7
    assert resolve(duration_s=1, seconds=2).tokens == 13
    assert "seconds" in complaint(tokens=7, duration_s=1, seconds=0)
    assert "duration_s" in complaint(tokens=7, duration_s=-1)


@given(tokens=st.integers(1, 10_000), limit=st.integers(1, 10_000))
def test_budget_leaves_room_beyond_the_length_asked_for(tokens, limit):
    expected = min(limit, math.ceil(1.5 * tokens) + 25)
    assert resolve(tokens=tokens, max_tokens=limit).effective_max_tokens == expected


def test_the_preset_says_how_long_speech_may_be():
    assert resolve_generation_request({"text": "a"}, "nano").effective_max_tokens == 375
    assert resolve_generation_request({"text": "a", "max_tokens": 600}, "nano").effective_max_tokens == 600


def test_budget_without_a_length_is_max_tokens_reference_or_not():
    assert resolve().effective_max_tokens == resolve(ref_audio="a.wav").effective_max_tokens == 4096
    assert resolve(max_tokens=9).effective_max_tokens == 9


# Sampling.

values = {
    "temperature": st.just(0.0) | st.floats(0.001, 3),
    "top_p": st.floats(0.01, 1),
    "top_k": st.integers(0, 100),
    "repetition_penalty": st.floats(0.5, 2),
}
some_values = st.fixed_dictionaries({}, optional=values)


@given(preset=st.sampled_from(list(PRESETS)), config=some_values, caller=some_values, prefix=st.booleans())
def test_audio_sampling_is_callers_then_configs_then_presets(preset, config, caller, prefix):
    options = {f"audio_{name}" if prefix else name: value for name, value in caller.items()}
    options |= {} if preset == "realtime" else {"ambient_sound": "rain"}
    request = resolve(preset=preset, generation_config=config, **options)
    default = dataclasses.asdict(PRESETS[preset].audio)
    assert dataclasses.asdict(request.sampling.audio) == default | config | caller


def test_the_window_of_the_penalty_is_callers_then_presets():
    assert resolve(variant="realtime").sampling.window == 50
    assert resolve(variant="realtime", repetition_window=0).sampling.window == 0
    assert resolve(variant="realtime", repetition_window=9).sampling.window == 9
    assert resolve().sampling.window == 0
    assert "repetition_window is for preset realtime; ttsd has a penalty" in complaint(repetition_window=9)


@given(config=some_values, caller=some_values)
def test_values_without_a_channel_never_reach_the_text_channel(config, caller):
    request = resolve(generation_config={"max_new_tokens": 9, "eos_token_id": None, **config}, **caller)
    assert request.sampling.text == PRESETS["ttsd"].text


@given(config=some_values, caller=some_values)
def test_text_sampling_is_set_by_its_own_name(config, caller):
    named = {f"text_{name}": value for name, value in config.items()}
    request = resolve(generation_config=named, **{f"text_{name}": value for name, value in caller.items()})
    assert dataclasses.asdict(request.sampling.text) == dataclasses.asdict(PRESETS["ttsd"].text) | config | caller
    assert request.sampling.audio == PRESETS["ttsd"].audio


@pytest.mark.parametrize("name", SAMPLING)
def test_an_explicit_default_beats_generation_config(name):
    """A value equal to some default is still the caller's."""
    preset = getattr(PRESETS["ttsd"].audio, name)
    other = {"temperature": 0.3, "top_p": 0.5, "top_k": 3, "repetition_penalty": 1.9}[name]
    request = resolve(generation_config={name: other}, **{name: preset})
    assert getattr(request.sampling.audio, name) == preset


@pytest.mark.parametrize("name", SAMPLING)
def test_two_names_of_one_channel_must_agree(name):
    resolve(**{name: 1, f"audio_{name}": 1})
    with pytest.raises(RequestError, match=f"{name} and audio_{name} .* differ"):
        resolve(**{name: 1, f"audio_{name}": 0.5 if name != "top_k" else 2})


def test_generation_config_that_cannot_be_is_the_checkpoints_fault():
    with pytest.raises(ConfigError, match=r"generation_config\.json: top_p"):
        resolve(generation_config={"top_p": 7})


def test_the_callers_preset_replaces_the_checkpoints():
    assert resolve(variant="delay").preset is PRESETS["moss_tts"]
    request = resolve(variant=PRESETS["moss_tts"], preset="TTSD")
    assert (request.preset, request.sampling) == (PRESETS["ttsd"], PRESETS["ttsd"].sampling)


# Continuation and conversations.


def test_continuation_puts_the_transcript_before_the_text_and_the_audio_after():
    request = resolve("And on.", mode="continuation", ref_audio="a.wav", ref_text="It began.")
    assert request.mode == "continuation"
    user, assistant = request.messages
    assert (user.text, user.reference, user.instruction) == ("It began. And on.", None, None)
    assert isinstance(assistant, AssistantMessage)
    assert list(assistant.audio_codes_list) == [AudioFile("a.wav")]
    assert request.text == "And on."


@pytest.mark.parametrize("voice", [{}, {"reference": ["a.wav", "b.wav"]}, {"reference": ["a.wav", None]}])
def test_continuation_goes_on_from_one_recording(voice):
    assert "one recording" in complaint(mode="continuation", **voice)


@pytest.mark.parametrize(
    ("transcript", "text", "joined"),
    [
        ("It began.", "And on.", "It began. And on."),
        ("It began. ", "And on.", "It began. And on."),
        ("开始了。", "继续。", "开始了。继续。"),
        ("[S1] One. [S2] Two.", "[S1] Three.", "[S1] One. [S2] Two. [S1] Three."),
        ("[S1] One. [S2] Two.", "[S2] Three.", "[S1] One. [S2] Two. Three."),
    ],
)
def test_transcript_and_text_read_as_one(transcript, text, joined):
    assert join_transcript(transcript, text) == joined


def test_a_conversation_is_its_messages():
    turns = [
        {"role": "user", "text": "Hi.", "tokens": 9},
        {"role": "assistant", "audio_codes_list": ["a.wav"]},
    ]
    request = resolve(text=None, conversation=turns)
    assert (request.mode, request.tokens) == ("continuation", 9)
    assert [message.role for message in request.messages] == ["user", "assistant"]
    single = resolve(text=None, conversation=UserMessage("Hi."), mode="generation")
    assert (single.mode, single.messages[0].text) == ("generation", "Hi.")


def test_a_conversation_must_end_as_its_mode_wants():
    assert "ends with a message of the assistant" in complaint(
        text=None, conversation=[UserMessage("Hi.")], mode="continuation"
    )


@pytest.mark.parametrize("other", [{"text": "Hi."}, {"ref_audio": "a.wav"}, {"tokens": 3}, {"language": "French"}])
def test_a_conversation_says_everything(other):
    options = {"text": None, "conversation": [UserMessage("Hi.")], **other}
    assert f"conversation replaces {next(iter(other))}" in complaint(**options)


# Dialogue.

S1 = {"ref_audio": "one.wav", "ref_text": "I am one."}
S2 = {"reference": CODES, "ref_text": "[S2] I am two."}
DIALOGUE = "[S1] Hello. [S2] Oh!"


@pytest.mark.parametrize("speakers", [[S1, S2], {"S1": S1, "S2": S2}, {2: S2, 1: S1}, {"2": S2, "1": S1}])
def test_cloned_dialogue_is_a_continuation_of_the_joined_prompts(speakers):
    request = resolve(DIALOGUE, dialogue_speakers=speakers)
    assert request.mode == "continuation"
    user, assistant = request.messages
    assert user.text == "[S1] I am one. [S2] I am two. [S1] Hello. [S2] Oh!"
    assert user.reference[0] == AudioFile("one.wav")
    assert user.reference[1].codes is CODES
    (prompt,) = assistant.audio_codes_list
    assert isinstance(prompt, Joined)
    assert prompt.parts == user.reference


def test_speakers_without_a_recording_keep_their_number():
    request = resolve(DIALOGUE, dialogue_speakers={"S3": DialogueSpeaker("three.wav", "I am three.")})
    user, assistant = request.messages
    assert list(user.reference) == [None, None, AudioFile("three.wav")]
    assert user.text.startswith("[S3] I am three. [S1] Hello.")
    assert list(assistant.audio_codes_list[0].parts) == [AudioFile("three.wav")]


def test_dialogue_without_recordings_is_one_user_message():
    request = resolve(DIALOGUE, dialogue_speakers=[None, None])
    assert but_for_the_seed(request) == but_for_the_seed(resolve(DIALOGUE))


@pytest.mark.parametrize(
    ("speakers", "message"),
    [
        ([S1, {"ref_audio": "b.wav"}], "S2 needs ref_text"),
        ([S1, {"ref_audio": "b.wav", "ref_text": "  "}], "S2 needs ref_text"),
        ([{"ref_text": "I am one."}], "S1 needs exactly one recording as ref_audio"),
        ([{"ref_audio": ["a.wav", "b.wav"], "ref_text": "I am one."}], "S1 needs exactly one recording as ref_audio"),
        ([DialogueSpeaker(None, "I am one.")], "S1 needs exactly one recording as ref_audio"),
        ([{}], "S1 needs exactly one recording as ref_audio"),
        ([{**S1, "reference": "a.wav"}], "two names of the same field"),
        ([{**S1, "refaudio": "a.wav"}], "no field 'refaudio'; allowed: ref_audio"),
        (
            [{"ref_audio": "a.wav", "ref_text": "[S2] I am two."}],
            r"S1: its ref_text has the tags of other speakers: \[S2\]",
        ),
        (["a.wav"], "S1 must have ref_audio and ref_text"),
        ([], "1 to 99 speakers"),
        ("a.wav", "1 to 99 speakers"),
        ({"Ann": S1}, "key 'Ann'"),
        ({"S0": S1}, "key 'S0'"),
        ({MAX_SPEAKERS + 1: S1}, "key 100"),
        ({"S1": S1, 1: S2}, "twice"),
    ],
)
def test_speakers_that_are_half_or_none(speakers, message):
    with pytest.raises(RequestError, match=message):
        resolve(DIALOGUE, dialogue_speakers=speakers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "Hello."}, "speaker tags"),
        ({"ref_audio": "a.wav"}, "dialogue_speakers replaces ref_audio"),
        ({"ref_text": "a"}, "dialogue_speakers replaces ref_text"),
        ({"conversation": [UserMessage("a")], "text": None}, "conversation replaces dialogue_speakers"),
        ({"mode": "generation"}, "with recordings needs mode 'continuation', got 'generation'"),
    ],
)
def test_dialogue_contradictions(options, message):
    assert message in complaint(**{"text": DIALOGUE, "dialogue_speakers": [S1], **options})


# Long form and streaming.


def test_long_form_options_have_the_published_defaults():
    assert resolve().long_form is None
    assert resolve(long_form=True).long_form == LongFormOptions()
    request = resolve(long_form=True, long_form_max_chars=400, long_form_prefix_audio_seconds=0)
    assert (request.long_form.max_chars, request.long_form.prefix_audio_seconds) == (400, 0.0)


@pytest.mark.parametrize("sizes", [(300, 200, 500), (100, 600, 500), (521, 521, 520)])
def test_long_form_budgets_are_ordered(sizes):
    names = ("long_form_min_chars", "long_form_target_chars", "long_form_max_chars")
    assert "The lengths of segments must be" in complaint(long_form=True, **dict(zip(names, sizes, strict=True)))


@pytest.mark.parametrize("name", LONG_FORM)
def test_long_form_options_do_nothing_silently(name):
    default = getattr(LongFormOptions(), name.removeprefix("long_form_"))
    assert f"{name} works only with long_form=True" in complaint(**{name: default})


def test_every_long_form_field_is_an_option():
    assert [f"long_form_{field.name}" for field in dataclasses.fields(LongFormOptions)] == list(LONG_FORM)


def test_long_form_needs_text():
    assert "Give text" in complaint(text=None, preset="soundeffect", ambient_sound="rain", long_form=True)


def test_stream_options_pass_through():
    request = resolve(stream=True, streaming_interval=1, verbose=True, seed=5, n_vq_for_inference=8)
    assert (request.stream, request.streaming_interval, request.verbose) == (True, 1.0, True)
    assert (request.seed, request.n_vq_for_inference) == (5, 8)
    assert (resolve().stream, resolve().n_vq_for_inference) == (False, None)


def test_a_seed_that_nobody_gave_is_drawn_once():
    request = resolve()
    assert request.seed in range(2**32)
    assert len({resolve().seed for _ in range(8)}) > 1
    assert dataclasses.replace(request, stream=True).seed == request.seed


def test_the_architecture_settles_the_codebooks():
    request = resolve_generation_request({"text": "Hi."}, "moss_tts_local", {}, lambda asked: asked or 12)
    assert request.n_vq_for_inference == 12


def test_messages_follow_what_is_replaced():
    request = resolve("It  began.", preset="moss_tts", normalize_text=True)
    assert request.messages[0].text == "It began."
    assert dataclasses.replace(request, text="And  on.").messages[0].text == "And on."


def test_a_transcript_is_left_out_where_the_prompt_has_no_place_for_it():
    options = {"text": "Hello.", "ref_audio": np.ones((3, 16), np.int32), "ref_text": "What it says.", "seed": 1}
    request = resolve_generation_request(options, "nano")
    assert request.instruction is None
    assert request.notes == ("Preset nano reads ref_text in mode 'continuation' only, so it was left out.",)
    continued = resolve_generation_request(options | {"mode": "continuation"}, "nano")
    assert (continued.prompt_transcript, continued.notes) == ("What it says.", ())
    assert resolve_generation_request(options, "moss_tts").instruction == "Reference transcript: What it says."


@pytest.mark.parametrize(("preset", "is_told"), [("nano", True), ("ttsd", True), ("moss_tts", False)])
def test_a_length_that_no_prompt_holds_is_told(preset, is_told):
    request = resolve_generation_request({"text": "Hi.", "duration_s": 3}, preset)
    assert request.tokens is not None
    assert bool(request.notes) is is_told


def test_a_text_with_a_voice_mark_is_refused():
    with pytest.raises(RequestError, match=r"the mark '\[voice: ada\]', and only `moss-tts read`"):
        resolve_generation_request({"text": "Hi. [voice: ada] Ho."}, "moss_tts")
