"""Text for a model that acts on no tags: clean, each sentence in the marks of its script, and a stop at the end.

cleanup.py writes line breaks, dashes and ellipses as "。" whatever the language; Chinese and Japanese sentences keep
that here, all others get ".". A text without a stop at its end is one that small models do not find the end of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from moss_tts.text.cleanup import normalize_text
from moss_tts.text.tags import PAUSE, SPEAKER_TAG

_WIDE_SCRIPT = re.compile(r"[\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_NARROW = {"。": ".", "．": ".", "，": ",", "、": ",", "！": "!", "？": "?", "；": ";", "：": ":"}
_WIDE_MARK = re.compile(f"[{''.join(_NARROW)}]")
# A sentence with its marks. "." is none: it stands in numbers, and both sides of it are of the same script.
_SENTENCE = re.compile(r"[^。！？!?…]*+[。！？!?…]++|[^。！？!?…]++")
_OTHER_WORD = re.compile(rf"(?:(?!{_WIDE_SCRIPT.pattern})[^\W\d_])+")
_EMPTY_BRACKETS = re.compile(r"\[\s*\]|\{\s*\}|【\s*】|〖\s*〗|「\s*」|『\s*』")
# Quotation marks; cleanup.py would make headlines of them where they begin a sentence.
_CORNERS = str.maketrans(dict.fromkeys("「」『』", '"'))
_BRACKETS = str.maketrans(dict.fromkeys("[]{}【】〖〗", '"'))
_CLOSERS = "\"'”’»)）】》」』"
_ENDS = ".!?…。！？؟۔।॥։።"
_LOOSE_END = re.compile(r"[\s,，、:：;；\-–—~]+\Z")


def in_own_marks(text: str) -> str:
    """The text on one line, cleaned up, without speaker tags and pauses; other brackets are quotation marks."""
    untagged = _EMPTY_BRACKETS.sub(" ", PAUSE.sub(" ", SPEAKER_TAG.sub(" ", text))).translate(_CORNERS)
    return _ended("".join(_in_own_marks(normalize_text(untagged).translate(_BRACKETS))).strip())


def _in_own_marks(text: str) -> Iterator[str]:
    """The text in parts, wide marks of narrow sentences replaced."""
    for last, end, is_wide in _sentences(text):
        for mark in () if is_wide else _WIDE_MARK.finditer(text, last, end):
            # A wide mark has the blank behind it within it.
            gap = " " if text[mark.end() : mark.end() + 1].isalnum() else ""
            yield text[last : mark.start()] + _NARROW[mark[0]] + gap
            last = mark.end()
        yield text[last:end]


def _sentences(text: str) -> Iterator[tuple[int, int, bool]]:
    """(start, end, whether its script has wide marks) of each sentence; one without letters is as the one before."""
    is_wide = _is_wide(text)
    for sentence in _SENTENCE.finditer(text):
        if any(character.isalpha() for character in sentence[0]):
            is_wide = _is_wide(sentence[0])
        yield *sentence.span(), is_wide


def _is_wide(sentence: str) -> bool:
    """Whether a sentence has as many characters of a script with wide marks as words of others, and any at all."""
    return 0 < len(_WIDE_SCRIPT.findall(sentence)) >= len(_OTHER_WORD.findall(sentence))


def _ended(text: str) -> str:
    """The text with a stop at its end, if it has words and no stop there."""
    if not any(character.isalnum() for character in text) or text.rstrip(_CLOSERS)[-1:] in tuple(_ENDS):
        return text
    *_, (_, _, is_wide) = _sentences(text)
    return _LOOSE_END.sub("", text) + ("。" if is_wide else ".")
