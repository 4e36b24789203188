"""Rules: a pattern, and the words that replace its matches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]

# A sentence that begins with one of these has begun: a dot before it is a full stop, also behind "a.m." and "etc.".
_STARTERS = (
    "The A An He She It They We You I This That These Those There Then But And So If When While My Our His Her Their "
    "Its What Where Why How Who After Before In On At For From With As Not No Yes Please Thank"
)
_STARTER = re.compile(rf"[\"')]*\s*[\"'(]*(?:{'|'.join(_STARTERS.split())})\b")
_NEW_SENTENCE = re.compile(rf"[\"')]*\s*\Z|(?=[\"')]*\s){_STARTER.pattern}")


def rule(pattern: str, words: Callable[[re.Match[str]], str] | str) -> Rule:
    """A rule; words given as text are a template of `re`."""
    if isinstance(words, str):
        template = words
        return re.compile(pattern), lambda match: match.expand(template)
    return re.compile(pattern), words


def apply(rules: Iterable[Rule], text: str) -> str:
    """The text after all rules, applied one after the other."""
    for pattern, words in rules:
        text = pattern.sub(words, text)
    return text


def begins_sentence(text: str, at: int) -> bool:
    """Whether a sentence most likely begins here."""
    return _STARTER.match(text, at) is not None


def stop_behind(match: re.Match[str]) -> str:
    """The full stop that the dot at the end of a match also is, where the text ends or a new sentence begins."""
    return "." if match[0].endswith(".") and _NEW_SENTENCE.match(match.string, match.end()) else ""
