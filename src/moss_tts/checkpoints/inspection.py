"""What a checkpoint is, what it needs and whether it runs on this machine.

Only config files and headers of weight files are read; networks are built without being evaluated. So a checkpoint of
the hub can be looked at before it is fetched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import mlx.core as mx

from moss_tts.adapters import CONFIG
from moss_tts.adapters.peft import read_adapter
from moss_tts.architectures import ARCHITECTURES
from moss_tts.atomic import expanded
from moss_tts.checkpoints.downloads import needed
from moss_tts.checkpoints.facts import AdapterFacts, CodecFacts, MachineFacts, ModelFacts, TokenizerFacts, WeightFacts
from moss_tts.checkpoints.footprint import CodecBytes, MemoryFacts, codec_weights, memory_facts, model_footprint
from moss_tts.checkpoints.loading import CheckpointSource, check_codec_fits, find_checkpoint, load_config
from moss_tts.checkpoints.names import CODEC_DIRECTORIES, PIPELINE_INDEX, TOKENIZER_FILES, refuse_pipeline
from moss_tts.checkpoints.outline import outlines
from moss_tts.checkpoints.pace import Pace, paces
from moss_tts.checkpoints.variant import Variant, variant_of
from moss_tts.codec import CodecConfig
from moss_tts.codec.config import MODEL_TYPES
from moss_tts.codec.precision import decoder_precision
from moss_tts.codec.weights import canonical_weights
from moss_tts.config import MossConfig
from moss_tts.device import blas, compiled, packed
from moss_tts.errors import MossTTSError, NotHereError, RequestError
from moss_tts.prompts.packing import ChatPacker
from moss_tts.request import resolve_sampling
from moss_tts.weights.copies import check_copies, stored_copies
from moss_tts.weights.headers import read_header
from moss_tts.weights.layout import is_pickled, read_json, read_weights, weight_files
from moss_tts.weights.shards import NAMES, check_sums, stored_tensors
from moss_tts.weights.stored import StoredTensor

T = TypeVar("T")


@dataclass
class Inspection:
    """Everything found; a part is None where it does not apply or could not be read.

    Attributes:
        directory: its directory, or its hub id.
        download_bytes: bytes of it and of its codec that must still be fetched; None if it is on this machine.
        paces: how fast it and its conversions can speak on this CPU; see `paces`.
        verified: weight files that agree with the sums beside them; None if they were not compared.
        problems: sentences; with any of them the checkpoint does not run.
    """

    directory: str
    kind: str
    machine: MachineFacts
    model: ModelFacts | None = None
    weights: WeightFacts | None = None
    codec: CodecFacts | None = None
    tokenizer: TokenizerFacts | None = None
    adapter: AdapterFacts | None = None
    memory: MemoryFacts | None = None
    paces: Mapping[str, Pace] = field(default_factory=dict)
    download_bytes: int | None = None
    verified: list[str] | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def runs(self) -> bool:
        """Whether the checkpoint runs on this machine."""
        return not self.problems

    def attempt(self, action: Callable[[], T]) -> T | None:
        """The result of the action; the message of one of our errors becomes a problem."""
        try:
            return action()
        except MossTTSError as error:
            self.problems.append(str(error))
            return None


def inspect_checkpoint(
    name: str | Path, codec: str | Path | None = None, codec_dtype: str = "float32", verify: bool = False
) -> Inspection:
    """Look at a speech model or a codec. What is not here is looked at on the hub, and not fetched.

    Of a sound model that is not here, only its size is told.

    Args:
        name: its directory, or a hub id.
        codec: the codec, if it is not beside the weights.
        codec_dtype: what its decoder is to be kept in.
        verify: read all weights, and compare them with the sums that a conversion wrote.

    Raises:
        CheckpointError: there is no checkpoint of that name, or the hub cannot be asked for it.
        ConfigError: the hub has something of that name that does not run here; it is a sound model that is here.
        RequestError: no such codec_dtype; weights that are not here cannot be verified.
    """
    decoder_precision(codec_dtype)
    if (expanded(name) / CONFIG).is_file():
        return _inspect_adapter(expanded(name))
    try:
        found = find_checkpoint(name, cached_only=True)
    except NotHereError:
        if verify:
            raise RequestError(
                f"{name} is not here, so its weights cannot be verified. Run `moss-tts download {name}` first."
            ) from None
        return _inspect_on_hub(str(name), codec, codec_dtype)
    refuse_pipeline(found.directory)
    # An inspection fetches nothing, whatever the name was.
    inspection = _inspect(CheckpointSource(found.name, found.directory, from_hub=False), codec, codec_dtype)
    if verify:
        _verify(inspection)
    return inspection


def _verify(inspection: Inspection) -> None:
    directories = [inspection.directory] if inspection.codec is None else [inspection.directory, inspection.codec.where]
    inspection.verified = []
    for directory in map(Path, dict.fromkeys(directories)):
        inspection.verified += inspection.attempt(partial(check_sums, directory)) or []
    if inspection.model is not None:
        inspection.attempt(partial(_verify_copies, Path(inspection.directory)))


def _verify_copies(directory: Path) -> None:
    config = load_config(directory)
    copies = ARCHITECTURES[type(config)].layout.copies
    check_copies(read_weights(directory), copies, config.hidden_size, config.quantization)


def _inspect_adapter(directory: Path) -> Inspection:
    inspection = Inspection(str(directory), "LoRA adapter", machine())
    inspection.adapter = inspection.attempt(lambda: AdapterFacts.of(read_adapter(directory.name, directory)))
    return inspection


def _inspect(source: CheckpointSource, codec: str | Path | None, codec_dtype: str) -> Inspection:
    raw = read_json(source.directory / "config.json")
    is_codec = raw.get("model_type") in MODEL_TYPES
    inspection = Inspection(str(source.directory), "codec" if is_codec else "speech model", machine())
    inspection.weights = inspection.attempt(lambda: weight_facts(source.directory))
    if is_codec:
        _inspect_codec(inspection, source.directory)
    else:
        config = inspection.attempt(lambda: load_config(source.directory))
        if config is not None:
            _inspect_model(inspection, source, config, codec, codec_dtype)
    return inspection


def _inspect_on_hub(name: str, codec: str | Path | None, codec_dtype: str) -> Inspection:
    """Inspect a checkpoint that is not on this machine, with its codec as if that were beside it."""
    repositories = needed(name)
    nbytes = sum(file.nbytes for listed in repositories for file in listed.missing())
    if repositories[0].description == PIPELINE_INDEX:
        # The sizes of a sound model's decoder are known to its weights alone.
        return Inspection(name, "sound model", machine(), download_bytes=nbytes)
    places = ("", CODEC_DIRECTORIES[0])
    with outlines(*zip(repositories, places, strict=False)) as directory:
        inspection = _inspect(CheckpointSource(name, directory, from_hub=False), codec, codec_dtype)
    inspection.directory = name
    inspection.problems = [problem.replace(str(directory), name) for problem in inspection.problems]
    if inspection.codec is not None and inspection.codec.where.startswith(str(directory)):
        inspection.codec = replace(inspection.codec, where=repositories[-1].name)
    inspection.download_bytes = nbytes
    return inspection


def machine() -> MachineFacts:
    """The device mlx uses by default."""
    name = mx.device_info().get("device_name", "unknown")
    device = f"{mx.default_device().type.name} ({name})"
    return MachineFacts(device, version("mlx"), blas.state(), compiled.state(), packed.state())


def weight_facts(directory: Path) -> WeightFacts:
    """Counts from the headers of a directory's weight files."""
    files = weight_files(directory)
    tensors = stored_tensors(directory).values()
    dtypes: dict[str, int] = {}
    for tensor in tensors:
        name = NAMES[tensor.dtype]
        dtypes[name] = dtypes.get(name, 0) + math.prod(tensor.shape)
    metadata = {} if is_pickled(files[0]) else read_header(files[0]).metadata
    return WeightFacts(
        files=len(files),
        tensors=len(tensors),
        parameters=sum(dtypes.values()),
        bytes=sum(path.stat().st_size for path in files),
        dtypes=dtypes,
        note=metadata.get("note"),
    )


