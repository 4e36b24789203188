"""Models with random weights by seed, in the layouts that upstream stores, for everything under benchmarks/.

They never stop by themselves: whatever the text channel asks, the gen slot wins, so that a run has as many frames
as the benchmark wants. Codes are random but depend on the weights, so two runtimes can be held against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# isort: off
import moss_tts  # noqa: F401 - before mlx: it brings the fast BLAS

# isort: on
import mlx.core as mx
import numpy as np

from moss_tts.adapters.low_rank import Wanted
from moss_tts.adapters.peft import Pair, StoredAdapter
from moss_tts.architectures import ARCHITECTURES, Architecture
from moss_tts.checkpoints.adapters import places_of, put_adapters
from moss_tts.checkpoints.loading import load_architecture, quantizable_modules
from moss_tts.codec import CodecConfig, MossAudioTokenizer
from moss_tts.codec import upstream_shapes as codec_shapes
from moss_tts.config import ID_DEFAULTS, DelayConfig, LocalConfig, LocalV15Config, MossConfig, parse_config
from moss_tts.weights.layout import SUFFIXES, Shapes
from moss_tts.weights.quantisation import Precision

Raw = dict[str, Any]
Weights = dict[str, mx.array]

ARCHITECTURE_NAMES = ("delay", "local", "local_v1_5", "nano")
UNUSED_EMBEDDING = "model.language_model.embed_tokens.weight"


@dataclass(frozen=True)
class Size:
    """Sizes of a speech model.

    Attributes:
        width: D of the backbone.
        layers: of the backbone.
        heads: query heads.
        kv_heads: key and value heads.
        head: width of a head.
        ffn: of the backbone.
        depth_width: of Local's depth transformer.
        depth_layers: of it.
        depth_ffn: of it.
        adapter: feed-forward between the two.
        vocabulary: V of the text channel.
        n_vq: Q of Delay and Local v1.0.
        codebook: codes per codebook.
    """

    width: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    ffn: int
    depth_width: int
    depth_layers: int
    depth_ffn: int
    adapter: int
    vocabulary: int = 151_680
    n_vq: int = 32
    codebook: int = 1024


SIZES = {
    # Seconds on anything, for tests of the benchmarks themselves.
    "tiny": Size(32, 1, 2, 1, 16, 48, 32, 1, 48, 32, vocabulary=300, n_vq=4, codebook=32),
    # Overhead rules: the weights of a step fit into a cache.
    "small": Size(256, 8, 8, 4, 32, 768, 256, 4, 768, 256),
    # Bandwidth rules: the widths of the 1.7B backbone and of its depth transformer, few layers.
    "wide": Size(2048, 2, 16, 8, 128, 6144, 1536, 1, 8960, 2048),
    # The released checkpoints, of an architecture each: Local v1.0, Delay (MOSS-TTS), VoiceGenerator, Local v1.5, Nano.
    "local_1_7b": Size(2048, 28, 16, 8, 128, 6144, 1536, 4, 8960, 2048, vocabulary=155_648),
    "delay_8b": Size(4096, 36, 32, 8, 128, 12288, 0, 0, 0, 0, vocabulary=155_648),
    "voice_generator": Size(2048, 28, 16, 8, 128, 6144, 0, 0, 0, 0, vocabulary=155_648, n_vq=16),
    "local_4b": Size(2560, 36, 32, 8, 128, 9728, 0, 0, 0, 0, vocabulary=151_936),
    "nano": Size(768, 12, 12, 12, 64, 3072, 0, 0, 0, 0, vocabulary=16_384),
}
# Size -> architecture.
RELEASED = {
    "delay_8b": "delay",
    "voice_generator": "delay",
    "local_1_7b": "local",
    "local_4b": "local_v1_5",
    "nano": "nano",
}

SPECIAL_IDS = {**ID_DEFAULTS, "audio_assistant_delay_slot_token_id": 151662}


# ----------------------------------------------------------------------------------------------- configs


def raw_config(architecture: str, size: Size) -> Raw:
    """config.json as upstream writes it; a small vocabulary keeps the distances of the special ids."""
    shift = max(0, 151_680 - size.vocabulary)
    common = {
        "n_vq": size.n_vq,
        "audio_vocab_size": size.codebook,
        "audio_pad_code": size.codebook,
        "sampling_rate": 24000,
        "dtype": "float32",
        **{name: id_ - shift for name, id_ in SPECIAL_IDS.items()},
    }
    if architecture == "local_v1_5":
        return _v1_5_config(common, size)
    if architecture == "nano":
        return _nano_config(common, size)
    raw = common | {"model_type": "moss_tts_delay", "language_config": _backbone_config(size)}
    if architecture == "local":
        raw |= {
            "local_num_layers": size.depth_layers,
            "local_hidden_size": size.depth_width,
            "local_ffn_hidden_size": size.depth_ffn,
            "additional_mlp_ffn_hidden_size": size.adapter,
        }
    return raw


def _backbone_config(size: Size) -> Raw:
    return {
        "model_type": "qwen3",
        "hidden_size": size.width,
        "num_hidden_layers": size.layers,
        "intermediate_size": size.ffn,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.head,
        "vocab_size": size.vocabulary,
        "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "tie_word_embeddings": False,
    }


def _v1_5_config(common: Raw, size: Size) -> Raw:
    n_vq = max(1, size.n_vq * 12 // 32)
    raw = {name: value for name, value in common.items() if name != "audio_assistant_delay_slot_token_id"}
    slot = raw.pop("audio_assistant_gen_slot_token_id")
    return raw | {
        "model_type": "moss_tts_local",
        "n_vq": n_vq,
        "audio_pad_token_id": size.codebook,
        "audio_assistant_slot_token_id": slot,
        "sampling_rate": 48000,
        "local_transformer_layers": 1,
        "local_text_head_mode": "binary",
        "qwen3_config": _backbone_config(size),
        "gpt2_config": _gpt2_config(size, n_layer=1, n_positions=n_vq + 1, rope_base=1e6)
        | {"activation_function": "silu", "layer_norm_epsilon": 1e-6},
    }


def _nano_config(common: Raw, size: Size) -> Raw:
    raw = {name: value for name, value in common.items() if name != "audio_assistant_delay_slot_token_id"}
    slot, code, _ = (raw.pop(f"audio_{name}") for name in ("assistant_gen_slot_token_id", "pad_code", "vocab_size"))
    return raw | {
        "model_type": "moss_tts_nano",
        "n_vq": max(1, size.n_vq // 2),
        "audio_vocab_size": size.codebook,
        "audio_pad_token_id": code,
        "audio_assistant_slot_token_id": slot,
        "audio_tokenizer_sample_rate": raw.pop("sampling_rate") * 2,
        "local_transformer_layers": 1,
        "gpt2_config": _gpt2_config(size, n_layer=size.layers, n_positions=32768, rope_base=1e4)
        | {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "vocab_size": size.vocabulary},
    }


def _gpt2_config(size: Size, **more: float) -> Raw:
    return {
        "n_embd": size.width,
        "n_head": size.heads,
        "n_inner": size.ffn,
        "position_embedding_type": "rope",
        **more,
    }


# ----------------------------------------------------------------------------------------------- weights


def speech_weights(raw: Raw, seed: int = 0) -> Weights:
    """Random float32 weights under upstream's names."""
    config = parse_config(raw)
    architecture = ARCHITECTURES[type(config)]
    weights = _random(architecture.layout.upstream_shapes(architecture.network_class(config), config.n_vq), seed)
    if isinstance(config, DelayConfig):
        _tie_delay_slots(weights, config)
    elif isinstance(config, LocalConfig):
        _prefer_gen_slot(weights, config)
    elif isinstance(config, LocalV15Config):
        # Equal logits: the first candidate, the assistant slot, is the greedy choice.
        weights["local_text_lm_head.weight"] *= 0
    else:
        _prefer_slot_of_tied_heads(weights, config)
    return weights


