"""The work of `moss-tts generate --stream`, `--play` and `--output -`: audio out while it is made, none kept."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from moss_tts.audio.live_output import GrowingWav, PcmPipe, Sink, SinkFailedError, send_on
from moss_tts.audio.marking import mark_of
from moss_tts.audio.players import find_player
from moss_tts.cli.output_files import record
from moss_tts.cli.speak_text import Destination, Source, check_output, exit_code, speaking, tell, write_cues
from moss_tts.cli.subtitles import subtitle_path
from moss_tts.cli.terminal import Terminal
from moss_tts.errors import RequestError
from moss_tts.result import GenerationResult

STDOUT = Path("-")


def is_live(output: Path, stream: bool | None, play: bool) -> bool:
    """Whether audio is written while it is made: it was asked for, and the format allows it."""
    return play or output == STDOUT or (stream is True and output.suffix.lower() == ".wav")


def open_sinks(output: Path, play: bool, terminal: Terminal, mark: str | None = None) -> list[Sink]:
    """The sinks that audio is written to, files with a mark if there is one.

    Raises:
        RequestError: standard output is closed or a terminal; a file that could not be written, or cannot grow.
        AudioError: no player.
    """
    sinks: list[Sink] = []
    if output == STDOUT:
        if sys.stdout is None:
            raise RequestError("--output - writes to standard output, which is closed. Open it, or name a .wav file.")
        if sys.stdout.isatty():
            raise RequestError(
                "--output - writes raw audio, which a terminal cannot show. Send it into a file with > speech.pcm, or "
                "into a program with | player."
            )
        sinks.append(PcmPipe(sys.stdout.buffer, terminal.say))
    else:
        check_output(output)
        if output.suffix.lower() != ".wav":
            raise RequestError(
                f"--output {output} must end in .wav, because the file is written while its audio is made."
            )
        sinks.append(GrowingWav(output, mark))
    return [*sinks, find_player()] if play else sinks


def terminal_beside(output: Path, quiet: bool, verbose: bool = False) -> Terminal:
    """A terminal for messages about audio; where that goes to standard output, nothing else does."""
    stdout = Console(stderr=True, highlight=False, soft_wrap=True) if output == STDOUT else None
    return Terminal(quiet, stdout, verbose=verbose)


def speak_live(
    options: Mapping[str, Any], to: Destination, source: Source, terminal: Terminal, flags: Iterable[str]
) -> int:
    """Speak a request into a growing .wav, a pipe or a player.

    Args:
        options: the options of generate.
        to: where the audio goes: into a .wav, or STDOUT. Its subtitles have no words: no audio is kept to find them in.
        source: the source of the model.
        terminal: shows what happens.
        flags: names of the command's options, of which a warning may speak.

    Returns:
        The exit code; it is 0 as well if the listener has gone.

    Raises:
        MossTTSError: what went wrong. What was written before stays.
    """
    output, subtitles = to.output, to.subtitles
    if subtitles.words:
        raise RequestError("--words needs the whole audio, which --play, --stream and --output - do not keep.")
    subtitles.check()
    path = subtitle_path(subtitles.file, output)
    sinks, failed = open_sinks(output, to.play, terminal, mark_of(source.name) if to.mark else None), []
    with speaking({**options, "stream": True}, source, terminal, flags) as speech:

        def player_failed(error: SinkFailedError) -> None:
            if not speech.cancelled.is_set():  # Ctrl-C ends a player as well; that is not a failure
                failed.append(error)
                terminal.warn(f"{error} The audio file is written nevertheless.")

        with (
            closing(speech.results),
            closing(send_on(speech.results, sinks, player_failed)) as sent,
            terminal.speaking(speech.share) as show,
        ):
            recording = record((_without_audio(result) for result in sent), show)
    if listener_has_gone := recording.finish_reason is None and recording.failure is None:
        recording = replace(recording, finish_reason="cancelled")
    if (recording.seconds or recording.is_complete) and not (listener_has_gone and output == STDOUT):
        tell(recording, output, terminal, speech)
        if path is not None:
            write_cues(recording.cues, path, terminal)
    elif listener_has_gone and output != STDOUT:
        terminal.warn("generation ended early, before there was any audio")
    return 0 if listener_has_gone else exit_code(recording) or (1 if failed else 0)


def _without_audio(result: GenerationResult) -> GenerationResult:
    """The figures only, so that an hour takes no more memory than a minute."""
    return replace(result, audio=np.zeros(0, np.float32))
