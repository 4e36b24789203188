"""What an inspection finds of a checkpoint, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moss_tts.adapters import WEIGHTS
from moss_tts.adapters.peft import StoredAdapter
from moss_tts.device.blas import BlasState
from moss_tts.device.compiled import CState
from moss_tts.device.packed import PackedState


@dataclass(frozen=True)
class ModelFacts:
    """A speech model, from its config.

    Attributes:
        variant_told_by: how the variant is known.
        copies: stored copies of embeddings that are its heads; the copies are not used.
        other_copies: those of them that are stored more or less precisely than their embedding.
    """

    architecture: str
    variant: str
    variant_told_by: str
    layers: int
    width: int
    text_vocabulary: int
    codebooks: int
    codebook_size: int
    sampling_rate: int
    quantization: dict[str, Any] | None
    sampling: dict[str, dict[str, float]] | None
    copies: int
    other_copies: int


@dataclass(frozen=True)
class CodecFacts:
    """A codec, from its config and its weight files.

    Attributes:
        where: its directory, the file or block that holds it, or its hub id.
        bytes: the bytes of its weights as stored.
    """

    where: str
    bytes: int
    generation: int
    sampling_rate: int
    channels: int
    frame_rate: float
    codebooks: int
    codebook_size: int


@dataclass(frozen=True)
class WeightFacts:
    """Weight files, from their headers. `note` is a note of the program that wrote them."""

    files: int
    tensors: int
    parameters: int
    bytes: int
    dtypes: dict[str, int]
    note: str | None


@dataclass(frozen=True)
class MachineFacts:
    """The device and the libraries that compute."""

    device: str
    mlx: str
    openblas: BlasState
    c: CState
    packed: PackedState


@dataclass(frozen=True)
class TokenizerFacts:
    """Files beside the weights; chat_template is None if the model needs none."""

    tokenizer: bool
    chat_template: bool | None


def _kind_of_layer(path: str) -> str:
    return next((part for part in reversed(path.split(".")) if not part.isdigit()), path)


@dataclass(frozen=True)
class AdapterFacts:
    """A LoRA adapter, from its files.

    Attributes:
        base: the checkpoint that its config names, if it names one.
        base_class: the class of the model that it was trained on, if its config says so.
        ranks: the ranks of its layers, each once.
        layers: the number of layers that it changes.
        targets: the last parts of the names of these layers, each once.
        parameters: the number of its values.
        bytes: the bytes of its weight file.
    """

    base: str | None
    base_class: str | None
    ranks: list[int]
    layers: int
    targets: list[str]
    parameters: int
    bytes: int

    @classmethod
    def of(cls, adapter: StoredAdapter) -> AdapterFacts:
        """The facts of an adapter that was read."""
        return cls(
            base=adapter.trained_on,
            base_class=adapter.base,
            ranks=sorted({len(pair.down) for pair in adapter.pairs.values()}),
            layers=len(adapter.pairs),
            targets=sorted({_kind_of_layer(path) for path in adapter.pairs}),
            parameters=adapter.size,
            bytes=(adapter.directory / WEIGHTS).stat().st_size,
        )
