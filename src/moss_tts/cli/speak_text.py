"""The work of `moss-tts generate`: load, speak, keep what was spoken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moss_tts.audio.files import WRITABLE_FORMATS, write_audio
from moss_tts.checkpoints.loading import bring
from moss_tts.cli.output_files import Recording, interruptible, record
from moss_tts.cli.terminal import Terminal, figures, summary
from moss_tts.errors import RequestError
from moss_tts.model import Model, load
from moss_tts.prompts.options import OPTIONS, check_options
from moss_tts.request import FRAME_RATE

INTERRUPTED = 130


@dataclass(frozen=True)
class Source:
    """Arguments of `moss_tts.load`, the memory in GB."""

    model: str
    codec: str | None = None
    dtype: str | None = None
    revision: str | None = None
    max_memory: float | None = None
    codec_dtype: str | None = None
    kv_bits: int | None = None

    def load(self) -> Model:
        """The model in memory. What is not here is fetched first, in this thread, which Ctrl-C reaches."""
        bring(self.model, revision=self.revision, codec=self.codec)
        most = None if self.max_memory is None else round(self.max_memory * 1e9)
        return load(
            self.model,
            codec=self.codec,
            dtype=self.dtype,
            revision=self.revision,
            codec_dtype=self.codec_dtype or "float32",
            kv_bits=self.kv_bits,
            max_memory=most,
        )


def request_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of generate among the command's arguments, each checked alone.

    Raises:
        RequestError: a value of the wrong type or out of range.
    """
    options = {name: value for name, value in given.items() if name in OPTIONS and value not in (None, [])}
    check_options(options)
    return options


def speak_to_file(options: Mapping[str, Any], output: Path, source: Source, terminal: Terminal) -> int:
    """Speak a request into an audio file; what was decoded is kept when generation fails or is interrupted.

    Returns:
        The exit code.

    Raises:
        MossTTSError: what went wrong.
    """
    check_output(output)
    with terminal.loading(source.model):
        model = source.load()
    with interruptible() as cancel:
        with terminal.showing_warnings():
            results = model.generate(**options, cancel=cancel)
        with terminal.loading("codec"):
            model.codec()
        with terminal.speaking(seconds_asked_for(options)) as show:
            recording = record(results, show)
    keep(recording, output, terminal)
    if recording.failure is not None:
        raise recording.failure
    return INTERRUPTED if recording.finish_reason == "cancelled" else 0


def check_output(path: Path, allowed: Iterable[str] = WRITABLE_FORMATS) -> None:
    """Refuse an output that could not be written, before anything is loaded.

    Raises:
        RequestError: another format, a directory, or a place that does not exist.
    """
    if path.is_dir():
        raise RequestError(f"--output {path} is a directory; name a file in it.")
    if path.suffix.lower() not in allowed:
        raise RequestError(f"--output {path} must end in {', '.join(allowed)}.")
    if not path.parent.is_dir():
        raise RequestError(f"--output {path}: there is no directory {path.parent}.")


def seconds_asked_for(options: Mapping[str, Any]) -> float | None:
    """The length the caller wants, if any."""
    if (tokens := options.get("tokens")) is not None:
        return tokens / FRAME_RATE
    return options.get("duration_s", options.get("seconds"))


def keep(recording: Recording, output: Path, terminal: Terminal) -> None:
    """Write the audio there is, and say what it is."""
    complete = recording.finish_reason not in (None, "cancelled")
    if not recording.seconds and not complete:
        if recording.failure is None:
            terminal.warn("nothing was decoded, so no file was written")
        return
    write_audio(output, recording.audio, recording.results[-1].sample_rate)
    tell(recording, output, terminal)


def tell(recording: Recording, output: Path, terminal: Terminal) -> None:
    """Say what was written, and what is missing of it."""
    complete = recording.finish_reason not in (None, "cancelled")
    terminal.say(summary(output, recording))
    if terminal.verbose:
        terminal.say(figures(recording))
    if not complete:
        terminal.warn(f"generation was cut off; {output} holds the part that was decoded")
    if recording.finish_reason == "silence":
        terminal.warn("the model had gone silent and was stopped; another --seed may do better (--no-runaway-guard)")
    if recording.finish_reason == "length":
        terminal.warn(
            "generation stopped at its budget, so the end may be missing. The budget is --max-tokens, with --tokens "
            "or --duration-s half as much again as asked for, and what the text can take (--no-runaway-guard)"
        )
