"""The transformer stages of the codec in MLX: pre-norm layers over (B, T, D) with attention in a window.

dtype contract: weights are held and products are taken in the dtype the stage is built for; the residual stream and
the layer norms are float32, and so is what a stage returns.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import partial
from math import sqrt

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from moss_tts.codec.compiled_network import CompiledStage
from moss_tts.codec.stages import TransformerConfig
from moss_tts.codec.window import CallPlan, WindowState, make_rotor, plan_call
from moss_tts.device.kernels import issue, on_cpu, polynomial, turn_neighbours

# On CPUs the error function is one call of a library after the other, a quarter of all that decoding takes. The
# normal distribution function is 1/2 + x P(x²) / Q(x²) up to 1e-8 for |x| below LAST, and beyond it does not change;
# all terms are positive, so float32 loses nothing.
LAST = 5.6
NUMERATOR = (0.398942222, 0.0343760929, 0.00470725686, 0.000173850309, 6.35650533e-06, 2.21451917e-08)
DENOMINATOR = (1.0, 0.2528338, 0.0289400752, 0.00191297607, 7.51016568e-05, 1.18020638e-06)


def exact_gelu(x: mx.array) -> mx.array:
    """GELU as defined, in float32 inside one kernel."""
    return gelu_by_ratio(x) if on_cpu() else gelu_by_erf(x)


@partial(mx.compile, shapeless=True)
def gelu_by_erf(x: mx.array) -> mx.array:
    """x Φ(x) by the error function."""
    wide = x.astype(mx.float32)
    return (wide * (1 + mx.erf(wide / sqrt(2))) / 2).astype(x.dtype)


@partial(mx.compile, shapeless=True)
def gelu_by_ratio(x: mx.array) -> mx.array:
    """x Φ(x) by a ratio of polynomials."""
    wide = x.astype(mx.float32)
    bounded = mx.minimum(mx.maximum(wide, -LAST), LAST)
    square = bounded * bounded
    ratio = polynomial(NUMERATOR, square) / polynomial(DENOMINATOR, square)
    return (wide * (0.5 + bounded * ratio)).astype(x.dtype)


@partial(mx.compile, shapeless=True)
def add_residual(x: mx.array, update: mx.array) -> mx.array:
    """The residual stream stays float32 whatever the branch computes in."""
    return x + update.astype(mx.float32)


class Attention(nn.Module):
    """Windowed multi-head self-attention without biases; rotary positions on interleaved pairs."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self._heads, self._head_dim = config.num_heads, config.head_dim
        self.in_proj = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.out_proj = nn.Linear(config.d_model, config.d_model, bias=False)

    def __call__(
        self, x: mx.array, keys: mx.array, values: mx.array, plan: CallPlan
    ) -> tuple[mx.array, mx.array, mx.array]:
        """(B, T, D) and this layer's buffers -> (B, T, D) and the buffers to carry on."""
        batch, steps, width = x.shape
        mixed = self.in_proj(x).reshape(batch, steps, 3, self._heads, self._head_dim)
        turned = turn_neighbours(mixed[:, :, :2], *plan.rotor)
        queries, new_keys = (turned[:, :, index].transpose(0, 2, 1, 3) for index in (0, 1))
        keys = plan.append(keys, new_keys)
        values = plan.append(values, mixed[:, :, 2].transpose(0, 2, 1, 3))
        out = plan.attend(queries, keys, values).transpose(0, 2, 1, 3).reshape(batch, steps, width)
        return self.out_proj(out), plan.settle(keys), plan.settle(values)


class Layer(nn.Module):
    """Pre-norm attention and feed-forward. The learned scales of the branches are folded into the weights."""

    def __init__(self, config: TransformerConfig, dtype: mx.Dtype) -> None:
        super().__init__()
        self._dtype = dtype
        self.norm1 = nn.LayerNorm(config.d_model, eps=1e-5)
        self.self_attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.d_model, eps=1e-5)
        # The numbering of the weights counts the activation between the products.
        self.ffn = [
            nn.Linear(config.d_model, config.dim_feedforward, bias=False),
            nn.Identity(),
            nn.Linear(config.dim_feedforward, config.d_model, bias=False),
        ]

    def __call__(
        self, x: mx.array, keys: mx.array, values: mx.array, plan: CallPlan
    ) -> tuple[mx.array, mx.array, mx.array]:
        """(B, T, D) float32 and this layer's buffers -> (B, T, D) float32 and the buffers to carry on."""
        update, keys, values = self.self_attn(self.norm1(x).astype(self._dtype), keys, values, plan)
        x = add_residual(x, update)
        up, _, down = self.ffn
        return add_residual(x, down(exact_gelu(up(self.norm2(x).astype(self._dtype))))), keys, values


class Layers(nn.Module):
    """The layers of a stage; the level of nesting is the checkpoint's."""

    def __init__(self, config: TransformerConfig, dtype: mx.Dtype) -> None:
        super().__init__()
        self.layers = [Layer(config, dtype) for _ in range(config.num_layers)]


class TransformerStage(nn.Module):
    """Projection in, layers, projection out.

    Args:
        dtype: what products are taken in.
        version: generation of the codec, which decides whether there are projections that change no width.
    """

    def __init__(self, config: TransformerConfig, dtype: mx.Dtype, version: int) -> None:
        super().__init__()
        self._config, self._dtype = config, dtype
        self.transformer = Layers(config, dtype)
        shapes = config.shapes(version)
        if "input_proj.weight" in shapes:
            self.input_proj = nn.Linear(config.input_dimension, config.d_model, bias=False)
        if "output_proj.weight" in shapes:
            self.output_proj = nn.Linear(config.d_model, config.output_dimension, bias=False)

    def empty_state(self, batch: int) -> WindowState:
        """The state of `batch` rows at the start of their streams."""
        config = self._config
        nothing = mx.zeros((batch, config.num_heads, 0, config.head_dim), self._dtype)
        buffers = (nothing,) * config.num_layers
        return WindowState(keys=buffers, values=buffers, used=0, positions=(0,) * batch)

    def __call__(self, x: mx.array, state: WindowState, counts: Sequence[int] | None) -> tuple[mx.array, WindowState]:
        """(B, T, D in) -> (B, T, D out), both float32."""
        config, steps = self._config, x.shape[1]
        rotor = make_rotor(state.positions, steps, config.head_dim, config.max_period)
        plan, used, positions = plan_call(state, steps, counts, config.window, rotor)
        x = self._project("input_proj", x)
        carried = []
        for layer, keys, values in zip(self.transformer.layers, state.keys, state.values, strict=True):
            x, *buffers = layer(x, keys, values, plan)
            issue(x)
            carried.append(buffers)
        all_keys, all_values = zip(*carried, strict=True)
        return self._project("output_proj", x), WindowState(all_keys, all_values, used, positions)

    def in_c(self, library: ctypes.CDLL) -> CompiledStage:
        """The same in C, with the weights of now."""
        return CompiledStage(self._config, dict(tree_flatten(self.parameters())), library)

    def _project(self, name: str, x: mx.array) -> mx.array:
        return self[name](x.astype(self._dtype)).astype(mx.float32) if name in self else x
