"""Text for a model without tags: marks of the sentence's own script, a stop at the end, and nothing of ours leaks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_tts.presets import resolve_preset
from moss_tts.request import resolve_generation_request
from moss_tts.text.own_marks import in_own_marks
from support.nano_assets import text_cases

DOCUMENT = Path(__file__).parents[2] / "docs" / "nano.md"
EXAMPLES = {
    "Hello world": "Hello world.",
    "Dr. Smith paid $3.50. OK?": "Dr. Smith paid $3.50. OK?",
    "It costs $3.50": "It costs $3.50.",
    "wait......now": "wait. now.",
    "one\ntwo": "one. two.",
    "a -> b": "a, b.",
    "Hello，world。你好，世界": "Hello, world. 你好，世界。",
    "我有 iPhone。": "我有 iPhone。",
    "Really！Yes": "Really! Yes.",
    "你好 [pause 1s] 世界": "你好世界。",
    "[S1] Hi there. [S2] Hello": "Hi there. Hello.",
    "He [laughs] loudly": 'He "laughs" loudly.',
    '"Yes." "No."': '"Yes." "No."',
    "[laughs] {sighs} [] Hi": '"laughs" "sighs" Hi.',
    "「こんにちは」と『彼』は言った": '"こんにちは"と"彼"は言った。',
    "I live in 东京 now": "I live in 东京 now.",
    "Er sagte: „Ja!“ Dann ging er": "Er sagte: „Ja!“ Dann ging er.",
    "3. Oktober": "3. Oktober.",
    "see https://x.y/?q=a": "see https://x.y/?q=a.",
    'He said "yes."': 'He said "yes."',
    "And then,": "And then.",
    "مرحبا؟": "مرحبا؟",
    "안녕\n하세요": "안녕. 하세요.",
    "日本語\nです": "日本語。です。",
    "你好。42": "你好。42。",
    "Room 42。7": "Room 42. 7.",
}


@pytest.mark.parametrize(("text", "cleaned"), EXAMPLES.items(), ids=repr)
def test_examples(text, cleaned):
    assert in_own_marks(text) == cleaned


def test_chinese_is_cleaned_up_as_upstream_does():
    # Upstream writes a headline in quotation marks, and reads tags out.
    differs = {"【公告】今天 20:00 维护——预计 30 分钟", "[S1]你好。{whisper}"}
    cases = [(text, made) for text, made in text_cases()["normalize_tts_text"] if text not in differs]
    chinese = [(text, made) for text, made in cases if any("\u4e00" <= character <= "\u9fff" for character in text)]
    assert len(chinese) >= 6
    assert [in_own_marks(text) for text, _ in chinese] == [made for _, made in chinese]


def test_other_scripts_differ_from_upstream_in_their_marks_alone():
    # Upstream's placeholder leaks into one; it lets ellipses and dashes of a word stand in others, and opens "_".
    differs = {"wait......now", "a_b and @foo_bar", "app.js.map......", "a--b", "x…", "!!??", "。。", "  "}
    for text, made in text_cases()["normalize_tts_text"]:
        if text not in differs and text.isascii():
            narrow = made.translate(str.maketrans("。，", ".,"))
            assert in_own_marks(text).replace(" ", "") == narrow.replace(" ", ""), text


WRITTEN = st.text(
    st.sampled_from('ab Z1你好か。，、！？；：.,!?;:…—-()[]{}【】「」《》"“”\n')
    | st.characters(exclude_categories=["Cs"])
)


@given(WRITTEN)
def test_every_text_is_one_line_with_a_stop_at_its_end(text):
    cleaned = in_own_marks(text)
    assert "\n" not in cleaned
    if any(character.isalnum() for character in cleaned):
        assert cleaned.rstrip("\"'”’»)）】》」』")[-1] in ".!?…。！？؟۔।॥։።"


@given(st.text(st.sampled_from("abc 。，！？.,!?\n")))
def test_english_gets_no_wide_mark(text):
    assert not set(in_own_marks(f"so {text}")) & set("。，！？")


def test_the_documents_examples_are_what_it_makes():
    table = [line.split("|") for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    rows = [(re.findall("`([^`]+)`", row[1]), re.findall("`([^`]+)`", row[3])) for row in table]
    checked = [(text, made) for texts, mades in rows for text, made in zip(texts, mades, strict=False)]
    assert len(checked) >= 6
    for text, made in checked:
        assert in_own_marks(text) == made, text


def test_the_preset_nano_cleans_up_this_way():
    request = resolve_generation_request({"text": "one\ntwo", "seed": 1}, resolve_preset("nano"))
    assert request.messages[0].text == "one. two."
    raw = resolve_generation_request({"text": "one\ntwo", "normalize_text": False, "seed": 1}, resolve_preset("nano"))
    assert raw.messages[0].text == "one\ntwo"
    delay = resolve_generation_request({"text": "one\ntwo", "seed": 1}, resolve_preset("moss_tts"))
    assert delay.messages[0].text == "one。two"


def noted(text: str, **options: object) -> tuple[str, ...]:
    return resolve_generation_request({"text": text, "seed": 1, **options}, resolve_preset("nano")).notes


def test_tags_that_are_left_out_are_told():
    said = "This model does not act on tags; left out: [S1], [pause 1s]."
    assert noted("[S1] Hello [pause 1s] you. [S1] Bye.") == (said,)
    assert noted("Hello [laughs].") == ()
    assert noted("Hello [pause 1s] you.", normalize_text=False) == ()
    assert "and 4 more" in noted("".join(f"[S{n}] a. " for n in range(12)))[0]
    # Alone in its line, a pause of a long text is silence, and nothing is left out.
    assert noted("Hello.\n[pause 1s]\nBye.", long_form=True) == ()
