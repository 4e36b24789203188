"""Recordings that clients send or name, as what generate takes. Nothing here opens a path or an address.

A recording is `data:...;base64,...`, `upload:PART`, or `voice:NAME`; a voice was added on purpose.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from moss_tts.audio.codes import CodeMatrix
from moss_tts.audio.files import decode_audio
from moss_tts.errors import AudioError, RequestError
from moss_tts.server.errors import ApiError
from moss_tts.server.schema import MAX_RECORDINGS

DATA_URI: Final = re.compile(r"data:[^,;]{0,100}(?:;[^,;]{1,100}){0,4}?;base64,", re.IGNORECASE)
FIELDS: Final = ("reference", "ref_audio")

Options = dict[str, Any]
# What is known of a registered voice: its codes, and what its recording says.
KnownVoice = tuple[CodeMatrix, str | None]


class Recordings:
    """The recordings of one request.

    Args:
        files: the files of its body.
        voices: registered voices that it names.
        max_seconds: the most seconds of all its recordings; registered voices are codes already and do not count.
    """

    def __init__(self, files: Mapping[str, bytes], voices: Mapping[str, KnownVoice], max_seconds: float) -> None:
        self._files, self._voices, self._seconds_left = files, voices, max_seconds

    def resolve(self, options: Options) -> Options:
        """Options with recordings in place of their names.

        Raises:
            ApiError: a name that is none, or audio that cannot serve.
        """
        resolved = dict(options)
        for name in FIELDS:
            if name in options:
                resolved[name] = self._entries(name, options[name])
        if "dialogue_speakers" in options:
            resolved["dialogue_speakers"] = self._speakers(options["dialogue_speakers"])
        if "conversation" in options:
            resolved["conversation"] = [self._message(message) for message in options["conversation"]]
        return resolved

    def load(self, field: str, value: str) -> Any:
        """One recording: (samples, rate) or codes."""
        if value.startswith("voice:"):
            return self._voices[value.removeprefix("voice:")][0]
        content = self._content(field, value)
        try:
            waveform = decode_audio(content, self._seconds_left)
        except AudioError as error:
            raise ApiError(400, f"{field}: {error}", field, "invalid_audio") from error
        self._seconds_left -= waveform.samples.shape[1] / waveform.sample_rate
        return waveform.samples, waveform.sample_rate

    def _content(self, field: str, value: str) -> bytes:
        if value.startswith("upload:"):
            name = value.removeprefix("upload:")
            if name not in self._files:
                raise ApiError(400, f"{field}: the request has no file part {name[:100]!r}", field, "invalid_value")
            return self._files[name]
        match = DATA_URI.match(value)
        if match is None:
            raise ApiError(
                400,
                f"{field}: must be data:audio/wav;base64,..., upload:PART or voice:NAME, never a path or an address; "
                f"got {value[:60]!r}",
                field,
                "invalid_value",
            )
        try:
            return base64.b64decode(value[match.end() :], validate=True)
        except (binascii.Error, ValueError) as error:
            raise ApiError(400, f"{field}: this is not base64: {error}", field, "invalid_audio") from error

    def _entries(self, field: str, value: Any) -> Any:
        if isinstance(value, list):
            return [None if entry is None else self.load(field, entry) for entry in value]
        return self.load(field, value)

    def _speakers(self, speakers: Any) -> Any:
        if isinstance(speakers, list):
            return [entry and self._speaker(entry) for entry in speakers]
        return {name: entry and self._speaker(entry) for name, entry in speakers.items()}

    def _speaker(self, entry: Options) -> Options:
        field = "dialogue_speakers"
        loaded = {name: self.load(field, entry[name]) for name in FIELDS if name in entry}
        texts = {"ref_text": entry["ref_text"]} if "ref_text" in entry else {}
        if "voice" not in entry:
            return texts | loaded
        if loaded or texts:
            raise ApiError(400, f"{field}: give a speaker a voice, or a recording and its text, not both", field)
        codes, transcript = self._voices[entry["voice"]]
        if transcript is None:
            raise ApiError(400, f"{field}: voice {entry['voice']!r} has no transcript, and a dialogue needs one", field)
        return {"ref_audio": codes, "ref_text": transcript}

    def _message(self, message: Options) -> Options:
        loaded = {
            name: self._entries("conversation", message[name])
            for name in ("reference", "audio_codes_list")
            if name in message
        }
        return message | loaded


def voices_named(options: Options) -> Iterator[tuple[str, str]]:
    """(field, name) of the registered voices that options speak of.

    Raises:
        RequestError: more recordings than anybody needs.
    """
    count = 0
    for field, value in _recordings(options):
        count += 1
        if value.startswith("voice:"):
            yield field, value.removeprefix("voice:")
        if count > MAX_RECORDINGS:
            raise RequestError(f"{field}: a request may have {MAX_RECORDINGS} recordings")


def _recordings(options: Options) -> Iterator[tuple[str, str]]:
    for name in FIELDS:
        yield from ((name, value) for value in _listed(options.get(name)))
    speakers = options.get("dialogue_speakers") or ()
    for entry in speakers.values() if isinstance(speakers, dict) else speakers:
        entry = entry or {}
        yield from (("dialogue_speakers", entry[name]) for name in FIELDS if name in entry)
        if "voice" in entry:
            yield "dialogue_speakers", f"voice:{entry['voice']}"
    for message in options.get("conversation") or ():
        for name in ("reference", "audio_codes_list"):
            yield from (("conversation", value) for value in _listed(message.get(name)))


def _listed(value: Any) -> list[str]:
    return [entry for entry in (value if isinstance(value, list) else [value]) if entry is not None]
