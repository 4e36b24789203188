"""How precisely a codec's decoder is kept. The encoder and the quantizer stay float32: they decide codes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import mlx.core as mx
import mlx.nn as nn

from moss_tts.errors import RequestError
from moss_tts.weights.quantisation import Precision


@dataclass(frozen=True)
class DecoderPrecision:
    """What a decoder computes in, and how its products' weights are kept if not in that type."""

    dtype: mx.Dtype
    weights: Precision | None = None

    def nbytes(self, name: str, shape: tuple[int, ...]) -> int:
        """Bytes of one of the decoder's weights (folded, named as in the file)."""
        if self.weights is not None and self.weights.fits(shape):
            return self.weights.nbytes(shape, self.dtype)
        return prod(shape) * (mx.float32 if ".norm" in name else self.dtype).size

    def apply(self, network: nn.Module) -> None:
        """Quantise a loaded network's products where that is asked for; nothing is evaluated."""
        kept = self.weights
        if kept is not None:
            nn.quantize(
                network,
                group_size=kept.group_size,
                bits=kept.bits,
                mode=kept.mode,
                class_predicate=lambda _, module: isinstance(module, nn.Linear) and kept.fits(module.weight.shape),
            )


# Name -> precision. Eight bits compute in float32: what is saved is memory, and what has to be read.
DECODERS = {
    "float32": DecoderPrecision(mx.float32),
    "bfloat16": DecoderPrecision(mx.bfloat16),
    "8bit": DecoderPrecision(mx.float32, Precision(8, 64)),
}


def decoder_precision(name: str) -> DecoderPrecision:
    """The precision of that name.

    Raises:
        RequestError: there is none.
    """
    if name not in DECODERS:
        raise RequestError(f"codec_dtype must be one of {', '.join(DECODERS)}, got {name!r}.")
    return DECODERS[name]
