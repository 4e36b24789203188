"""The command `moss-tts convert`. What is slow to import waits inside."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moss_tts.cli.arguments import read_lora, refuse_options_of_speech
from moss_tts.cli.options import EXISTING, TiedHeads, examples, panel
from moss_tts.errors import RequestError

if TYPE_CHECKING:
    from moss_tts.adapters.peft import StoredAdapter
    from moss_tts.checkpoints.pace import Pace
    from moss_tts.checkpoints.plan import Factors
    from moss_tts.cli.speak_text import Source
    from moss_tts.cli.terminal import Terminal

EXAMPLES = examples(
    ("See what fits this machine", "moss-tts inspect DIR"),
    ("Convert to four bits", "moss-tts convert --hf-path OpenMOSS-Team/MOSS-TTS -q --mlx-path MOSS-4bit"),
    (
        "Keep more bits where they matter",
        "moss-tts convert --hf-path DIR --mlx-path OUT -q --quant-predicate mixed_4_8",
    ),
    (
        "Calibrate the rounding on texts",
        "moss-tts convert --hf-path DIR --mlx-path OUT -q --calibrate texts.txt",
    ),
    ("Convert a sound model", "moss-tts convert --hf-path OpenMOSS-Team/MOSS-SoundEffect-v2.0 -q --q-bits 8"),
    (
        "Publish a copy, without the codec",
        "moss-tts convert --hf-path DIR -q --no-codec --upload-repo me/OUT-4bit",
    ),
)


WHERE, PRECISION, HUB = panel("From and to"), panel("Precision"), panel("The hub")


def convert(
    hf_path: Annotated[str, WHERE("--hf-path", metavar="DIR|HUB_ID", help="Convert this checkpoint.")],
    mlx_path: Annotated[
        Path, WHERE("--mlx-path", metavar="DIR", help="Write the copy into this directory, which must not exist.")
    ] = Path("mlx_model"),
    revision: Annotated[
        str | None, WHERE(metavar="NAME", help="Use this branch, tag or commit of the checkpoint on the hub.")
    ] = None,
    with_codec: Annotated[
        bool | None,
        WHERE(
            "--with-codec/--no-codec",
            help="Put the codec into the copy, as audio_tokenizer/, or leave it out. Without a codec the copy cannot "
            "speak by itself. By default the codec is included if it can be found. If source and copy are on the same "
            "disk, it takes no additional space.",
            show_default=False,
        ),
    ] = None,
    codec: Annotated[str | None, WHERE(metavar="DIR|HUB_ID", help="Put this codec into the copy.")] = None,
    tied_heads: TiedHeads = None,
    lora: Annotated[
        list[str] | None,
        WHERE(
            metavar="NAME=DIR[:WEIGHT]",
            help="Bake this LoRA adapter into the copy, with this weight; the default is 1. Adapters of heads that are "
            "embeddings are refused. Repeat the option for more.",
        ),
    ] = None,
    quantize: Annotated[
        bool, PRECISION("--quantize", "-q", help="Quantise the weights. Without this, the copy speaks the same tokens.")
    ] = False,
    q_bits: Annotated[int | None, PRECISION(metavar="N", help="Use 2, 3, 4, 5, 6 or 8 bits. The default is 4.")] = None,
    q_group_size: Annotated[
        int | None,
        PRECISION(
            metavar="N", help="Quantise in groups of 32, 64 or 128 weights, which share a scale. The default is 64."
        ),
    ] = None,
    q_mode: Annotated[
        str | None,
        PRECISION(metavar="WORD", help="Quantise in mode affine, mxfp4, nvfp4 or mxfp8. The default is affine."),
    ] = None,
    quant_predicate: Annotated[
        str | None,
        PRECISION(
            metavar="RECIPE",
            help="Give more bits to the layers that matter most: mixed_2_6, mixed_3_4, mixed_3_6, mixed_4_6 or "
            "mixed_4_8.",
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        PRECISION(
            metavar="FILE",
            help="Speak the texts of this file, one per line, and round the weights by the inputs that the layers then "
            "get (GPTQ). 4 bits are then nearly as good as 5. The whole model must fit into memory.",
            **EXISTING,
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        PRECISION(
            metavar="TYPE", help="Store the other weights in float32 or bfloat16. The default is the source's type."
        ),
    ] = None,
    base_model: Annotated[
        str | None,
        HUB(metavar="HUB_ID", help="Name this source in the model card. You need this if --hf-path is a directory."),
    ] = None,
    upload_repo: Annotated[
        str | None, HUB(metavar="HUB_ID", help="Upload the copy to this hub id, after asking you.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show only warnings and errors.")] = False,
) -> None:
    """Copy a checkpoint at another precision: less memory, more speed.

    This needs little memory, whatever the size of the checkpoint, unless it calibrates. An unfinished copy never
    loads. moss-tts inspect --verify compares a finished one with its checksums.
    """
    from moss_tts.checkpoints.convert import check_room, codec_to_include, shares_weights, weights_nbytes
    from moss_tts.checkpoints.convert import convert as write
    from moss_tts.checkpoints.loading import find_checkpoint, load_config
    from moss_tts.checkpoints.names import is_pipeline
    from moss_tts.checkpoints.number_types import DTYPES, compute_dtype
    from moss_tts.checkpoints.pace import paces
    from moss_tts.checkpoints.plan import plan
    from moss_tts.cli.convert_sounds import convert_sounds
    from moss_tts.cli.speak_text import Source
    from moss_tts.cli.terminal import Terminal
    from moss_tts.device.memory import size
    from moss_tts.weights.quantisation import asked_recipe

    recipe = asked_recipe(quantize, quant_predicate, q_bits, q_group_size, q_mode, calibrate)
    stored = None if dtype is None else compute_dtype(dtype, DTYPES["float32"])
    if upload_repo is not None:
        _check_upload(upload_repo)
    check_room(mlx_path, 0)
    terminal = Terminal(quiet)
    with terminal.loading(hf_path):
        source = find_checkpoint(hf_path, revision=revision)
    if is_pipeline(source.directory):
        of_speech = {"codec": codec, "with-codec": with_codec, "tied-heads": tied_heads, "lora": lora}
        refuse_options_of_speech(of_speech | {"calibrate": calibrate})
        whole = convert_sounds(source, mlx_path, recipe, stored, base_model, upload_repo, terminal)
        return _upload(terminal, mlx_path, upload_repo, size(whole))
    with terminal.loading(hf_path):
        config = load_config(source.directory)
        inside = codec_to_include(source, config, codec, with_codec)
        adapters = _to_bake_in(lora or [], calibrate)
    planned = plan(source.directory, config, recipe, stored, adapters=adapters)
    if calibrate is not None:
        speaker = Source(hf_path, codec, revision=revision, tied_heads=tied_heads)
        planned = plan(source.directory, config, recipe, stored, _factors(speaker, calibrate, terminal))
    beside = 0 if inside is None else weights_nbytes(inside)
    with terminal.writing(str(mlx_path), planned.nbytes + beside) as show:
        absent = write(
            source,
            mlx_path,
            planned,
            codec=inside,
            base_model=base_model,
            repo=upload_repo,
            on_bytes=show,
            tied_heads=tied_heads,
        )
    terminal.say(f"{mlx_path}: {size(planned.nbytes)}, {planned.bits_per_weight:.2f} bits per weight")
    if inside is not None:
        room = ", which shares the files of the source and takes no space" if shares_weights(inside, mlx_path) else ""
        terminal.say(f"with its codec, {size(beside)}{room}")
    _name_the_fastest(terminal, paces(source.directory, config))
    for name in absent:
        terminal.say(f"absent: {name}")
    _upload(terminal, mlx_path, upload_repo, size(planned.nbytes + beside))


def _name_the_fastest(terminal: Terminal, found: Mapping[str, Pace]) -> None:
    """Say which conversion is the fastest on this CPU, where its memory decides that."""
    if found:
        way, pace = min(found.items(), key=lambda one: one[1].frame_bytes)
        what = f"with {way}" if way else "as it is"
        terminal.say(f"fastest on this CPU: the source {what}, about {pace.times_real_time:.1f} x real time")


def _to_bake_in(lora: Sequence[str], calibrate: Path | None) -> list[tuple[StoredAdapter, float]]:
    """The adapters of --lora, each with its weight."""
    from moss_tts.checkpoints import adapters

    directories, weights = read_lora(lora)
    if lora and calibrate is not None:
        raise RequestError(
            "--calibrate measures the source without adapters. Convert with --lora first, then the copy."
        )
    return [(one, weights[one.name]) for one in adapters.read_adapters(adapters.find_adapters(directories))]


def _factors(speaker: Source, texts: Path, terminal: Terminal) -> Factors:
    """The factors of a calibration: the model is loaded, and speaks the texts of a file."""
    from moss_tts.checkpoints.calibration import OPTIONS, Calibration, read_requests, spoken

    with terminal.loading(f"{speaker.model}, which speaks the texts of {texts}"):
        model = speaker.load()
        jobs = [model.job(model.request({**OPTIONS, **given})) for given in read_requests(texts)]
        return Calibration(model.architecture, spoken(model.architecture, jobs)).factor


def _check_upload(repo: str) -> None:
    """Refuse an upload that cannot be, before anything is written."""
    from moss_tts.checkpoints.upload import check_repo

    check_repo(repo)
    if not sys.stdin.isatty():
        raise RequestError("--upload-repo asks before it uploads, so it needs a terminal. Run the command in one.")


def _upload(terminal: Terminal, directory: Path, repo: str | None, much: str) -> None:
    """Upload a copy of that size into a repository, if one was named and the person at the terminal says yes."""
    from moss_tts.checkpoints.upload import upload

    if repo is None:
        return
    where = f"https://huggingface.co/{repo}"
    if not typer.confirm(f"Upload {directory}, {much}, to {where}? Everybody will be able to see it."):
        terminal.say("Nothing was uploaded.")
        return
    with terminal.loading(f"{directory} onto the hub"):
        url = upload(directory, repo)
    terminal.say(url)
