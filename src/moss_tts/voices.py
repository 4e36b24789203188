"""Registered voices: recordings under a name, on disk, for Python, the command line and the server alike.

A voice is a directory `<name>/` with

    voice.json                         what it is: transcript, description, where the recording came from
    sample.wav                         the recording, 16-bit
    codes-<codec>-<Q>.safetensors      the recording as codes, for each codec and depth it was used with

It appears and disappears whole (atomic.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from moss_tts.atomic import PlaceTakenError, atomic_directory, atomic_file, expanded, remove_directory
from moss_tts.audio.codes import CodeMatrix
from moss_tts.audio.files import read_audio
from moss_tts.audio.pcm import as_pcm, wav_header
from moss_tts.audio.references import RegisteredVoice
from moss_tts.audio.waveform import HasAudio, Waveform, as_waveform, audible_channels, errors_name
from moss_tts.errors import CheckpointError, RequestError
from moss_tts.text.cleanup import check_text

# Lower case only: some file systems do not tell cases apart. No dots, so no name leads out of the directory.
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
RESERVED: Final = frozenset({"default"})
DESCRIPTION, SAMPLE = "voice.json", "sample.wav"
MAX_TEXT: Final = 10_000


@dataclass(frozen=True)
class VoiceRecord:
    """What voice.json says.

    Attributes:
        name: of the voice.
        transcript: what the recording says; None where nobody knows.
        description: words for people, such as the instruction it was designed with.
        seconds: of the recording.
        sample_rate: of the recording.
        channels: of the recording.
        source_sha256: hash of the file, or of the samples, that it was added from.
        created: UTC, ISO 8601.
    """

    name: str
    transcript: str | None
    description: str | None
    seconds: float
    sample_rate: int
    channels: int
    source_sha256: str
    created: str


class Encoder(Protocol):
    """Makes codes of recordings."""

    def encode_audio(self, references: Sequence[object]) -> list[CodeMatrix]:
        """Codes (F, Q) of references, in their order."""
        ...


class Model(Protocol):
    """What of a model makes codes."""

    @property
    def processor(self) -> Encoder:
        """The model's."""
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

    def codes(self, model: Model) -> CodeMatrix:
        """The recording as codes (F, Q) of a model.

        Raises:
            AudioError: the codec cannot encode it.
        """
        [codes] = model.processor.encode_audio([self])
        return codes

    def kept_codes(self, codec: str, n_vq: int) -> CodeMatrix | None:
        """Codes (F, Q) of a codec, by its fingerprint; None where they were not made yet."""
        file = self._codes_file(codec, n_vq)
        return _read_codes(file) if file.is_file() else None

    def keep_codes(self, codec: str, codes: CodeMatrix) -> None:
        """Keep codes (F, Q) that were made of the recording."""
        with atomic_file(self._codes_file(codec, codes.shape[1])) as part:
            save_file({"codes": np.ascontiguousarray(codes, dtype=np.int32)}, part)

    def _codes_file(self, codec: str, n_vq: int) -> Path:
        return self.directory / f"codes-{codec}-{n_vq}.safetensors"

    def options(self, model: Model | None = None, mode: str | None = None) -> dict[str, Any]:
        """Options of `Model.generate` to speak in this voice.

        The transcript goes in where a mode needs it: a continuation goes on from what the recording says.

        Args:
            model: the model that needs the codes now; without one, they are made when they are first needed.
            mode: of the request.
        """
        transcript = {"ref_text": self.record.transcript} if mode == "continuation" else {}
        return {"ref_audio": self if model is None else self.codes(model), **transcript}

    def speaker(self, model: Model) -> dict[str, Any]:
        """An entry of dialogue_speakers.

        Raises:
            RequestError: the transcript, which dialogues need, is not known.
        """
        if self.record.transcript is None:
            raise RequestError(f"voice {self.name!r} has no transcript, which a dialogue needs; add it again with one")
        return {"ref_audio": self.codes(model), "ref_text": self.record.transcript}


def default_directory() -> Path:
    """MOSS_TTS_VOICES, or the place for data of programs in the user's home."""
    if given := os.environ.get("MOSS_TTS_VOICES"):
        return expanded(given)
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "moss-tts" / "voices"


