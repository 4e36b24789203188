"""Tiny checkpoints with random weights: everything a real one has, in the same layout, and it speaks noise.

They exist so that the whole runtime can be run in seconds where no weights are: by the README's first command,
by tests and by benchmarks. Random weights alone would end after a frame or two, so one coordinate of the hidden
state is held apart from the noise and carries how likely it is to go on speaking.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from moss_tts.architectures import ARCHITECTURES
from moss_tts.codec import CodecConfig
from moss_tts.codec import upstream_shapes as codec_shapes
from moss_tts.config import MossConfig, parse_config
from moss_tts.errors import CheckpointError, RequestError
from moss_tts.weights.layout import Shapes

Weights = dict[str, np.ndarray]
Raw = dict[str, Any]

NOTE = "random weights, made by moss-tts demo-checkpoint: it speaks noise, not words"
CODEC_DIRECTORY = "audio_tokenizer"
N_VQ = 4
CODEBOOK = 256
WIDTH = 64
CONTROL_TOKENS = {
    "pad_token_id": "<|endoftext|>",
    "im_start_token_id": "<|im_start|>",
    "im_end_token_id": "<|im_end|>",
    "audio_start_token_id": "<|audio_start|>",
    "audio_end_token_id": "<|audio_end|>",
    "audio_user_slot_token_id": "<|audio_user_slot|>",
    "audio_assistant_gen_slot_token_id": "<|audio_assistant_gen_slot|>",
    "audio_assistant_delay_slot_token_id": "<|audio_assistant_delay_slot|>",
}
# Those that a tokenizer has even if the config does not name them.
OF_TOKENIZER = ("im_start_token_id", "im_end_token_id")
# 256 bytes and <unk> come first.
FIRST_CONTROL_ID = 257
VOCABULARY = 272

# What an architecture's config.json has beside the common keys, or, where None, does not have.
ARCHITECTURE_KEYS: Mapping[str, Raw] = {
    "delay": {},
    "local": {
        "local_num_layers": 1,
        "local_hidden_size": 32,
        "local_ffn_hidden_size": 64,
        "additional_mlp_ffn_hidden_size": 48,
    },
    "local_v1_5": {
        "architectures": ["MossTTSLocalModel"],
        "model_type": "moss_tts_local",
        "sampling_rate": 48000,
        "gpt2_config": {
            "n_embd": WIDTH,
            "n_head": 4,
            "n_layer": 1,
            "n_inner": 2 * WIDTH,
            "activation_function": "silu",
            "layer_norm_epsilon": 1e-6,
            "position_embedding_type": "rope",
        },
        "local_text_head_mode": "binary",
        "audio_assistant_delay_slot_token_id": None,
    },
    "nano": {
        "architectures": ["MossTTSNanoForCausalLM"],
        "model_type": "moss_tts_nano",
        "sampling_rate": 48000,
        "language_config": None,
        "gpt2_config": {
            "n_embd": WIDTH,
            "n_head": 2,
            "n_layer": 2,
            "n_inner": 2 * WIDTH,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "position_embedding_type": "rope",
            "vocab_size": VOCABULARY,
        },
        "local_transformer_layers": 1,
        "audio_assistant_delay_slot_token_id": None,
    },
    "realtime": {
        "architectures": ["MossTTSRealtime"],
        "model_type": "moss_tts_realtime",
        "rvq": N_VQ,
        "audio_vocab_size": CODEBOOK + 3,
        "audio_pad_token": CODEBOOK,
        "reference_audio_pad": FIRST_CONTROL_ID + list(CONTROL_TOKENS).index("audio_user_slot_token_id"),
        "text_pad": FIRST_CONTROL_ID + list(CONTROL_TOKENS).index("audio_assistant_gen_slot_token_id"),
        "local_config": {
            "hidden_size": WIDTH,
            "num_hidden_layers": 1,
            "intermediate_size": 2 * WIDTH,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "rvq": N_VQ,
            "audio_vocab_size": CODEBOOK + 3,
            "audio_pad_token": CODEBOOK,
        },
        **dict.fromkeys((*CONTROL_TOKENS, "n_vq", "audio_pad_code", "sampling_rate")),
    },
}


def write_demo_checkpoint(directory: Path, architecture: str = "delay", seed: int = 0) -> Path:
    """Write a checkpoint of a few MB that speaks noise: model, tokenizer, chat template and codec.

    Args:
        directory: created; must not exist or be empty.
        architecture: "delay", "local", "realtime", or with a stereo codec at 48 kHz "local_v1_5" or "nano".
        seed: the seed of the weights; the same seed gives the same files.

    Raises:
        RequestError: an unknown architecture.
        CheckpointError: the directory has something in it.
    """
    if architecture not in ARCHITECTURE_KEYS:
        raise RequestError(f"architecture must be one of {', '.join(ARCHITECTURE_KEYS)}, got {architecture!r}.")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise CheckpointError(f"{directory} exists already and is not an empty directory; name a new one.")
    raw, rng = model_config(architecture), np.random.default_rng(seed)
    config = parse_config(raw)
    _write(directory, raw, _model_weights(config, rng))
    codec = codec_config(config.sampling_rate)
    _write(directory / CODEC_DIRECTORY, codec, _codec_weights(codec, rng))
    write_tokenizer(directory, config)
    (directory / "NOTE.txt").write_text(f"{NOTE}.\n")
    return directory


def _write(directory: Path, raw: Raw, weights: Weights) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(raw, indent=2) + "\n")
    save_file(weights, directory / "model.safetensors", metadata={"note": NOTE})


# --------------------------------------------------------------------------------------------------- configs


def model_config(architecture: str) -> Raw:
    """config.json of the speech model, as upstream writes it."""
    ids = {name: FIRST_CONTROL_ID + index for index, name in enumerate(CONTROL_TOKENS)}
    raw = {
        "architectures": ["MossTTSDelayModel"],
        "model_type": "moss_tts_delay",
        "language_config": {
            "model_type": "qwen3",
            "hidden_size": WIDTH,
            "num_hidden_layers": 2,
            "intermediate_size": 2 * WIDTH,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "vocab_size": VOCABULARY,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e6,
        },
        "n_vq": N_VQ,
        "audio_vocab_size": CODEBOOK,
        "audio_pad_code": CODEBOOK,
        "sampling_rate": 24000,
        "dtype": "float32",
        **ids,
        **ARCHITECTURE_KEYS[architecture],
    }
    return {key: value for key, value in raw.items() if value is not None}


def codec_config(sampling_rate: int = 24000) -> Raw:
    """config.json of the codec: stages and rates of v1, or of v2 (stereo) at 48 kHz; one narrow layer each."""
    stereo = {"number_channels": 2, "enable_channel_interleave": True} if sampling_rate == 48000 else {}
    # Between stages v1 halves the rate three times, v2 five times.
    steps = 5 if stereo else 3
    encoder, decoder = [_patch(240), _stage(240, 16)], [_stage(16, 240), _patch(240)]
    for _ in range(steps - 2):
        encoder += [_patch(2), _stage(32, 16)]
        decoder = [_stage(16, 32), _patch(2), *decoder]
    encoder += [_patch(2), _stage(32, 24), _patch(2), _stage(48, 48)]
    decoder = [_stage(48, 48), _patch(2), _stage(24, 32), _patch(2), *decoder]
    return {
        "architectures": ["MossAudioTokenizerModel"],
        "model_type": "moss-audio-tokenizer",
        "sampling_rate": sampling_rate,
        "downsample_rate": sampling_rate * 2 // 25,
        "causal_transformer_context_duration": 10.0,
        "encoder_kwargs": encoder,
        "decoder_kwargs": decoder,
        "quantizer_type": "rlfq",
        "quantizer_kwargs": {
            "quantizer_type": "rlfq",
            "input_dim": 48,
            "rvq_dim": 32,
            "output_dim": 48,
            "num_quantizers": N_VQ,
            "codebook_size": CODEBOOK,
            "codebook_dim": 8,
        },
        **stereo,
    }


def _patch(size: int) -> Raw:
    return {"module_type": "PatchedPretransform", "patch_size": size}


def _stage(input_dimension: int, output_dimension: int) -> Raw:
    return {
        "module_type": "Transformer",
        "input_dimension": input_dimension,
        "output_dimension": output_dimension,
        "d_model": 32,
        "num_heads": 2,
        "num_layers": 1,
        "dim_feedforward": 64,
        "causal": True,
        "conv_layout": True,
        "norm": "layer_norm",
        "positional_embedding": "rope",
        "gating": "none",
        "layer_scale": 0.01,
        "max_period": 10000,
    }


# --------------------------------------------------------------------------------------------------- weights


def _model_weights(config: MossConfig, rng: np.random.Generator) -> Weights:
    architecture = ARCHITECTURES[type(config)]
    network = architecture.network_class(config)
    weights = _random(architecture.layout.upstream_shapes(network, config.n_vq), rng)
    _steer(weights, config)
    return weights


def _codec_weights(raw: Raw, rng: np.random.Generator) -> Weights:
    config = CodecConfig.from_dict(raw)
    weights = _random(codec_shapes(config), rng)
    last = len(config.decoder) - 2
    # Noise at a bearable level, about -22 dB.
    weights[f"decoder.{last}.output_proj.weight"] *= 0.03
    return weights


EMBEDDING = re.compile(r"\b(wte|embed_tokens|emb_ext|embedding_list|audio_embeddings|codebook)\.")


def _random(shapes: Shapes, rng: np.random.Generator) -> Weights:
    """Matrices that keep the size of what they multiply; embeddings and gains of one, biases of zero."""
    weights = {}
    for name, shape in sorted(shapes.items()):
        if len(shape) == 1 or name.endswith("original0"):
            weights[name] = np.full(shape, 0.0 if name.endswith("bias") else 1.0, np.float32)
        else:
            size = 1.0 if EMBEDDING.search(name) else np.sqrt(shape[1])
            weights[name] = rng.standard_normal(shape, np.float32) / np.float32(size)
    return weights


# Coordinate 0 of the hidden state is the same in every row and larger than the others by far.
STEADY, STEADY_GAIN, STEADY_LOSS = 40.0, 1.3, 0.9
# What it adds to logits of text tokens: on average 20 to 60 frames until the end of speech, then the turn's.
GO_ON, END_SPEECH, END_TURN = 2.0, 1.0, 10.0
# The same for a codebook that has the mark of the end among its codes.
MARK_OF_END = 11.2
# Makes up for the little that the norms leave to the other coordinates.
SENSITIVITY = 6.0


# Adapters of the Local model that lie on the way to its text channel.
STEADY_ADAPTERS = ("speech_embedding_to_local_mlp.", "local_to_speech_embedding_mlps.0.")


def _steer(weights: Weights, config: Any) -> None:
    """Let coordinate 0 pass all layers unharmed, and make it decide what the text channel says."""
    for name, weight in weights.items():
        if name.endswith(("o_proj.weight", "c_proj.weight", "down_proj.weight", "fc_out.weight")):
            weight *= SENSITIVITY if name.endswith("o_proj.weight") else 1.0
            weight[0] = 0.0
        if name.startswith(STEADY_ADAPTERS):
            weight[0] = 0.0
            weight[0, 0] = STEADY_GAIN
        if name.startswith(("lm_heads.", "local_transformer.local_lm_heads.")):
            weight *= SENSITIVITY
            weight[:, 0] = 0.0
        if name.startswith("audio_embeddings."):
            # These are heads as well.
            weight[:, 0] = 0.0
    weights[_text_embedding(weights)][:, 0] = STEADY
    if (head := weights.get("local_text_lm_head.weight")) is not None:
        # Two rows: another frame, and the end.
        head[:] = 0.0
        head[0, 0] = STEADY_GAIN
        return
    if (head := weights.get("local_transformer.local_lm_heads.0.weight")) is not None:
        head[config.end_code] = [MARK_OF_END] + [0.0] * (config.hidden_size - 1)
        return
    if (table := weights.get("transformer.wte.weight")) is not None:
        # The head is the embedding: the two tokens differ in what the steady coordinate adds, and in nothing else.
        table[config.audio_end_token_id] = table[config.audio_assistant_gen_slot_token_id]
        table[config.audio_end_token_id, 0] -= STEADY_LOSS
        return
    logits = dict.fromkeys(ARCHITECTURES[type(config)].closing_tokens(config), END_SPEECH)
    logits |= {config.audio_assistant_gen_slot_token_id: GO_ON, config.im_end_token_id: END_TURN}
    for token, logit in logits.items():
        weights["lm_heads.0.weight"][token] = [logit] + [0.0] * (config.hidden_size - 1)


def _text_embedding(weights: Weights) -> str:
    return next(
        name
        for name in weights
        if name.endswith(("wte.weight", "embed_tokens.weight", "embedding_list.0.weight"))
        or name == "embed_tokens.0.weight"
    )


# ------------------------------------------------------------------------------------------------- tokenizer

UNKNOWN = "<unk>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_tokenizer(directory: Path, config: MossConfig) -> Path:
    """Write a byte-level tokenizer with the config's control ids: one token per byte, nothing merged.

    A vocabulary below 257 has no room for every byte: line break and printable ASCII come first, then as many
    others as fit, and the rest become <unk>.
    """
    control = {getattr(config, key): name for key, name in CONTROL_TOKENS.items() if hasattr(config, key)}
    for place, (key, name) in enumerate(CONTROL_TOKENS.items()):
        if key in OF_TOKENIZER and not hasattr(config, key):
            control[FIRST_CONTROL_ID + place] = name
    free = [id_ for id_ in range(config.vocab_size) if id_ not in control]
    vocabulary = dict(zip([UNKNOWN, *_byte_tokens()], free, strict=False))
    vocabulary |= {name: id_ for id_, name in control.items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in control.values()])
    tokenizer.save(str(directory / "tokenizer.json"))
    return write_tokenizer_config(directory)


def write_tokenizer_config(directory: Path) -> Path:
    """Write what transformers reads beside tokenizer.json, the chat template of the family included."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


def _byte_tokens() -> list[str]:
    """Byte-level spellings, the bytes of plain English first."""
    first = [10, *range(32, 127)]
    rest = [byte for byte in range(256) if byte not in first]
    return [_spelling(byte) for byte in first + rest]


def _spelling(byte: int) -> str:
    """The printable stand-in for a byte in byte-level vocabularies."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    if byte in printable:
        return chr(byte)
    return chr(256 + [other for other in range(256) if other not in printable].index(byte))
