"""Loading: a directory or a hub id becomes a network in memory.

Finding files, applying quantisation, laying weights out. Nothing is fetched unless the caller named a
hub id (hub.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from moss_tts.architectures import ARCHITECTURES, Architecture
from moss_tts.atomic import expanded
from moss_tts.checkpoints import hub
from moss_tts.checkpoints.downloads import runnable
from moss_tts.checkpoints.names import CODEC_DIRECTORIES, is_hub_name, no_checkpoint, refuse_adapter, refuse_pipeline
from moss_tts.checkpoints.number_types import cast_weights, compute_dtype, stored_dtype
from moss_tts.codec import CodecConfig, MossAudioTokenizer
from moss_tts.codec.precision import DecoderPrecision
from moss_tts.config import MossConfig, parse_config
from moss_tts.device import packed
from moss_tts.device.kernels import Embedding, Linear
from moss_tts.device.memory import cache_limit
from moss_tts.device.thread import on_device
from moss_tts.errors import CheckpointError, CodecNotFoundError, NotHereError, RequestError
from moss_tts.weights.copies import check_copies
from moss_tts.weights.layout import Layout, load_strict, read_json, read_leaves, read_weights
from moss_tts.weights.quantisation import DEFAULTS, check_settings

CODEC_PREFIX = "codec_model."
# Layers that share their input become one product.
JOINED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


@dataclass(frozen=True)
class CheckpointSource:
    """A checkpoint's directory, and whether the caller named a hub id, so that files may be fetched."""

    name: str
    directory: Path
    from_hub: bool


def find_checkpoint(
    name: str | Path, *, revision: str | None = None, token: str | None = None, cached_only: bool = False
) -> CheckpointSource:
    """The directory of a checkpoint.

    Args:
        name: a directory, or a hub id such as "OpenMOSS-Team/MOSS-TTS", which is fetched if it is not here; a
            checkpoint in a folder of a repository is ORG/REPO/FOLDER.
        revision: branch, tag or commit on the hub.
        token: hub token, if not the one that is logged in.
        cached_only: look in the local hub cache, fetch nothing.

    Raises:
        CheckpointError: no such directory, or the hub does not give it.
        ConfigError: the hub has something of that name that does not run here.
    """
    path = expanded(name)
    # Path("") is the current directory, but an empty name is a mistake.
    if str(name) and path.is_dir():
        if revision is not None:
            raise CheckpointError(f"{path} is a directory; revision {revision!r} applies to hub ids only.")
        return CheckpointSource(str(name), path, from_hub=False)
    if path.exists() or not is_hub_name(str(name)):
        raise CheckpointError(no_checkpoint(str(name), path))
    try:
        directory = hub.kept(str(name), revision)
    except NotHereError:
        if cached_only:
            raise
        directory = hub.fetch(runnable(str(name), revision, token)[0], token)
    return CheckpointSource(str(name), directory, from_hub=True)


def bring(name: str | Path, *, revision: str | None = None, codec: str | Path | None = None) -> None:
    """Fetch the missing files of a checkpoint and its codec; nothing is loaded.

    Raises:
        CheckpointError, ConfigError: see `find_checkpoint`.
        CodecNotFoundError: the codec cannot be had.
    """
    source = find_checkpoint(name, revision=revision)
    LazyCodec(source, load_config(source.directory), codec).bring()


def load_config(directory: Path) -> MossConfig:
    """The parsed config.json of a checkpoint directory.

    Raises:
        ConfigError: it is no speech model.
        CheckpointError: it cannot be read.
    """
    refuse_pipeline(directory)
    refuse_adapter(directory)
    return parse_config(read_json(directory / "config.json"))


def load_architecture(
    directory: Path,
    config: MossConfig,
    weights: Mapping[str, mx.array],
    dtype: str | None = None,
    divide: Callable[[nn.Module], None] = lambda _: None,
    tied_heads: str | None = None,
) -> Architecture[Any, Any]:
    """The network of a checkpoint, in memory.

    Args:
        directory: its directory, for messages only.
        config: the config of the checkpoint.
        weights: all its tensors, lazily read.
        dtype: "float32", "bfloat16" or None to choose.
        divide: removes the parts that other processes hold, before anything is read.
        tied_heads: "embeddings" drops stored heads that differ from the embeddings they are tied to.

    Raises:
        CheckpointError: weights that do not fit the config, or heads that differ from their embeddings.
    """
    try:
        network, chosen = unread_network(config, weights, dtype)
        if tied_heads is None:
            check_copies(weights, network.layout.copies, config.hidden_size, config.quantization or {})
    except CheckpointError as error:
        raise CheckpointError(f"{directory}: {error}") from error
    # A second reference to an array that is read here would keep it in memory beside the array made from it.
    del weights
    with cache_limit(0):
        divide(network)
        _settle_layers(network, chosen)
        read_leaves(network)
    network.eval()
    if config.quantization is not None:
        packed.advise()
    return ARCHITECTURES[type(config)](config, network)


