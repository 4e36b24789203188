"""The planner and the seams of long form: laws of the plan, of what is carried over, and of joined audio."""

import itertools
import re

import numpy as np
import pytest
import regex
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moss_tts.audio.seams import SegmentAudio
from moss_tts.errors import RequestError
from moss_tts.long_form import (
    ContinuityState,
    LongFormOptions,
    TextSegment,
    advance_continuity_state,
    evaluate_segment_boundary,
    join_segments,
    normalize_line_ends,
    plan_text_segments,
    retry_seed,
)
from moss_tts.prompts.planning import plan_text, plan_with_pauses
from moss_tts.text.boundaries import BoundaryKind, find_boundaries

MARKUP = re.compile(r"\[pause [\d.]+s\]|\[S\d\]|/[^/\s]+(?: [^/\s]+)*/")
SPACES = [" ", "  ", "\n", "\r\n", "\n\n", "\n \n", "\u00a0", ""]
WORDS = [
    "a",
    "word",
    "Dr.",
    "3.14",
    "U.S.",
    "end.",
    "what?!",
    "well,",
    "so…",
    "你好。",
    "我们，",
    "。」",
    "e\u0301",
    "–",
]
MARKED = ["[pause 3.2s]", "[pause 10s]", "/həˈloʊ/", "/həloʊ wɜːld/", "[laughs]"]
TAGS = ["[S1]", "[S2]", "[S3]"]
GRAPHEMES = ["👩\u200d👩\u200d👧", "🇫🇷", "👍🏽", "क्षि", "ก็", "한", "\u1112\u1161\u11ab", "n\u0303\u0323", "x", "ﾊﾞ"]


def texts(*pieces):
    joined = st.tuples(st.sampled_from([*itertools.chain(*pieces)]), st.sampled_from(SPACES))
    return st.lists(joined, max_size=80).map(lambda pairs: "".join(itertools.chain(*pairs)))


budgets = st.tuples(st.integers(1, 40), st.integers(0, 40), st.integers(0, 40)).map(
    lambda b: (b[0], b[0] + b[1], b[0] + b[1] + b[2])
)
any_text = st.one_of(texts(WORDS, MARKED, TAGS, GRAPHEMES), st.text(max_size=200))


def bare(text):
    return "".join(text.split())


@given(any_text, budgets)
def test_segments_rejoin_to_the_text_but_for_white_space(text, budget):
    assert bare("".join(segment.text for segment in plan_text_segments(text, *budget))) == bare(text)


@given(any_text, budgets)
def test_offsets_say_where_a_segment_stands_and_only_white_space_lies_between(text, budget):
    normalized = normalize_line_ends(text)
    position = 0
    for segment in plan_text_segments(text, *budget):
        assert not normalized[position : segment.start_offset].strip()
        assert segment.text == normalized[segment.start_offset : segment.end_offset] == segment.text.strip()
        assert segment.text
        position = segment.end_offset
    assert position == len(normalized)


@given(any_text, budgets)
def test_a_text_within_max_is_one_segment_and_planning_is_deterministic(text, budget):
    plan = plan_text_segments(text, *budget)
    assert plan == plan_text_segments(text, *budget)
    if 0 < len(normalize_line_ends(text)) <= budget[2]:
        assert [segment.text for segment in plan] == [normalize_line_ends(text)]


@given(texts(WORDS), budgets)
def test_plain_text_keeps_its_budgets(text, budget):
    least, _, most = budget
    assume(least > 3)  # room for an accent and what carries it
    segments = plan_text_segments(text, *budget)
    assert all(len(segment.text) <= most for segment in segments)
    assert all(len(segment.text) >= least for segment in segments[:-1]) or most - least < 3


@given(texts(WORDS, MARKED, TAGS), budgets)
def test_only_markup_breaks_a_budget(text, budget):
    least, _, most = budget
    for segment in plan_text_segments(text, *budget):
        too_short = len(segment.text) < least and segment.boundary not in (BoundaryKind.END, BoundaryKind.TURN)
        if too_short or len(segment.text) > most:
            rest = normalize_line_ends(text)[segment.start_offset :]
            around, behind = rest[: most + 40], MARKUP.sub("", rest[least:])
            has_markup = MARKUP.search(around) or "[laughs]" in around or "\u0301" in around
            assert has_markup or not re.search(r"\w", behind)


