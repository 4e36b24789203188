"""What a reader of book files has to say: flaws it met, and what it left out."""

from __future__ import annotations

from collections import Counter

from moss_tts.errors import first_of
from moss_tts.text.harmless import one_line

# Beyond these a list says how many more there are.
MAX_NAMED = 3
MAX_SENTENCES = 30
# Names in a file may be as long as the file.
MAX_CHARACTERS = 300


class Remarks:
    """Collects flaws and omissions while a book is read."""

    def __init__(self) -> None:
        self._flaws: dict[str, dict[str, None]] = {}
        self._counts: Counter[str] = Counter()
        self._passages: dict[str, None] = {}

    def warn(self, where: str, flaw: str) -> None:
        """Note a harmless flaw.

        Args:
            where: the file that has it; the same flaw in many files is one warning.
            flaw: what is wrong and what is done about it, as the rest of a sentence after "where: ".
        """
        self._flaws.setdefault(one_line(flaw, MAX_CHARACTERS), {})[one_line(where, MAX_CHARACTERS)] = None

    def leave_out(self, thing: str) -> None:
        """Count a thing that is not read: a noun in the singular, "note mark"."""
        self._counts[thing] += 1

    def leave_out_passage(self, passage: str) -> None:
        """Name a longer stretch that is not read, and why."""
        self._passages[one_line(passage, MAX_CHARACTERS)] = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each flaw, in the order they were met."""
        return _shortened([f"{first_of([*places], MAX_NAMED)}: {flaw}" for flaw, places in self._flaws.items()])

    @property
    def left_out(self) -> tuple[str, ...]:
        """What was not read: passages by name, small things by number."""
        counted = [f"{count} {thing}{'s' if count > 1 else ''}" for thing, count in self._counts.items()]
        return _shortened([*self._passages, *counted])


def _shortened(sentences: list[str]) -> tuple[str, ...]:
    more = len(sentences) - MAX_SENTENCES
    return (*sentences[:MAX_SENTENCES], *([f"and {more} more"] if more > 0 else []))
