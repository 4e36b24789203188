"""The work of `moss-tts generate --stream`, `--play` and `--output -`: audio out while it is made, none kept."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from moss_tts.audio.live_output import GrowingWav, PcmPipe, Sink, find_player, send_on
from moss_tts.cli.output_files import interruptible, record
from moss_tts.cli.speak_text import INTERRUPTED, Source, check_output, seconds_asked_for, tell
from moss_tts.cli.terminal import Terminal
from moss_tts.result import GenerationResult

STDOUT = Path("-")


def is_live(output: Path, stream: bool | None, play: bool) -> bool:
    """Whether audio goes out while it is made: asked for, and possible in that format."""
    return play or output == STDOUT or (stream is True and output.suffix.lower() == ".wav")


def open_sinks(output: Path, play: bool, terminal: Terminal) -> list[Sink]:
    """Where audio goes. Other formats than .wav cannot grow, so only a player gets those.

    Raises:
        RequestError: a file that could not be written, or is no .wav.
        AudioError: no player.
    """
    sinks: list[Sink] = []
    if output == STDOUT:
        sinks.append(PcmPipe(sys.stdout.buffer, terminal.say))
    else:
        check_output(output, (".wav",))
        sinks.append(GrowingWav(output))
    return [*sinks, find_player()] if play else sinks


def speak_live(
    options: Mapping[str, Any],
    output: Path,
    play: bool,
    source: Source,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Speak a request into a growing .wav, a pipe or a player.

    Args:
        options: of generate.
        output: a .wav, or STDOUT.
        play: whether to play as well.
        source: of the model.
        quiet: show nothing but warnings and errors.
        verbose: show sizes and speeds as well.

    Returns:
        The exit code; 0, too, when whoever was listening has gone.

    Raises:
        MossTTSError: what went wrong. What was written before stays.
    """
    # Standard output carries audio and nothing else.
    stdout = Console(stderr=True, highlight=False, soft_wrap=True) if output == STDOUT else None
    terminal = Terminal(quiet, stdout, verbose=verbose)
    sinks = open_sinks(output, play, terminal)
    with terminal.loading(source.model):
        model = source.load()
    with interruptible() as cancel:
        with terminal.showing_warnings():
            results = model.generate(**{**options, "stream": True}, cancel=cancel)
        with terminal.loading("codec"):
            model.codec()
        with (
            closing(results),
            closing(send_on(results, sinks)) as sent,
            terminal.speaking(seconds_asked_for(options)) as show,
        ):
            recording = record((_without_audio(result) for result in sent), show)
    if recording.finish_reason is None and recording.failure is None:
        return 0  # whoever was listening has gone
    if recording.seconds or recording.finish_reason not in (None, "cancelled"):
        tell(recording, output, terminal)
    if recording.failure is not None:
        raise recording.failure
    return INTERRUPTED if recording.finish_reason == "cancelled" else 0


def _without_audio(result: GenerationResult) -> GenerationResult:
    """The figures only, so that an hour takes no more memory than a minute."""
    return replace(result, audio=np.zeros(0, np.float32))