@given(texts(WORDS, MARKED, TAGS), budgets)
def test_tags_pauses_and_phonetics_stay_whole(text, budget):
    segments = plan_text_segments(text, *budget)
    inside = [markup for segment in segments for markup in MARKUP.findall(segment.text)]
    assert [m for m in inside if m[0] == "["] == [m for m in MARKUP.findall(normalize_line_ends(text)) if m[0] == "["]
    assert not any(re.fullmatch(r"(\[S\d\]\s*)+", segment.text) for segment in segments[:-1])


@given(texts(["word", "Yes."], TAGS), st.sampled_from(["* * *", "—", "[S2]", "[S1] …", "[pause 2s]", "]"]), budgets)
def test_what_stands_behind_the_last_word_is_no_segment_of_its_own(text, tail, budget):
    last = plan_text_segments(f"{text} so.\n\n{tail}", *budget)[-1].text
    assert re.search(r"\w", re.sub(r"\[[^]]*\]", "", last))


@pytest.mark.parametrize("spelling", ["/həˈloʊ/", "/həloʊ, meɪ aɪ? wɪtʃ! sɪti/"])
@given(before=st.integers(0, 60), budget=budgets)
def test_phonetic_spelling_is_never_cut(spelling, before, budget):
    text = "ab. " * before + spelling + " cd." * 60
    assert sum(spelling in segment.text for segment in plan_text_segments(text, *budget)) == 1


SEPARATORS = {
    "\n\n": BoundaryKind.PARAGRAPH,
    ". ": BoundaryKind.SENTENCE,
    ", ": BoundaryKind.CLAUSE,
    " ": BoundaryKind.WHITESPACE,
}


@given(st.lists(st.tuples(st.integers(2, 9), st.sampled_from([*SEPARATORS])), min_size=1, max_size=60), budgets)
def test_each_cut_is_the_best_boundary_by_kind_then_distance_then_lateness(words, budget):
    least, target, most = budget
    text, known = "", {}
    for length, separator in words:
        text += "x" * length + separator.rstrip()
        known[len(text)] = SEPARATORS[separator]
        text += separator[len(separator.rstrip()) :]
    order = list(BoundaryKind)
    for segment in plan_text_segments(text, *budget)[:-1]:
        start = segment.start_offset
        places = [
            (order.index(known.get(at, BoundaryKind.HARD)), abs(at - start - target), -at)
            for at in range(start + least, start + most + 1)
            if at <= text.rindex("x") and (at in known or not text[at - 1].isspace())
        ]
        if not places:  # the window is one gap, or behind the last word
            assert len(segment.text) < least
            continue
        kind, _, end = min(places)
        assert (segment.end_offset, segment.boundary) == (-end, order[kind])


@settings(max_examples=50)
@given(st.lists(st.sampled_from(GRAPHEMES), max_size=60).map("".join), budgets)
def test_a_hard_cut_keeps_the_characters_readers_see(text, budget):
    seams = {segment.end_offset for segment in plan_text_segments(text, *budget)}
    assert seams <= {match.end() for match in regex.finditer(r"\X", text)}


def test_surrogate_halves_stay_together():
    text = "\ud83d\ude00" * 40
    assert all(len(segment.text) % 2 == 0 for segment in plan_text_segments(text, 3, 5, 7))


turns = st.lists(st.tuples(st.sampled_from(TAGS), st.integers(1, 40)), min_size=1, max_size=20)


@given(turns, budgets)
def test_a_turn_that_fits_is_never_split(turns, budget):
    spoken = [f"{tag} {'so it is. ' * words}".strip() for tag, words in turns]
    whole = [segment.text for segment in plan_text_segments("\n".join(spoken), *budget)]
    for turn in spoken:
        if len(turn) <= budget[2]:
            assert any(turn in text for text in whole)


@given(turns, budgets)
def test_every_segment_of_a_dialogue_carries_the_tag_of_its_speaker(turns, budget):
    text = "\n".join(f"{tag} {'so it is. ' * words}".strip() for tag, words in turns)
    for segment in plan_text_segments(text, *budget):
        own = re.findall(r"\[S\d\]", segment.text)
        starts_turn = segment.text.startswith("[S")
        speaker = own[0] if starts_turn else re.findall(r"\[S\d\]", text[: segment.start_offset])[-1]
        assert segment.speaker == speaker
        assert segment.spoken_text == (segment.text if starts_turn else f"{speaker} {segment.text}")
        assert segment.last_speaker == [speaker, *own][-1]


