"""Input that the command line reads for a request: text, conversations, speakers.

Mistakes in it are wrong usage: RequestError.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from moss_tts.errors import RequestError
from moss_tts.strict import NUMBERS, is_number
from moss_tts.text.lexicon import Lexicon

if TYPE_CHECKING:
    from moss_tts.text.cast import Cast

SPEAKER = re.compile(r"(S[1-9]\d?)=(.*)", re.DOTALL)


def refuse_options_of_speech(options: Mapping[str, object]) -> None:
    """Refuse options of a command that a sound model does not have, by their names.

    Raises:
        RequestError: one of them was given.
    """
    if given := [name for name, value in options.items() if value not in (None, [])]:
        raise RequestError(f"--{given[0]} is for speech models, and this is a sound model; leave it out.")


def read_text(argument: str | None, file: Path | None, needed: bool) -> str | None:
    """The text to speak, from an argument, a file or a pipe.

    Args:
        argument: TEXT of the command; "-" is standard input.
        file: --file.
        needed: whether a text is required; then standard input is read if neither of them was given.

    Raises:
        RequestError: both were given, one of them is no UTF-8 text, or there is no text where one is needed.
    """
    text = _given_text(argument, file, needed)
    if needed and (text is None or not text.strip()):
        raise RequestError("There is no text to speak. Give a text in quotes, a file with --file, or a pipe.")
    return text


def _given_text(argument: str | None, file: Path | None, piped: bool) -> str | None:
    if argument is not None and file is not None:
        raise RequestError("The text was given twice, as an argument and as --file. Give only one of them.")
    if file is not None:
        return _decoded(str(file), _bytes_of(file))
    if argument == "-" or (argument is None and piped and _is_piped(sys.stdin)):
        return _decoded("standard input", _bytes_of_stdin(sys.stdin))
    return None if argument is None else _typed(argument)


def read_bytes(argument: str) -> tuple[bytes, str]:
    """The content of the file that an argument names, and its name; "-" is standard input.

    Raises:
        RequestError: the file cannot be read.
    """
    if argument == "-":
        return _bytes_of_stdin(sys.stdin), "standard input"
    return _bytes_of(Path(argument)), argument


def _is_piped(stdin: TextIO | None) -> bool:
    # None if the program was started without standard input.
    return stdin is not None and not stdin.isatty()


def _typed(argument: str) -> str:
    """An argument as it was typed. Where Python takes the terminal for ASCII, it keeps other bytes as surrogates."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return _decoded("the text", os.fsencode(argument))
    return argument


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise RequestError(f"{file} cannot be read: {error.strerror}.") from error


def _bytes_of_stdin(stdin: TextIO) -> bytes:
    # The terminal's encoding must not change a piped file.
    return stdin.buffer.read()


