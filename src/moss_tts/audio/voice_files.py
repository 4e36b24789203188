"""What a registered voice has on disk: what is known of it, its recording, its codes.

Letters: C channels, S samples, Q codebooks, F frames.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from moss_tts.atomic import atomic_file
from moss_tts.audio.codes import CodeMatrix, is_code_matrix
from moss_tts.audio.pcm import as_pcm, wav_header
from moss_tts.audio.waveform import Waveform
from moss_tts.strict import is_number
from moss_tts.text.cleanup import check_text

DESCRIPTION, SAMPLE, LEXICON = "voice.json", "sample.wav", "lexicon.txt"
# Of a voice.json, far beyond what its two texts take.
MAX_BYTES: Final = 2**20


@dataclass(frozen=True)
class VoiceRecord:
    """What voice.json says.

    Attributes:
        name: the name of the voice.
        transcript: what the recording says; None where nobody knows.
        description: words for people, such as the instruction it was designed with.
        seconds: the seconds of the recording.
        sample_rate: the sample rate of the recording.
        channels: the channels of the recording.
        source_sha256: hash of the file, or of the samples, that it was added from.
        created: UTC, ISO 8601.
        adapters: weights of the adapters that belong to the voice, by the names they are loaded with.
    """

    name: str
    transcript: str | None
    description: str | None
    seconds: float
    sample_rate: int
    channels: int
    source_sha256: str
    created: str
    adapters: Mapping[str, float] | None = None


# Field of a voice.json -> what it may be.
KINDS: Final[Mapping[str, Any]] = {
    "name": str,
    "transcript": str | None,
    "description": str | None,
    "seconds": int | float,
    "sample_rate": int,
    "channels": int,
    "source_sha256": str,
    "created": str,
}


def read_record(directory: Path) -> VoiceRecord:
    """What is known of the voice in a directory.

    Raises:
        FileNotFoundError: there is no voice any more.
        OSError: it cannot be read.
        ValueError: its voice.json is none, or one of a release that writes other fields; or there is no recording.
    """
    with (directory / DESCRIPTION).open("rb") as file:
        content = file.read(MAX_BYTES)
    try:
        record = _record(content, directory.name)
    except (ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{DESCRIPTION}: {error}") from error
    if not (directory / SAMPLE).is_file():
        raise ValueError(f"there is no {SAMPLE}")
    return record


def _record(content: bytes, name: str) -> VoiceRecord:
    raw = json.loads(content)
    if not isinstance(raw, dict):
        raise ValueError("it holds no object")
    if unknown := raw.keys() - KINDS.keys() - {"adapters"}:
        raise ValueError(f"its field {min(unknown)[:100]!r} is not known here; a newer release may have written it")
    for field, kind in KINDS.items():
        if field not in raw or not isinstance(raw[field], kind) or isinstance(raw[field], bool):
            raise ValueError(f"its field {field!r} is missing, or not what it must be")
        if isinstance(raw[field], str):
            check_text(field, raw[field])
    if raw["name"] != name:
        raise ValueError(f"it is of a voice {raw['name'][:100]!r}")
    if not _are_weights(raw.get("adapters", {})):
        raise ValueError("its adapters are no weights by names")
    if not 0 < raw["seconds"] < float("inf"):
        raise ValueError("its seconds must be above 0")
    datetime.fromisoformat(raw["created"]).timestamp()
    return VoiceRecord(**raw)


def _are_weights(value: object) -> bool:
    return isinstance(value, dict) and all(is_number(weight) for weight in value.values())


def write_voice(directory: Path, record: VoiceRecord, waveform: Waveform) -> None:
    """Fill a directory with what is known and the recording."""
    pcm = as_pcm(waveform.samples.T).astype("<i2").tobytes()
    (directory / SAMPLE).write_bytes(wav_header(record.sample_rate, record.channels, len(pcm)) + pcm)
    known = asdict(record)
    if record.adapters is None:  # releases without adapters read such a voice as well
        del known["adapters"]
    (directory / DESCRIPTION).write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_codes(file: Path, source: str, n_vq: int) -> CodeMatrix | None:
    """Codes (F, Q) in a file; None where it holds none of that recording, so that they are made again."""
    try:
        with safe_open(file, framework="numpy") as tensors:
            made_of = (tensors.metadata() or {}).get("source_sha256", source)
            codes: CodeMatrix = tensors.get_tensor("codes")
    except (OSError, SafetensorError):
        return None
    fits = is_code_matrix(codes) and codes.ndim == 2 and len(codes) > 0 and codes.shape[1] == n_vq
    return codes if fits and made_of == source else None


def write_codes(file: Path, source: str, codes: CodeMatrix) -> None:
    """Keep codes (F, Q) with the hash of what they were made of: another recording may take its place at any time.

    Raises:
        OSError: it cannot be written.
    """
    try:
        with atomic_file(file) as part:
            kept = {"codes": np.ascontiguousarray(codes, dtype=np.int32)}
            save_file(kept, part, metadata={"source_sha256": source})
    except SafetensorError as error:
        raise OSError(str(error)) from error
