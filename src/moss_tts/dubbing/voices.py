"""The words of cues as jobs: in the voice of their speaker, as long as their cue where the model follows that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from moss_tts.bulk.jobs import VOICES, Job
from moss_tts.dubbing.fitting import Bounds, Room
from moss_tts.dubbing.script import SpokenCue
from moss_tts.model import Model
from moss_tts.presets import Preset
from moss_tts.sampling import mixed_seed
from moss_tts.speaking.runaway import usual_seconds
from moss_tts.text.cast import Casting
from moss_tts.voices import Voices

# Options that say which voice speaks.
_VOICE_OPTIONS: Final = frozenset({*VOICES, "ref_text"})
# Characters of the words that give a speaker without a recording a voice: longer ones take long, and say no more.
_MOST_OF_A_SAMPLE: Final = 200


@dataclass(frozen=True)
class Abilities:
    """What a model follows, as far as a dub asks for it.

    Attributes:
        length: whether it speaks about as long as it is told.
        reference: whether it takes on the voice of a recording.
    """

    length: bool
    reference: bool

    @classmethod
    def of(cls, model: Model, preset: Preset) -> Abilities:
        """The abilities of a model with a variant."""
        preparation = model.config.text_preparation
        followed = preset.follows if preparation is None else preset.follows & preparation.follows
        return cls("length" in followed, "reference" in followed)


def jobs_of(
    cues: Sequence[SpokenCue], rooms: Sequence[Room], options: Mapping[str, Any], bounds: Bounds, asks_length: bool
) -> list[list[Job]]:
    """The jobs of each cue, one for each of its parts.

    Args:
        cues: the cues.
        rooms: the time that each of them has.
        options: options of generate that hold for all cues.
        bounds: how far the tempo may be changed afterwards; no other length is asked for.
        asks_length: whether a length is asked for.
    """
    jobs = []
    for cue, room in zip(cues, rooms, strict=True):
        usual = [usual_seconds(part.text) for part in cue.parts]
        found = []
        for number, part in enumerate(cue.parts):
            told = {**voiced(options, part.casting), "text": part.text}
            id_ = f"{cue.cue.number}-{number + 1}"
            if "seed" in told:
                told["seed"] = cue_seed(told["seed"], id_)
            if asks_length:
                share = room.seconds * usual[number] / sum(usual)
                told["seconds"] = round(
                    min(max(share, usual[number] / bounds.fastest), usual[number] / bounds.slowest), 3
                )
            found.append(Job(id_, cue.cue.line, id_, told))
        jobs.append(found)
    return jobs


def voiced(options: Mapping[str, Any], casting: Casting | None) -> dict[str, Any]:
    """Options with the voice, the seed and the adapters of a casting; None leaves them as they are."""
    if casting is None:
        return dict(options)
    told = {name: value for name, value in options.items() if name not in _VOICE_OPTIONS}
    if casting.voice is not None:
        told["voice"] = casting.voice
    if casting.seed is not None:
        told["seed"] = casting.seed
    own, shared = dict(casting.adapters), options.get("adapters")
    if casting.voice is not None:
        told["adapters"] = Voices()[casting.voice].adapters_with(own, shared) or None
    elif own:
        told["adapters"] = {**(shared or {}), **own}
    return told


def cue_seed(seed: int, id_: str) -> int:
    """The seed of a part of a cue; neighbouring seeds and cues share nothing."""
    return mixed_seed("cue", seed, id_)


def samples_of(jobs: Iterable[Job], castings: Mapping[str, Casting | None]) -> dict[str, list[str]]:
    """Jobs that are spoken first, and the jobs that each of them gives its voice to, all by their ids.

    Without a recording, a model speaks each text in another voice. So the longest words of each speaker give the
    others theirs.

    Args:
        jobs: the jobs of all cues.
        castings: the casting of each job.
    """
    speakers: dict[Casting | None, list[Job]] = {}
    for job in jobs:
        if _VOICE_OPTIONS.isdisjoint(job.options):
            speakers.setdefault(castings[job.id], []).append(job)
    found = {}
    for group in speakers.values():
        best = max(group, key=lambda job: (len(job.text) <= _MOST_OF_A_SAMPLE, len(job.text)))
        found[best.id] = [job.id for job in group if job is not best]
    return found