def _random(shapes: Shapes, seed: int) -> Weights:
    """Matrices that keep the size of what they multiply; gains of one, biases of zero."""
    weights = {}
    for index, (name, shape) in enumerate(sorted(shapes.items())):
        if len(shape) == 1 or name.endswith("original0"):
            weights[name] = mx.full(shape, 0.0 if name.endswith("bias") else 1.0)
        else:
            # NumPy's normal numbers come five times as fast as MLX's on a CPU.
            values = np.random.Generator(np.random.SFC64([seed, index])).standard_normal(shape, np.float32)
            values *= shape[1] ** -0.5
            weights[name] = mx.array(values)
    mx.eval(weights)
    return weights


def _tie_delay_slots(weights: Weights, config: DelayConfig) -> None:
    """Both slots of a segment have exactly the logit 0: the first, the gen slot, is the greedy choice."""
    head = weights["lm_heads.0.weight"]
    slots = mx.array([config.audio_assistant_gen_slot_token_id, config.audio_assistant_delay_slot_token_id])
    head[slots] = 0.0


def _prefer_gen_slot(weights: Weights, config: LocalConfig) -> None:
    """Local may sample the whole vocabulary, so the gen slot needs the largest logit of all.

    Where gate and up are the same matrix, SiLU(z) * z is never negative, and neither is a sum of it.
    """
    adapter = "local_to_speech_embedding_mlps.0"
    weights[f"{adapter}.up_proj.weight"] = weights[f"{adapter}.gate_proj.weight"]
    weights[f"{adapter}.down_proj.weight"][0] = 1.0
    head = weights["lm_heads.0.weight"]
    head[:, 0] = 0.0
    head[config.audio_assistant_gen_slot_token_id] = 0.0
    head[config.audio_assistant_gen_slot_token_id, 0] = 100.0


