"""Tags in a text that are not spoken: pauses, speakers, events, HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator

from moss_tts.text.lines import is_scene_break
from moss_tts.text.tags import PAUSE, has_words

# Seconds of silence for a row of asterisks between two scenes.
SCENE_BREAK_SECONDS = 1.0
# One to three words in brackets, or a tag of HTML; an address in <> is text.
_TAG = re.compile(
    r"\[[_.:=/-]*+[^\W_][\w.:=/-]*+(?: [\w.:=/-]++){0,2}\]|\{[^{}\n]{1,48}\}"
    r"|</?(?!https?:|mailto:|[^\s<>]+@)[A-Za-z][^<>\n]*>"
)


def without_tags(text: str) -> tuple[str, list[str]]:
    """The text without its tags, and these in order."""
    return _TAG.sub(" ", text), _TAG.findall(text)


def between_pauses(text: str) -> Iterator[tuple[str, float]]:
    """Parts of the text, each with the seconds of silence after it: of a pause tag or a row of marks; 0 for none."""
    *parts, last = PAUSE.split(_with_scene_breaks(text))
    yield from zip(parts[::2], map(float, parts[1::2]), strict=True)
    yield last, 0.0


def _with_scene_breaks(text: str) -> str:
    """The text with a pause for each row of marks that stands between words."""
    lines = text.splitlines()
    spoken = [at for at, line in enumerate(lines) if has_words(line)]
    for at, line in enumerate(lines):
        if is_scene_break(line) and spoken and spoken[0] < at < spoken[-1]:
            lines[at] = f"[pause {SCENE_BREAK_SECONDS}s]"
    return "\n".join(lines)
