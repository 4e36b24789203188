"""A file of jobs: one JSON object on each line, with an id and the options of generate.

Everything about a job that can be known without a model is checked before the first one is spoken.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from moss_tts.atomic import expanded, open_regular
from moss_tts.books.manifest import option_fingerprints
from moss_tts.errors import RequestError, shown
from moss_tts.prompts.options import OPTIONS, check_options
from moss_tts.strict import parse_json
from moss_tts.voices import Voices

# Options of generate that make no sense for a file that is written when its audio is complete.
REFUSED: Final = frozenset({"stream", "streaming_interval", "verbose"})
# Fields of a job beside the options of generate.
OWN: Final = ("id", "file")
# Options of the command that are the same for all jobs.
SHARED: Final = frozenset(
    "output format subtitles words recogniser mark play quiet model codec dtype revision codec_dtype kv_bits "
    "tied_heads max_memory lora batch".split()
)
# Options that choose a voice: a job that has one of them has no use for a voice that holds for all jobs.
VOICES: Final = ("voice", "ref_audio", "reference", "dialogue_speakers", "conversation")
MOST_ERRORS_SHOWN: Final = 5
# Bytes of a file's name without its suffix; file systems allow 255 with it.
MOST_BYTES_OF_NAME: Final = 200


@dataclass(frozen=True)
class Job:
    """One request of a file of jobs.

    Attributes:
        id: the id that the file gives it; its line, if it gives none.
        line: its line, counted from 1.
        name: the name of its files, without a suffix.
        options: the options of generate.
    """

    id: str
    line: int
    name: str
    options: Mapping[str, Any]

    @property
    def text(self) -> str:
        """What is spoken, for people and for progress."""
        told = self.options.get("text") or self.options.get("ambient_sound")
        return told if isinstance(told, str) else ""


def read_jobs(content: bytes, where: str, defaults: Mapping[str, Any]) -> list[Job]:
    """The jobs of a file, checked as far as that goes without a model.

    Args:
        content: the bytes of the file, UTF-8 with a JSON object on each line; empty lines are left out.
        where: its name in messages.
        defaults: options of jobs that do not have them. A lexicon holds beside that of the job, and a voice for jobs
            that choose none themselves.

    Raises:
        RequestError: lines that are no jobs, or several with one name; the message names each.
    """
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        at = content[: error.start].count(b"\n") + 1
        raise RequestError(f"{where}, line {at}: this is not UTF-8 text: {error.reason}.") from error
    jobs, errors, taken = [], [], dict[str, int]()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            job = _job(line, number, defaults)
            if (first := taken.setdefault(_compared(job.name), number)) != number:
                raise RequestError(f"its files would have the same name as those of line {first}, {job.name!r}.")
            jobs.append(job)
        except RequestError as error:
            errors.append(f"{where}, line {number}: {error}")
    if errors:
        more = len(errors) - MOST_ERRORS_SHOWN
        raise RequestError(" ".join(errors[:MOST_ERRORS_SHOWN]) + (f" And {more} more lines." if more > 0 else ""))
    if not jobs:
        raise RequestError(f"{where} has no jobs. Write a JSON object on each line, such as " + '{"text": "Hello."}.')
    return jobs


def _job(line: str, number: int, defaults: Mapping[str, Any]) -> Job:
    fields = _fields(line)
    _check_names(fields)
    id_ = fields.pop("id", None)
    if id_ is None:
        id_ = str(number)
    elif isinstance(id_, bool) or not isinstance(id_, str | int):
        raise RequestError(f"id must be a text or an integer, got {shown(id_)}.")
    options = _with_defaults(_with_text(fields), defaults)
    check_options(options)
    if all(options.get(name) is None for name in ("text", "ambient_sound", "conversation")):
        raise RequestError("it has no text.")
    return Job(str(id_), number, file_name(str(id_)), options)


def _fields(line: str) -> dict[str, Any]:
    try:
        fields = parse_json(line.encode())
    except ValueError as error:
        raise RequestError(f"this is not JSON: {error}.") from error
    if not isinstance(fields, dict):
        raise RequestError(f"a job must be a JSON object, got {shown(fields)}.")
    return fields


def _check_names(fields: Mapping[str, Any]) -> None:
    known = [*OWN, *(name for name in OPTIONS if name not in REFUSED)]
    for name in fields:
        if name in SHARED:
            raise RequestError(f"{name} is the same for all jobs; give it to the command instead.")
        if name in REFUSED:
            raise RequestError(f"{name} is no field of a job, because each file is written when its audio is complete.")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise RequestError(f"there is no field {shown(name)}; did you mean {near[0]!r}?")


def _with_text(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with the content of `file` as their text."""
    file = fields.pop("file", None)
    if file is None:
        return fields
    if fields.get("text") is not None:
        raise RequestError("the text was given twice, as text and as file. Give only one of them.")
    if not isinstance(file, str):
        raise RequestError(f"file must be the name of a text file, got {shown(file)}.")
    try:
        with open_regular(expanded(file)) as opened:
            return fields | {"text": opened.readall().decode("utf-8-sig")}
    except RequestError:
        raise
    except (OSError, ValueError) as error:
        raise RequestError(f"file {shown(file)} cannot be read as UTF-8 text: {error}.") from error


def _with_defaults(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: value for name, value in fields.items() if value is not None}
    given = {name: value for name, value in defaults.items() if value is not None}
    if any(name in options for name in VOICES):
        given.pop("voice", None)
    if isinstance(options.get("voice"), str) and "adapters" not in options and "adapters" in given:
        given["adapters"] = Voices()[options["voice"]].adapters_with({}, given["adapters"])
    if "lexicon" in given and "lexicon" in options:
        options["lexicon"] = [*_listed(given["lexicon"]), *_listed(options["lexicon"])]
    return given | options


def _listed(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, list | tuple) else [value]


def file_name(id_: str) -> str:
    """The name of the files of a job: its id, with _ in the place of characters that a file's name should not have.

    Raises:
        RequestError: nothing is left of it, or it is too long.
    """
    name = re.sub(r"[^\w .-]+", "_", unicodedata.normalize("NFC", id_)).strip(" ._")
    if not name:
        raise RequestError(f"the id {shown(id_)} has no letter and no digit, so its files would have no name.")
    if len(name.encode()) > MOST_BYTES_OF_NAME:
        raise RequestError(f"the id {shown(id_)} is too long for the name of a file.")
    return name


def _compared(name: str) -> str:
    """Names that some file systems take for the same are equal."""
    return name.casefold()


def content_of(options: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    """The sum over all that the files of a job depend on.

    Args:
        options: the options of generate; of recordings and lexicons, the content counts.
        shared: what else its files depend on, the same for all jobs.
    """
    counted = dict(options)
    if (name := counted.get("voice")) is not None:
        voice = Voices()[name]
        counted["voice"] = [name, voice.fingerprint, voice.record.transcript, voice.record.adapters]
    content = json.dumps([option_fingerprints(counted), dict(shared)], sort_keys=True)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:32]
