"""Registered voices: recordings under a name, on disk, for Python, the command line and the server alike.

A voice is a directory `<name>/` with

    voice.json                         what it is: transcript, description, where the recording came from
    sample.wav                         the recording, 16-bit
    lexicon.txt                        how it speaks some words, if it was given a lexicon
    codes-<codec>-<Q>.safetensors      the recording as codes, for each codec and depth it was used with

It appears and disappears whole (atomic.py), and a broken one is listed as such. Unwritable codes are kept in memory.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from moss_tts.atomic import PlaceTakenError, atomic_directory, expanded, remove_directory
from moss_tts.audio.codes import CodeMatrix
from moss_tts.audio.files import read_audio
from moss_tts.audio.references import RegisteredVoice
from moss_tts.audio.voice_files import (
    DESCRIPTION,
    LEXICON,
    SAMPLE,
    VoiceRecord,
    read_codes,
    read_record,
    write_codes,
    write_voice,
)
from moss_tts.audio.waveform import HasAudio, Waveform, as_waveform, audible_channels, errors_name
from moss_tts.errors import CheckpointError, MossTTSError, RequestError, UnknownVoiceError, shown
from moss_tts.strict import NUMBERS, is_number
from moss_tts.text.cleanup import check_text
from moss_tts.text.lexicon import Lexicon

# Lower case only: some file systems do not tell cases apart. No dots, so no name leads out of the directory.
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
RESERVED: Final = frozenset({"default"})
MAX_TEXT: Final = 10_000
MOST_UNKEPT: Final = 256

log = logging.getLogger(__name__)
# Codes that could not be kept on disk, those used last: hash of the recording's source, codec and depth to codes.
_unkept: OrderedDict[tuple[str, str, int], CodeMatrix] = OrderedDict()


class ReferenceEncoder(Protocol):
    """Turns recordings into codes."""

    def encode_audio(self, references: Sequence[object]) -> list[CodeMatrix]:
        """Codes (F, Q) of references, in their order."""
        ...


class Model(Protocol):
    """The part of a model that makes codes."""

    @property
    def processor(self) -> ReferenceEncoder:
        """The processor of the model."""
        ...


@dataclass(frozen=True)
class Voice(RegisteredVoice):
    """A registered voice. As a reference it is its recording; the codes are made once for each codec and kept."""

    record: VoiceRecord
    directory: Path

    def __fspath__(self) -> str:
        return str(self.sample)

    @property
    def name(self) -> str:
        """The name of the voice."""
        return self.record.name

    @property
    def sample(self) -> Path:
        """The recording."""
        return self.directory / SAMPLE

    @property
    def lexicon(self) -> Lexicon | None:
        """How it speaks some words; None if it has no lexicon.

        Raises:
            RequestError: its lexicon is broken.
        """
        file = self.directory / LEXICON
        return Lexicon.read(file) if file.is_file() else None

    @property
    def fingerprint(self) -> str:
        """What decides how it sounds: hashes of its recording and of its lexicon, and its adapters."""
        lexicon = self.directory / LEXICON
        words = [hashlib.sha256(lexicon.read_bytes()).hexdigest()[:16]] if lexicon.is_file() else []
        adapters = [f"{name}={weight:g}" for name, weight in sorted((self.record.adapters or {}).items())]
        return " ".join([self.record.source_sha256[:16], *words, *adapters])

    def codes(self, model: Model) -> CodeMatrix:
        """The recording as codes (F, Q) of a model.

        Raises:
            AudioError: the codec cannot encode it.
        """
        [codes] = model.processor.encode_audio([self])
        return codes

    def kept_codes(self, codec: str, n_vq: int) -> CodeMatrix | None:
        """Codes (F, Q) of a codec, by its fingerprint; None where they were not made of this recording yet."""
        source = self.record.source_sha256
        kept = read_codes(self._codes_file(codec, n_vq), source, n_vq)
        return _unkept.get((source, codec, n_vq)) if kept is None else kept

    def keep_codes(self, codec: str, codes: CodeMatrix) -> None:
        """Keep codes (F, Q) that were made of the recording; in memory, where the disk does not take them."""
        source, n_vq = self.record.source_sha256, codes.shape[1]
        try:
            write_codes(self._codes_file(codec, n_vq), source, codes)
        except OSError as error:
            log.info("codes of voice %r stay in memory: %s", self.name, error)
            _unkept[source, codec, n_vq] = codes
            if len(_unkept) > MOST_UNKEPT:
                _unkept.popitem(last=False)

    def _codes_file(self, codec: str, n_vq: int) -> Path:
        return self.directory / f"codes-{codec}-{n_vq}.safetensors"

    def options(self, model: Model | None = None, mode: str | None = None) -> dict[str, Any]:
        """Options of `Model.generate` to speak in this voice.

        The transcript goes in where a mode needs it: a continuation goes on from what the recording says.

        Args:
            model: the model that needs the codes now; without one, they are made when they are first needed.
            mode: the mode of the request.
        """
        transcript = {"ref_text": self.record.transcript} if mode == "continuation" else {}
        return {"ref_audio": self if model is None else self.codes(model), **transcript}

    def adapters_with(self, named: Mapping[str, float], shared: Mapping[str, float] | None = None) -> dict[str, float]:
        """The weights of adapters: named ones replace those of the voice, and these the ones that voices share."""
        return {**(shared or {}), **(self.record.adapters or {}), **named}

    def speaker(self, model: Model) -> dict[str, Any]:
        """An entry of dialogue_speakers.

        Raises:
            RequestError: the transcript, which dialogues need, is not known.
        """
        if self.record.transcript is None:
            raise RequestError(
                f"Voice {self.name!r} has no transcript. Register it again with one: a dialogue needs it."
            )
        return {"ref_audio": self.codes(model), "ref_text": self.record.transcript}


@dataclass(frozen=True)
class BrokenVoice:
    """A voice that cannot be read. It can be removed, or replaced.

    Attributes:
        name: the name of the voice.
        why: a sentence for people.
    """

    name: str
    why: str


def default_directory() -> Path:
    """MOSS_TTS_VOICES, or the place for data of programs in the user's home.

    Raises:
        RequestError: the user has no home.
    """
    if given := os.environ.get("MOSS_TTS_VOICES"):
        return expanded(given)
    return Path(os.environ.get("XDG_DATA_HOME") or expanded("~/.local/share")) / "moss-tts" / "voices"


class Voices:
    """The voices in a directory, which need not exist yet.

    Args:
        directory: their directory; by default the user's own.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        self.directory = default_directory() if directory is None else expanded(directory)

    @property
    def names(self) -> list[str]:
        """The names of all voices, in order; no voice is read."""
        files = self.directory.glob(f"*/{DESCRIPTION}")
        return sorted(file.parent.name for file in files if NAME.fullmatch(file.parent.name))

    def __iter__(self) -> Iterator[Voice]:
        """All voices that can be read, by name."""
        return (voice for voice in self.listed() if isinstance(voice, Voice))

    def listed(self) -> Iterator[Voice | BrokenVoice]:
        """All voices by name, the broken ones among them."""
        for name in self.names:
            try:
                yield self[name]
            except UnknownVoiceError:  # another process removed it meanwhile
                continue
            except CheckpointError as error:
                yield BrokenVoice(name, str(error))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._is_there(name.lower())

    def _is_there(self, name: str) -> bool:
        return NAME.fullmatch(name) is not None and (self.directory / name / DESCRIPTION).is_file()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> Voice:
        """A voice by its name, in capitals or not.

        Raises:
            UnknownVoiceError: there is none of that name.
            CheckpointError: it is broken.
        """
        place = self._place(name)
        try:
            return _read_voice(place)
        except FileNotFoundError as error:
            raise self._unknown(name) from error

    def _place(self, name: str) -> Path:
        if name not in self:
            raise self._unknown(name)
        return self.directory / name.lower()

    def _unknown(self, name: str) -> UnknownVoiceError:
        known = f"Registered voices: {', '.join(self.names)}." if self.names else "No voice is registered yet."
        return UnknownVoiceError(f"There is no voice {name[:100]!r}. {known}")

    def add(
        self,
        name: str,
        recording: str | os.PathLike[str] | Waveform | HasAudio | tuple[Any, int],
        *,
        transcript: str | None = None,
        description: str | None = None,
        adapters: Mapping[str, float] | None = None,
        lexicon: str | os.PathLike[str] | None = None,
        model: Model | None = None,
        replace: bool = False,
    ) -> Voice:
        """Register a recording, for instance one that VoiceGenerator made.

        Args:
            name: 1 to 64 of a-z, 0-9, - and _.
            recording: a file, a waveform, a Speech or result, or (samples, rate).
            transcript: what it says.
            description: words for people.
            adapters: weights of adapters by the names they are loaded with; requests that name the voice use them.
            lexicon: a lexicon for texts in this voice.
            model: codes are made for it now; otherwise, and for other models, when they are first needed.
            replace: whether an existing voice of that name is replaced.

        Raises:
            RequestError: not a name, or it is taken; a lexicon that is none; or nothing may be written here.
            AudioError: a recording that cannot serve.
            CheckpointError: it cannot be written, for want of room, say.
        """
        check_name(name)
        if name in self and not replace:
            raise RequestError(f"there is a voice {name!r} already; remove it first, or replace it")
        transcript, description = _text("transcript", transcript), _text("description", description)
        waveform, digest = _load(recording)
        words = None if lexicon is None else _checked(lexicon)
        channels, n_samples = waveform.samples.shape
        seconds, created = n_samples / waveform.sample_rate, datetime.now(UTC).isoformat(timespec="seconds")
        record = VoiceRecord(
            name, transcript, description, seconds, waveform.sample_rate, channels, digest, created, _weights(adapters)
        )
        try:
            with atomic_directory(self.directory / name, replace=replace and name in self) as part:
                write_voice(part, record, waveform)
                if words is not None:
                    (part / LEXICON).write_bytes(words)
                if model is not None:
                    Voice(record, part).codes(model)
        except PlaceTakenError as error:
            raise RequestError(f"something else is at the place of voice {name!r}: {error.strerror}") from error
        except OSError as error:
            raise _unwritable(f"voice {name!r} cannot be added", error) from error
        return Voice(record, self.directory / name)

    def remove(self, name: str) -> None:
        """Remove a voice and delete its files.

        Raises:
            UnknownVoiceError: there is none of that name.
            RequestError: nothing may be written here.
            CheckpointError: it cannot be removed.
        """
        place = self._place(name)
        try:
            remove_directory(place)
        except FileNotFoundError as error:
            raise self._unknown(name) from error
        except OSError as error:
            raise _unwritable(f"voice {name!r} cannot be removed", error) from error