def _prefer_slot_of_tied_heads(weights: Weights, config: MossConfig) -> None:
    """The depth decoder's first coordinate is large; the two tokens differ in it, and codes have none of it."""
    weights["local_transformer.ln_f.bias"][0] = 100.0
    weights["transformer.wte.weight"][config.audio_assistant_gen_slot_token_id, 0] = 1.0
    weights["transformer.wte.weight"][config.audio_end_token_id, 0] = -1.0
    for q in range(config.n_vq):
        weights[f"audio_embeddings.{q}.weight"][:, 0] = 0.0


def architecture_of(raw: Raw, weights: Weights) -> Architecture[Any, Any]:
    """The network in memory, as loading makes it."""
    return load_architecture(Path("synthetic"), parse_config(raw), weights, "float32")


def quantised(raw: Raw, weights: Weights, bits: int) -> tuple[Raw, Weights]:
    """The same checkpoint in bfloat16, as released, and what `convert -q` quantises in groups of 64."""
    config = parse_config(raw)
    architecture = ARCHITECTURES[type(config)]
    may = quantizable_modules(architecture.network_class(config), architecture.protected)
    precision, made = Precision.of(bits, 64), {}
    for name, weight in weights.items():
        path, half = name.removesuffix(".weight"), weight.astype(mx.bfloat16)
        if architecture.layout.our_path(path) in may and precision.fits(weight.shape):
            parts = precision.quantize(half)
            made |= {f"{path}.{key}": part for key, part in zip(SUFFIXES, parts, strict=True)}
        else:
            made[name] = half
        mx.eval(made)
    return raw | {"quantization": precision.block}, made


