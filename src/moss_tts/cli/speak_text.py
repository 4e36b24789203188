"""The work of `moss-tts generate` and `say`: load, speak, keep what was spoken."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

from moss_tts.audio.files import WRITABLE_FORMATS, write_audio
from moss_tts.audio.marking import mark_of
from moss_tts.checkpoints.names import is_pipeline
from moss_tts.checkpoints.packaged import packaged_voice
from moss_tts.cli.cut_short import what_was_cut
from moss_tts.cli.output_files import Recording, interruptible, record
from moss_tts.cli.places import check_file
from moss_tts.cli.shares import share_of
from moss_tts.cli.subtitles import NO_SUBTITLES, WantedSubtitles, subtitle_path
from moss_tts.cli.terminal import Terminal, figures, summary
from moss_tts.errors import RequestError
from moss_tts.long_form import SegmentMetrics
from moss_tts.prompts.options import OPTIONS, check_options
from moss_tts.result import GenerationResult
from moss_tts.strict import is_number
from moss_tts.subtitles.alignment import Find, with_words
from moss_tts.subtitles.cues import Cue
from moss_tts.subtitles.formats import write_subtitles

if TYPE_CHECKING:
    from moss_tts.model import Model
    from moss_tts.presets import Preset

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
    tied_heads: Literal["embeddings"] | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any], adapters: Mapping[str, str]) -> Source:
        """What the arguments of a command name; without a model it is the packaged voice.

        Args:
            given: the arguments, by the names of the fields.
            adapters: the directories of --lora, by name.
        """
        named = {one.name: given[one.name] for one in fields(cls) if given.get(one.name) is not None}
        return cls(**named | {"model": given.get("model") or str(packaged_voice()), "adapters": adapters})

    @property
    def name(self) -> str:
        """The checkpoint, for people: the last part of its directory, or its hub id."""
        return Path(self.model).name if Path(self.model).is_dir() else self.model

    @cached_property
    def makes_sounds(self) -> bool:
        """Whether it is a sound model, which is fetched if need be."""
        if Path(self.model).is_dir():
            return is_pipeline(Path(self.model))
        from moss_tts.kinds import sound_source  # it takes seconds to import

        return sound_source(self.model, self.revision) is not None

    def fingerprint(self) -> str:
        """A sum over checkpoint, codec, type and adapters: what speaks. Missing files are fetched."""
        from moss_tts.books.manifest import checkpoint_fingerprint
        from moss_tts.checkpoints.adapters import find_adapters
        from moss_tts.checkpoints.loading import find_checkpoint

        directories = [find_checkpoint(self.model, revision=self.revision).directory]
        if self.codec is not None:
            directories.append(find_checkpoint(self.codec).directory)
        directories += find_adapters(dict(sorted(self.adapters.items()))).values()
        context = None if self.kv_bits is None else f"context {self.kv_bits}"
        precision = " ".join(filter(None, (self.dtype, self.codec_dtype, context)))
        return checkpoint_fingerprint(directories, precision or None)

    def load(self) -> Model:
        """The model in memory. Missing files are fetched first, in this thread, which Ctrl-C reaches."""
        # Imported here, because it takes seconds: wrong usage and plans should not wait for it.
        from moss_tts.checkpoints.loading import bring
        from moss_tts.kinds import load

        if self.max_memory is not None and not is_number(self.max_memory):
            raise RequestError(f"--max-memory must be a number of GB, got {self.max_memory}")
        if not self.makes_sounds:
            bring(self.model, revision=self.revision, codec=self.codec)
        most = None if self.max_memory is None else round(self.max_memory * 1e9)
        return load(
            self.model,
            codec=self.codec,
            dtype=self.dtype,
            revision=self.revision,
            codec_dtype=self.codec_dtype or "float32",
            kv_bits=self.kv_bits,
            tied_heads=self.tied_heads,
            adapters=self.adapters,
            max_memory=most,
        )

    def load_speech(self) -> Model:
        """The model in memory, for commands that speak.

        Raises:
            RequestError: it is a sound model.
        """
        if self.makes_sounds:
            raise RequestError(f"{self.name} makes sounds and speaks no text; use `moss-tts sound`.")
        return self.load()

    def tell_variant(self, terminal: Terminal, model: Model, taken: Preset) -> None:
        """Say which variant a request uses, and why; the packaged voice has only one."""
        from moss_tts.checkpoints.loading import find_checkpoint
        from moss_tts.checkpoints.variant import variant_of

        if self.model == str(packaged_voice()):
            return
        found = variant_of(find_checkpoint(self.model, revision=self.revision), model.architecture.default_preset)
        why = found.told_by if taken == found.preset else "as --preset says"
        terminal.hint(f"{self.name}: variant {taken.name}, {why}")


@dataclass(frozen=True)
class Destination:
    """Where audio goes.

    Attributes:
        output: the file, or STDOUT.
        play: whether it is played as well.
        subtitles: the subtitles that are wanted.
        mark: whether a file says what made it.
    """

    output: Path
    play: bool = False
    subtitles: WantedSubtitles = NO_SUBTITLES
    mark: bool = True


def request_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of generate among the command's arguments, each checked alone.

    Raises:
        RequestError: a value of the wrong type or out of range.
    """
    options = {name: value for name, value in given.items() if name in OPTIONS and value not in (None, [], {})}
    check_options(options)
    return options


