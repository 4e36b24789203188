"""How a checkpoint wants its texts: the block `text_preparation` of its config.json.

A checkpoint without that block, as every released one, gets its texts as they are. prepared.py does the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from moss_tts.errors import ConfigError, shown
from moss_tts.strict import Raw, demand, integer, optional, reject_unknown

_WHERE = "config.json: text_preparation"
# The allowed values of each key. Others are refused until a checkpoint needs them.
_SUPPORTED = {"language": "en", "numbers": "words", "ends_in_stop": True}
# Abilities of a checkpoint besides the text -> the options of generate that ask for them.
FOLLOWABLE = {
    "instruction": ("instruction", "instruct", "quality", "sound_event", "ambient_sound"),
    "reference": ("voice", "ref_audio", "reference", "ref_text", "dialogue_speakers"),
    "length": ("tokens", "duration_s", "seconds"),
}
# Names of the languages that a checkpoint can speak.
LANGUAGE_NAMES = {"en": ("en", "english")}
# Longer than nearly every word: shorter segments would tear words.
_LEAST_SEGMENT = 30
_NEEDED = frozenset(" .abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True)
class TextPreparation:
    """How a checkpoint wants its texts: in English, numbers as words, every segment with a stop at its end.

    Attributes:
        longest_segment: characters that it can speak at a time.
        alphabet: every character that it knows, the space among them.
        language: the one language that it speaks.
        follows: the abilities that it has: names of FOLLOWABLE, or none.
    """

    longest_segment: int
    alphabet: frozenset[str]
    language: str
    follows: frozenset[str]

    @classmethod
    def from_dict(cls, raw: Raw) -> Self:
        """Parse the block.

        Raises:
            ConfigError: unknown keys, a missing value, or one that is not supported.
        """
        reject_unknown(raw, frozenset(_SUPPORTED) | {"longest_segment", "alphabet", "follows"}, _WHERE)
        for key, value in _SUPPORTED.items():
            demand({key: None, **raw}, key, (value,), _WHERE)
        alphabet = frozenset(optional(raw, "alphabet", str, "a text of all characters that it knows", _WHERE) or "")
        if not alphabet >= _NEEDED:
            missing = "".join(sorted(_NEEDED - alphabet))
            raise ConfigError(
                f"{_WHERE}: alphabet must hold space, full stop and English letters, but lacks {missing!r}."
            )
        longest = integer(raw, "longest_segment", _WHERE, least=_LEAST_SEGMENT)
        follows = optional(raw, "follows", list, f"a list of {', '.join(FOLLOWABLE)}", _WHERE)
        if follows is None or not all(isinstance(one, str) and one in FOLLOWABLE for one in follows):
            raise ConfigError(f"{_WHERE}: follows must be a list of {', '.join(FOLLOWABLE)}, got {shown(follows)}.")
        return cls(longest, alphabet, str(raw["language"]), frozenset(follows))
