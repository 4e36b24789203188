"""Dialogue in cloned voices: speakers with recordings and transcripts, and a text that continues them."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from moss_tts.audio.references import Joined, as_reference, is_list
from moss_tts.errors import RequestError, shown
from moss_tts.text.tags import SPEAKER_TAG, join_transcript, speaker_tag, tagged

# Far above what any checkpoint was trained on (5); it bounds what a number in a request can allocate.
MAX_SPEAKERS = 99


@dataclass(frozen=True, eq=False)
class DialogueSpeaker:
    """One cloned voice: a recording, in any form that `as_reference` knows, and the words that it says."""

    reference: Any
    transcript: str


Speakers = tuple[DialogueSpeaker | None, ...]


def parse_speakers(name: str, value: object) -> Speakers:
    """Speakers in order; the first is [S1], and None lets the model choose the voice of a speaker.

    Args:
        name: the option, for messages.
        value: a list with one entry per speaker, or a mapping from the speaker ("S1", "1" or 1) to the
            entry. An entry is None, a DialogueSpeaker, or a mapping with `ref_audio` (or `reference`) and
            `ref_text`.

    Raises:
        RequestError: another shape, or a speaker without a recording or without its words.
    """
    if isinstance(value, Mapping):
        value = _in_order(name, value)
    if not isinstance(value, Sequence) or isinstance(value, str) or not 0 < len(value) <= MAX_SPEAKERS:
        raise RequestError(f"{name} must be a list or mapping of 1 to {MAX_SPEAKERS} speakers, got {shown(value)}")
    return tuple(_speaker(name, number, entry) for number, entry in enumerate(value, start=1))


def _in_order(name: str, speakers: Mapping[object, object]) -> list[object]:
    numbered = {_number(name, key): entry for key, entry in speakers.items()}
    if len(numbered) < len(speakers):
        raise RequestError(f"{name} names a speaker twice: {', '.join(map(repr, speakers))}")
    return [numbered.get(number) for number in range(1, max(numbered, default=0) + 1)]


def _number(name: str, key: object) -> int:
    match = re.fullmatch(r"S?([1-9]\d?)", str(key))
    if match is None:
        raise RequestError(f"{name} has the key {key!r}; speakers are 'S1' to 'S{MAX_SPEAKERS}'")
    return int(match[1])


def _speaker(name: str, number: int, entry: object) -> DialogueSpeaker | None:
    where = f"{name}, S{number}"
    if isinstance(entry, Mapping):
        entry = _from_mapping(where, entry)
    if entry is None:
        return None
    if not isinstance(entry, DialogueSpeaker):
        raise RequestError(f"{where} must have ref_audio and ref_text, or be None, got {shown(entry)}")
    if entry.reference is None or is_list(entry.reference):
        raise RequestError(f"{where} needs exactly one recording as ref_audio, besides its ref_text")
    if not isinstance(entry.transcript, str) or not entry.transcript.strip():
        raise RequestError(f"{where} needs ref_text, the words that its ref_audio says; got {shown(entry.transcript)}")
    others = set(SPEAKER_TAG.findall(entry.transcript)) - {speaker_tag(number)}
    if others:
        raise RequestError(f"{where}: its ref_text has the tags of other speakers: {', '.join(sorted(others))}")
    return replace(entry, reference=as_reference(entry.reference, f"{where}: ref_audio"))


def _from_mapping(where: str, entry: Mapping[str, Any]) -> DialogueSpeaker:
    unknown = sorted(set(entry) - {"ref_audio", "reference", "ref_text"})
    if unknown:
        raise RequestError(f"{where} has no field {unknown[0]!r}; allowed: ref_audio (or reference), ref_text")
    audio, alias = entry.get("ref_audio"), entry.get("reference")
    if audio is not None and alias is not None:
        raise RequestError(f"{where}: ref_audio and reference are two names of the same field. Give only one of them.")
    return DialogueSpeaker(alias if audio is None else audio, entry.get("ref_text") or "")


def cloned_voices(speakers: Speakers) -> tuple[Joined, str] | None:
    """The prompt that a cloned dialogue continues: all recordings as one, and the tagged transcripts in order.

    None if no speaker has a recording.
    """
    cloned = [(number, speaker) for number, speaker in enumerate(speakers, start=1) if speaker is not None]
    if not cloned:
        return None
    transcripts = (tagged(number, speaker.transcript) for number, speaker in cloned)
    recordings = tuple(speaker.reference for _, speaker in cloned)
    return Joined(recordings), functools.reduce(join_transcript, transcripts)
