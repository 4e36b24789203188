"""What a sentence of help or of a description is."""

from __future__ import annotations

PREPOSITIONS = "of in as at for from with by on to that whose".split()


def is_a_sentence(text: str) -> bool:
    """Whether it begins and ends as a sentence does, and not with a word that only continues one."""
    words = text.split()
    return (
        len(words) >= 3
        and text[0].isupper()
        and text[-1] in ".)"
        and words[0].strip(",.;:").lower() not in PREPOSITIONS
    )
