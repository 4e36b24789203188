"""Preparation of text for a checkpoint that asks for it: laws of segments, and one case for each kind of input."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from moss_tts.checkpoints.packaged import DIRECTORY
from moss_tts.config import parse_config
from moss_tts.errors import ConfigError
from moss_tts.text.cleanup import normalize_text
from moss_tts.text.english.reading import in_words
from moss_tts.text.preparation import TextPreparation
from moss_tts.text.prepared import Pause, prepare
from moss_tts.text.tags import has_words
from moss_tts.weights.layout import read_json

BLOCK = {
    "alphabet": " !',-.?" + string.ascii_letters,
    "ends_in_stop": True,
    "follows": [],
    "language": "en",
    "longest_segment": 74,
    "numbers": "words",
}
VOICE = TextPreparation.from_dict(BLOCK)


def segments(text: str) -> list[str]:
    return prepare(text, VOICE).segments


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+(?:-[a-z]+)*", text.lower())


# ------------------------------------------------------------------------------------------ the block


def test_the_packaged_voice_says_how_it_wants_its_texts() -> None:
    assert parse_config(read_json(DIRECTORY / "config.json")).text_preparation == VOICE


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"longest": 74}, "longest"),
        ({"longest_segment": None}, "longest_segment"),
        ({"longest_segment": 5}, "longest_segment"),
        ({"alphabet": None}, "alphabet"),
        ({"alphabet": string.ascii_lowercase}, "alphabet"),
        ({"language": "fr"}, "language"),
        ({"numbers": "digits"}, "numbers"),
        ({"ends_in_stop": False}, "ends_in_stop"),
        ({"follows": "reference"}, "follows"),
        ({"follows": ["emotion"]}, "follows"),
    ],
)
def test_a_block_that_cannot_be_followed_is_refused(change: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        TextPreparation.from_dict({**BLOCK, **change})


@pytest.mark.parametrize("missing", BLOCK)
def test_a_block_says_everything(missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        TextPreparation.from_dict({key: value for key, value in BLOCK.items() if key != missing})


# ------------------------------------------------------------------------------------------ laws

_PLAIN_WORD = st.text(string.ascii_lowercase, min_size=2, max_size=12).filter(
    lambda word: all(in_words(text) == text for text in (word, f"{word}.", f"he {word} it"))
)
_GAPS = st.sampled_from([" "] * 8 + [", ", ". ", "! ", "? ", " — ", "; ", ": ", "\n", "\n\n", "... ", " (", ") ", '" '])


@pytest.mark.parametrize("start", ["On June 5th, 2023 I paid", "Yesterday afternoon, at long last, she gave me back"])
def test_an_amount_of_money_is_not_cut(start: str) -> None:
    found = segments(f"{start} $12.50 for three bags of very good apples, fresh from the tree")
    assert any("twelve dollars and fifty cents" in segment for segment in found)


@given(st.lists(st.tuples(_PLAIN_WORD, _GAPS), max_size=60))
def test_no_word_is_lost_and_none_is_added(pairs: list[tuple[str, str]]) -> None:
    text = "".join(word + gap for word, gap in pairs)
    assert words(" ".join(segments(text))) == words(text)


@settings(max_examples=300)
@given(st.text() | st.text(string.printable) | st.from_regex(r"[ A-Za-z0-9.,$%:/°–-]{0,60}", fullmatch=True))
@example("x" * 500)
@example("1" * 500)
@example("1,111 " * 50)
@example("A. B. C. " * 20)
def test_every_segment_can_be_spoken(text: str) -> None:
    found = segments(text)
    for segment in found:
        assert len(segment) <= VOICE.longest_segment
        assert segment[-1] in ".!?"
        assert set(segment) <= VOICE.alphabet
        assert re.search("[a-zA-Z]", segment)
        assert normalize_text(segment) == segment
    assert has_words(text) or not found


@given(st.lists(st.tuples(_PLAIN_WORD, _GAPS), max_size=60))
def test_what_is_prepared_stays_as_it_is(pairs: list[tuple[str, str]]) -> None:
    for segment in segments("".join(word + gap for word, gap in pairs)):
        assert segments(segment) == [segment]


@given(st.integers(0, 10**14))
def test_every_number_is_written_out(number: int) -> None:
    for written in (str(number), f"{number:,}", f"{number / 100:.2f}", f"-{number}", f"${number}", f"{number}%"):
        assert not re.search(r"\d", in_words(f"It is {written} now."))


# ------------------------------------------------------------------------------------------ segments


def test_a_sentence_that_is_short_enough_stays_whole() -> None:
    text = "They were loud and happy, and they gave him bread and hot tea."
    assert segments(text) == [text]


def test_cuts_prefer_clauses_and_get_a_stop() -> None:
    text = "The old bridge over the river was closed on Tuesday, and nobody could say how long the work would take."
    assert segments(text) == [
        "The old bridge over the river was closed on Tuesday.",
        "And nobody could say how long the work would take.",
    ]


def test_a_number_or_a_date_is_never_cut() -> None:
    [*_, last] = segments("It was finished by the people of the little town beside the sea on March 3, 1847.")
    assert "March third, eighteen forty-seven." in last


def test_a_conjunction_is_a_better_place_than_any_other() -> None:
    text = "My brother wanted to see the big new museum in the city but my sister had no time at all for it"
    assert segments(text)[1].startswith("But my sister")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Hello", ["Hello."]),
        ("Then they went home to sleep,", ["Then they went home to sleep."]),
        ("He looked at the boats in the harbour:", ["He looked at the boats in the harbour."]),
        ("Chapter Twelve\n\nIt rained.", ["Chapter Twelve.", "It rained."]),
        ("# A heading\nIt rained.", ["A heading.", "It rained."]),
        ("To buy:\n- milk\n- bread\n* eggs", ["To buy.", "Milk.", "Bread.", "Eggs."]),
        ("1. Wash it.\n2) Cut it", ["One, Wash it.", "Two, Cut it."]),
        ("Anna Miller\n5 Oak Street\nBoston", ["Anna Miller.", "Five Oak Street.", "Boston."]),
        ("With love,\nAnna", ["With love, Anna."]),
        (
            "These lines were wrapped at some width by a program of old,\nand so they are one sentence.",
            ["These lines were wrapped at some width by a program of old.", "And so they are one sentence."],
        ),
        ("> Quoted text\n\nAnswer", ["Quoted text.", "Answer."]),
        ("| Tea | $2 |\n|---|---|\n| Milk | $1 |", ["Tea, two dollars.", "Milk, one dollar."]),
        ("Soup ........ $4", ["Soup, four dollars."]),
        ("See [our page](https://example.com/a_b).", ["See our page."]),
        ("This is **very** _important_ `code`.", ["This is very important code."]),
    ],
)
def test_lines_become_sentences(text: str, wanted: list[str]) -> None:
    assert segments(text) == wanted


# ------------------------------------------------------------------------------------------ characters


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("“Come in.”", "Come in."),
        ("“Well,” she said, “I don’t know.”", "Well, she said, I don't know."),
        ("‘Where are you?’ asked Tom.", "Where are you? asked Tom."),
        ("„So“, «so» and ‹so›.", "So, so and so."),
        ("We waited… and then he came.", "We waited, and then he came."),
        ("We waited... he never came.", "We waited, he never came."),
        ("A man – tall and thin – left.", "A man, tall and thin, left."),
        ("A man—tall and thin—left.", "A man, tall and thin, left."),
        ("A man -- tall - left.", "A man, tall, left."),
        ("The London–Paris train.", "The London Paris train."),
        ("He left (at last).", "He left, at last."),
        ("What?! No!!", "What? No!"),
        ("One,two.Then three!Four", "One, two. Then three! Four."),
        ("café, naïve, Zoë, Dvořák, Łódź, Ærø, Straße", "Cafe, naive, Zoe, Dvorak, Lodz, Aero, Strasse."),
        ("Ｆｕｌｌ　ｗｉｄｔｈ！", "Full width!"),
        ("a ﬁne eﬀort", "A fine effort."),
        ("soft\u00adhyphen and zero\u200bwidth", "Softhyphen and zerowidth."),
        ("𝐁𝐨𝐥𝐝 and ⓒircled", "Bold and circled."),
        ("It's the dogs' house, isn't it?", "It's the dogs house, isn't it?"),
        ("e\u0301tude", "Etude."),
        ("١٢ apples", "Twelve apples."),
    ],
)
def test_characters_are_mapped_to_the_alphabet_without_a_note(text: str, wanted: str) -> None:
    prepared = prepare(text, VOICE)
    assert " ".join(prepared.segments) == wanted
    assert prepared.notes == ()


@pytest.mark.parametrize(
    ("text", "wanted", "named"),
    [
        ("Great 👍🏽 and 👍🏽 ★ fun", "Great and fun.", ["👍🏽", "★"]),
        ("The 👨‍👩‍👧 flag 🇫🇷.", "The flag.", ["👨‍👩‍👧", "🇫🇷"]),
        ("Thanks :-)", "Thanks.", [":-)"]),
        ("It was ∞.", "It was.", ["∞"]),
        ("Hello there. [laugh] <b>Bold</b> {x}", "Hello there. Bold.", ["[laugh]", "<b>", "</b>", "{x}"]),
        ("[S1] Hello. [S2] Bye.", "Hello. Bye.", ["[S1]", "[S2]"]),
        ("He said 你好 to me.", "He said Ni Hao to me.", ["你好"]),
        ("Москва is far.", "Moskva is far.", ["Москва"]),
    ],
)
def test_what_has_no_sound_is_named_once(text: str, wanted: str, named: list[str]) -> None:
    prepared = prepare(text, VOICE)
    assert " ".join(prepared.segments) == wanted
    [note] = prepared.notes
    assert note.endswith(": " + ", ".join(named) + ".")


def test_many_signs_are_counted_rather_than_listed() -> None:
    [note] = prepare("a " + "★☆☀☁☂☃☄☎☏☑", VOICE).notes
    assert note.endswith(" and 2 more.")


def test_words_in_brackets_are_text_and_so_are_addresses() -> None:
    assert segments("He saw [the old king of the north] there.") == ["He saw, the old king of the north, there."]
    assert segments("Write to <anna@example.com>.") == ["Write to anna at example dot com."]


# ------------------------------------------------------------------------------------------ nothing, and pauses


@pytest.mark.parametrize("text", ["", " \n", "👍", "***", "...", "---", "“ ”", "[pause 1s]", "[S1]", "?!", "\u200b"])
def test_a_text_without_a_letter_or_a_digit_has_nothing_to_say(text: str) -> None:
    assert not has_words(text)
    assert prepare(text, VOICE).parts == ()


@pytest.mark.parametrize("text", ["a", "7", "é", "你好", "👍 ok", "½"])
def test_a_letter_or_a_digit_is_something_to_say(text: str) -> None:
    assert has_words(text)
    assert segments(text)


def test_pauses_stand_between_the_segments() -> None:
    parts = prepare("Hello there. [pause 1.5s] How are you? [PAUSE 2 s]", VOICE).parts
    assert parts == ("Hello there.", Pause(1.5), "How are you?", Pause(2.0))


@pytest.mark.parametrize("marks", ["***", "* * *", "---", "⁂", "~~~", "___", "• • •"])
def test_a_row_of_marks_between_words_is_a_pause(marks: str) -> None:
    assert prepare(f"One day.\n\n{marks}\n\nThe end.", VOICE).parts == ("One day.", Pause(1.0), "The end.")
    assert prepare(f"{marks}\nThe end.\n{marks}", VOICE).parts == ("The end.",)