def _decoded(where: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{where} is not UTF-8 text: {error.reason} at byte {error.start}.") from error


def read_conversation(file: Path | None) -> Any:
    """The messages of a JSON file, a list of objects with a role; None without a file.

    Raises:
        RequestError: not JSON.
    """
    if file is None:
        return None
    try:
        return json.loads(_decoded(str(file), _bytes_of(file)))
    except ValueError as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{file} is not JSON: {error}.") from error


def read_speakers(recordings: Sequence[str], transcripts: Sequence[str]) -> dict[str, dict[str, str]] | None:
    """The speakers of --speaker S1=FILE and --speaker-text S1=TEXT; None without any.

    Raises:
        RequestError: not of that form, one half missing, a speaker twice, or no such file.
    """
    audio, text = _by_speaker("--speaker", recordings), _by_speaker("--speaker-text", transcripts)
    for flag, other, lonely in (
        ("--speaker", "--speaker-text", audio.keys() - text.keys()),
        ("--speaker-text", "--speaker", text.keys() - audio.keys()),
    ):
        if lonely:
            name = min(lonely)
            raise RequestError(
                f"{flag} {name}=... needs {other} {name}=... as well: each speaker has a recording and its words."
            )
    for name, file in audio.items():
        if not Path(file).is_file():
            raise RequestError(f"--speaker {name}: there is no file {file}.")
    return {name: {"ref_audio": audio[name], "ref_text": text[name]} for name in audio} or None


def read_lora(
    given: Sequence[str], usual: float = 1.0, voice: str | None = None
) -> tuple[dict[str, str], dict[str, float]]:
    """The directories and the weights, by name, of --lora NAME=DIR[:WEIGHT].

    Args:
        given: the values of the option.
        usual: the weight of those that name none.
        voice: the registered voice that speaks; its own weights stand for those that name none.

    Raises:
        RequestError: not of that form, a name twice, a weight that is none, or no such voice.
    """
    own = _own_weights(voice) if given and voice is not None else {}
    directories: dict[str, str] = {}
    weights: dict[str, float] = {}
    for value in given:
        name, _, place = value.partition("=")
        directory, weight = _weighted(place, own.get(name, usual))
        if not name.strip() or not directory:
            raise RequestError(
                f"--lora must be NAME=DIR or NAME=DIR:WEIGHT, such as ada=adapters/ada:0.8, got {value!r}."
            )
        if name in directories:
            raise RequestError(f"--lora names {name!r} twice.")
        if not is_number(weight):
            raise RequestError(f"--lora {name}: the weight must be {NUMBERS}, got {weight:g}.")
        directories[name], weights[name] = directory, weight
    return directories, weights


def _own_weights(voice: str) -> Mapping[str, float]:
    from moss_tts.voices import Voices  # what reads recordings is slow to import

    return Voices()[voice].adapters_with({})


def read_adapter_weights(given: Sequence[str]) -> dict[str, float]:
    """The weights, by name, of --adapter NAME=WEIGHT.

    Raises:
        RequestError: not of that form, or a name twice.
    """
    weights: dict[str, float] = {}
    for value in given:
        name, _, weight = value.partition("=")
        try:
            number = float(weight)
        except ValueError as error:
            raise RequestError(f"--adapter must be NAME=WEIGHT, such as ada=0.8, got {value!r}.") from error
        if name in weights:
            raise RequestError(f"--adapter names {name!r} twice.")
        weights[name] = number
    return weights


def _weighted(place: str, usual: float) -> tuple[str, float]:
    """A directory and its weight; a directory with a colon in its name is one if it exists."""
    directory, colon, weight = place.rpartition(":")
    if not colon or Path(place).is_dir():
        return place, usual
    try:
        return directory, float(weight)
    except ValueError as error:
        raise RequestError(f"--lora: the weight must be a number, got {weight!r} after {directory!r}.") from error


def _by_speaker(flag: str, values: Sequence[str]) -> dict[str, str]:
    """Only the first '=' separates: what follows is the file's name or the text as it stands."""
    found: dict[str, str] = {}
    for value in values:
        match = SPEAKER.fullmatch(value)
        if match is None:
            raise RequestError(f"{flag} must begin with a speaker, such as S1=..., got {value!r}.")
        if match[1] in found:
            raise RequestError(f"{flag} names {match[1]} twice.")
        found[match[1]] = match[2]
    return found


def spoken_by(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a command, its `voice` replaced by the recording.

    Raises:
        RequestError: no such voice, or other recordings beside it.
    """
    from moss_tts.audio.voice_files import LEXICON  # what reads recordings is slow to import
    from moss_tts.voices import Voices

    options = dict(given)
    name = options.pop("voice", None)
    if name is None:
        return options
    others = [other for other in ("ref_audio", "reference", "ref_text", "speaker", "conversation") if given.get(other)]
    if others:
        raise RequestError(f"A registered voice has its own recording. Give voice or {', '.join(others)}, not both.")
    voice = Voices()[name]
    spoken = voice.options(mode=options.get("mode")) | {"ref_audio": [voice.sample]}
    if adapters := voice.adapters_with(options.get("adapters") or {}):
        spoken["adapters"] = adapters
    if voice.lexicon is not None:
        spoken["lexicon"] = [voice.directory / LEXICON, *(options.get("lexicon") or [])]
    return options | spoken


def read_cast(file: Path | None, given: Mapping[str, Any]) -> Cast:
    """The cast of --cast; an empty one without a file.

    Args:
        file: the value of the option.
        given: the arguments of the command.

    Raises:
        RequestError: the file is no cast, or the narrator has a voice in it and another one in the arguments.
    """
    from moss_tts.text.cast import Cast  # it brings mlx, for which --help should not wait

    if file is None:
        return Cast()
    cast = Cast.read(file)
    twice = [f"--{name.replace('_', '-')}" for name in ("voice", "ref_audio", "ref_text") if given.get(name)]
    if cast.narrator is not None and twice:
        raise RequestError(f"The narrator has a voice in --cast {file}, so leave {' and '.join(twice)} out.")
    return cast


def read_lexicons(given: Sequence[str]) -> dict[str, Lexicon]:
    """The lexicons, by name, of --lexicon NAME=FILE.

    Raises:
        RequestError: not of that form, a name twice, or a file that is no lexicon.
    """
    lexicons: dict[str, Lexicon] = {}
    for value in given:
        name, _, file = value.partition("=")
        if not name.strip() or not file:
            raise RequestError(f"--lexicon must be NAME=FILE, such as names=names.txt, got {value!r}.")
        if name in lexicons:
            raise RequestError(f"--lexicon names {name!r} twice.")
        lexicons[name] = Lexicon.read(file)
    return lexicons