def test_text_before_the_first_tag_has_no_speaker():
    plan = plan_text_segments("An evening in May. " * 3 + "[S1] Good evening. " * 3, 10, 20, 60)
    assert plan[0].speaker is None
    assert plan[0].spoken_text == plan[0].text
    assert plan[-1].spoken_text.startswith("[S1]")


SENTENCES = """
He left.‖ She stayed.
Wait!‖ What?!‖ Well…‖ So; ‖then
"Go."‖ (He went.)‖ ‘No.’‖ Done
Er sagte: „Ja.“‖ Dann »Nein.«‖ Gut
« Oui ! »‖ « Non. »‖ Bien
他说。‖“你好！”‖她走了？！‖（好。）‖「嗯。」‖完
Dr. Smith met Mrs. J. K. Jones, Ph.D. and left.‖ Then
At 3.14 and 1,000.5 it ends.‖ Then v1.2.3 of a.b.c came
In the U.S. market, e.g. at 5 p.m. sharp.‖ Yes
See Fig. 3 and No. 4b, pp. 5 ff.‖ He said no.‖ Then
Am 3. Mai kam z. B. Hr. Weiß, d. h. bzw. ca. zehn.‖ Gut
M. Dupont et Mlle Roy, cf. p. ex. Sartre.‖ Bien
El Sr. García y la Sra. Ruiz viven en EE. UU. desde ayer.‖ Sí
Il dott. Rossi e la sig.ra Bianchi ecc. vennero.‖ Bene
Это г. Москва, т. е. столица и т. д. сегодня.‖ Да
Visit https://a.b/c?d=e;f!g or www.x.org.‖ Then example.com or a.b@c.de.‖ Ok
It costs 5 in 1999.‖ Then in 2000.‖ Well... ‖so
"Really?", he said.‖ "No!", she said.‖ Ok
यह सच है।‖ ठीक
هل أنت هنا؟‖ نعم
Stop.‖[S2] no. [pause 3.2s]‖ Go.‖[S1] on
"""


@pytest.mark.parametrize("marked", SENTENCES.strip().split("\n"))
def test_where_a_sentence_ends(marked):
    pieces = marked.split("‖")
    starts = itertools.accumulate(map(len, pieces[:-1]))
    text = "".join(pieces)
    expected = [len(text[:start].rstrip()) for start in starts]
    assert find_boundaries(text).offsets[BoundaryKind.SENTENCE] == expected


@pytest.mark.parametrize("budget", [(0, 1, 2), (3, 2, 4), (1, 3, 2), (-1, 1, 1)])
def test_budgets_that_contradict_each_other_are_refused(budget):
    with pytest.raises(RequestError, match="min_chars"):
        plan_text_segments("text", *budget)
    with pytest.raises(RequestError, match="min_chars"):
        LongFormOptions(*budget)


@pytest.mark.parametrize("unit", ["Hello, this is it. ", "你好", "[S1] a ", "x\u0301", '."', "/ ", "🇫", "["])
def test_planning_is_linear(unit):
    plan = plan_text_segments(unit * (200_000 // len(unit)))
    assert len(plan) > 300


# Continuity and seeds


@given(st.floats(0, 10), st.integers(0, 60), st.sampled_from([12.5, 50.0]))
def test_the_smaller_positive_limit_rules_the_prefix(seconds, max_tokens, rate):
    frames = LongFormOptions(prefix_audio_seconds=seconds, prefix_audio_max_tokens=max_tokens).prefix_frames(rate)
    if not seconds and not max_tokens:
        assert frames == 0
    else:
        assert frames >= 1
        assert not max_tokens or frames <= max_tokens
        assert not seconds or abs(frames / rate) <= max(seconds, 0) + 1 / rate
        assert frames in (max_tokens, max(1, round(seconds * rate)))


def segment_of(text):
    return TextSegment(text, 0, len(text), None, BoundaryKind.END)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5), st.integers(0, 30), st.integers(0, 40))
def test_continuity_carries_the_last_codes_and_keeps_the_first_voice(lengths, max_tokens, chars):
    options = LongFormOptions(prefix_audio_seconds=0, prefix_audio_max_tokens=max_tokens, prefix_text_chars=chars)
    spoken = [np.full((frames, 4), index, dtype=np.int32) for index, frames in enumerate(lengths)]
    state = ContinuityState()
    for codes in spoken:
        state = advance_continuity_state(state, segment_of("one two three e\u0301tude"), codes, options, 12.5)
    assert state.voice is spoken[0]
    assert state.previous_codes is spoken[-1]
    assert len(state.prefix_text) <= chars
    assert "one two three e\u0301tude".endswith(state.prefix_text)
    assert not state.prefix_text.startswith("\u0301")
    if max_tokens:
        assert state.prefix_codes.tolist() == spoken[-1][-max_tokens:].tolist()
    else:
        assert state.prefix_codes is None


