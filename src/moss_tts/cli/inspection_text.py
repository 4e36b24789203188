"""An inspection for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from moss_tts.checkpoints.facts import AdapterFacts, CodecFacts, ModelFacts, TokenizerFacts, WeightFacts
from moss_tts.checkpoints.footprint import MemoryFacts
from moss_tts.checkpoints.inspection import Inspection
from moss_tts.checkpoints.pace import Pace
from moss_tts.device import blas, compiled
from moss_tts.device.blas import BlasState, BlasStatus
from moss_tts.device.compiled import CState, CStatus
from moss_tts.device.memory import size
from moss_tts.device.packed import PackedState

Lines = Iterator[tuple[str, str]]


def as_json(inspection: Inspection) -> str:
    """All facts, the verdict (`runs`) and the bytes of memory it takes to speak (`needed_bytes`)."""
    needed = None if inspection.memory is None else inspection.memory.needed
    return json.dumps(asdict(inspection) | {"runs": inspection.runs, "needed_bytes": needed}, indent=2)


def as_text(inspection: Inspection) -> str:
    """A heading, a line for each fact, and the verdict."""
    lines = [f"{inspection.kind} {inspection.directory}"]
    lines += [f"  {label:<15} {' '.join(value.splitlines())}" for label, value in _facts(inspection)]
    here = inspection.download_bytes is None
    if inspection.kind == "sound model":
        return "\n".join([*lines, "Inspect it again once it is here, to see how much memory it needs."])
    if inspection.runs:
        verdict = (
            "It can be used with --lora." if inspection.adapter else "It runs here." if here else "It would run here."
        )
        return "\n".join([*lines, verdict])
    verdict = "It does not run here:" if here else "It would not run here:"
    return "\n".join([*lines, verdict, *(f"  - {problem}" for problem in inspection.problems)])


def _facts(inspection: Inspection) -> Lines:
    if inspection.download_bytes is not None:
        fetch = f"`moss-tts download {inspection.directory}` fetches {size(inspection.download_bytes)}"
        yield "on the hub", f"not on this machine yet; {fetch}"
    if inspection.model is not None:
        yield from _model(inspection.model)
    if inspection.weights is not None:
        yield from _weights(inspection.weights)
    if inspection.verified is not None:
        yield "verified", verified_text(inspection.verified)
    if inspection.codec is not None:
        yield "codec", _codec(inspection.codec, inspection.kind == "codec")
    if inspection.tokenizer is not None:
        yield "tokenizer", _tokenizer(inspection.tokenizer)
    if inspection.adapter is not None:
        yield from _adapter(inspection.adapter)
    if inspection.memory is not None:
        yield from _memory(inspection.memory)
    yield from pace_lines(inspection.paces)
    yield "device", f"{inspection.machine.device}, mlx {inspection.machine.mlx}"
    yield "OpenBLAS", openblas(inspection.machine.openblas)
    yield "C code", c_of_our_own(inspection.machine.c)
    if inspection.machine.c.status is CStatus.IN_USE:
        yield "packed weights", packed_weights(inspection.machine.packed)


def verified_text(files: list[str]) -> str:
    """What --verify found, for people."""
    if not files:
        return "no weight file has a sum to compare it with; `moss-tts convert` writes them"
    return f"{len(files)} weight file{'s are' if len(files) > 1 else ' is'} what convert wrote"


def _model(model: ModelFacts) -> Lines:
    yield "architecture", f"{model.architecture}, variant {model.variant} ({model.variant_told_by})"
    yield "backbone", f"{model.layers} layers of width {model.width}, text vocabulary {model.text_vocabulary}"
    yield "audio", f"{model.codebooks} codebooks of {model.codebook_size}, {model.sampling_rate} Hz"
    if model.quantization is not None:
        yield "quantised", _settings({k: v for k, v in model.quantization.items() if not isinstance(v, Mapping)})
    if model.copies:
        others = f"; {model.other_copies} of them have another precision than theirs" if model.other_copies else ""
        yield "heads", f"the embeddings: {model.copies} stored copies of embeddings are not used{others}"
    for channel, settings in (model.sampling or {}).items():
        yield f"{channel} sampling", _settings(settings)


def _settings(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _weights(weights: WeightFacts) -> Lines:
    types = ", ".join(weights.dtypes)
    files = "1 file" if weights.files == 1 else f"{weights.files} files"
    yield (
        "weights",
        f"{weights.parameters:,} values in {weights.tensors} tensors, {files}, {size(weights.bytes)}, {types}",
    )
    if weights.note is not None:
        yield "note", weights.note


def _codec(codec: CodecFacts, alone: bool) -> str:
    where = "" if alone else f"{codec.where}: "
    channels = {1: "mono", 2: "stereo"}.get(codec.channels, f"{codec.channels} channels")
    return (
        f"{where}generation {codec.generation}, {codec.sampling_rate} Hz {channels}, {codec.frame_rate:g} frames per "
        f"second, {codec.codebooks} codebooks of {codec.codebook_size}{'' if alone else f', {size(codec.bytes)}'}"
    )


def _adapter(adapter: AdapterFacts) -> Lines:
    trained_on = [name for name in (adapter.base, adapter.base_class) if name is not None]
    yield "trained on", ", a ".join(trained_on) or "not said"
    yield "changes", f"{adapter.layers} layers: {', '.join(adapter.targets)}"
    ranks = ", ".join(map(str, adapter.ranks))
    yield "rank", f"{ranks}; {adapter.parameters:,} values, {size(adapter.bytes)}"


def _tokenizer(tokenizer: TokenizerFacts) -> str:
    if tokenizer.chat_template is None:
        return _found(tokenizer.tokenizer)
    return f"{_found(tokenizer.tokenizer)}, chat template {_found(tokenizer.chat_template)}"


def _found(there: bool) -> str:
    return "found" if there else "missing"


def _memory(memory: MemoryFacts) -> Lines:
    yield "computes in", memory.compute_dtype
    yield (
        "memory",
        f"{size(memory.needed)} needed: model {size(memory.model_bytes)}, codec {size(memory.codec_decoder_bytes)}, "
        f"context {size(memory.cache_bytes_per_minute)} per minute; this machine has {size(memory.machine_bytes)}",
    )
    yield "", f"a reference needs {size(memory.codec_encoder_bytes)} more while it is encoded"
    ways = [(f"if converted with {way}", memory.needed_with(way)) for way in memory.smaller]
    ways += [(f"with --codec-dtype {name}", memory.needed_with(codec=name)) for name in memory.codec_smaller]
    for words, need in ways:
        yield "", f"{size(need)} {words}: {'fits' if need <= memory.machine_bytes else 'does not fit'}"


_OPENBLAS = {
    BlasStatus.IN_USE: "in use ({library})",
    BlasStatus.SWITCHED_OFF: f"switched off by {blas.SWITCH}=0",
    BlasStatus.OTHER_PLATFORM: "not needed on this platform",
    BlasStatus.CUDA_BUILD: "not needed with the CUDA build of mlx",
    BlasStatus.NOT_INSTALLED: "not installed (pip install 'moss-tts-mlx[cpu]')",
    BlasStatus.MLX_CAME_FIRST: "not used: mlx was imported before moss_tts",
    BlasStatus.WOULD_BREAK_PYTORCH: "not used: PyTorch is installed, and would crash without the C code of moss_tts",
    BlasStatus.NOT_LOADED: "could not be loaded: {error} (Debian and Ubuntu: apt install libgfortran5)",
}
_C = {
    CStatus.IN_USE: "in use",
    CStatus.SWITCHED_OFF: f"switched off by {compiled.SWITCH}=0",
    CStatus.NOT_COMPILED: "could not be compiled: {error}",
    CStatus.NOT_NEEDED: "not needed without OpenBLAS",
}


def openblas(state: BlasState) -> str:
    """Whether OpenBLAS is in use, or why not and what helps."""
    return _OPENBLAS[state.status].format(library=state.library, error=state.error)


def c_of_our_own(state: CState) -> str:
    """Whether the C is in use, or why not."""
    return _C[state.status].format(error=state.error)


def packed_weights(state: PackedState) -> str:
    """Whether the C multiplies quantised and bfloat16 weights, or why not and what helps."""
    if state.in_use:
        return "multiplied by the C code, as they are stored"
    return (
        f"multiplied by mlx, ten times as slowly as by the C code, which could not be compiled: {state.error} "
        "(Debian and Ubuntu: apt install g++)"
    )


def pace_lines(paces: Mapping[str, Pace]) -> Lines:
    """What a frame reads, and how fast that is here."""
    for way, pace in paces.items():
        copy = f" if converted with {way}" if way else ""
        speed = f"about {pace.times_real_time:.1f} x real time here"
        yield "" if way else "speed", f"a frame reads {size(pace.frame_bytes)}{copy}: {speed}, without the codec"
