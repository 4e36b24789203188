"""Long texts in pieces of so many tokens: budgets, places of cuts, silence, and what upstream's own splitter makes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_tts.long_form import TextSegment
from moss_tts.presets import Preset, resolve_preset
from moss_tts.prompts.sentence_pieces import SentencePieceEncoder
from moss_tts.prompts.token_budgets import plan_by_tokens
from moss_tts.request import MossNormalizedRequest, resolve_generation_request
from moss_tts.text.boundaries import BoundaryKind
from support.nano_assets import TINY_VOCABULARY, published_vocabulary, text_cases

ENCODER = SentencePieceEncoder(TINY_VOCABULARY.read_bytes())
NANO = resolve_preset("nano")
CASES = text_cases()


def tiny_count(text: str) -> int:
    return len(ENCODER.encode(text))


def words(text: str) -> int:
    return len(text.split())


def texts(text: str, most: int, count=words) -> list[str]:
    return [segment.text for segment in plan_by_tokens(text, most, count)]


def request(text: str, count=words, preset: Preset = NANO, **options: object) -> MossNormalizedRequest:
    given = {"text": text, "long_form": True, "seed": 1, **options}
    return resolve_generation_request(given, preset, count_tokens=count)


def bare(text: str) -> str:
    return "".join(text.split())


# ------------------------------------------------------------------------------------------------------ cuts


@pytest.mark.parametrize(
    ("text", "most", "wanted"),
    [
        ("One two. Three four. Five six.", 4, ["One two. Three four.", "Five six."]),
        ("One two three, four five six. Seven.", 4, ["One two three,", "four five six. Seven."]),
        ("One two three four five. Six.", 2, ["One two", "three four", "five. Six."]),
        ("A heading\n\nOne two three four five.", 5, ["A heading", "One two three four five."]),
        ("It costs $3.50. Dr. Smith paid it. OK?", 4, ["It costs $3.50.", "Dr. Smith paid it.", "OK?"]),
        ("See https://a.b/c.d?e=f now. Go.", 3, ["See https://a.b/c.d?e=f now.", "Go."]),
        ("Short.", 75, ["Short."]),
    ],
    ids=lambda value: str(value)[:20],
)
def test_cuts(text, most, wanted):
    assert texts(text, most) == wanted


def test_a_word_over_the_budget_is_cut_where_it_is_full():
    assert texts("abcdefgh", 3, len) == ["abc", "def", "gh"]


TEXTS = st.text(
    st.sampled_from("aB1 .,;!?。，你好é\n\u0301[]S$") | st.characters(exclude_categories=["Cs"]), max_size=200
)


@given(TEXTS, st.integers(1, 40))
def test_every_piece_is_within_the_budget_and_nothing_is_lost(text, most):
    pieces = list(plan_by_tokens(text, most, len))
    assert bare("".join(piece.text for piece in pieces)) == bare(text)
    assert all(left.end_offset <= right.start_offset for left, right in pairwise(pieces))
    # What cannot be cut may be longer: accents on a letter, brackets, an end without words.
    assert all(len(piece.text) <= most or piece.boundary in (BoundaryKind.HARD, BoundaryKind.END) for piece in pieces)


def test_a_long_text_is_cut_in_linear_time():
    counted = 0

    def count(text: str) -> int:
        nonlocal counted
        counted += len(text)
        return len(text) // 4

    for unit in ("word ", "a", "One two. ", "你", "[", " \n"):
        counted, text = 0, unit * (60_000 // len(unit))
        assert bare("".join(piece.text for piece in plan_by_tokens(text, 75, count))) == bare(text)
        assert counted < 30 * len(text), unit


def folded(pieces: list[str]) -> list[str]:
    """Without what upstream changes where it cuts: a capital first, a full stop last, a blank in "$3.50"."""
    return [piece.strip().rstrip(".。").lower().replace("$3. 50", "$3.50") for piece in pieces]


def agreeing(cases: list[dict], count) -> list[bool]:
    pieces = [texts(" ".join(case["text"].split()), case["max_tokens"], count) for case in cases]
    return [folded(ours) == folded(case["split"]) for ours, case in zip(pieces, cases, strict=True)]


def test_upstream_cuts_in_the_same_places_but_for_parts_of_long_sentences():
    # Upstream joins such a part with the sentence before or behind it, where both fit.
    agree = agreeing(CASES["chunks_tiny_tokenizer"], tiny_count)
    assert sum(agree) >= len(agree) - 5


def test_upstream_cuts_so_at_its_own_budget_with_the_published_vocabulary():
    encoder = SentencePieceEncoder(published_vocabulary().read_bytes())
    cases = [case for case in CASES["chunks_real_tokenizer"] if case["max_tokens"] == NANO.pieces.most_tokens]
    assert len(cases) >= 8
    assert all(agreeing(cases, lambda text: len(encoder.encode(text))))


# -------------------------------------------------------------------------------------------- the preset nano


def silences(plan: tuple[TextSegment, ...]) -> list[float]:
    return [segment.silence_after for segment in plan]


def test_silence_follows_upstreams_rule():
    for case in CASES["chunks_tiny_tokenizer"]:
        made = [NANO.pieces.silence_after(piece) for piece in case["spoken"][:-1]]
        assert made == case["pauses"], case["text"]


def test_a_long_text_of_the_preset_nano_has_its_pieces_and_silences():
    sentence = "One two three four five six seven eight nine ten. "
    planned = request(sentence * 14 + "Short one. ")
    assert [words(segment.text) for segment in planned.plan] == [70, 72]
    assert silences(planned.plan) == [0.24, 0]
    planned = request("One two three. " + "x " * 74 + "end. Next words are more than four.")
    assert silences(planned.plan) == [0.4, 0.24, 0]


def test_its_pieces_are_tied_by_the_voice_alone():
    assert request("Hello.").long_form.prefix_frames(12.5) == 0
    assert request("Hello.").long_form.continuity == "voice"
    assert request("Hello.", long_form_prefix_audio_max_tokens=9).long_form.prefix_frames(12.5) == 9
    assert request("Hello.", long_form_parallel=4).long_form.parallel == 4


def test_a_pause_that_is_asked_for_takes_the_place_of_its_silence():
    planned = request("One two three four five.\n[pause 2s]\nSix.")
    assert silences(planned.plan) == [2.0, 0]


def test_budgets_in_characters_hold_where_they_are_given():
    text = "One two three. " * 20
    planned = request(text, long_form_min_chars=10, long_form_target_chars=20, long_form_max_chars=30)
    assert max(len(segment.text) for segment in planned.plan) <= 30
    assert set(silences(planned.plan)[:-1]) == {0.4}


def test_other_variants_are_cut_by_characters_without_silence():
    planned = request("One two three. " * 60, preset=resolve_preset("moss_tts"))
    assert len(planned.plan) > 1
    assert set(silences(planned.plan)) == {0.0}
    assert planned.long_form.prefix_frames(12.5) > 0
