"""Sentences in pieces of bounded length, each of which ends in a stop.

Short sentences are not joined: with the packaged voice, a recogniser missed 17.4 % of the words of evals/prose.toml
when they were joined up to 74 characters, 16.4 % when they were not (one seed); pieces of at most 55 characters made
no difference over all words either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Ties words that a cut must not separate: those of one number, one date, one time.
TIE = "\u00a0"
_STOPS = ".!?"
_CLAUSE = ",;:"
_CONJUNCTION = re.compile(
    r"(?:and|but|or|so|nor|yet|because|when|while|where|who|which|that|if|unless|until|after|before|although|though|"
    r"since|as|than)\b"
)
_PREPOSITION = re.compile(r"(?:for|with|without|to|from|at|in|on|of|into|by|near|under|over|through|between|about)\b")
# The cost of a cut, in cuts: none after a clause, some before a conjunction, more before a preposition, most elsewhere.
_COSTS = (0.0, 0.75, 1.5, 3.0)
# A piece shorter than this costs a part of a cut.
_SHORT = 25


@dataclass(frozen=True)
class _Way:
    """The cheapest way to cut a sentence up to some place."""

    cost: float
    pieces: tuple[str, ...]


def tied(words: str) -> str:
    """The words with ties between them."""
    return words.replace(" ", TIE)


def pieces(sentence: str, longest: int) -> list[str]:
    """A sentence in pieces of at most `longest` characters: as few as possible, cut at the best places.

    A word that is longer than `longest` is cut inside, without a stop.
    """
    if len(sentence) <= longest:
        return [sentence.replace(TIE, " ")]
    words = [part for word in sentence.split(" ") for part in _short_enough(word, longest - 1)]
    ways = [_Way(0.0, ())]
    for end in range(1, len(words) + 1):
        ways.append(min(_ways_to(words, ways, end, longest), key=lambda way: way.cost))
    return [_closed(piece) for piece in ways[-1].pieces]


def _ways_to(words: list[str], ways: list[_Way], end: int, longest: int) -> list[_Way]:
    found = []
    for start in range(end - 1, -1, -1):
        piece = " ".join(words[start:end])
        if len(piece) > longest - (piece[-1] not in _STOPS + _CLAUSE):
            break
        short = max(0, _SHORT - len(piece)) / _SHORT
        cost = ways[start].cost + 1 + short + (_cut_cost(words, end) if end < len(words) else 0)
        found.append(_Way(cost, (*ways[start].pieces, piece)))
    return found


def _cut_cost(words: list[str], at: int) -> float:
    if words[at - 1][-1] in _CLAUSE:
        return _COSTS[0]
    if _CONJUNCTION.match(words[at]):
        return _COSTS[1]
    return _COSTS[2] if _PREPOSITION.match(words[at]) else _COSTS[3]


def _short_enough(word: str, most: int) -> list[str]:
    """The word; if it is too long, cut at its ties, or anywhere."""
    if len(word) <= most:
        return [word]
    return [part[at : at + most] for part in word.split(TIE) for at in range(0, len(part), most)]


def _closed(piece: str) -> str:
    return with_stop(piece[0].upper() + piece[1:].replace(TIE, " "))


def with_stop(text: str) -> str:
    """The text with a full stop where it ends in none; a comma, a colon or a dash gives way to it."""
    bare = text.rstrip(" ,;:-–—")
    return bare if bare.endswith(tuple(_STOPS)) else bare + "."