# ----------------------------------------------------------------------------------------------- speech model


def _inspect_model(
    inspection: Inspection, source: CheckpointSource, config: MossConfig, codec: str | Path | None, codec_dtype: str
) -> None:
    variant = variant_of(source, ARCHITECTURES[type(config)].default_preset)
    inspection.model = _model_facts(inspection, source.directory, config, variant)
    needs_template = issubclass(ARCHITECTURES[type(config)].packer, ChatPacker)
    inspection.tokenizer = _tokenizer_facts(inspection, source.directory, needs_template)
    loaded = inspection.attempt(lambda: model_footprint(source.directory, config))
    if loaded is not None:
        inspection.paces = paces(source.directory, config)
    codec_sizes = inspection.attempt(lambda: _codec_of(inspection, source, config, codec))
    if loaded is None or codec_sizes is None:
        return
    inspection.memory = memory_facts(source.directory, config, *loaded, codec_sizes, codec_dtype)
    if problem := inspection.memory.too_much_for(inspection.memory.machine_bytes):
        inspection.problems.append(problem)


def _model_facts(inspection: Inspection, directory: Path, config: MossConfig, variant: Variant) -> ModelFacts:
    path = directory / "generation_config.json"
    generation_config = (inspection.attempt(lambda: read_json(path)) if path.is_file() else None) or {}
    sampling = inspection.attempt(lambda: asdict(resolve_sampling({}, variant.preset, generation_config)))
    if sampling and (window := sampling.pop("window")):
        sampling["audio"]["repetition_window"] = window
    if sampling and not variant.preset.draws_text:
        del sampling["text"]
    copies = inspection.attempt(lambda: _copies(directory, config)) or []
    return ModelFacts(
        architecture=ARCHITECTURES[type(config)].name,
        variant=variant.preset.name,
        variant_told_by=variant.told_by,
        layers=config.backbone.num_hidden_layers,
        width=config.hidden_size,
        text_vocabulary=config.vocab_size,
        codebooks=config.n_vq,
        codebook_size=config.audio_vocab_size,
        sampling_rate=config.sampling_rate,
        quantization=None if config.quantization is None else dict(config.quantization),
        sampling=sampling,
        copies=len(copies),
        other_copies=sum(copy.nbytes != embedding.nbytes for copy, embedding in copies),
    )


