"""How much memory a checkpoint takes, before anything is loaded, and which quantisation would take less.

Weights are counted in the type that they will be computed in; only headers are read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from moss_tts.adapters.peft import StoredAdapter
from moss_tts.checkpoints.loading import (
    CODEC_PREFIX,
    CheckpointSource,
    LazyCodec,
    check_codec_fits,
    find_checkpoint,
    fused_codec,
    unread_network,
)
from moss_tts.codec import CodecConfig
from moss_tts.codec.precision import DECODERS
from moss_tts.codec.weights import canonical_weights
from moss_tts.config import MossConfig
from moss_tts.context.quantised_cache import row_bytes
from moss_tts.device.kernels import multiplies_as_stored
from moss_tts.device.memory import size
from moss_tts.errors import CheckpointError, RequestError, shown
from moss_tts.request import FRAME_RATE
from moss_tts.strict import is_integer
from moss_tts.weights.layout import read_json, read_weights
from moss_tts.weights.quantisation import recipe_of

# Flags of convert, from the most precise to the smallest that is useful. 5 bit takes as much as mixed_4_8 and drifts
# less in all measurements (docs/quantisation.md).
WAYS = {
    "-q --q-bits 8": recipe_of(bits=8),
    "-q --q-bits 6": recipe_of(bits=6),
    "-q --q-bits 5": recipe_of(bits=5),
    "-q --q-bits 4": recipe_of(bits=4),
}


@dataclass(frozen=True)
class MemoryFacts:
    """Bytes of memory: of weights in the type computed in, of the context, and of the machine.

    Attributes:
        smaller: flags of convert -> bytes of the model with them; empty if it is quantised already.
        codec_smaller: other values of --codec-dtype -> bytes of the codec's decoder then.
        adapter_bytes: bytes of all adapters.
    """

    compute_dtype: str
    model_bytes: int
    codec_decoder_bytes: int
    codec_encoder_bytes: int
    cache_bytes_per_minute: int
    machine_bytes: int
    smaller: Mapping[str, int] = field(default_factory=dict)
    codec_smaller: Mapping[str, int] = field(default_factory=dict)
    adapter_bytes: int = 0

    @property
    def needed(self) -> int:
        """Bytes that a minute of speech needs; while a reference is encoded, the codec's encoder is needed as well."""
        return self.needed_with()

    def needed_with(self, model: str | None = None, codec: str | None = None) -> int:
        """The bytes needed if the model is converted with these flags, or with this value of --codec-dtype."""
        model_bytes = self.model_bytes if model is None else self.smaller[model]
        codec_bytes = self.codec_decoder_bytes if codec is None else self.codec_smaller[codec]
        return model_bytes + codec_bytes + self.adapter_bytes + self.cache_bytes_per_minute

    def too_much_for(self, most: int) -> str | None:
        """A sentence, with what would help, if more is needed than `most`."""
        needs = {}
        for way in (None, *self.smaller):
            for codec in (None, *self.codec_smaller):
                flags = [f"`moss-tts convert {way}`" if way else "", f"`--codec-dtype {codec}`" if codec else ""]
                needs[" and ".join(filter(None, flags))] = self.needed_with(way, codec)
        return too_much(most, needs)


def too_much(most: int, needs: Mapping[str, int]) -> str | None:
    """A sentence, with what would help, if a model needs more than `most` bytes.

    Args:
        most: bytes that it may take.
        needs: the bytes that it needs as it is, under "", and then with each thing that helps.
    """
    if needs[""] <= most:
        return None
    sentence = f"it needs {size(needs[''])} of memory, but only {size(most)} are available."
    for way, need in needs.items():
        if need <= most:
            return f"{sentence} With {way} it would need {size(need)}."
    return f"{sentence} Even with the fewest sensible bits it would need {size(min(needs.values()))}."


def keep_below(most: int, directory: Path, too_much_for: Callable[[int], str | None]) -> None:
    """Refuse a model that needs more than `most` bytes, and tell mlx to keep below that.

    Args:
        most: bytes.
        directory: the directory of the model.
        too_much_for: gives a sentence if it needs more than so many bytes.

    Raises:
        RequestError: not a number of bytes.
        CheckpointError: it needs more; says what would help.
    """
    if not is_integer(most, 1, 2**62):
        raise RequestError(f"max_memory must be a number of bytes above 0, got {shown(most)}.")
    if problem := too_much_for(most):
        raise CheckpointError(f"{directory}: {problem}")
    mx.set_memory_limit(most)


def machine_memory() -> int:
    """Bytes of memory for weights: those that the GPU may use, of the graphics card, or of the machine."""
    info = mx.device_info()
    for key in ("max_recommended_working_set_size", "memory_size", "total_memory"):
        if key in info:
            return int(info[key])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def model_footprint(directory: Path, config: MossConfig, dtype: str | None = None) -> tuple[mx.Dtype, int]:
    """The type to compute in and the bytes of the weights in it, after the check that all of them fit.

    Raises:
        CheckpointError: they do not.
    """
    network, chosen = unread_network(config, read_weights(directory), dtype)
    arrays: list[tuple[str, mx.array]] = tree_flatten(network.parameters())  # type: ignore[assignment]
    return chosen, sum(array.nbytes for _, array in arrays)