def add_adapters(architecture: Architecture[Any, Any], ranks: Sequence[int]) -> Wanted:
    """Put adapters of such ranks beside every linear layer and head; what a request of all of them asks for.

    B is zero, as in training's first step, so that the speech stays the same and never stops.
    """
    stored, places = [], dict(places_of(architecture))
    for number, rank in enumerate(ranks):
        downs = _random({name: (rank, place.inputs) for name, place in places.items()}, number)
        pairs = {name: Pair(downs[name], mx.zeros((place.outputs, rank)), 1.0) for name, place in places.items()}
        stored.append(StoredAdapter(str(number), Path("synthetic"), None, None, pairs))
    put_adapters(architecture, stored)
    return tuple((adapter.name, 1.0) for adapter in stored)


def prompt_rows(config: MossConfig, text_rows: int = 64, frames: int = 40, seed: int = 0) -> np.ndarray:
    """A prompt (T, 1 + Q): words, a reference of `frames` frames, words, and Q rows of speech that go on.

    With those every codebook of the delay pattern is open from the first row that is made.
    """
    rng = np.random.default_rng(seed)
    rows = np.full((text_rows + frames + config.n_vq, 1 + config.n_vq), config.audio_pad_code, dtype=np.int32)
    words = min(config.pad_token_id, config.vocab_size) - 1
    rows[:, 0] = rng.integers(0, words, len(rows))
    start = len(rows) - config.n_vq
    reference = slice(text_rows // 2, text_rows // 2 + frames)
    for span, slot in (
        (reference, config.audio_user_slot_token_id),
        (slice(start, None), config.audio_assistant_gen_slot_token_id),
    ):
        rows[span, 0] = slot
        rows[span, 1:] = rng.integers(0, config.audio_vocab_size, rows[span, 1:].shape)
    rows[0, 0] = rows[start - 4, 0] = config.im_start_token_id
    rows[start - 1, 0] = config.audio_start_token_id
    return rows


# ------------------------------------------------------------------------------------------------- codec


def codec_raw_config(scale: int = 1, n_vq: int = 32, codebook: int = 1024) -> Raw:
    """config.json of the released v1 codec, its transformers narrower and shallower by `scale`."""

    def stage(inputs: int, outputs: int, width: int = 768, layers: int = 12) -> Raw:
        heads = max(1, width // 64 // scale)
        return {
            "module_type": "Transformer",
            "input_dimension": inputs,
            "output_dimension": outputs,
            "d_model": 64 * heads,
            "num_heads": heads,
            "num_layers": max(1, layers // scale),
            "dim_feedforward": 256 * heads,
            "causal": True,
            "norm": "layer_norm",
            "positional_embedding": "rope",
            "max_period": 10000,
            "gating": "none",
            "layer_scale": 0.01,
            "conv_layout": True,
        }

    def patch(size: int) -> Raw:
        return {"module_type": "PatchedPretransform", "patch_size": size}

    encoder = [patch(240), stage(240, 384), patch(2), stage(768, 384), patch(2), stage(768, 640), patch(2)]
    decoder = [patch(2), stage(640, 768), patch(2), stage(384, 768), patch(2), stage(384, 240), patch(240)]
    return {
        "model_type": "moss-audio-tokenizer",
        "sampling_rate": 24000,
        "downsample_rate": 1920,
        "causal_transformer_context_duration": 10.0,
        "encoder_kwargs": [*encoder, stage(1280, 768, 1280, 32)],
        "decoder_kwargs": [stage(768, 1280, 1280, 32), *decoder],
        "quantizer_type": "rlfq",
        "quantizer_kwargs": {
            "quantizer_type": "rlfq",
            "input_dim": 768,
            "rvq_dim": 512,
            "output_dim": 768,
            "num_quantizers": n_vq,
            "codebook_size": codebook,
            "codebook_dim": 8,
        },
    }


def codec_weights(raw: Raw, seed: int = 0) -> Weights:
    """Random float32 weights under upstream's names, encoder included."""
    return _random(codec_shapes(CodecConfig.from_dict(raw)), seed)


def codec_of(raw: Raw, weights: Weights) -> MossAudioTokenizer:
    """The codec in memory."""
    return MossAudioTokenizer.from_weights(raw, weights)
