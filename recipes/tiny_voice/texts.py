"""The sentences that the teacher reads: a grammar of everyday English and WordNet's glosses; some are held out."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .spoken import SPOKEN
from .wordnet import wordnet_sentences


@dataclass(frozen=True)
class Counts:
    """How many lines of each list are written; WordNet's examples are all of them."""

    everyday: int = 40_000
    prose: int = 60_000
    definitions: int = 20_000
    passages: int = 20_000


COUNTS = Counts()
HERE = Path(__file__).parent
HELD_OUT = HERE / "held_out.txt"
GRAMMARS = ("everyday.txt", "prose.txt")
LONGEST = 250  # letters of a line, which is what the voice is asked to say at once
# What a context-free grammar cannot agree on: articles before vowels, verbs after plural subjects.
AGREEMENT = (
    (re.compile(r"(?:\ba|(?:^|(?<=[.?!] )|(?<=[.?!] \")|(?<=^\"))A) (?=[aeio]|u(?!ni|se))"), lambda m: m[0][0] + "n "),
    (re.compile(r"([Pp]rincess)s\b"), r"\1es"),
    (re.compile(r"mans\b"), "men"),
    (re.compile(r"\b([Ww]e|[Tt]hey|[Yy]ou|\w+ parents|\w+ children|The \w+s|the \w+s) was\b"), r"\1 were"),
    (re.compile(r"\b([Tt]hey|parents|children) (wants|has|seems|is)\b"), lambda m: f"{m[1]} {PLURAL[m[2]]}"),
    (re.compile(r"\bI (wants|has|is)\b"), lambda m: f"I {dict(PLURAL, **{'is': 'am'})[m[1]]}"),
    (re.compile(r"\bthe (the|a|an|my|your|his|her|our|their)\b"), r"\1"),
)
# A sentence that begins after another one's end. What follows a quotation's end says where it came from.
SENTENCE_START = re.compile(r"(?:^|(?<!\.)[.?!] )\"?[a-z]")
PLURAL = {"wants": "want", "has": "have", "seems": "seem", "is": "are"}


@cache
def grammar() -> dict[str, list[str]]:
    rules: dict[str, list[str]] = {}
    for line in [line for name in GRAMMARS for line in (HERE / name).read_text().splitlines()]:
        if line and not line.startswith("#"):
            name, _, right = line.partition(": ")
            rules.setdefault(name, []).extend(right.split(" | "))
    return rules


def expand(text: str, rng: random.Random) -> str:
    """`text` with every {name} replaced by one of its alternatives, all the way down."""

    def one(match: re.Match) -> str:
        name = match[1].rstrip("*")
        said = SPOKEN[name](rng) if name in SPOKEN else expand(rng.choice(grammar()[name]), rng)
        return said[0].upper() + said[1:] if match[1].endswith("*") else said

    return re.sub(r"\{(\w+\*?)\}", one, text)


def written(start: str, rng: random.Random) -> str:
    """One expansion of the rule `start`, with what a grammar cannot agree on put right."""
    text = expand(f"{{{start}}}", rng)
    for pattern, right in AGREEMENT:
        text = pattern.sub(right, text)
    return text


def everyday(rng: random.Random) -> Iterator[str]:
    """Endless sentences of 1 to 30 words."""
    while True:
        text = written("sentence", rng)
        if len(text.split()) <= 30:
            yield text


def prose(rng: random.Random) -> Iterator[str]:
    """Endless lines as in books, news and letters, of up to LONGEST letters; each is one sentence or a few."""
    while True:
        text = written("prose", rng)
        text = SENTENCE_START.sub(lambda m: m[0].upper(), text)
        if len(text) <= LONGEST:
            yield text


def passages(sentences: list[str], rng: random.Random) -> Iterator[str]:
    """Two to five of `sentences` in a row, of 100 to LONGEST letters, as often as there are sentences."""
    for _ in sentences:
        text = " ".join(rng.sample(sentences, rng.randint(2, 5)))
        if 100 <= len(text) <= LONGEST:
            yield text


def several(source: Iterator[str], count: int) -> list[str]:
    """The first `count` different lines of an endless source."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[next(source)] = None
    return list(found)


def held_out() -> list[str]:
    """Sentences that no stage may train on."""
    return HELD_OUT.read_text().splitlines()


def all_lists(wordnet: Path | None, counts: Counts) -> dict[str, list[str]]:
    """The lists of lines by name, each line once in its list."""
    lists = {"everyday": several(everyday(random.Random(13)), counts.everyday)}
    lists["prose"] = several(prose(random.Random(17)), counts.prose)
    if wordnet is None:
        return lists
    quoted, defined = wordnet_sentences(wordnet)
    rng = random.Random(11)
    rng.shuffle(quoted)
    rng.shuffle(defined)
    defined = defined[: counts.definitions]
    joined = list(dict.fromkeys(passages([*quoted, *defined], rng)))[: counts.passages]
    return {**lists, "examples": quoted, "definitions": defined, "passages": joined}


def write_texts(folder: Path, wordnet: Path | None, counts: Counts) -> None:
    """A file for each list; no line contains a sentence that is held out."""
    folder.mkdir(parents=True, exist_ok=True)
    barred = set(held_out())
    for name, lines in all_lists(wordnet, counts).items():
        kept = [
            line for line in lines if line not in barred and not any(b in line for b in barred if len(b) < len(line))
        ]
        (folder / f"{name}.txt").write_text("\n".join(kept) + "\n")