@dataclass(frozen=True)
class CodecBytes:
    """Bytes of a codec's two halves; the quantizer belongs to the decoder.

    Attributes:
        decoders: name of a precision -> bytes of the decoder then.
        encoder: bytes of the encoder, which is always float32.
    """

    decoders: Mapping[str, int]
    encoder: int

    @classmethod
    def of(cls, config: CodecConfig, weights: Mapping[str, mx.array]) -> CodecBytes:
        """Read the sizes from a codec's weights, but no weight itself.

        Raises:
            CheckpointError: they do not fit the config.
        """
        _, named = canonical_weights(config, weights)
        exact = DECODERS["float32"]
        decoder = {name: tuple(weight.shape) for name, weight in named.items() if name.startswith("decoder.")}
        other = {name: weight.size * exact.dtype.size for name, weight in named.items() if name not in decoder}
        encoder = sum(size for name, size in other.items() if name.startswith("encoder."))
        quantizer = sum(other.values()) - encoder
        sizes = {
            name: quantizer + sum(precision.nbytes(*weight) for weight in decoder.items())
            for name, precision in DECODERS.items()
        }
        return cls(sizes, encoder)


def memory_facts(
    directory: Path,
    config: MossConfig,
    dtype: mx.Dtype,
    model_bytes: int,
    codec: CodecBytes,
    codec_dtype: str = "float32",
    kv_bits: int | None = None,
    adapters: Sequence[StoredAdapter] = (),
) -> MemoryFacts:
    """All facts about memory that are known before loading."""
    decoder = codec.decoders[codec_dtype]
    backbone = config.backbone
    per_head = row_bytes(backbone.head_dim, dtype, kv_bits)
    per_row = 2 * backbone.num_hidden_layers * backbone.num_key_value_heads * per_head
    return MemoryFacts(
        compute_dtype=str(dtype).removeprefix("mlx.core."),
        model_bytes=model_bytes,
        codec_decoder_bytes=decoder,
        codec_encoder_bytes=codec.encoder,
        cache_bytes_per_minute=round(60 * FRAME_RATE) * per_row,
        machine_bytes=machine_memory(),
        smaller=smaller(directory, config, dtype),
        codec_smaller={name: size for name, size in codec.decoders.items() if size < decoder},
        adapter_bytes=sum(adapter.size for adapter in adapters) * dtype.size,
    )


def smaller(directory: Path, config: MossConfig, dtype: mx.Dtype) -> dict[str, int]:
    """Flags of convert -> bytes of the model's weights then."""
    if config.quantization is not None:
        return {}
    # Imported here: planning imports GPTQ, which speaking does not need.
    from moss_tts.checkpoints.plan import plan

    sizes = {}
    for way, recipe in WAYS.items():
        try:
            outputs = plan(directory, config, recipe, None if multiplies_as_stored(dtype) else dtype).outputs
        except RequestError:
            continue  # a network too small for groups of that size
        sizes[way] = sum(output.nbytes for output in outputs if not output.slots[0].name.startswith(CODEC_PREFIX))
    return sizes


# ---------------------------------------------------------------------------------------------------- limits


def codec_weights(
    source: CheckpointSource, config: MossConfig, given: str | Path | None
) -> tuple[CodecConfig, str, dict[str, mx.array]]:
    """A speech model's codec: its config, where it is, its weights, unread.

    Raises:
        CodecNotFoundError: it cannot be had.
        CheckpointError: it is broken.
    """
    if given is None and config.codec_config is not None:
        return CodecConfig.from_dict(config.codec_config), "fused with the speech model", fused_codec(source.directory)
    if given is not None:
        directory = find_checkpoint(given, cached_only=not source.from_hub).directory
    else:
        directory = LazyCodec(source, config).directory()
    codec = CodecConfig.from_dict(read_json(directory / "config.json"))
    return codec, str(directory), read_weights(directory)


def limit_memory(
    source: CheckpointSource,
    config: MossConfig,
    most: int,
    *,
    codec: str | Path | None,
    dtype: str | None,
    codec_dtype: str,
    kv_bits: int | None,
    adapters: Sequence[StoredAdapter] = (),
) -> None:
    """Refuse a checkpoint that needs more than `most` bytes, and tell mlx to keep below that.

    Raises:
        RequestError: not a number of bytes.
        CheckpointError: it needs more; says what would help.
        CodecNotFoundError: its codec cannot be had.
    """

    def too_much_for(most: int) -> str | None:
        model = model_footprint(source.directory, config, dtype)
        codec_config, _, weights = codec_weights(source, config, codec)
        check_codec_fits(codec_config, config)
        codec_bytes = CodecBytes.of(codec_config, weights)
        facts = memory_facts(source.directory, config, *model, codec_bytes, codec_dtype, kv_bits, adapters)
        return facts.too_much_for(most)

    keep_below(most, source.directory, too_much_for)
