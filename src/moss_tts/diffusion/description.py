"""What the text encoder is given: the description with the duration, cleaned as upstream cleans it."""

from __future__ import annotations

import html
import re

import ftfy

_SPACE = re.compile(r"\s+")


def described(prompt: str, seconds: float | None) -> str:
    """The description as it is sent: with the duration at its end, unless that is None."""
    return prompt.strip() + ("" if seconds is None else duration_suffix(seconds))


def duration_suffix(seconds: float) -> str:
    """How a description names the duration; training named it so."""
    return f" duration: {seconds:.1f}s"


def clean(text: str) -> str:
    """The text with odd characters mended (full-width forms become ASCII), without HTML entities, on one line."""
    return _SPACE.sub(" ", html.unescape(html.unescape(ftfy.fix_text(text))).strip()).strip()