def unread_network(
    config: MossConfig, weights: Mapping[str, mx.array], dtype: str | None = None
) -> tuple[nn.Module, mx.Dtype]:
    """The network of a checkpoint before its weights are read, and the type that it computes in.

    Raises:
        CheckpointError: weights that do not fit the config.
    """
    kind = ARCHITECTURES[type(config)]
    chosen = compute_dtype(dtype, stored_dtype(kind.layout.sanitize(weights, config.n_vq)))
    try:
        network = kind.network_class(config)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise CheckpointError("config.json describes a network with sizes that no array can have.") from error
    named = kind.layout.sanitize(weights, config.n_vq)
    if config.quantization is not None:
        _quantize_as_stored(network, config, kind.layout, named)
    load_strict(network, named, kind.layout)
    cast_weights(network, chosen)
    return network, chosen


def _settle_layers(network: nn.Module, dtype: mx.Dtype) -> None:
    """Make a loaded network ready to run.

    Layers that share their input become one product, unless they are quantised differently; weights are laid out
    for the device.
    """
    # A list of named_modules() would hold every layer, and keep the joined ones in memory.
    for parent, names in [
        (module, names)
        for _, module in network.named_modules()
        for names in JOINED
        if all(name in module for name in names)
    ]:
        _join(parent, names)
    for _, module in network.named_modules():
        if isinstance(module, Linear):
            module.turn(dtype)
        elif isinstance(module, Embedding):
            module.compute_in(dtype)


def _join(module: nn.Module, names: tuple[str, ...]) -> None:
    layers = [module[name] for name in names]
    kinds = {(type(layer), *(getattr(layer, key, None) for key in ("bits", "group_size", "mode"))) for layer in layers}
    if len(kinds) > 1:
        return
    first = layers[0]
    for key in ("weight", "scales", "biases"):
        if first.get(key) is not None:
            first[key] = mx.concatenate([layer[key] for layer in layers])
    for name in names:
        module.pop(name)
    module["_".join(names)] = first
    del layers
    # Evaluated at once, so that at most one layer's weights are in memory twice.
    mx.eval(first.parameters())


# ------------------------------------------------------------------------------------------------ quantising


def quantizable(path: str, module: nn.Module, protected: tuple[str, ...]) -> bool:
    """Whether a module may be quantised: any linear layer but an architecture's protected parts.

    Embeddings and norms are no linear layers; the codec is another model.
    """
    return isinstance(module, nn.Linear) and not path.startswith(protected)


def quantizable_modules(network: nn.Module, protected: tuple[str, ...]) -> set[str]:
    """Paths of the modules that may be quantised."""
    return {path for path, module in network.named_modules() if quantizable(path, module, protected)}


def _quantize_as_stored(network: nn.Module, config: MossConfig, layout: Layout, named: Mapping[str, mx.array]) -> None:
    """Quantise modules that have scales in the file; overrides may use the file's names of modules."""
    assert config.quantization is not None
    modules = {path for path, _ in network.named_modules()}
    joined = layout.joined_paths(config.n_vq)
    ours: dict[str, Any] = {}
    for key, value in config.quantization.items():
        if key not in DEFAULTS and layout.drops(f"{key}."):
            continue
        path = key if key in DEFAULTS else joined.get(key) or layout.our_path(key)
        if path not in DEFAULTS and path not in modules:
            raise CheckpointError(
                f"the quantization block of config.json has settings for {key}, which this network does not have."
            )
        if ours.setdefault(path, value) != value:
            raise CheckpointError(
                f"the quantization block of config.json has other settings for {key} than for another codebook; here "
                f"the codebooks are one layer."
            )
    quantize(network, ours, lambda path, _: f"{path}.scales" in named)


def quantize(network: nn.Module, block: Mapping[str, Any], wanted: Callable[[str, nn.Module], bool]) -> None:
    """Replace modules by quantised ones as config.json's `quantization` block says.

    Args:
        network: changed in place.
        block: group_size, bits, mode, and per-layer overrides: {path: {"bits": ...}} or {path: false}.
        wanted: which modules are quantised if the block does not mention them.

    Raises:
        CheckpointError: the block asks for something impossible.
    """

    def choose(path: str, module: nn.Module) -> bool | dict[str, Any]:
        override = block.get(path)
        if isinstance(override, Mapping):
            return dict(override)
        return hasattr(module, "to_quantized") and override is not False and wanted(path, module)

    settings = {key: block.get(key, default) for key, default in DEFAULTS.items()}
    for given in (settings, *(override for override in block.values() if isinstance(override, Mapping))):
        check_settings(given)
    try:
        nn.quantize(network, **settings, class_predicate=choose)
    except (ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"the quantization block of config.json cannot be followed: {settings}: {error}"
        ) from error


