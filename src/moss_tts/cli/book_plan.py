"""A book's plan as people see it, what is not read of it, and what the checkpoint cannot follow.

Modules that speak are imported only where they are needed, so that a plan appears at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moss_tts.books.chapters import Book
from moss_tts.books.planning import book_cut, estimate, plan_book, reading_notes
from moss_tts.books.voices import ONE_VOICE, BookVoices
from moss_tts.cli.book_files import Destination
from moss_tts.cli.progress import duration
from moss_tts.cli.terminal import Terminal
from moss_tts.config import MossConfig, parse_config
from moss_tts.device.memory import size
from moss_tts.long_form import TextSegment
from moss_tts.presets import Preset
from moss_tts.prompts.token_budgets import Cut
from moss_tts.text.harmless import one_line
from moss_tts.text.preparation import TextPreparation
from moss_tts.weights.layout import read_json

# The rate of a checkpoint that is not on this machine: most of the family have it.
DEFAULT_RATE = 24_000
# The codec of this rate is stereo.
STEREO_RATE = 48_000


def show_plan(
    book: Book,
    options: Mapping[str, Any],
    model: str,
    to: Destination,
    terminal: Terminal,
    voices: BookVoices = ONE_VOICE,
) -> None:
    """Print the segments of each chapter: number, place in the text, length, what ends it, its voice, how it begins.

    Then how long and how large the reading will be, roughly.
    """
    config = config_of(model)
    preparation = None if config is None else config.text_preparation
    plans = plan_book(book, options, preparation, cut_of_checkpoint(model, config, options), voices=voices)
    for number, (chapter, plan) in enumerate(zip(book.chapters, plans, strict=True), start=1):
        terminal.say(f"chapter {number}: {chapter.title} ({_count(plan)})")
        for position, segment in enumerate(plan, start=1):
            terminal.say(
                f"  {number}.{position}  {segment.start_offset}-{segment.end_offset}  {len(segment.text)} characters, "
                f"ends at {segment.boundary.name.lower()}{_voice(segment)}: {one_line(segment.text)}"
            )
    everything = [segment for plan in plans for segment in plan]
    terminal.say(f"{book.title}: {len(plans)} {'chapter' if len(plans) == 1 else 'chapters'}, {_count(everything)}")
    suffix = ".m4b" if to.is_one_file else to.suffix
    rate = DEFAULT_RATE if config is None else config.sampling_rate
    channels = 2 if rate == STEREO_RATE else 1
    roughly = estimate(plans, suffix, rate, channels, options.get("speed", 1.0))
    terminal.say(
        f"roughly {duration(roughly.seconds)} of audio; {size(roughly.nbytes)} as {suffix.removeprefix('.')}, and "
        f"{size(roughly.work_bytes)} more on disk until the reading is finished"
    )
    show_notes(book, options, preparation, terminal, voices=voices)
    show_remarks(book, terminal)


def config_of(model: str) -> MossConfig | None:
    """The config of a checkpoint; None for a hub id, which would have to be fetched.

    Raises:
        ConfigError: the directory holds no checkpoint of this family.
    """
    directory = Path(model)
    return parse_config(read_json(directory / "config.json")) if directory.is_dir() else None


def cut_of_checkpoint(model: str, config: MossConfig | None, options: Mapping[str, Any]) -> Cut | None:
    """How a checkpoint cuts chapters, without its weights; None where its config is not known, or it counts no tokens.

    Raises:
        CheckpointError: its variant counts tokens, and its tokenizer is missing or broken.
    """
    # What is imported below would take seconds.
    if config is None or not config.counts_tokens:
        return None
    from moss_tts.architectures import ARCHITECTURES
    from moss_tts.checkpoints.loading import find_checkpoint
    from moss_tts.checkpoints.tokenizer import load_tokenizer
    from moss_tts.checkpoints.variant import variant_of
    from moss_tts.prompts.messages import PromptEncoder

    source = find_checkpoint(model)
    preset = variant_of(source, ARCHITECTURES[type(config)].default_preset).preset
    if preset.pieces is None:
        return book_cut(options, preset, None)
    encoder = PromptEncoder.of(load_tokenizer(source.directory))
    return book_cut(options, preset, lambda text: len(encoder.encode(text)))


def show_notes(
    book: Book,
    options: Mapping[str, Any],
    preparation: TextPreparation | None,
    terminal: Terminal,
    preset: Preset | None = None,
    voices: BookVoices = ONE_VOICE,
) -> None:
    """Warn about options and text that the checkpoint cannot follow."""
    for note in reading_notes(book, options, preparation, preset, voices):
        terminal.warn(note)


def show_remarks(book: Book, terminal: Terminal) -> None:
    """Report the parts of a book that are not read, and the faults of its file."""
    if book.left_out:
        terminal.say(f"not read: {'; '.join(book.left_out)}")
    for warning in book.warnings:
        terminal.warn(warning)


def _count(plan: Sequence[TextSegment]) -> str:
    segments = "1 segment" if len(plan) == 1 else f"{len(plan)} segments"
    return f"{segments}, {sum(len(segment.text) for segment in plan)} characters"


def _voice(segment: TextSegment) -> str:
    return "" if segment.casting is None else f", in voice {segment.casting}"
