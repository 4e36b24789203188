"""Texts that are cut while they are written."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_tts.text.growing import FIRST, LATER, LOOK_AHEAD, GrowingText
from moss_tts.text.tags import has_words
from support.cost import costs_at_most


def stretches(pieces: list[str]) -> list[str]:
    """What comes out when the text comes in these pieces, asked for after each; None is a flush."""
    text, out = GrowingText(), []
    for piece in pieces:
        text.push(piece)
        while (stretch := text.next()) is not None:
            out.append(stretch)
    text.end()
    while (stretch := text.next()) is not None:
        out.append(stretch)
    assert text.is_over
    assert text.pending == 0
    return out


def in_pieces(text: str, seed: int) -> list[str]:
    draw, at, pieces = random.Random(seed), 0, []
    while at < len(text):
        size = draw.choice([1, 1, 2, 3, 5, 30])
        pieces.append(text[at : at + size])
        at += size
    return pieces


def words(text: str) -> str:
    return "".join(text.split())


TEXTS = [
    "Well, this is it. On May 5, 2020, Dr. Smith paid $3.50, i.e. a lot, at 5:30 p.m. in Washington, D.C. He left.",
    "你好，世界。这是一个很长的句子，没有空格，也没有停顿，只是一直写下去，直到读者累了为止。完了！再见。" * 4,
    'He said: "Wait! Not yet." (And then he went.) [pause 2s] "Why?" she asked... Nobody knew — not even he.',
    "[S1] Hello, how are you today? [S2] Fine, thanks, and you, my dear friend? [S1] Me too. [laughs] Very much so.",
    "# A heading\n\nA paragraph of text that goes on, and on.\n\n- an item\n- another item\n\n***\n\nThe end of it",
    "a" * 700 + " " + "b, " * 200 + "1,000,000 " * 60,
    "wordless: ... --- ***   \n\n \n ?!?! ((( [ [[ {{ [S [pause 1s] end",
    "# A list\n1. One of them, for sure\n2. Two\n\n  10) Ten\n- 3\n- 4\n12 monkeys\n3.5\n2.\n",
    "See https://example.org/a.b?c=d.e, or www.example.org. Then write to me@example.org! Version 3.14.15 is out.",
]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_do_not_matter(text):
    whole = stretches([text])
    assert stretches(list(text)) == whole
    for seed in range(5):
        assert stretches(in_pieces(text, seed)) == whole


@given(st.text(st.sampled_from("ab1 .,!?:;-—[]{}S#\n\"'”。，…\u0301"), max_size=600), st.integers(0, 99))
def test_pieces_of_any_text_do_not_matter(text, seed):
    assert stretches(in_pieces(text, seed)) == stretches([text])


@pytest.mark.parametrize("text", TEXTS)
def test_nothing_is_lost_and_nothing_comes_twice(text):
    out = stretches([text])
    assert all(has_words(stretch) and stretch == stretch.strip() for stretch in out)
    joined, at = words(text), 0
    for stretch in out:
        found = joined.index(words(stretch), at)
        assert not has_words(joined[at:found])
        at = found + len(words(stretch))
    assert not has_words(joined[at:])


def test_the_first_clause_is_early_and_later_ones_are_sentences():
    text = (
        "Well, this is early, and so is this one, which is longer. " + 8 * "Now, whole sentences follow, as it were. "
    )
    first, *rest = stretches([text])
    assert first == "Well, this is early,"
    assert rest[-1].startswith("Now, whole sentences follow")
    assert all(stretch.endswith(".") for stretch in rest[-4:])


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("It was on May 5, 2020, that we met.", "It was on May 5, 2020,"),
        ("We met Dr. Smith in the U.S. Army, then.", "We met Dr. Smith in the U.S. Army,"),
        ("It costs 1,000.50 in all, does it?", "It costs 1,000.50 in all,"),
        ("He lives at No. 5 Main St. in town, he says.", "He lives at No. 5 Main St. in town,"),
        ('He said "No!" to that, and left.', 'He said "No!"'),
        ("Wait here, please. [pause 2s] Now go on.", "Wait here, please. [pause 2s]"),
    ],
)
def test_numbers_names_and_tags_stay_whole(text, whole):
    assert stretches(list(text))[0] == whole


def test_items_of_a_list_and_headings_are_stretches():
    text = "# Shopping\n1. Milk from the shop at the corner\n2. Bread and a lot of butter\n- Salt\n"
    milk, bread = "1. Milk from the shop at the corner", "2. Bread and a lot of butter"
    assert stretches(list(text)) == ["# Shopping", milk, bread, "- Salt"]
    assert stretches(["He was born in\n1984 in a small town, and lived."])[0] == "He was born in\n1984 in a small town,"


def test_a_cut_needs_only_the_next_word():
    text = GrowingText()
    text.push("Well, this is early, ")
    assert text.next() is None
    text.push("a")
    assert text.next() == "Well, this is early,"


def test_flush_ends_a_stretch_at_once():
    text = GrowingText()
    text.push("Hel")
    text.flush()
    assert text.next() == "Hel"
    text.push("lo the")
    assert text.next() is None
    text.flush()
    text.flush()
    text.push("re")
    text.end()
    assert [text.next(), text.next(), text.next()] == ["lo the", "re", None]


def test_a_text_without_an_end_is_cut():
    out = stretches(["word " * 400])
    assert max(map(len, out)) <= LATER.most
    assert len(stretches(["x" * 300])[0]) <= FIRST.most


def test_a_text_of_tags_is_no_trouble():
    assert stretches(["[" * 500]) == []
    assert stretches(["." * 500 + "a"]) != []


def test_character_by_character_takes_linear_time():
    """Each character is looked at a few times, not once for each that follows."""
    text = GrowingText()
    with costs_at_most(2):
        for character in 20 * TEXTS[0] + "x" * 3000:
            text.push(character)
            while text.next() is not None:
                pass
    assert text.pending <= FIRST.most + LATER.most + LOOK_AHEAD
