"""The residual quantizer: latents to codes and back, always in float32.

Encoding is a chain of nearest-neighbour choices, each on what the ones before left over, so near ties decide
codes: the distance is computed by the very expression that upstream uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import mlx.core as mx

from moss_tts.codec.config import QuantizerConfig

# (weight (out, in), bias (out,)); None where upstream has no projection because the widths agree.
Projection: TypeAlias = tuple[mx.array, mx.array] | None


@dataclass(frozen=True)
class Quantizer:
    """Tables and projections of a residual quantizer.

    Attributes:
        tables: (Q, codebook_size + 1, rvq_dim), what each code of each codebook adds to the latent. The last
            row is zero: the code `codebook_size` stands for "none".
        codebooks: (Q, codebook_size, codebook_dim), rows of unit length.
        input_proj: the projection from the encoder's width to rvq_dim.
        in_projs: per codebook, from rvq_dim to codebook_dim.
        output_proj: the projection from rvq_dim to the decoder's width.
    """

    tables: mx.array
    codebooks: mx.array
    input_proj: Projection
    in_projs: tuple[Projection, ...]
    output_proj: Projection

    @classmethod
    def from_weights(cls, config: QuantizerConfig, weights: Mapping[str, mx.array]) -> Quantizer:
        """Build the tables from folded weights, named without their "quantizer." prefix."""
        wide = {name: weight.astype(mx.float32) for name, weight in weights.items()}
        books = [wide[f"quantizers.{index}.codebook.weight"] for index in range(config.num_quantizers)]
        outs = [_projection(wide, f"quantizers.{index}.out_proj") for index in range(config.num_quantizers)]
        tables = mx.stack([_project(book, out) for book, out in zip(books, outs, strict=True)])
        quantizer = cls(
            tables=mx.pad(tables, [(0, 0), (0, 1), (0, 0)]),
            codebooks=_unit_rows(mx.stack(books)),
            input_proj=_projection(wide, "input_proj"),
            in_projs=tuple(_projection(wide, f"quantizers.{q}.in_proj") for q in range(config.num_quantizers)),
            output_proj=_projection(wide, "output_proj"),
        )
        mx.eval(quantizer.tables, quantizer.codebooks, quantizer.input_proj, quantizer.in_projs, quantizer.output_proj)
        return quantizer

    def decode(self, codes: mx.array) -> mx.array:
        """Codes (Q, B, F) of the first Q codebooks -> latents (B, F, D)."""
        _, size, width = self.tables.shape
        offsets = mx.arange(codes.shape[0])[:, None, None] * size
        return _project(self.tables.reshape(-1, width)[codes + offsets].sum(axis=0), self.output_proj)

    def encode(self, latents: mx.array, num_quantizers: int) -> mx.array:
        """Latents (B, F, D) -> codes (num_quantizers, B, F) int32."""
        residual = _project(latents.astype(mx.float32), self.input_proj)
        codes = []
        for index in range(num_quantizers):
            nearest = _nearest(_project(residual, self.in_projs[index]), self.codebooks[index])
            residual = residual - self.tables[index][nearest]
            codes.append(nearest)
        return mx.stack(codes).astype(mx.int32)


def _nearest(points: mx.array, codebook: mx.array) -> mx.array:
    """Index of the unit row (codebook_size, D) nearest to each point (..., D); the first of equals."""
    points = _unit_rows(points)
    squares = (points * points).sum(axis=-1, keepdims=True)
    distances = squares - 2 * points @ codebook.T + (codebook * codebook).sum(axis=-1)
    return mx.argmax(-distances, axis=-1)


def _unit_rows(x: mx.array) -> mx.array:
    lengths = mx.sqrt((x * x).sum(axis=-1, keepdims=True))
    return x / mx.maximum(lengths, 1e-12)


def _project(x: mx.array, projection: Projection) -> mx.array:
    if projection is None:
        return x
    weight, bias = projection
    return x @ weight.T + bias


def _projection(weights: Mapping[str, mx.array], name: str) -> Projection:
    if f"{name}.weight" not in weights:
        return None
    return weights[f"{name}.weight"], weights[f"{name}.bias"]