def check_name(name: object) -> None:
    """Refuse what is no name of a voice.

    Raises:
        RequestError: it is none.
    """
    if not isinstance(name, str) or NAME.fullmatch(name) is None or name in RESERVED:
        raise RequestError(
            f"the name of a voice must be 1 to 64 of a-z, 0-9, - and _, beginning with a letter or digit, and not "
            f"'default'; got {str(name)[:100]!r}"
        )


def _checked(lexicon: str | os.PathLike[str]) -> bytes:
    """The bytes of a lexicon that can be read."""
    Lexicon.read(lexicon)
    return expanded(lexicon).read_bytes()


def _weights(adapters: Mapping[str, float] | None) -> dict[str, float] | None:
    for name, weight in (adapters or {}).items():
        if not isinstance(name, str) or not name.strip() or not is_number(weight):
            raise RequestError(f"adapters: the weight of {shown(name)} must be {NUMBERS}, got {shown(weight)}.")
    return dict(adapters) if adapters else None


def _text(name: str, value: str | None) -> str | None:
    if value is None or not check_text(name, value).strip():
        return None
    if len(value) > MAX_TEXT:
        raise RequestError(f"{name} has {len(value)} characters; at most {MAX_TEXT} are allowed")
    return value.strip()


def _load(recording: str | os.PathLike[str] | Waveform | HasAudio | tuple[Any, int]) -> tuple[Waveform, str]:
    """A recording that can serve as a reference, and the hash of where it came from."""
    if isinstance(recording, str | os.PathLike):
        waveform = read_audio(recording)
        source = expanded(recording).read_bytes()
    else:
        samples = (recording.audio, recording.sample_rate) if isinstance(recording, HasAudio) else recording
        waveform = samples if isinstance(samples, Waveform) else as_waveform(*samples)
        source = waveform.samples.tobytes()
    with errors_name("the recording"):
        audible_channels(waveform.samples, 1)
    return waveform, hashlib.sha256(source).hexdigest()


def _read_voice(directory: Path) -> Voice:
    """The voice of a directory.

    Raises:
        FileNotFoundError: the directory is gone.
        CheckpointError: the voice is broken.
    """
    try:
        return Voice(read_record(directory), directory)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"voice {directory.name!r} is broken: {why}; remove it, or add it again") from error


def _unwritable(what: str, error: OSError) -> MossTTSError:
    kind = RequestError if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) else CheckpointError
    return kind(f"{what}: {error.strerror or type(error).__name__}")
