"""What a sound model is, how much memory it takes and whether it runs here; only headers of weight files are read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from moss_tts.checkpoints.footprint import machine_memory, too_much
from moss_tts.diffusion.decoder import SoundDecoder
from moss_tts.diffusion.loading import SoundFiles, transformer_dtype
from moss_tts.diffusion.transformer import DiffusionTransformer
from moss_tts.strict import Raw
from moss_tts.weights.quantisation import recipe_of

# Values that a step keeps for each row, in widths of the blocks and of their feed-forward layers; bytes that decoding
# keeps for each value that `SoundDecoder.parts` allows. Measured on a CPU at the published shapes, where these foretell
# 900 MB for a step: a guided step takes 860 MB with MLX, 370 to 410 with the C, to which keys and values of two
# descriptions of 512 tokens add 380. Decoding takes 1.08 GB for 2 s (1.12 foretold) and 1.73 for 10 s (1.74).
_WIDTHS, _HIDDEN, _DECODING_BYTES = 8, 7, 26
_BITS = (8, 4)


@dataclass(frozen=True)
class SoundMemory:
    """Bytes of memory that a sound takes.

    Attributes:
        transformer: the transformer, in the type that it computes in.
        decoder: the decoder.
        text_encoder: the text encoder, which is in memory only while the description is read.
        step: what a step with guidance adds.
        decoding: what decoding adds.
        machine: memory of this machine.
        smaller: flags of convert -> bytes of the transformer then.
    """

    transformer: int
    decoder: int
    text_encoder: int
    step: int
    decoding: int
    machine: int
    smaller: dict[str, int]

    def needed(self, way: str | None = None) -> int:
        """The most bytes at any time, as it is or converted in one of the ways of `smaller`."""
        transformer = self.transformer if way is None else self.smaller[way]
        return transformer + self.decoder + max(self.text_encoder, self.step, self.decoding)

    def too_much_for(self, most: int) -> str | None:
        """A sentence, with what would help, if more is needed than `most`."""
        converted = {f"`moss-tts convert {way}`": self.needed(way) for way in self.smaller}
        return too_much(most, {"": self.needed()} | converted)


@dataclass(frozen=True)
class SoundInspection:
    """What was found.

    Attributes:
        directory: where it is.
        sample_rate: rate of its sounds, in Hz.
        max_seconds: the length of its longest sound.
        parameters: values of the transformer; of quantised weights, those that they stand for.
        quantization: how its blocks are quantised; None if they are not.
        computes_in: the type that its blocks compute in here.
        memory: the memory that it takes.
        problems: sentences; with any of them it does not run.
    """

    directory: str
    sample_rate: int
    max_seconds: int
    parameters: int
    quantization: Raw | None
    computes_in: str
    memory: SoundMemory
    problems: list[str]

    @property
    def runs(self) -> bool:
        """Whether it runs on this machine."""
        return not self.problems

    def facts(self) -> dict[str, object]:
        """All of them, for a program."""
        return asdict(self) | {"kind": "sound model", "runs": self.runs, "needed_bytes": self.memory.needed()}


def inspect_sound_model(directory: Path, dtype: str | None = None) -> SoundInspection:
    """Look at a sound model on this machine.

    Args:
        directory: where it is.
        dtype: the type that its blocks are to compute in.

    Raises:
        CheckpointError: a part is missing or broken, or does not fit the config.
        ConfigError: another pipeline, or parts that do not fit each other.
        RequestError: a type that cannot be computed in.
    """
    files, kind = SoundFiles.find(directory), transformer_dtype(dtype)
    memory = memory_of(files, dtype)
    files.load_prompt_encoder()
    problem = memory.too_much_for(memory.machine)
    config = files.config
    return SoundInspection(
        directory=str(directory),
        sample_rate=config.sample_rate,
        max_seconds=config.pipeline.max_seconds,
        parameters=sum(weight.size for weight in _weights(DiffusionTransformer(config.transformer)).values()),
        quantization=config.pipeline.quantization,
        computes_in=str(kind).removeprefix("mlx.core."),
        memory=memory,
        problems=[] if problem is None else [problem],
    )


def memory_of(files: SoundFiles, dtype: str | None) -> SoundMemory:
    """The memory that a sound takes.

    Raises:
        CheckpointError: weights do not fit the config.
        RequestError: a type that cannot be computed in.
    """
    config, kind = files.config, transformer_dtype(dtype)
    network = files.unread_transformer(kind)
    rows = 2 * config.latent_frames
    wide = _WIDTHS * config.transformer.width + _HIDDEN * config.transformer.hidden
    decoder = SoundDecoder(config.autoencoder)
    bits_below = () if config.pipeline.quantization else _BITS
    return SoundMemory(
        transformer=_nbytes(network),
        decoder=_nbytes(decoder),
        text_encoder=_nbytes(files.unread_text_encoder(dtype)),
        step=4 * rows * wide,
        decoding=_DECODING_BYTES * decoder.most_values(config.latent_frames * config.autoencoder.hop),
        machine=machine_memory(),
        smaller={f"-q --q-bits {bits}": _smaller(network, bits) for bits in bits_below},
    )


def _weights(network: nn.Module) -> dict[str, mx.array]:
    return dict(tree_flatten(network.parameters()))


def _nbytes(network: nn.Module) -> int:
    return sum(weight.nbytes for weight in _weights(network).values())


def _smaller(network: nn.Module, bits: int) -> int:
    """Bytes of the transformer with quantised blocks."""
    precision, total = recipe_of(bits=bits).low, 0
    for name, weight in _weights(network).items():
        quantised = name.startswith("blocks.") and name.endswith(".weight") and precision.fits(weight.shape)
        total += precision.nbytes(weight.shape, weight.dtype) if quantised else weight.nbytes
    return total