def _copies(directory: Path, config: MossConfig) -> list[tuple[StoredTensor, StoredTensor]]:
    """(copy, embedding) of each head that is stored beside the embedding that it is tied to."""
    tensors = stored_tensors(directory)
    copies = ARCHITECTURES[type(config)].layout.copies
    return [(tensors[name], tensors[original]) for name, original in stored_copies(tensors, copies)]


def _tokenizer_facts(inspection: Inspection, directory: Path, needs_template: bool) -> TokenizerFacts:
    config = directory / "tokenizer_config.json"
    settings = (inspection.attempt(lambda: read_json(config)) if config.is_file() else None) or {}
    template = bool(settings.get("chat_template")) or (directory / "chat_template.jinja").is_file()
    facts = TokenizerFacts(
        tokenizer=any((directory / name).is_file() for name in TOKENIZER_FILES),
        chat_template=template if needs_template else None,
    )
    if not facts.tokenizer:
        inspection.problems.append(f"{directory} holds no {' and no '.join(TOKENIZER_FILES)}.")
    elif facts.chat_template is False:
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
    stored = 0 if inspection.weights is None else inspection.weights.bytes
    inspection.codec = _codec_facts(config, str(directory), stored)
    if inspection.weights is not None:
        inspection.attempt(lambda: canonical_weights(config, read_weights(directory)))


def _codec_of(
    inspection: Inspection, source: CheckpointSource, config: MossConfig, given: str | Path | None
) -> CodecBytes:
    """Bytes of the two halves of a speech model's codec. It must exist and fit the model."""
    codec, where, weights = codec_weights(source, config, given)
    inspection.codec = _codec_facts(codec, where, sum(weight.nbytes for weight in weights.values()))
    sizes = CodecBytes.of(codec, weights)
    check_codec_fits(codec, config)
    return sizes


def _codec_facts(config: CodecConfig, where: str, stored: int) -> CodecFacts:
    return CodecFacts(
        where=where,
        bytes=stored,
        generation=config.version,
        sampling_rate=config.sampling_rate,
        channels=config.channels,
        frame_rate=config.frame_rate,
        codebooks=config.num_quantizers,
        codebook_size=config.codebook_size,
    )