@dataclass(frozen=True)
class Speech:
    """A request that is being spoken.

    Attributes:
        results: its audio, while it is made.
        share: gives the share of the whole that a recording is; None if that is unknown.
        warnings: gives sentences for people about missing parts of a recording.
        cancelled: set once Ctrl-C was pressed.
    """

    results: Generator[GenerationResult, None, None]
    share: Callable[[Recording], float | None]
    warnings: Callable[[Recording], list[str]]
    cancelled: Event


@contextmanager
def speaking(options: Mapping[str, Any], source: Source, terminal: Terminal, flags: Iterable[str]) -> Iterator[Speech]:
    """Load the model, and speak until the end or Ctrl-C.

    Args:
        options: the options of generate.
        source: the source of the model.
        terminal: shows what happens.
        flags: names of the command's options, of which a warning may speak.

    Raises:
        MossTTSError: the model cannot be loaded, or the request is wrong.
    """
    with terminal.loading(source.name):
        model = source.load()
    metrics: list[SegmentMetrics] = []
    with interruptible() as cancel:
        results = model.generate(**options, cancel=cancel, on_segment=metrics.append)
        request = model.request(options)
        with terminal.loading("codec"):
            model.codec()
        source.tell_variant(terminal, model, request.preset)
        yield Speech(
            results,
            share_of(options, request.plan),
            lambda recording: what_was_cut(recording, model, request, metrics, frozenset(flags)),
            cancel,
        )


def speak_to_file(
    options: Mapping[str, Any], to: Destination, source: Source, terminal: Terminal, flags: Iterable[str]
) -> int:
    """Speak a request into an audio file; audio made before a failure or an interruption is kept.

    Args:
        options: the options of generate.
        to: where the audio goes.
        source: the source of the model.
        terminal: shows what happens.
        flags: names of the command's options, of which a warning may speak.

    Returns:
        The exit code.

    Raises:
        MossTTSError: what went wrong.
    """
    check_output(to.output)
    to.subtitles.check()
    path, find = subtitle_path(to.subtitles.file, to.output), to.subtitles.finder(terminal)
    with speaking(options, source, terminal, flags) as speech, terminal.speaking(speech.share) as show:
        recording = record(speech.results, show)
    if recording.seconds or recording.is_complete:
        sample_rate = recording.results[-1].sample_rate
        write_audio(to.output, recording.audio, sample_rate, mark=to.mark and mark_of(source.name))
        tell(recording, to.output, terminal, speech)
        if path is not None:
            write_cues(with_times_of_words(recording, find, terminal), path, terminal)
    elif recording.failure is None:
        terminal.warn("no audio was made, so no file was written")
    return exit_code(recording)


def exit_code(recording: Recording) -> int:
    """The exit code of a command that recorded this.

    Raises:
        MossTTSError: what ended it, if that was an error.
    """
    if recording.failure is not None:
        raise recording.failure
    return INTERRUPTED if recording.finish_reason == "cancelled" else 0


def check_output(path: Path, allowed: Iterable[str] = WRITABLE_FORMATS) -> None:
    """Refuse an output that could not be written, before anything is loaded.

    Raises:
        RequestError: another format, or a place that cannot be written to.
    """
    check_file("--output", path)
    if path.suffix.lower() not in allowed:
        raise RequestError(f"--output {path} must end in {', '.join(allowed)}.")


def with_times_of_words(recording: Recording, find: Find | None, terminal: Terminal) -> Sequence[Cue]:
    """The segments of a recording, with the times of their words if something finds them."""
    if find is None:
        return recording.cues
    audio, rate = recording.audio, recording.results[-1].sample_rate
    with terminal.working("finding words") as show:
        cues = []
        for cue in recording.cues:
            cues.append(with_words(cue, audio, rate, find))
            show(len(cues) / len(recording.cues), "")
        return cues


def write_cues(cues: Sequence[Cue], path: Path, terminal: Terminal) -> None:
    """Write when each segment is heard."""
    write_subtitles(path, cues)
    terminal.say(f"{path}: {len(cues)} segments" if len(cues) != 1 else f"{path}: 1 segment")


def tell(recording: Recording, output: Path, terminal: Terminal, speech: Speech) -> None:
    """Report what was written, and what is missing."""
    terminal.say(summary(output, recording))
    if terminal.verbose:
        terminal.say(figures(recording))
    if not recording.is_complete:
        terminal.warn(f"generation ended early; {output} holds the audio that was made before")
    for warning in speech.warnings(recording):
        terminal.warn(warning)
