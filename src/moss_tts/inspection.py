"""What a checkpoint is, what it needs and whether it runs on this machine.

Only config files and headers of weight files are read; networks are built without being evaluated.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx

from moss_tts import OPENBLAS
from moss_tts.architectures import ARCHITECTURES
from moss_tts.checkpoint import check_safetensors, load_strict, parameter_shapes, read_json, read_weights, weight_files
from moss_tts.codec import CodecConfig
from moss_tts.codec.config import MODEL_TYPES
from moss_tts.codec.weights import canonical_weights
from moss_tts.config import MossConfig
from moss_tts.errors import MossTTSError
from moss_tts.loading import (
    CODEC_PREFIX,
    CheckpointSource,
    LazyCodec,
    check_codec_fits,
    compute_dtype,
    find_checkpoint,
    load_config,
    quantize,
    stored_dtype,
)
from moss_tts.model import variant_of
from moss_tts.presets import Preset
from moss_tts.request import FRAME_RATE, resolve_sampling

T = TypeVar("T")


@dataclass(frozen=True)
class ModelFacts:
    """A speech model, from its config."""

    architecture: str
    variant: str
    layers: int
    width: int
    text_vocabulary: int
    codebooks: int
    codebook_size: int
    sampling_rate: int
    quantization: dict[str, Any] | None
    sampling: dict[str, dict[str, float]] | None


@dataclass(frozen=True)
class CodecFacts:
    """A codec, from its config. `where` is its directory, or what holds it."""

    where: str
    generation: int
    sampling_rate: int
    channels: int
    frame_rate: float
    codebooks: int
    codebook_size: int


@dataclass(frozen=True)
class WeightFacts:
    """Weight files, from their headers. `note` is what their maker wrote into them."""

    files: int
    tensors: int
    parameters: int
    bytes: int
    dtypes: dict[str, int]
    note: str | None


@dataclass(frozen=True)
class MemoryFacts:
    """Bytes of memory: for weights in the type computed in, for the context, and what there is."""

    compute_dtype: str
    model_bytes: int
    codec_decoder_bytes: int
    codec_encoder_bytes: int
    cache_bytes_per_minute: int
    machine_bytes: int

    @property
    def needed(self) -> int:
        """To speak for a minute; a reference needs the codec's encoder on top."""
        return self.model_bytes + self.codec_decoder_bytes + self.cache_bytes_per_minute


@dataclass(frozen=True)
class MachineFacts:
    """What computes."""

    device: str
    mlx: str
    openblas: str


@dataclass(frozen=True)
class TokenizerFacts:
    """Files beside the weights."""

    tokenizer: bool
    chat_template: bool


