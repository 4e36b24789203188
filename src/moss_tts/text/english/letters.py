"""Letters as words: the voice cannot speak single letters, but it can speak their names."""

from __future__ import annotations

from moss_tts.text.pieces import TIE

_NAMES = dict(
    zip(
        "abcdefghijklmnopqrstuvwxyz",
        "ay bee see dee ee eff jee aitch eye jay kay el em en oh pee cue are ess tee you vee double\u00a0you ex why "
        "zee".split(" "),
        strict=True,
    )
)


def spelt(letters: str) -> str:
    """The names of letters: "FBI" -> "eff bee eye"."""
    return TIE.join(_NAMES[letter] for letter in letters.lower() if letter in _NAMES)
