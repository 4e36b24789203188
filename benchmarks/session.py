"""Text that is spoken while it is written: how long after the first clause its sound comes, and whether it ever stops.

    python benchmarks/session.py [--checkpoint DIR] [--sessions 8] [--tokens-per-second 12]

Writers push a text token by token, each into a session of its own; the sessions share one engine. The first sound is
counted from the token that ends the first clause. An underrun is a moment at which all sound that was made would have
been played, had it been played as soon as it was there. The last line is JSON: the figures of one session, and those of
all runs.
"""

from __future__ import annotations

import argparse
import re
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from common import print_last_line, print_table

import moss_tts
from moss_tts.text.growing import GrowingText

# About what a tokenizer of an LLM makes of English: short words whole, marks alone.
TOKEN = re.compile(r"\s?\w{1,6}|\s?[^\w\s]|\s+")
TEXT = (
    "Well, that is a good question, and there is more than one answer to it. The first trains ran in 1825, on a line "
    "of 25 miles, and they were hardly faster than a horse. Twenty years later, nearly every town of some size had a "
    "station! Why did it go so fast? Because everybody who had money put it into railways, and lost most of it again. "
    "The lines, however, stayed where they were, and so did the stations, the bridges, and the habit of living by the "
    "clock."
)


@dataclass(frozen=True)
class Heard:
    """One session: milliseconds from the end of its first clause to its first sound, gaps, and how long these were."""

    first_sound_ms: float
    underruns: int
    starved_ms: float
    seconds: float


def main(arguments: list[str] | None = None) -> None:
    """Print a row for one session, and one for many."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="A directory; the default is the packaged voice.")
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--tokens-per-second", type=float, default=12.0)
    parser.add_argument("--characters", type=int, default=len(TEXT), help="How much of the text is spoken.")
    parser.add_argument("--max-tokens", type=int, help="The most frames of a segment.")
    given = parser.parse_args(arguments)
    options = {} if given.max_tokens is None else {"max_tokens": given.max_tokens}
    text = TEXT[: given.characters]
    with moss_tts.load(given.checkpoint) as model:
        with model.session(seed=0, **options) as session:  # what is made once
            for _ in session.speak([text[:60]]):
                pass
        runs = [measured(model, count, text, given.tokens_per_second, options) for count in (1, given.sessions)]
    columns = ("sessions", "first sound ms, median", "worst", "underruns", "starved ms", "seconds of audio")
    print_table(f"{given.tokens_per_second:g} tokens a second", columns, [list(run.values()) for run in runs])
    one = runs[0]
    print_last_line({name: one[name] for name in ("first_sound_ms", "underruns", "starved_ms")} | {"sessions": runs})


def measured(model: Any, count: int, text: str, pace: float, options: dict[str, Any]) -> dict[str, float]:
    """The figures of some sessions at once, which begin a third of a second after each other."""
    heard: list[Heard] = []

    def speak(place: int) -> None:
        time.sleep(place / 3)
        with model.session(seed=place, **options) as session:
            heard.append(one_turn(session, text, pace))

    threads = [threading.Thread(target=speak, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard) == count, "a session has failed"
    return {
        "sessions": count,
        "first_sound_ms": round(statistics.median(one.first_sound_ms for one in heard), 1),
        "worst_first_sound_ms": round(max(one.first_sound_ms for one in heard), 1),
        "underruns": sum(one.underruns for one in heard),
        "starved_ms": round(sum(one.starved_ms for one in heard), 1),
        "seconds_of_audio": round(sum(one.seconds for one in heard), 1),
    }


def one_turn(session: Any, text: str, pace: float) -> Heard:
    """Speak a text that comes at this many tokens a second."""
    clause_came: list[float] = []
    end_of_clause = len(first_stretch(text))

    def tokens() -> Iterator[str]:
        began, at = time.perf_counter(), 0
        for number, token in enumerate(TOKEN.findall(text)):
            time.sleep(max(0.0, began + number / pace - time.perf_counter()))
            at += len(token)
            if at >= end_of_clause and not clause_came:
                clause_came.append(time.perf_counter())
            yield token

    first_sound, seconds, plays_until, gaps = None, 0.0, 0.0, []
    for chunk in session.speak(tokens()):
        now, length = time.perf_counter(), chunk.samples / chunk.sample_rate
        if length:
            if first_sound is None:
                first_sound = plays_until = now
            gaps.append(max(0.0, now - plays_until))
            plays_until = max(now, plays_until) + length
            seconds += length
    assert first_sound is not None
    underruns = [gap for gap in gaps if gap > 0]
    return Heard(1000 * (first_sound - clause_came[0]), len(underruns), 1000 * sum(underruns), seconds)


def first_stretch(text: str) -> str:
    """What a session speaks first of a text."""
    growing = GrowingText()
    growing.push(text)
    growing.end()
    return growing.next() or text


if __name__ == "__main__":
    main()
