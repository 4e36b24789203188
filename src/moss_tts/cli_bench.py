"""The command `moss-tts bench`; cli.py registers it. What is slow to import waits inside."""

from __future__ import annotations

from typing import Annotated

import typer

EXAMPLES = (
    "[bold]Examples[/bold]",
    "This machine and a checkpoint:  moss-tts bench --model DIR",
    "Before and after:  moss-tts bench --model DIR; moss-tts bench --model DIR-4bit",
)


def bench(
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="DIR|HUB_ID", help="The checkpoint; by default the packaged voice."),
    ] = None,
    codec: Annotated[
        str | None, typer.Option(metavar="DIR|HUB_ID", help="The codec, if it is not beside the weights.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16 to compute in.")] = None,
    codec_dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or 8bit, for the codec's decoder.")] = None,
    kv_bits: Annotated[int | None, typer.Option(metavar="8|4", help="Keep the context in so many bits.")] = None,
    frames: Annotated[int, typer.Option(min=8, metavar="N", help="Frames of 80 ms to make.")] = 50,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how fast a checkpoint speaks here: frames, first audio, memory, and how near that is to the machine's limit.

    Close other programs first: what they do can only slow this down.
    """
    from moss_tts import bench as measure
    from moss_tts.packaged import packaged_voice
    from moss_tts.speaking import Source
    from moss_tts.terminal import Terminal

    source = Source(model or str(packaged_voice()), codec, dtype, codec_dtype=codec_dtype, kv_bits=kv_bits)
    with Terminal().loading(f"{source.model} and timing it"):
        measured = measure.bench(source.load, frames)
    print(measure.as_json(measured) if json else measure.as_text(measured))
