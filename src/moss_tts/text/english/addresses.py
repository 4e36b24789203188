"""Web and e-mail addresses, file names, names and tags of social networks, and signs that stand for words."""

from __future__ import annotations

import re

from moss_tts.text.english.letters import spelt
from moss_tts.text.english.rules import Rule, rule
from moss_tts.text.pieces import TIE

_SIGNS = {".": "dot", "/": "slash", "-": "dash", "_": "underscore", "@": "at", "?": "question mark", "=": "equals",
          "&": "and", "%": "percent", "#": "hash", ":": "colon", "~": "tilde", "+": "plus"}  # fmt: skip
_HOST = r"(?:[\w-]+\.)+[a-z]{2,}"
_EMAIL = r"(?<![\w.])[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
_URL = rf"(?:https?://|ftp://)[^\s<>\"]*[\w/#=&%~+-]|\bwww\.[^\s<>\"]*[\w/]|(?<![\w@.]){_HOST}(?:/[^\s<>\"]*[\w/])?"
_FILE_ENDS = r"[a-z]{1,4}\d?"


def spoken_address(address: str) -> str:
    """Its parts and the names of the signs between them, the protocol and a slash at the end left out."""
    bare = re.sub(r"\A\w+://", "", address).rstrip("/")
    bare = re.sub(r"\Awww\.", f"{spelt('www')} dot ", bare)
    words = " ".join(_SIGNS.get(part, part) for part in re.split(r"([^\w\s]|_)", bare) if part.strip())
    return words.replace(" dot ", f"{TIE}dot{TIE}")


ADDRESSES: tuple[Rule, ...] = (
    rule(_EMAIL, lambda m: spoken_address(m[0])),
    rule(_URL, lambda m: spoken_address(m[0])),
    rule(rf"(?<![\w.])(?=[\w-]*[A-Za-z])[\w-]++\.(?:{_FILE_ENDS})\b(?!\.)", lambda m: spoken_address(m[0])),
    rule(r"(?<!\w)@(?=\w)", "at "),
    rule(r"(?<!\w)#(?=\d)", "number "),
    rule(r"(?<!\w)#(?=[A-Za-z])", "hashtag "),
)

SIGNS: tuple[Rule, ...] = (
    rule(r"\s*&\s*", " and "),
    rule(r"(?<=[a-z]) ?/ ?(?=(?:second|minute|hour|day|night|week|month|year|person)\b)", " per "),
    rule(r"(?<=\w)/(?=(?:or|and)\b)|(?<=\bor)/|(?<=\band)/", " "),
    rule(r"(?<=[A-Za-z])\s?/\s?(?=[A-Za-z])", " or "),
    rule(r"\s*@\s*", " at "),
    rule(r"§+\s?", "section "),
    rule(r"©\s?", "copyright "),
)