# ----------------------------------------------------------------------------------------------------- codec


class LazyCodec:
    """The codec of a checkpoint, found and loaded when it is first called.

    Args:
        source: the checkpoint.
        config: the config of the checkpoint.
        given: a directory or hub id from the caller; None looks beside the weights, then where config.json
            says, then for OpenMOSS-Team/MOSS-Audio-Tokenizer. The last two are fetched only if the checkpoint
            itself was named by its hub id; else the local hub cache has to have them.
        precision: how its decoder is kept.
    """

    def __init__(
        self,
        source: CheckpointSource,
        config: MossConfig,
        given: str | Path | None = None,
        precision: DecoderPrecision | None = None,
    ) -> None:
        self._source = source
        self._config = config
        self._given = given
        self._precision = precision
        self._codec: MossAudioTokenizer | None = None

    def __call__(self) -> MossAudioTokenizer:
        """The codec.

        Raises:
            CodecNotFoundError: it cannot be had; says where it was looked for.
            CheckpointError: it is broken, or the codec of another model.
        """
        if self._codec is None:
            self.bring()
        return self._codec or on_device(self._kept)

    def _kept(self) -> MossAudioTokenizer:
        if self._codec is None:
            codec = self._load()
            check_codec_fits(codec.config, self._config)
            self._codec = codec
        return self._codec

    def _load(self) -> MossAudioTokenizer:
        if self._given is None and self._config.codec_config is not None:
            codec = CodecConfig.from_dict(self._config.codec_config)
            return MossAudioTokenizer(codec, lambda: fused_codec(self._source.directory), decoder=self._precision)
        return MossAudioTokenizer.from_pretrained(self.directory(), decoder=self._precision)

    def bring(self) -> None:
        """Fetch it if needed, in the caller's thread, which Ctrl-C reaches; nothing of it is read.

        Raises:
            CodecNotFoundError: it cannot be had.
        """
        if self._given is not None or self._config.codec_config is None:
            self.directory()

    def release_encoder(self) -> None:
        """Free the memory that only encoding needs; the weights are read again when they are needed."""
        if self._codec is not None and self._codec.encoder_loaded:
            self._codec.release_encoder()

    def directory(self) -> Path:
        """The codec's directory.

        Raises:
            CodecNotFoundError: it cannot be had.
        """
        if self._given is not None:
            try:
                return find_checkpoint(self._given).directory
            except CheckpointError as error:
                raise CodecNotFoundError(f"no codec: {error}") from error
        for name in CODEC_DIRECTORIES:
            if (beside := self._source.directory / name).is_dir():
                return beside
        named = self._config.codec_name
        try:
            return find_checkpoint(named, cached_only=not self._source.from_hub).directory
        except NotHereError as error:
            raise CodecNotFoundError(
                f"{self._source.directory} has no codec: none of {', '.join(CODEC_DIRECTORIES)} is in it, and {named} "
                f"has not been fetched. Fetch that with `moss-tts download {named}`, name a directory or a hub id with "
                f"--codec (codec=), or, if this is a copy, convert again without --no-codec."
            ) from error
        except (CheckpointError, RequestError) as error:
            raise CodecNotFoundError(f"no codec in {self._source.directory}: {error}") from error


def fused_codec(directory: Path) -> dict[str, mx.array]:
    """The codec's weights, unread, of a checkpoint that is fused with it."""
    everything = read_weights(directory)
    return {name: weight for name, weight in everything.items() if name.startswith(CODEC_PREFIX)}


def check_codec_fits(codec: CodecConfig, config: MossConfig) -> None:
    """Refuse a codec that does not match the codes that the model was trained with."""
    wanted = (config.sampling_rate, config.audio_vocab_size)
    if (codec.sampling_rate, codec.codebook_size) != wanted or codec.num_quantizers < config.n_vq:
        raise CheckpointError(
            f"the codec does not fit the model: it has {codec.num_quantizers} codebooks of {codec.codebook_size} codes "
            f"at {codec.sampling_rate} Hz; the model needs at least {config.n_vq} of {config.audio_vocab_size} at "
            f"{config.sampling_rate} Hz."
        )
