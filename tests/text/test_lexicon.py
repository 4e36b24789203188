"""Lexicons: which words are replaced, where, and what the caller wrote in their place."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_tts.errors import RequestError
from moss_tts.text.lexicon import Entry, Lexicon
from support.cost import costs_at_most

FILE = """
# People
Ada Lovelace = Ayda Luvlace
Ada = Ayda
  US=you ess
C++ = see plus plus
Nguyễn = /ŋwiən/
[French]
2CV = deux chevaux
Ada = Adá
[German]
2CV = Ente
"""


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text(FILE, "utf-8-sig")
    return path


def spoken(entries: dict[str, str], text: str) -> str:
    return Lexicon.of(entries).respeller()(text).text


def test_a_file_has_comments_sections_and_forms(file):
    lexicon = Lexicon.read(file)
    assert len(lexicon.entries) == 8
    text = "Ada Lovelace's 2CV, Ada, C++, US"
    assert lexicon.respeller()(text).text == "Ayda Luvlace's 2CV, Ayda, see plus plus, you ess"
    assert lexicon.respeller("French ")(text).text == "Ayda Luvlace's deux chevaux, Adá, see plus plus, you ess"
    assert lexicon.respeller("german")(text).text.startswith("Ayda Luvlace's Ente, Ayda")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Ada ada ADA Adam MAda Ada1 Ada_ Ada's -Ada- «Ada»", "Ayda ada ADA Adam MAda Ada1 Ada_ Ayda's -Ayda- «Ayda»"),
        ("[Ada] {Ada} /Adaŋ/ [S1] Ada", "[Ada] {Ada} /Adaŋ/ [S1] Ayda"),
        ("New  York\nCity, New York", "the Big Apple, York"),
        ("我在重庆住", "我在崇庆住"),
        ("New Ada", "New Ayda"),
        ("C++! C+ C", "see plus plus! C+ C"),
    ],
)
def test_words_are_whole_case_counts_and_tags_stay(text, wanted):
    entries = {
        "Ada": "Ayda",
        "New York": "York",
        "New York City": "the Big Apple",
        "重庆": "崇庆",
        "C++": "see plus plus",
    }
    assert spoken(entries, text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("O’Brien, O'Brien's", "Oh Brian, Oh Brian's"),
        ("well‑known, well‐known, well-known", "famous, famous, famous"),
        ("’Tis and 'Tis, Jean‑Luc", "it is and it is, Jon Look"),
        ("don't, don’t, don, don'ts, Don's", "don't, don’t, dawn, dawn'ts, Don's"),
    ],
)
def test_apostrophes_and_hyphens_are_those_of_keyboards_and_of_books(text, wanted):
    entries = {"O'Brien": "Oh Brian", "well-known": "famous", "'Tis": "it is", "Jean‑Luc": "Jon Look", "don": "dawn"}
    assert spoken(entries, text) == wanted


def test_a_word_may_have_an_equals_sign_and_a_form_a_comment(tmp_path):
    path = tmp_path / "signs.txt"
    path.write_text("E=mc² = energy # of course\nGIF=jiff\t# the picture\nC# = see sharp\na==b = same\n")
    entries = {entry.written: entry.spoken for entry in Lexicon.read(path).entries}
    assert entries == {"E=mc²": "energy", "GIF": "jiff", "C#": "see sharp", "a==b": "same"}


def test_what_was_replaced_is_not_replaced_again():
    assert spoken({"one": "two", "two": "one"}, "one two") == "two one"


def test_both_forms_of_a_letter_are_the_same_word():
    for form in ("NFC", "NFD"):
        assert spoken({"café": "caffay"}, unicodedata.normalize(form, "Café café.")).endswith(" caffay.")


def test_later_lexicons_hold_before_earlier_ones():
    joined = Lexicon.joined([Lexicon.of({"Ada": "one", "Bob": "two"}), Lexicon.of({"Ada": "three"})])
    assert joined.respeller()("Ada Bob").text == "three two"


def test_ipa_is_left_where_it_is_not_read(file):
    respelt = Lexicon.read(file).respeller(reads_ipa=False)("Nguyễn met Ada; Nguyễn left.")
    assert respelt.text == "Nguyễn met Ayda; Nguyễn left."
    [note] = respelt.notes
    assert note.startswith("This model does not read IPA")
    assert note.count("'Nguyễn'") == 1
    respelt = Lexicon.read(file).respeller()("Nguyễn met Ada.")
    assert (respelt.text, respelt.notes) == ("/ŋwiən/ met Ayda.", ())


WORDS = st.text("ab 重[]/ŋ'\n", max_size=12)


@given(st.dictionaries(st.sampled_from(["a", "ab", "b a", "重", "a'b"]), st.sampled_from(["a", "xyz ", "重重"])), WORDS)
def test_the_written_text_is_known_of_every_part(entries, text):
    respelt = Lexicon.of(entries).respeller()(text)
    assert respelt.written(0, len(respelt.text)) == text
    for cut in range(len(respelt.text) + 1):
        assert respelt.written(0, cut) + respelt.written(cut, len(respelt.text)) == text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Ada", "there is no ="),
        ("Ada =", "the spoken form ''"),
        ("= Ada", "the word ''"),
        ("[S1] x = Ada", "has brackets"),
        (f"Ada = {'a' * 501}", "at most 500 characters"),
    ],
)
def test_lines_that_are_no_entries_are_named(tmp_path, line, message):
    path = tmp_path / "names.txt"
    path.write_text(f"# Names\n{line}\n")
    with pytest.raises(RequestError, match=rf"names.txt, line 2: .*{re.escape(message)}"):
        Lexicon.read(path)


def test_files_that_are_no_lexicons_are_refused(tmp_path):
    (tmp_path / "latin.txt").write_bytes("Café = x".encode("latin-1"))
    (tmp_path / "long.txt").write_bytes(b"#" * (2**20 + 1))
    for name, message in (("latin.txt", "no text in UTF-8"), ("long.txt", "more than"), ("none.txt", "No such file")):
        with pytest.raises(RequestError, match=message):
            Lexicon.read(tmp_path / name)
    for entries in ({"Ada": 1}, {"Ada": ""}):
        with pytest.raises(RequestError):
            Lexicon.of(entries)


def test_large_lexicons_cost_little():
    with costs_at_most(2):
        respeller = Lexicon(tuple(Entry(f"word{number:x}", "spoken") for number in range(20_000))).respeller()
        assert respeller("a sentence of words, word1f and so on. " * 1000).text.count("spoken") == 1000
