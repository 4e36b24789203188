"""Weight names and shapes of a codec checkpoint, the strict check against them, and folding at load.

Inside, tensors carry the names of upstream's second generation. Weight norm and layer scales are folded away:
both are exact algebra, done in float32 before weights are cast.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import mlx.core as mx

from moss_tts.codec.config import CodecConfig, QuantizerConfig
from moss_tts.codec.stages import SCALED, Shapes
from moss_tts.errors import CheckpointError
from moss_tts.weights.layout import first_names
from moss_tts.weights.quantisation import DEFAULTS, check_settings

Weights: TypeAlias = Mapping[str, mx.array]

FUSED_PREFIX = "codec_model."
GAIN, DIRECTION = "parametrizations.weight.original0", "parametrizations.weight.original1"
# (what the first generation writes, our name).
V1_NAMES = (
    ("self_attn.in_projs.0.weight", "self_attn.in_proj.weight"),
    ("self_attn.out_projs.0.weight", "self_attn.out_proj.weight"),
    ("linear1.weight", "ffn.0.weight"),
    ("linear2.weight", "ffn.2.weight"),
)
# Other spellings that upstream's loaders accept.
SPELLINGS = (
    *V1_NAMES,
    ("self_attn.in_proj_weight", "self_attn.in_proj.weight"),
    ("weight_g", GAIN),
    ("weight_v", DIRECTION),
)


def upstream_shapes(config: CodecConfig) -> Shapes:
    """Names and shapes of everything upstream stores for a codec of this config."""
    shapes = {**_quantizer_shapes(config.quantizer)}
    for prefix, stage in config.stages.items():
        shapes |= {prefix + name: shape for name, shape in stage.shapes(config.version).items()}
    if config.version == 1:
        shapes = {_respell(name, [(ours, theirs) for theirs, ours in V1_NAMES]): s for name, s in shapes.items()}
    return shapes


def _quantizer_shapes(config: QuantizerConfig) -> Shapes:
    """Projections are convolutions of kernel size 1; upstream has none where the widths agree."""
    shapes: Shapes = {}
    for name, wide, narrow in _quantizer_projections(config):
        if wide != narrow:
            shapes[f"quantizer.{name}.{GAIN}"] = (wide, 1, 1)
            shapes[f"quantizer.{name}.{DIRECTION}"] = (wide, narrow, 1)
            shapes[f"quantizer.{name}.bias"] = (wide,)
    for index in range(config.num_quantizers):
        name = f"quantizer.quantizers.{index}.codebook.weight"
        shapes[name] = (config.codebook_size, config.codebook_dim)
    return shapes


def _quantizer_projections(config: QuantizerConfig) -> Iterator[tuple[str, int, int]]:
    """(name, rows, columns) of every projection."""
    yield "input_proj", config.rvq_dim, config.input_dim
    yield "output_proj", config.output_dim, config.rvq_dim
    for index in range(config.num_quantizers):
        yield f"quantizers.{index}.in_proj", config.codebook_dim, config.rvq_dim
        yield f"quantizers.{index}.out_proj", config.rvq_dim, config.codebook_dim


def canonical_weights(config: CodecConfig, weights: Weights) -> tuple[CodecConfig, dict[str, mx.array]]:
    """Weights under our names, checked against the config; nothing is evaluated.

    Returns:
        the config with the version that the weights show (a re-saved config may have lost what tells it), and
        the weights with weight norm and layer scales folded in.

    Raises:
        CheckpointError: a weight is missing, surplus or of another shape; the message names it.
    """
    weights = _dequantised(weights, config.quantization or {})
    named: dict[str, mx.array] = {}
    for name, weight in weights.items():
        if named.setdefault(canonical_name(name), weight) is not weight:
            raise CheckpointError(f"the codec checkpoint has {name} twice, under two spellings.")
    config = replace(config, version=_version_of(config, named))
    original = {canonical_name(name): name for name in (*upstream_shapes(config), *weights)}
    expected = {canonical_name(name): shape for name, shape in upstream_shapes(config).items()}
    _check(_with_folded(expected, named), named, original)
    return config, _fold_layer_scales(_fold_weight_norm(named))


def _dequantised(weights: Weights, quantization: Mapping[str, Any]) -> Weights:
    """Weights without scales and biases; a codec computes with values, in the type of its scales."""
    plain = dict(weights)
    for name, scales in weights.items():
        stem = name.removesuffix("scales")
        weight = weights.get(f"{stem}weight")
        if not name.endswith(".scales") or weight is None:
            continue
        override = quantization.get(stem.removesuffix("."))
        block = override if isinstance(override, Mapping) else quantization
        settings = {key: block.get(key, default) for key, default in DEFAULTS.items()}
        check_settings(settings)
        del plain[name]
        biases = plain.pop(f"{stem}biases", None)
        try:
            plain[f"{stem}weight"] = mx.dequantize(weight, scales, biases, **settings)
        except (TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{stem}weight of the codec is not quantised as its config.json says, with {settings}: {error}"
            ) from error
    return plain


def canonical_name(name: str) -> str:
    """Our name of a tensor of the file."""
    return _respell(name.removeprefix(FUSED_PREFIX), SPELLINGS)


def _respell(name: str, table: Iterable[tuple[str, str]]) -> str:
    for old, new in table:
        if name.endswith(f".{old}"):
            return name[: -len(old)] + new
    return name


def _version_of(config: CodecConfig, named: Weights) -> int:
    """Only the second generation projects where the widths agree; without such a stage the config decides."""
    telling = [prefix + name for prefix, stage in config.stages.items() for name in stage.square_projections]
    return config.version if not telling else 2 if telling[0] in named else 1


def _with_folded(expected: Shapes, named: Weights) -> Shapes:
    """The shapes of a file with weight norm that is folded already, in some projections or in all."""
    expected = dict(expected)
    for name in [name for name in expected if name.endswith(DIRECTION)]:
        folded = name.removesuffix(DIRECTION) + "weight"
        if folded in named:
            expected[folded] = expected.pop(name)
            del expected[name.removesuffix(DIRECTION) + GAIN]
    return expected


def _check(expected: Shapes, named: Weights, original: Mapping[str, str]) -> None:
    problems = []
    if missing := [original.get(name, name) for name in expected if name not in named]:
        problems.append(f"lacks {first_names(missing)}")
    if surplus := [original[name] for name in named if name not in expected]:
        problems.append(f"has weights this codec does not know: {first_names(surplus)}")
    for name in sorted(expected.keys() & named.keys()):
        given = tuple(named[name].shape)
        if _without_kernel(name, given) != _without_kernel(name, expected[name]):
            problems.append(f"has {original[name]} of shape {given} where the config asks for {expected[name]}")
            break
    if whole := [original[name] for name, weight in named.items() if not mx.issubdtype(weight.dtype, mx.floating)]:
        problems.append(f"has {first_names(whole)} in whole numbers, which must be floating-point numbers")
    if problems:
        raise CheckpointError(f"the codec checkpoint {'; it '.join(problems)}.")


def _without_kernel(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Frameworks put the kernel axis of a convolution in different places; here it always has size 1."""
    return tuple(size for size in shape if size != 1) if name.startswith("quantizer.") else shape


