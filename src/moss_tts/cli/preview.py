"""The work of `moss-tts read --preview`: the first lines of each voice of a book."""

from __future__ import annotations

from dataclasses import replace

from moss_tts.audio.files import write_audio
from moss_tts.audio.marking import mark_of
from moss_tts.books.planning import long_form_options
from moss_tts.cli.output_files import interruptible
from moss_tts.cli.read_book import RETRY_ATTEMPTS, Reading
from moss_tts.cli.speak_text import INTERRUPTED
from moss_tts.cli.terminal import Terminal
from moss_tts.sampling import draw_seed
from moss_tts.text.harmless import one_line


def speak_preview(reading: Reading, terminal: Terminal) -> int:
    """Speak the first segment in each voice into a file of its own; with a seed, as it will be in the book.

    Returns:
        The exit code.

    Raises:
        MossTTSError: what went wrong.
    """
    from moss_tts.books.chapter_files import SpokenBook, chapter_file_name
    from moss_tts.books.kept_segments import KeptSegments
    from moss_tts.books.narrators import BookNarrators

    reading.to.check_places()
    options = {"long_form_retry_attempts": RETRY_ATTEMPTS, **reading.options}
    reading = replace(reading, options=options)
    with terminal.loading(reading.source.model):
        model = reading.source.load_speech()
    spoken = SpokenBook(
        reading.book, reading.plan(model, terminal), KeptSegments(reading.to.work), long_form_options(options)
    )
    folder = reading.to.output.with_name(f"{reading.to.output.name}.preview")
    seed = options.get("seed", draw_seed())
    with interruptible() as cancel:
        narrators = BookNarrators(model, spoken, options, seed, reading.voices, cancel=cancel)
        narrators.check_voices()
        folder.mkdir(exist_ok=True)
        for place, (casting, (chapter, number)) in enumerate(narrators.first.items()):
            speech = narrators.alone(casting)
            if speech.finish_reason == "cancelled":
                return INTERRUPTED
            speakers = reading.voices.speakers(casting)
            path = folder / chapter_file_name(place, speakers, reading.to.suffix)
            mark = mark_of(reading.source.name) if reading.to.mark else None
            write_audio(path, speech.audio, model.sample_rate, mark=mark)
            said = one_line(spoken.plans[chapter][number].text)
            terminal.say(f"{path}: {speakers}, {len(speech.audio) / model.sample_rate:.1f} s: {said}")
    terminal.say(f"seed {seed}")
    return 0
