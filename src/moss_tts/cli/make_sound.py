"""The work of `moss-tts sound`, and of `generate` with a sound model: load, make the sound, write it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from moss_tts.audio.files import write_audio
from moss_tts.audio.marking import mark_of
from moss_tts.cli.output_files import interruptible, record
from moss_tts.cli.speak_live import STDOUT
from moss_tts.cli.speak_text import INTERRUPTED, Destination, Source, check_output, exit_code
from moss_tts.cli.terminal import Terminal, figures, summary
from moss_tts.errors import RequestError
from moss_tts.prompts.options import OPTIONS as OPTIONS_OF_SPEECH
from moss_tts.result import Speech

if TYPE_CHECKING:
    from moss_tts.diffusion.model import SoundModel


def make_sound(given: Mapping[str, Any], to: Destination, source: Source, terminal: Terminal) -> int:
    """Make a sound into an audio file.

    Args:
        given: the arguments of a command, options of sounds and of speech among them.
        to: where the sound goes; it is played once it is written.
        source: the source of the model.
        terminal: shows what happens.

    Returns:
        The exit code.

    Raises:
        MossTTSError: what went wrong.
    """
    from moss_tts.audio.players import find_player
    from moss_tts.diffusion.request import OPTIONS

    if to.output == STDOUT:
        raise RequestError("--output - is for audio that is written while it is made. Name a file for this sound.")
    check_output(to.output)
    if to.play:
        find_player()
    if not source.makes_sounds:
        raise RequestError(f"{source.name} is no sound model such as MOSS-SoundEffect v2; use `moss-tts generate`.")
    known = OPTIONS.keys() | OPTIONS_OF_SPEECH.keys()
    options = {name: value for name, value in given.items() if name in known and value not in (None, [], {})}
    with terminal.loading(source.name):
        model = cast("SoundModel", source.load())
    with interruptible() as cancel, terminal.working("sound") as show:
        results = model.generate(
            **options,
            cancel=cancel,
            on_step=lambda step, steps: show(step / steps, f"step {step} of {steps}"),
        )
        recording = record(results, lambda _: None)
    if not recording.is_complete:
        terminal.warn("the sound was not finished, so no file was written")
        return exit_code(recording) or INTERRUPTED
    write_audio(to.output, recording.audio, model.sample_rate, mark=to.mark and mark_of(source.name))
    terminal.say(summary(to.output, recording))
    if terminal.verbose:
        terminal.say(figures(recording))
    if to.play:
        Speech.of(recording.results[-1]).play()
    return 0