class Voices:
    """The voices in a directory, which need not exist yet.

    Args:
        directory: by default the user's own.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        self.directory = default_directory() if directory is None else expanded(directory)

    @property
    def names(self) -> list[str]:
        """The names of all voices, in order; no voice is read."""
        files = self.directory.glob(f"*/{DESCRIPTION}")
        return sorted(file.parent.name for file in files if NAME.fullmatch(file.parent.name))

    def __iter__(self) -> Iterator[Voice]:
        """All voices, by name."""
        return (_read_voice(self.directory / name) for name in self.names)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._is_there(name.lower())

    def _is_there(self, name: str) -> bool:
        return NAME.fullmatch(name) is not None and (self.directory / name / DESCRIPTION).is_file()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> Voice:
        """A voice by its name, in capitals or not.

        Raises:
            RequestError: there is none of that name.
        """
        return _read_voice(self._place(name))

    def _place(self, name: str) -> Path:
        if name not in self:
            known = ", ".join(self.names) or "none yet"
            raise RequestError(f"there is no voice {name[:100]!r}; there are: {known}")
        return self.directory / name.lower()

    def add(
        self,
        name: str,
        recording: str | os.PathLike[str] | Waveform | HasAudio | tuple[Any, int],
        *,
        transcript: str | None = None,
        description: str | None = None,
        model: Model | None = None,
        replace: bool = False,
    ) -> Voice:
        """Register a recording, for instance one that VoiceGenerator made.

        Args:
            name: 1 to 64 of a-z, 0-9, - and _.
            recording: a file, a waveform, a Speech or result, or (samples, rate).
            transcript: what it says.
            description: words for people.
            model: codes are made for it now; otherwise, and for other models, when they are first needed.
            replace: whether a voice of that name may be there, and goes.

        Raises:
            RequestError: not a name, or it is taken.
            AudioError: a recording that cannot serve.
        """
        check_name(name)
        if name in self and not replace:
            raise RequestError(f"there is a voice {name!r} already; remove it first, or replace it")
        transcript, description = _text("transcript", transcript), _text("description", description)
        waveform, digest = _load(recording)
        channels, n_samples = waveform.samples.shape
        created = datetime.now(UTC).isoformat(timespec="seconds")
        seconds = n_samples / waveform.sample_rate
        record = VoiceRecord(name, transcript, description, seconds, waveform.sample_rate, channels, digest, created)
        try:
            with atomic_directory(self.directory / name, replace=True) as part:
                _write(part, record, waveform)
                if model is not None:
                    Voice(record, part).codes(model)
        except PlaceTakenError as error:
            raise RequestError(f"voice {name!r} is being changed by somebody else: {error.strerror}") from error
        return self[name]

    def remove(self, name: str) -> None:
        """Forget a voice, and delete its files.

        Raises:
            RequestError: there is none of that name.
        """
        place = self._place(name)
        try:
            remove_directory(place)
        except FileNotFoundError as error:
            raise RequestError(f"voice {name!r} was removed by somebody else") from error


def spoken_by(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a command, its `voice` replaced by the recording.

    Raises:
        RequestError: no such voice, or other recordings beside it.
    """
    options = dict(given)
    name = options.pop("voice", None)
    if name is None:
        return options
    others = [other for other in ("ref_audio", "reference", "ref_text", "speaker", "conversation") if given.get(other)]
    if others:
        raise RequestError(f"voice brings its own recording, so it cannot go together with {', '.join(others)}")
    spoken = Voices()[name].options(mode=options.get("mode"))
    return options | spoken | {"ref_audio": [spoken["ref_audio"].sample]}


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


def _write(directory: Path, record: VoiceRecord, waveform: Waveform) -> None:
    pcm = as_pcm(waveform.samples.T).astype("<i2").tobytes()
    (directory / SAMPLE).write_bytes(wav_header(record.sample_rate, record.channels, len(pcm)) + pcm)
    (directory / DESCRIPTION).write_text(json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n", "utf-8")


def _read_voice(directory: Path) -> Voice:
    try:
        return Voice(VoiceRecord(**json.loads((directory / DESCRIPTION).read_text("utf-8"))), directory)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"voice {directory.name!r} is broken: {DESCRIPTION}: {error}") from error


def _read_codes(file: Path) -> CodeMatrix:
    try:
        with safe_open(file, framework="numpy") as tensors:
            codes: CodeMatrix = tensors.get_tensor("codes")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} is broken; delete it, and it is made again: {error}") from error
    return codes
