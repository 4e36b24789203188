"""Configs of a few dozen tokens, for what needs ids and sizes but no network."""

from __future__ import annotations

from typing import Any

from moss_tts.config import DelayConfig, LocalConfig, parse_config

PAD, IM_START, IM_END, AUDIO_START, AUDIO_END, USER_SLOT, GEN, DELAY = range(10, 18)
VOCABULARY = 18
CODEBOOK = 7


def raw_config(n_vq: int, **more: Any) -> dict[str, Any]:
    """config.json of Delay, or of what `more` makes of it."""
    return {
        "model_type": "moss_tts_delay",
        "language_config": {
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "intermediate_size": 8,
            "num_attention_heads": 2,
            "head_dim": 4,
            "vocab_size": VOCABULARY,
        },
        "n_vq": n_vq,
        "audio_vocab_size": CODEBOOK,
        "pad_token_id": PAD,
        "im_start_token_id": IM_START,
        "im_end_token_id": IM_END,
        "audio_start_token_id": AUDIO_START,
        "audio_end_token_id": AUDIO_END,
        "audio_user_slot_token_id": USER_SLOT,
        "audio_assistant_gen_slot_token_id": GEN,
        "audio_assistant_delay_slot_token_id": DELAY,
    } | more


def delay_config(n_vq: int) -> DelayConfig:
    """Delay with that many codebooks."""
    config = parse_config(raw_config(n_vq))
    assert isinstance(config, DelayConfig)
    return config


def local_config(n_vq: int) -> LocalConfig:
    """Local v1.0 with that many codebooks."""
    sizes = ("local_num_layers", "local_hidden_size", "local_ffn_hidden_size", "additional_mlp_ffn_hidden_size")
    config = parse_config(raw_config(n_vq, **dict.fromkeys(sizes, 4)))
    assert isinstance(config, LocalConfig)
    return config