@given(st.integers(0, 2**32 - 1))
def test_seeds_of_attempts_are_in_range_distinct_and_repeatable(seed):
    places = list(itertools.product(range(12), range(4)))
    seeds = [retry_seed(seed, *place) for place in places]
    assert seeds == [retry_seed(seed, *place) for place in places]
    assert all(0 <= derived < 2**32 for derived in seeds)
    assert len(set(seeds)) == len(seeds)
    assert seeds[0] == seed
    assert not set(seeds[1:]) & {retry_seed((seed + 1) % 2**32, *place) for place in places[1:]}


# Seams

RATE = 24_000


def tone(seconds=0.5, level=0.3, hertz=200.0, phase=0.0):
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE + phase)).astype(np.float32)


@given(st.integers(480, 11_000), st.floats(0.01, 1.0))
def test_sound_that_goes_on_has_a_clean_seam_at_any_place_and_level(cut, level):
    sound = tone(level=level)
    seam = evaluate_segment_boundary(sound[:cut], sound[cut:], RATE)
    assert (seam.note, seam.is_pause) == ("seam-clean", False)
    louder = evaluate_segment_boundary(8 * sound[:cut], 8 * sound[cut:], RATE)
    assert louder.normalized_jump == pytest.approx(seam.normalized_jump, rel=1e-3)


def test_only_twenty_milliseconds_of_each_side_count():
    left, right = tone(), tone(hertz=300)
    seam = evaluate_segment_boundary(left, right, RATE)
    left[:-480] = right[480:] = 0.9
    assert evaluate_segment_boundary(left, right, RATE) == seam
    left[-480] = 0.9
    assert evaluate_segment_boundary(left, right, RATE) != seam


def test_the_figures_are_those_of_the_definition():
    left, right = np.full(480, 0.5), np.full(480, -0.1)
    seam = evaluate_segment_boundary(left, right, RATE)
    assert seam.normalized_jump == pytest.approx(0.6 / 0.5)
    assert seam.energy_ratio == pytest.approx(5.0)
    assert (seam.jump_flagged, seam.energy_flagged, seam.note) == (False, True, "discontinuity-flagged")
    click = evaluate_segment_boundary(left, -left, RATE)
    assert (click.jump_flagged, click.energy_flagged) == (True, False)


@pytest.mark.parametrize("silence", [np.zeros(0), np.zeros(2000), np.full(2000, 1e-4)])
def test_silence_on_one_side_is_a_pause(silence):
    for left, right in itertools.permutations([tone(phase=1.5), silence]):
        seam = evaluate_segment_boundary(left, right, RATE)
        assert (seam.is_pause, seam.note) == (True, "seam-clean")


def test_both_channels_of_a_stereo_seam_count_as_one():
    left, right = tone(), tone(phase=2)
    stereo = evaluate_segment_boundary(np.stack([left, left], 1), np.stack([right, right], 1), RATE)
    assert stereo == evaluate_segment_boundary(left, right, RATE)


pieces = st.lists(
    st.tuples(st.integers(0, 3000), st.sampled_from([None, "[S1]", "[S2]"]), st.integers(1, 2)), max_size=6
)


@given(pieces)
def test_without_treatment_joining_is_concatenation(pieces):
    given_audio = [tone()[:length] for length, _, _ in pieces]
    segments = [SegmentAudio(audio, who, who) for audio, (_, who, _) in zip(given_audio, pieces, strict=True)]
    joined = list(join_segments(segments, RATE))
    assert all(out is audio for out, audio in zip(joined, given_audio, strict=True))


