"""Sentences out of WordNet's glosses (Debian `wordnet-base`; Princeton's licence allows any use).

Examples are short everyday phrases; definitions become "A harbor is a sheltered port ...", which brings rare words.
"""

import re
from collections.abc import Iterator
from pathlib import Path

PARTS = ("verb", "adv", "adj", "noun")
UNFIT = re.compile(
    r"vulgar|offensive|slur|disparag|obscen|ethnic|derogat|sexual|genit|prostitut|nazi|rape|nigg|slut|pedophil|porn|stereotyp|suicid|masturb|\bsex",
    re.I,
)
PLAIN = re.compile(r"^[A-Za-z][A-Za-z ,;'?!.-]*$")


def read_glosses(folder: Path) -> Iterator[tuple[str, str, str]]:
    """(part of speech, first lemma, gloss) of every synset that is fit to be read aloud."""
    for part in PARTS:
        for line in (folder / f"data.{part}").read_text(encoding="latin-1").splitlines():
            if line.startswith("  ") or UNFIT.search(line):
                continue
            head, _, gloss = line.partition(" | ")
            yield part, re.sub(r"\(.*?\)", "", head.split(" ")[4]).replace("_", " "), gloss.strip()


def examples(gloss: str) -> Iterator[str]:
    """The quoted examples of a gloss, without those quoted from a named author."""
    if re.search(r'"\s*-+\s*[A-Z]', gloss):
        return
    for quote in re.findall(r'"([^"]+)"', gloss):
        sentence = as_sentence(quote)
        if sentence:
            yield sentence


def definition(part: str, lemma: str, gloss: str) -> str | None:
    """A noun's gloss as a sentence about it."""
    if part != "noun" or lemma != lemma.lower():
        return None
    text = re.sub(r"\([^)]*\)", "", gloss.partition('"')[0]).strip(" ;:")
    text = re.sub(r"\s+", " ", text.split(";")[0])
    if not text or text.split()[0] not in {"a", "an", "the", "any", "something", "someone"}:
        return None
    article = "an" if lemma[0] in "aeio" else "a"
    return as_sentence(f"{article} {lemma} is {text}")


def as_sentence(text: str) -> str | None:
    """`text` with a capital and a full stop, or None where it is too short, too long or not plain words."""
    text = re.sub(r"\s+", " ", text.replace("`", "'").replace("--", ", ")).replace(" ,", ",").strip(" ;,:")
    words = text.split()
    if not 3 <= len(words) <= 22 or not PLAIN.match(text) or any(w.isupper() and len(w) > 1 for w in words):
        return None
    text = text.replace(";", ",")
    return text[0].upper() + text[1:] + ("" if text[-1] in ".?!" else ".")


def wordnet_sentences(folder: Path) -> tuple[list[str], list[str]]:
    """All (examples, definitions), each once, in file order."""
    quoted: dict[str, None] = {}
    defined: dict[str, None] = {}
    for part, lemma, gloss in read_glosses(folder):
        quoted.update(dict.fromkeys(examples(gloss)))
        sentence = definition(part, lemma, gloss)
        if sentence:
            defined[sentence] = None
    return list(quoted), list(defined)