def _fold_weight_norm(named: Weights) -> dict[str, mx.array]:
    """Every gain and direction becomes one matrix (out, in); folded projections lose their kernel axis."""
    folded: dict[str, mx.array] = {}
    for name, weight in named.items():
        if name.endswith(DIRECTION):
            gain = named[name.removesuffix(DIRECTION) + GAIN]
            folded[name.removesuffix(DIRECTION) + "weight"] = _normalised(gain, weight)
        elif name.startswith("quantizer.") and re.search(r"(in|out|input|output)_proj\.weight$", name):
            folded[name] = weight.reshape(weight.shape[0], -1)
        elif not name.endswith(GAIN):
            folded[name] = weight
    return folded


def _normalised(gain: mx.array, direction: mx.array) -> mx.array:
    rows = direction.astype(mx.float32).reshape(direction.shape[0], -1)
    return gain.astype(mx.float32).reshape(-1, 1) * rows / mx.sqrt((rows * rows).sum(axis=1, keepdims=True))


def _fold_layer_scales(named: dict[str, mx.array]) -> dict[str, mx.array]:
    """Scaling a branch's output is scaling the rows of its last product."""
    folded = dict(named)
    for name in named:
        for scale, product in SCALED:
            if name.endswith(scale):
                target = name.removesuffix(scale) + product
                rows = folded.pop(name).astype(mx.float32)[:, None]
                folded[target] = rows * folded[target].astype(mx.float32)
    return folded


def network_parameters(weights: Weights, prefix: str, dtype: mx.Dtype) -> list[tuple[str, mx.array]]:
    """Parameters of the network stored under `prefix` ("encoder." or "decoder."), cast to its dtype.

    Norms stay float32: they act on the residual stream.
    """
    return [
        ("stages." + name.removeprefix(prefix), weight.astype(mx.float32 if ".norm" in name else dtype))
        for name, weight in weights.items()
        if name.startswith(prefix)
    ]
