"""Networks that read again what was said: what they think of each of its rows, all at once."""

from __future__ import annotations

from itertools import islice
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import ConcatenateKVCache

from moss_tts.architectures import Architecture, DelayArchitecture, LocalV15Architecture
from moss_tts.rows import Prompts, RowRequest, run


def say(architecture: Architecture[Any, Any], prompt: np.ndarray, request: RowRequest) -> np.ndarray:
    """Rows (N, 1 + Q) after a prompt (T, 1 + Q), until the checkpoint says the end or the budget is spent."""
    batch = architecture.batch(Prompts.of(prompt), [request], architecture.config.n_vq)
    return np.concatenate(list(islice(run(batch), request.max_frames)))


def logits(architecture: Architecture[Any, Any], prompt: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the network thinks of each of the rows, given the prompt and the rows before it.

    Args:
        architecture: with its network.
        prompt: (T, 1 + Q).
        rows: (N, 1 + Q) that were said after it.

    Returns:
        Text (N, V) and audio (N, Q, codes) logits.
    """
    network, n_vq = architecture.network, architecture.config.n_vq
    past = mx.array(np.concatenate([prompt, rows[:-1]])[None])
    cache, made = network.backbone.make_cache([0]), mx.array(rows)
    if isinstance(architecture, DelayArchitecture):
        hidden = network(past, cache)[0, len(prompt) - 1 :]
        text, audio = network.text_logits(hidden), network.audio_logits(hidden)
    else:
        hidden = network(past, cache, n_vq)[0, len(prompt) - 1 :]
        if isinstance(architecture, LocalV15Architecture):
            text, audio = _v1_5_logits(network, hidden, made)
        else:
            text, audio = network.depth_logits(hidden, made[:, :-1])
    return np.array(text), np.array(audio[..., : architecture.config.audio_vocab_size])


def _v1_5_logits(network: Any, hidden: mx.array, rows: mx.array) -> tuple[mx.array, mx.array]:
    """The depth decoder over the codes that were chosen; its first output is that of the text channel as well."""
    codes = rows[:, 1:-1]
    embedded = network.audio_embedding(mx.minimum(codes, network._codebook - 1) + network._offsets[:-1])
    cache = [ConcatenateKVCache() for _ in network.local_transformer.h]
    states = network.local_transformer(mx.concatenate([hidden[:, None], embedded], axis=1), cache)
    audio = mx.stack([network._code_logits(q, states[:, q]) for q in range(states.shape[1])], axis=1)
    return network.local_text_lm_head(states[:, 0]), audio
