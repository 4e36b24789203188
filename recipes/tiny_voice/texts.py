"""The sentences that the teacher reads: a grammar of everyday English and WordNet's glosses; some are held out."""

import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from .wordnet import wordnet_sentences

HERE = Path(__file__).parent
HELD_OUT = HERE / "held_out.txt"
ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
# What a context-free grammar cannot agree on: articles before vowels, verbs after plural subjects.
AGREEMENT = (
    (re.compile(r"\b([Aa]) (?=[aeio]|u(?!ni|se))"), r"\1n "),
    (re.compile(r"\b([Ww]e|[Tt]hey|[Yy]ou|\w+ parents|\w+ children|The \w+s|the \w+s) was\b"), r"\1 were"),
    (re.compile(r"\b([Tt]hey|parents|children) (wants|has|seems|is)\b"), lambda m: f"{m[1]} {PLURAL[m[2]]}"),
    (re.compile(r"\bI (wants|has|is)\b"), lambda m: f"I {dict(PLURAL, **{'is': 'am'})[m[1]]}"),
    (re.compile(r"\bthe (the|a|an|my|your|his|her|our|their)\b"), r"\1"),
)
PLURAL = {"wants": "want", "has": "have", "seems": "seem", "is": "are"}


def number_words(n: int) -> str:
    """0 <= n < 1 000 000 in words."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + (f"-{ONES[n % 10]}" if n % 10 else "")
    if n < 1000:
        return f"{ONES[n // 100]} hundred" + (f" and {number_words(n % 100)}" if n % 100 else "")
    return f"{number_words(n // 1000)} thousand" + (f" {number_words(n % 1000)}" if n % 1000 else "")


def ordinal_words(n: int) -> str:
    head, dash, last = number_words(n).rpartition("-")
    if last in ORDINALS:
        return head + dash + ORDINALS[last]
    return head + dash + (last[:-1] + "ieth" if last.endswith("y") else last + "th")


def year_words(n: int) -> str:
    if 2000 <= n < 2010:
        return "two thousand" + (f" and {ONES[n % 10]}" if n % 10 else "")
    low = n % 100
    return f"{number_words(n // 100)} " + (
        "hundred" if low == 0 else f"oh {ONES[low]}" if low < 10 else number_words(low)
    )


def clock_words(rng: random.Random) -> str:
    hour = ONES[rng.randint(1, 12)]
    return rng.choice(
        [
            f"{hour} o'clock", f"half past {hour}", f"a quarter to {hour}", f"a quarter past {hour}", f"{hour} thirty",
            f"{hour} {number_words(rng.randint(10, 59))}", f"{number_words(rng.choice([5, 10, 20]))} past {hour}",
            f"{hour} in the morning", f"{hour} in the evening", f"{hour} fifteen",
        ]
    )  # fmt: skip


def price_words(rng: random.Random) -> str:
    dollars, cents = number_words(rng.randint(2, 250)), number_words(rng.randint(5, 95))
    coins = rng.choice(["pounds", "euros", "dollars"])
    return rng.choice(
        [f"{dollars} {coins}", f"{dollars} dollars and {cents} cents", f"{number_words(rng.randint(2, 99))} {coins}"]
    )


SPOKEN = {
    "number": lambda rng: number_words(
        int(rng.choice([rng.randint(2, 20), rng.randint(2, 99), rng.randint(100, 999)]))
    ),
    "big": lambda rng: number_words(
        rng.choice([rng.randint(1, 99) * 1000, rng.randint(1000, 99_999), rng.randint(1, 9) * 100])
    ),
    "year": lambda rng: year_words(rng.choice([rng.randint(1500, 1999), rng.randint(1900, 2030)])),
    "ordinal": lambda rng: ordinal_words(rng.randint(1, 31)),
    "percent": lambda rng: number_words(rng.randint(1, 99)),
    "clock": clock_words,
    "price": price_words,
}


@cache
def grammar() -> dict[str, list[str]]:
    rules: dict[str, list[str]] = {}
    for line in (HERE / "everyday.txt").read_text().splitlines():
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


def everyday(rng: random.Random) -> Iterator[str]:
    """Endless sentences of 1 to 30 words."""
    while True:
        text = expand("{sentence}", rng)
        for pattern, right in AGREEMENT:
            text = pattern.sub(right, text)
        if len(text.split()) <= 30:
            yield text


def held_out() -> list[str]:
    """Sentences that no stage may train on."""
    return HELD_OUT.read_text().splitlines()


def write_texts(folder: Path, wordnet: Path | None, everyday_count: int, definitions: int) -> None:
    """`everyday.txt`, and from WordNet's folder `examples.txt` and `definitions.txt`: shuffled, none of them twice."""
    folder.mkdir(parents=True, exist_ok=True)
    barred = set(held_out())
    sentences: dict[str, None] = {}
    source = everyday(random.Random(13))
    while len(sentences) < everyday_count:
        sentences[next(source)] = None
    lists = {"everyday": list(sentences)}
    if wordnet is not None:
        quoted, defined = wordnet_sentences(wordnet)
        rng = random.Random(11)
        rng.shuffle(quoted)
        rng.shuffle(defined)
        lists |= {"examples": quoted, "definitions": defined[:definitions]}
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(x for x in lines if x not in barred) + "\n")
