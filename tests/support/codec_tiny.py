"""Codecs small enough for tests: configs in upstream's format, random checkpoints, and a slow reference.

The reference is float64 NumPy on the weights as upstream stores them: nothing folded, one mask over the whole
signal, no state. It shares no code with the package.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from moss_tts.codec import CodecConfig, MossAudioTokenizer, upstream_shapes

Raw = dict[str, Any]
Arrays = dict[str, np.ndarray]


def transformer(inputs: int, width: int, outputs: int, layers: int = 2, **options: Any) -> Raw:
    """A transformer block of config.json."""
    return {
        "module_type": "Transformer",
        "input_dimension": inputs,
        "output_dimension": outputs,
        "d_model": width,
        "num_heads": 2,
        "num_layers": layers,
        "dim_feedforward": 2 * width,
        "causal": True,
        "norm": "layer_norm",
        "positional_embedding": "rope",
        "max_period": 10000,
        "gating": "none",
        "layer_scale": 0.01,
        "conv_layout": True,
    } | options


def patch(size: int) -> Raw:
    """A patch block of config.json."""
    return {"module_type": "PatchedPretransform", "patch_size": size}


def config_json(encoder: list[Raw], decoder: list[Raw], width: int, **options: Any) -> Raw:
    """A config.json around the two lists; `width` is what stands between them and the quantizer."""
    return {
        "model_type": "moss-audio-tokenizer",
        "sampling_rate": 200,
        "downsample_rate": 16,
        "causal_transformer_context_duration": 0.4,
        "encoder_kwargs": encoder,
        "decoder_kwargs": decoder,
        "quantizer_type": "rlfq",
        "quantizer_kwargs": {
            "input_dim": width,
            "rvq_dim": 8,
            "output_dim": width,
            "num_quantizers": 4,
            "codebook_size": 32,
            "codebook_dim": 4,
            "quantizer_type": "rlfq",
        },
    } | options


def mono() -> Raw:
    """First generation: steps of 50, 25 and 12.5 Hz, windows of 20, 10 and 5."""
    encoder = [
        patch(4),
        transformer(4, 16, 8),
        patch(2),
        transformer(16, 16, 8),
        patch(2),
        transformer(16, 16, 12),
    ]
    decoder = [
        transformer(12, 16, 16),
        patch(2),
        transformer(8, 16, 16),
        patch(2),
        transformer(8, 16, 4),
        patch(4),
    ]
    return config_json(encoder, decoder, width=12)


def stereo() -> Raw:
    """Second generation: two channels as one stream, a context per stage, projections everywhere."""
    short, long = {"context_duration": 0.1}, {"context_duration": 0.8}
    encoder = [patch(4), transformer(4, 16, 8, **short), patch(8), transformer(64, 16, 16, **long)]
    decoder = [transformer(16, 16, 64, **long), patch(8), transformer(8, 16, 4, **short), patch(4)]
    return config_json(encoder, decoder, width=16, number_channels=2, enable_channel_interleave=True)


def nano() -> Raw:
    """As the 22M codec: second generation, and a patch between the quantizer and each network."""
    encoder = [patch(4), transformer(4, 16, 8), patch(8), transformer(64, 16, 6), patch(2)]
    decoder = [patch(2), transformer(6, 16, 64), patch(8), transformer(8, 16, 4), patch(4)]
    return config_json(
        encoder, decoder, width=12, downsample_rate=32, number_channels=2, enable_channel_interleave=True
    )


def random_weights(raw: Raw, seed: int = 0) -> dict[str, mx.array]:
    """A checkpoint as upstream would store it; large enough scales that every part shows in the output."""
    rng = np.random.default_rng(seed)
    shapes = upstream_shapes(CodecConfig.from_dict(raw))
    return {name: mx.array(_random(rng, name, shape)) for name, shape in shapes.items()}


def _random(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    noise = rng.standard_normal(shape).astype(np.float32)
    if len(shape) == 1:
        base = 0.0 if name.endswith("bias") else 1.0
        return (base + 0.2 * noise).astype(np.float32)
    return noise if "quantizer" in name else noise / np.float32(np.sqrt(shape[-1]))


def random_codec(raw: Raw, seed: int = 0, dtype: mx.Dtype = mx.float32) -> MossAudioTokenizer:
    """A codec with random weights."""
    return MossAudioTokenizer.from_weights(raw, random_weights(raw, seed), dtype)


def random_codes(codec: MossAudioTokenizer, *shape: int, seed: int = 0) -> np.ndarray:
    """Codes (Q, *shape)."""
    config = codec.config
    return np.random.default_rng(seed).integers(0, config.codebook_size, (config.num_quantizers, *shape))


def random_audio(codec: MossAudioTokenizer, samples: int, seed: int = 0) -> np.ndarray:
    """A waveform (C, S) float32."""
    noise = np.random.default_rng(seed).standard_normal((codec.config.channels, samples))
    return noise.astype(np.float32)


# ------------------------------------------------------------------------------------------------- reference


def reference_decode(raw: Raw, weights: dict[str, mx.array], codes: np.ndarray) -> np.ndarray:
    """Codes (Q, F) -> stream (F * frame,) of interleaved samples."""
    w = _float64(weights)
    latent = np.zeros((raw["quantizer_kwargs"]["rvq_dim"], codes.shape[1]))
    for index, row in enumerate(codes):
        vectors = w[f"quantizer.quantizers.{index}.codebook.weight"][row].T
        latent += _convolve(w, f"quantizer.quantizers.{index}.out_proj", vectors)
    x = _convolve(w, "quantizer.output_proj", latent)
    rate = raw["sampling_rate"] / raw["downsample_rate"]
    for index, block in enumerate(raw["decoder_kwargs"]):
        if "patch_size" in block:
            size, (width, steps) = block["patch_size"], x.shape
            x = x.reshape(width // size, size, steps).transpose(0, 2, 1).reshape(width // size, steps * size)
            rate *= size
        else:
            x = _stage(w, f"decoder.{index}.", block, _window(raw, block, rate), x)
    return x[0]


def reference_latents(raw: Raw, weights: dict[str, mx.array], stream: np.ndarray) -> np.ndarray:
    """Interleaved samples (F * frame,) -> encoder output (D, F)."""
    w, x = _float64(weights), stream[None].astype(np.float64)
    rate = raw["sampling_rate"] * raw.get("number_channels", 1)
    for index, block in enumerate(raw["encoder_kwargs"]):
        if "patch_size" in block:
            size, (width, steps) = block["patch_size"], x.shape
            x = x.reshape(width, steps // size, size).transpose(0, 2, 1).reshape(width * size, steps // size)
            rate /= size
        else:
            x = _stage(w, f"encoder.{index}.", block, _window(raw, block, rate), x)
    return x


def reference_codes(raw: Raw, weights: dict[str, mx.array], latents: np.ndarray) -> np.ndarray:
    """Encoder output (D, F) -> codes (Q, F), by the distance to every entry of every codebook."""
    w, codes = _float64(weights), []
    residual = _convolve(w, "quantizer.input_proj", latents)
    for index in range(raw["quantizer_kwargs"]["num_quantizers"]):
        name = f"quantizer.quantizers.{index}."
        points, book = _convolve(w, f"{name}in_proj", residual), w[f"{name}codebook.weight"]
        unit = points / np.linalg.norm(points, axis=0)
        rows = book / np.linalg.norm(book, axis=1, keepdims=True)
        chosen = np.linalg.norm(unit[None] - rows[:, :, None], axis=1).argmin(axis=0)
        residual = residual - _convolve(w, f"{name}out_proj", book[chosen].T)
        codes.append(chosen)
    return np.stack(codes)


def _float64(weights: dict[str, mx.array]) -> Arrays:
    first = {
        "in_projs.0.": "in_proj.",
        "out_projs.0.": "out_proj.",
        "linear1.": "ffn.0.",
        "linear2.": "ffn.2.",
    }
    named = {}
    for name, weight in weights.items():
        for old, new in first.items():
            name = name.replace(f".{old}", f".{new}")
        named[name] = np.array(weight, dtype=np.float64)
    return named


def _window(raw: Raw, block: Raw, rate: float) -> int:
    return round(rate * block.get("context_duration", raw["causal_transformer_context_duration"]))


def _convolve(w: Arrays, name: str, x: np.ndarray) -> np.ndarray:
    gain, direction = (w[f"{name}.parametrizations.weight.original{index}"] for index in (0, 1))
    matrix = gain[:, :, 0] * direction[:, :, 0] / np.linalg.norm(direction[:, :, 0], axis=1, keepdims=True)
    return matrix @ x + w[f"{name}.bias"][:, None]


def _stage(w: Arrays, prefix: str, block: Raw, window: int, x: np.ndarray) -> np.ndarray:
    """(D, T) -> (D', T)."""
    x = x.T
    if f"{prefix}input_proj.weight" in w:
        x = x @ w[f"{prefix}input_proj.weight"].T
    for index in range(block["num_layers"]):
        layer = {
            name.removeprefix(f"{prefix}transformer.layers.{index}."): weight
            for name, weight in w.items()
            if name.startswith(f"{prefix}transformer.layers.{index}.")
        }
        mixed = _norm(layer, "norm1", x) @ layer["self_attn.in_proj.weight"].T
        attended = _attention(mixed, block["num_heads"], block["max_period"], window)
        x = x + layer["layer_scale_1.scale"] * (attended @ layer["self_attn.out_proj.weight"].T)
        hidden = _norm(layer, "norm2", x) @ layer["ffn.0.weight"].T
        x = x + layer["layer_scale_2.scale"] * (_gelu(hidden) @ layer["ffn.2.weight"].T)
    if f"{prefix}output_proj.weight" in w:
        x = x @ w[f"{prefix}output_proj.weight"].T
    return x.T


def _norm(layer: Arrays, name: str, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=1, keepdims=True)
    unit = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    return unit * layer[f"{name}.weight"] + layer[f"{name}.bias"]


def _gelu(x: np.ndarray) -> np.ndarray:
    from math import erf

    return x * (1 + np.vectorize(erf)(x / np.sqrt(2))) / 2


def _attention(mixed: np.ndarray, heads: int, period: float, window: int) -> np.ndarray:
    steps, width = mixed.shape[0], mixed.shape[1] // 3
    head = width // heads
    own, other = np.arange(steps)[:, None], np.arange(steps)[None]
    hidden = (other > own) | (other <= own - window)
    outputs = []
    for index in range(heads):
        q, k, v = (mixed[:, part * width + index * head :][:, :head] for part in range(3))
        scores = _turn(q, period) @ _turn(k, period).T / np.sqrt(head)
        scores[hidden] = -np.inf
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        outputs.append(odds / odds.sum(axis=1, keepdims=True) @ v)
    return np.concatenate(outputs, axis=1)


def _turn(x: np.ndarray, period: float) -> np.ndarray:
    """Rotate each pair of neighbours by its step times a rate that falls along the head."""
    steps, width = x.shape
    angles = np.arange(steps)[:, None] * period ** (-np.arange(0, width, 2) / width)[None]
    even, odd = x[:, 0::2], x[:, 1::2]
    turned = np.empty_like(x)
    turned[:, 0::2] = even * np.cos(angles) - odd * np.sin(angles)
    turned[:, 1::2] = even * np.sin(angles) + odd * np.cos(angles)
    return turned