@given(pieces, st.floats(0, 60), st.booleans())
def test_a_change_of_speaker_is_never_treated(pieces, crossfade_ms, trim):
    audio = [np.pad(tone(), 8000)[:length] for length, _, _ in pieces]
    speakers = itertools.cycle(["[S1]", "[S2]"])
    segments = [SegmentAudio(a, who, who) for a, who in zip(audio, speakers, strict=False)]
    joined = join_segments(segments, RATE, crossfade_ms=crossfade_ms, trim_silence=trim)
    assert all(out is a for out, a in zip(joined, audio, strict=True))


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=6), st.floats(0, 60), st.sampled_from([1, 2]))
def test_a_crossfade_keeps_a_constant_constant_and_takes_its_overlap(lengths, crossfade_ms, channels):
    shape = () if channels == 1 else (channels,)
    audio = [np.full((length, *shape), 0.25, np.float32) for length in lengths]
    joined = np.concatenate(list(join_segments(map(SegmentAudio, audio), RATE, crossfade_ms=crossfade_ms)))
    np.testing.assert_allclose(joined, 0.25, rtol=1e-6)
    assert joined.dtype == np.float32
    fade = round(crossfade_ms * RATE / 1000)
    assert sum(lengths) - fade * (len(lengths) - 1) <= len(joined) <= sum(lengths)
    if min(lengths) >= 4 * fade:
        assert len(joined) == sum(lengths) - fade * (len(lengths) - 1)


def test_trimming_shortens_silence_at_seams_and_nowhere_else():
    quiet = np.zeros(RATE, np.float32)
    segment = SegmentAudio(np.concatenate([quiet, tone(), quiet, tone(), quiet]))
    first, middle, last = join_segments([segment] * 3, RATE, trim_silence=True)
    kept, cut = round(0.15 * RATE), RATE - round(0.15 * RATE)
    for out, ends in ((first, 1), (middle, 2), (last, 1)):
        assert abs(len(out) - (len(segment.audio) - ends * cut)) <= 2 * 480
        assert np.sum(np.abs(out)) == pytest.approx(np.sum(np.abs(segment.audio)), rel=1e-5)
    assert not first[:RATE].any()
    assert not last[-RATE:].any()
    assert not middle[: kept - 480].any()


# -------------------------------------------------------------------------------------------- pauses and nothing


def with_pauses(text, **budgets):
    return plan_with_pauses(text, LongFormOptions(**{"min_chars": 5, "target_chars": 20, "max_chars": 40} | budgets))


def test_a_pause_in_a_line_of_its_own_is_silence_between_segments():
    first, second = with_pauses("It rained.\n\n[pause 1.5s]\n\n[pause 1s]\nThen it stopped.")
    assert (first.text, first.silence_before, first.silence_after) == ("It rained.", 0, 2.5)
    assert (second.text, second.silence_before, second.silence_after) == ("Then it stopped.", 0, 0)
    assert (first.boundary, second.boundary) == (BoundaryKind.PARAGRAPH, BoundaryKind.END)


def test_pauses_at_the_ends_are_kept():
    (only,) = with_pauses("[pause 1s]\nIt rained.\n[Pause 2 s]\n")
    assert (only.text, only.silence_before, only.silence_after) == ("It rained.", 1, 2)


def test_a_pause_inside_a_line_is_the_models():
    (only,) = with_pauses("It rained. [pause 1s] It stopped.")
    assert only.text == "It rained. [pause 1s] It stopped."
    assert only.silence_after == 0


@pytest.mark.parametrize("pause", ["[pause 61s]", "[pause 40s]\n[pause 40s]", f"[pause {'9' * 400}s]"])
def test_silence_is_bounded_and_that_is_said(pause):
    planned = plan_text(f"It rained.\n{pause}\nIt stopped.", LongFormOptions(), None)
    assert [segment.silence_after for segment in planned.segments] == [60, 0]
    assert planned.notes == ("A pause lasts at most 60 s, so longer ones were shortened.",)
    assert plan_text("It rained.\n[pause 60s]\nIt stopped.", LongFormOptions(), None).notes == ()


def test_who_speaks_is_known_behind_a_pause():
    _, second = with_pauses("[S2] It rained.\n[pause 1s]\nIt stopped.")
    assert second.spoken_text == "[S2] It stopped."


def test_what_has_no_words_is_no_segment():
    assert with_pauses("[pause 1s]\n***\n") == ()
    assert [
        segment.text for segment in with_pauses("One two three four five.\n\n[pause 1s]\n\n👍\n\n[pause 1s]\n\nSix.")
    ] == [
        "One two three four five.",
        "Six.",
    ]


@given(
    st.lists(st.sampled_from(["[pause 1s]", "Hello there.", "", "It is a fine day, is it not?", "***"]), max_size=12)
)
def test_offsets_are_places_in_the_text_and_no_silence_is_lost(lines):
    text = normalize_line_ends("\n".join(lines))
    plan = with_pauses(text)
    assert all(text[segment.start_offset : segment.end_offset] == segment.text for segment in plan)
    silence = sum(segment.silence_before + segment.silence_after for segment in plan)
    assert silence == (text.count("[pause 1s]") if plan else 0)