@dataclass
class Inspection:
    """Everything found; a part is None where it does not apply or could not be read.

    Attributes:
        problems: sentences; with any of them the checkpoint does not run.
    """

    directory: str
    kind: str
    machine: MachineFacts
    model: ModelFacts | None = None
    weights: WeightFacts | None = None
    codec: CodecFacts | None = None
    tokenizer: TokenizerFacts | None = None
    memory: MemoryFacts | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def runs(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.problems

    def attempt(self, action: Callable[[], T]) -> T | None:
        """What the action returns; where it fails on purpose, the reason becomes a problem."""
        try:
            return action()
        except MossTTSError as error:
            self.problems.append(str(error))
            return None


def inspect_checkpoint(name: str | Path, codec: str | Path | None = None) -> Inspection:
    """Look at a speech model or a codec.

    Args:
        name: its directory, or a hub id that is in the local cache.
        codec: the codec, if it is not beside the weights.

    Raises:
        CheckpointError: there is no checkpoint of that name.
    """
    found = find_checkpoint(name, cached_only=True)
    # Nothing is fetched here, whatever the name was.
    source = CheckpointSource(found.name, found.directory, from_hub=False)
    raw = read_json(source.directory / "config.json")
    is_codec = raw.get("model_type") in MODEL_TYPES
    inspection = Inspection(str(source.directory), "codec" if is_codec else "speech model", machine())
    inspection.weights = inspection.attempt(lambda: weight_facts(source.directory))
    if is_codec:
        _inspect_codec(inspection, source.directory)
    else:
        config = inspection.attempt(lambda: load_config(source.directory))
        if config is not None:
            _inspect_model(inspection, source, config, codec)
    return inspection


def machine() -> MachineFacts:
    """The device mlx uses by default."""
    name = mx.device_info().get("device_name", "unknown")
    return MachineFacts(f"{mx.default_device().type.name} ({name})", version("mlx"), OPENBLAS)


def machine_memory() -> int:
    """Bytes that weights can lie in: unified, of the graphics card, or of the machine."""
    info = mx.device_info()
    for key in ("memory_size", "total_memory"):
        if key in info:
            return int(info[key])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def weight_facts(directory: Path) -> WeightFacts:
    """Counts from the headers of a directory's safetensors files."""
    files = weight_files(directory)
    headers = [check_safetensors(path) for path in files]
    tensors = [entry for header in headers for name, entry in header.items() if name != "__metadata__"]
    dtypes: dict[str, int] = {}
    for entry in tensors:
        dtypes[entry["dtype"]] = dtypes.get(entry["dtype"], 0) + math.prod(entry["shape"])
    return WeightFacts(
        files=len(files),
        tensors=len(tensors),
        parameters=sum(dtypes.values()),
        bytes=sum(path.stat().st_size for path in files),
        dtypes=dtypes,
        note=(headers[0].get("__metadata__") or {}).get("note"),
    )


# ----------------------------------------------------------------------------------------------- speech model


def _inspect_model(
    inspection: Inspection, source: CheckpointSource, config: MossConfig, codec: str | Path | None
) -> None:
    preset = variant_of(source.name, ARCHITECTURES[type(config)].default_preset)
    inspection.model = _model_facts(inspection, source.directory, config, preset)
    inspection.tokenizer = _tokenizer_facts(inspection, source.directory)
    loaded = inspection.attempt(lambda: _load_lazily(source.directory, config))
    codec_sizes = inspection.attempt(lambda: _codec_of(inspection, source, config, codec))
    if loaded is None or codec_sizes is None:
        return
    dtype, model_bytes = loaded
    backbone = config.backbone
    per_row = 2 * backbone.num_hidden_layers * backbone.num_key_value_heads * backbone.head_dim * dtype.size
    inspection.memory = MemoryFacts(
        compute_dtype=str(dtype).removeprefix("mlx.core."),
        model_bytes=model_bytes,
        codec_decoder_bytes=codec_sizes["decoder"],
        codec_encoder_bytes=codec_sizes["encoder"],
        cache_bytes_per_minute=round(60 * FRAME_RATE) * per_row,
        machine_bytes=machine_memory(),
    )
    if inspection.memory.needed > inspection.memory.machine_bytes:
        inspection.problems.append(
            f"it needs {inspection.memory.needed / 1e9:.1f} GB of memory, and here are "
            f"{inspection.memory.machine_bytes / 1e9:.1f} GB."
        )


def _model_facts(inspection: Inspection, directory: Path, config: MossConfig, preset: Preset) -> ModelFacts:
    path = directory / "generation_config.json"
    generation_config = (inspection.attempt(lambda: read_json(path)) if path.is_file() else None) or {}
    sampling = inspection.attempt(lambda: asdict(resolve_sampling({}, preset, generation_config)))
    return ModelFacts(
        architecture=ARCHITECTURES[type(config)].name,
        variant=preset.name,
        layers=config.backbone.num_hidden_layers,
        width=config.hidden_size,
        text_vocabulary=config.vocab_size,
        codebooks=config.n_vq,
        codebook_size=config.audio_vocab_size,
        sampling_rate=config.sampling_rate,
        quantization=None if config.quantization is None else dict(config.quantization),
        sampling=sampling,
    )


def _load_lazily(directory: Path, config: MossConfig) -> tuple[mx.Dtype, int]:
    """The type to compute in and the bytes of the weights in it, after the check that all of them fit."""
    architecture = ARCHITECTURES[type(config)]
    named = architecture.layout.sanitize(read_weights(directory), config.n_vq)
    network = architecture.network_class(config)
    if config.quantization is not None:
        quantize(network, config.quantization, lambda path, _: f"{path}.scales" in named)
    load_strict(network, named, architecture.layout)
    dtype = compute_dtype(None, stored_dtype(named))
    sizes = {name: math.prod(shape) for name, shape in parameter_shapes(network).items()}
    return dtype, sum(
        size * (dtype.size if mx.issubdtype(named[name].dtype, mx.floating) else named[name].dtype.size)
        for name, size in sizes.items()
    )


def _tokenizer_facts(inspection: Inspection, directory: Path) -> TokenizerFacts:
    config = directory / "tokenizer_config.json"
    settings = (inspection.attempt(lambda: read_json(config)) if config.is_file() else None) or {}
    facts = TokenizerFacts(
        tokenizer=(directory / "tokenizer.json").is_file(),
        chat_template=bool(settings.get("chat_template")) or (directory / "chat_template.jinja").is_file(),
    )
    if not facts.tokenizer:
        inspection.problems.append(f"{directory} holds no tokenizer.json.")
    elif not facts.chat_template:
        inspection.problems.append(
            f"{directory} holds no chat template, neither in tokenizer_config.json nor as chat_template.jinja."
        )
    return facts


# ------------------------------------------------------------------------------------------------------ codec


def _inspect_codec(inspection: Inspection, directory: Path) -> None:
    raw = read_json(directory / "config.json")
    config = inspection.attempt(lambda: CodecConfig.from_dict(raw))
    if config is None:
        return
    inspection.codec = _codec_facts(config, str(directory))
    if inspection.weights is not None:
        inspection.attempt(lambda: canonical_weights(config, read_weights(directory)))


def _codec_of(
    inspection: Inspection, source: CheckpointSource, config: MossConfig, given: str | Path | None
) -> dict[str, int]:
    """Bytes of the two halves of a speech model's codec, after the checks that it is there and fits."""
    if given is None and config.codec_config is not None:
        raw, where = config.codec_config, "fused with the speech model"
        everything = read_weights(source.directory)
        weights = {name: weight for name, weight in everything.items() if name.startswith(CODEC_PREFIX)}
    else:
        directory = _codec_directory(source, config, given)
        raw, where, weights = read_json(directory / "config.json"), str(directory), read_weights(directory)
    codec = CodecConfig.from_dict(raw)
    inspection.codec = _codec_facts(codec, where)
    _, named = canonical_weights(codec, weights)
    check_codec_fits(codec, config)
    # The codec computes in float32.
    sizes = {"encoder": 0, "decoder": 0}
    for name, weight in named.items():
        sizes["encoder" if name.startswith("encoder.") else "decoder"] += weight.size * mx.float32.size
    return sizes


def _codec_directory(source: CheckpointSource, config: MossConfig, given: str | Path | None) -> Path:
    if given is not None:
        return find_checkpoint(given, cached_only=True).directory
    return LazyCodec(source, config).directory()


def _codec_facts(config: CodecConfig, where: str) -> CodecFacts:
    return CodecFacts(
        where=where,
        generation=config.version,
        sampling_rate=config.sampling_rate,
        channels=config.channels,
        frame_rate=config.frame_rate,
        codebooks=config.num_quantizers,
        codebook_size=config.codebook_size,
    )
