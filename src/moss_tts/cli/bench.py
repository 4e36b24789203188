"""The command `moss-tts bench`. What is slow to import waits inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from moss_tts.cli.arguments import read_lora, refuse_options_of_speech
from moss_tts.cli.options import Checkpoint, Codec, CodecDtype, Dtype, KvBits, Lora, TiedHeads, examples

if TYPE_CHECKING:
    from moss_tts.diffusion.model import SoundModel

FRAMES = 50
EXAMPLES = examples(
    ("Measure the packaged voice", "moss-tts bench"),
    ("Measure a checkpoint", "moss-tts bench --model DIR"),
)


def bench(
    model: Checkpoint = None,
    codec: Codec = None,
    dtype: Dtype = None,
    codec_dtype: CodecDtype = None,
    kv_bits: KvBits = None,
    tied_heads: TiedHeads = None,
    lora: Lora = None,
    frames: Annotated[
        int | None,
        typer.Option(min=8, metavar="N", help="Measure speech over N frames of 80 ms. The default is 50."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure how fast a checkpoint speaks on this machine, how much memory it takes, and how near it is to the limit.

    Of a sound model, some steps and the decoding are timed, and a whole sound is told from these.

    Close other programs first, because they slow it down.
    """
    given = dict(locals())
    from moss_tts import bench as measure
    from moss_tts.checkpoints.loading import find_checkpoint, load_config
    from moss_tts.checkpoints.pace import copies_of, paces
    from moss_tts.cli.inspection_text import pace_lines
    from moss_tts.cli.speak_text import Source
    from moss_tts.cli.terminal import Terminal

    adapters, weights = read_lora(lora or [])
    source = Source.of(given, adapters)
    with Terminal().loading(f"{source.model} and timing it"):
        if source.makes_sounds:
            refuse_options_of_speech({"frames": frames})
            from moss_tts.diffusion.bench import bench_sounds

            sounds = bench_sounds(lambda: cast("SoundModel", source.load()))
            print(sounds.as_json() if json else sounds.as_text())
            return
        measured = measure.bench(source.load, frames or FRAMES, adapters=weights)
    print(measure.as_json(measured) if json else measure.as_text(measured))
    if not json:
        directory = find_checkpoint(source.model).directory
        for _, line in pace_lines(copies_of(paces(directory, load_config(directory)))):
            print(f"{'copies':<12} {line}")
