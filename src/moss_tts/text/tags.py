"""Tags inside a text: [S1] before the words of a speaker, [pause 3.2s] for silence."""

from __future__ import annotations

import re
import unicodedata

SPEAKER_TAG = re.compile(r"\[S\d+\]")
# Its group is the seconds.
PAUSE = re.compile(r"\[pause\s+(\d+(?:\.\d+)?)\s*s\]", re.IGNORECASE)


def has_words(text: str) -> bool:
    """Whether a text holds a letter or a digit outside its tags: whether there is anything to say."""
    return any(character.isalnum() for character in SPEAKER_TAG.sub("", PAUSE.sub("", text)))


def tags_of(text: str) -> list[str]:
    """The tags in a text, each once: speakers, then pauses."""
    return list(dict.fromkeys(match[0] for tag in (SPEAKER_TAG, PAUSE) for match in tag.finditer(text)))


def speaker_tag(number: int) -> str:
    """The tag of a speaker: 1 -> "[S1]"."""
    return f"[S{number}]"


def tagged(number: int, transcript: str) -> str:
    """The words of a speaker after the speaker's tag, without white space around them."""
    tag = speaker_tag(number)
    spoken = transcript.strip()
    return spoken if spoken.startswith(tag) else f"{tag} {spoken}"


def join_transcript(transcript: str, text: str) -> str:
    """A transcript and the text that continues it, with a space between unless the script has none.

    A speaker who goes on keeps the turn: the tag is not repeated.
    """
    tags = SPEAKER_TAG.findall(transcript)
    if tags and text.lstrip().startswith(tags[-1]):
        text = text.lstrip().removeprefix(tags[-1]).lstrip()
    return transcript + _seam(transcript[-1:], text[:1]) + text


def _seam(left: str, right: str) -> str:
    """A space between Western characters; none beside white space or between wide ones."""
    touching = [character for character in (left, right) if character]
    if len(touching) < 2 or any(character.isspace() for character in touching):
        return ""
    return "" if all(unicodedata.east_asian_width(c) in "WF" for c in touching) else " "
