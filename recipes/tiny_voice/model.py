"""MossTTSLocal v1.0 in PyTorch, for training: modules are named so that state_dict() is upstream's file.

Shapes: B batch, T rows, Q codebooks, N frames of the whole batch, D width, V vocabulary, K codes and the pad code.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class ModelSizes:
    hidden: int = 256
    layers: int = 5
    ffn: int = 512
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    local_hidden: int = 192
    local_layers: int = 2
    local_ffn: int = 384
    adapter: int = 64
    codebooks: int = 8  # the first ones of the codec's: the last two change nothing that a listener understands


ROPE_THETA = 10_000.0  # lessons have hundreds of rows: with upstream's million most pairs would never turn
SIZES = ModelSizes()
SMOKE = ModelSizes(64, 2, 64, 4, 2, 16, 32, 1, 32, 16, 2)


def local_config(sizes: ModelSizes, special: dict[str, int], vocab: int, codes: int) -> dict:
    """Upstream's config.json; `special` maps its `*_token_id` keys to ids."""
    language = {
        "model_type": "qwen3", "hidden_size": sizes.hidden, "num_hidden_layers": sizes.layers,
        "intermediate_size": sizes.ffn, "num_attention_heads": sizes.heads, "num_key_value_heads": sizes.kv_heads,
        "head_dim": sizes.head_dim, "vocab_size": vocab, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "attention_bias": False, "attention_dropout": 0.0, "tie_word_embeddings": False, "use_cache": True,
        "max_position_embeddings": 4096, "rope_parameters": {"rope_theta": ROPE_THETA, "rope_type": "default"},
        "initializer_range": 0.02, "sliding_window": None, "use_sliding_window": False,
        "layer_types": ["full_attention"] * sizes.layers, "max_window_layers": 28,
        "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip
    return {
        "architectures": ["MossTTSDelayModel"], "model_type": "moss_tts_delay", "dtype": "float16",
        **special, "language_config": language, "hidden_size": sizes.hidden, "vocab_size": vocab,
        "n_vq": sizes.codebooks, "audio_vocab_size": codes, "audio_pad_code": codes, "sampling_rate": 24000,
        "local_hidden_size": sizes.local_hidden, "local_num_layers": sizes.local_layers,
        "local_ffn_hidden_size": sizes.local_ffn, "additional_mlp_ffn_hidden_size": sizes.adapter,
        "initializer_range": 0.02,
    }  # fmt: skip


def rotate(x: Tensor, base: float, first: int) -> Tensor:
    """Rotary positions from `first` on halves, as Qwen3. x (B, H, T, head)."""
    half = x.shape[-1] // 2
    rate = base ** (-torch.arange(half, device=x.device) / half)
    angle = torch.arange(first, first + x.shape[-2], device=x.device)[:, None] * rate
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Attention(nn.Module):
    def __init__(self, width: int, language: dict, rotary: bool) -> None:
        super().__init__()
        self.head = language["head_dim"]
        self.base = language["rope_parameters"]["rope_theta"] if rotary else None
        queries, keys = language["num_attention_heads"] * self.head, language["num_key_value_heads"] * self.head
        self.q_proj = nn.Linear(width, queries, bias=False)
        self.k_proj, self.v_proj = (nn.Linear(width, keys, bias=False) for _ in range(2))
        self.o_proj = nn.Linear(queries, width, bias=False)
        self.q_norm, self.k_norm = (nn.RMSNorm(self.head, eps=1e-6) for _ in range(2))
        self.recorded: list[Tensor] | None = None  # queries and keys of the last call, where a guide watches

    def project(self, x: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, T, head) of rows at positions from `first`."""
        q, k, v = (proj(x).view(*x.shape[:2], -1, self.head) for proj in (self.q_proj, self.k_proj, self.v_proj))
        q, k, v = (y.transpose(1, 2) for y in (self.q_norm(q), self.k_norm(k), v))
        return (rotate(q, self.base, first), rotate(k, self.base, first), v) if self.base else (q, k, v)

    def forward(self, x: Tensor, shared: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) after the rows (1, P, D) that all of the batch begin with -> both, attended to."""
        if shared is None:
            q, k, v = self.record(*self.project(x, 0))
            return self.join(F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)), None
        q0, k0, v0 = self.project(shared, 0)
        q, k, v = self.project(x, shared.shape[1])
        k, v = (torch.cat((a.expand(len(x), -1, -1, -1), b), 2) for a, b in ((k0, k), (v0, v)))
        q, k, v = self.record(q, k, v)
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=x.device).tril(k0.shape[2])
        before = F.scaled_dot_product_attention(q0, k0, v0, is_causal=True, enable_gqa=True)
        after = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        return self.join(after), self.join(before)

    def record(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.recorded is not None:
            self.recorded = [q, k]
        return q, k, v

    def join(self, y: Tensor) -> Tensor:
        return self.o_proj(y.transpose(1, 2).flatten(2))


class GatedMLP(nn.Module):
    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(hidden, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, width: int, hidden: int, language: dict, rotary: bool) -> None:
        super().__init__()
        self.self_attn = Attention(width, language, rotary)
        self.mlp = GatedMLP(width, hidden, width)
        self.input_layernorm, self.post_attention_layernorm = (nn.RMSNorm(width, eps=1e-6) for _ in range(2))

    def forward(self, x: Tensor, shared: Tensor | None) -> tuple[Tensor, Tensor | None]:
        norm = self.input_layernorm
        told, told_shared = self.self_attn(norm(x), None if shared is None else norm(shared))
        return self.feed(x + told), None if shared is None else self.feed(shared + told_shared)

    def feed(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.post_attention_layernorm(x))


class Blocks(nn.Module):
    """Qwen3 without head; `embed_tokens` exists in upstream's backbone, unused, and only there."""

    def __init__(self, width: int, hidden: int, layers: int, language: dict, rotary: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(width, hidden, language, rotary) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps=1e-6)

    def forward(self, x: Tensor, common: int = 0) -> Tensor:
        """(B, T, D) -> (B, T, D). The first `common` rows, the same for all of the batch, are computed once."""
        x, shared = (x[:, common:], x[:1, :common]) if common else (x, None)
        for layer in self.layers:
            x, shared = layer(x, shared)
        if shared is not None:
            x = torch.cat((shared.expand(len(x), -1, -1), x), 1)
        return self.norm(x)


class Rows(nn.Module):
    """Rows (B, T, 1 + Q) -> hidden states (B, T, D)."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        language, width = config["language_config"], config["hidden_size"]
        sizes = [config["vocab_size"], *[config["audio_vocab_size"] + 1] * config["n_vq"]]
        self.embedding_list = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        args = (width, language["intermediate_size"], language["num_hidden_layers"], language, True)
        self.language_model = Blocks(*args)

    def forward(self, rows: Tensor) -> Tensor:
        embedded = sum(table(rows[..., n]) for n, table in enumerate(self.embedding_list))
        return self.language_model(embedded, common_rows(rows))


def common_rows(rows: Tensor) -> int:
    """How many rows (B, T, 1 + Q) all of a batch begin with; the prompt's template is most of a short lesson."""
    if len(rows) == 1:
        return 0
    same = (rows == rows[:1]).all(-1).all(0)
    return min(int(same.cumprod(0).sum()), rows.shape[1] - 1)


class LocalModel(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.config = config
        width, depth = config["hidden_size"], config["local_hidden_size"]
        adapter, channels = config["additional_mlp_ffn_hidden_size"], 1 + config["n_vq"]
        language = config["language_config"]
        self.model = Rows(config)
        local = (depth, config["local_ffn_hidden_size"], config["local_num_layers"], language, False)
        self.local_transformer = Blocks(*local)
        self.speech_embedding_to_local_mlp = GatedMLP(width, adapter, depth)
        self.local_to_speech_embedding_mlps = nn.ModuleList(GatedMLP(depth, adapter, width) for _ in range(channels))
        self.layer_norm_before_lm_heads = nn.ModuleList(nn.RMSNorm(width, eps=1e-6) for _ in range(channels))
        sizes = [t.num_embeddings for t in self.model.embedding_list]
        self.lm_heads = nn.ModuleList(nn.Linear(width, size, bias=False) for size in sizes)
        self.apply(self.start)

    def start(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config["initializer_range"])

    def depth_logits(self, hidden: Tensor, rows: Tensor) -> list[Tensor]:
        """Teacher-forced logits of each channel of N frames, or of the first channels alone.

        hidden (N, D) of the row before each frame; rows (N, 1 + Q) the frames. -> (N, V), then Q of (N, K).
        """
        told = [self.model.embedding_list[n](rows[:, n]) for n in range(rows.shape[1] - 1)]
        states = self.local_transformer(self.speech_embedding_to_local_mlp(torch.stack([hidden, *told], 1)))
        return [self.head(channel, states[:, channel]) for channel in range(rows.shape[1])]

    def head(self, channel: int, state: Tensor) -> Tensor:
        width = self.local_to_speech_embedding_mlps[channel](state)
        return self.lm_heads[channel](self.layer_norm_before_lm_heads[channel](width))

    def forward(self, rows: Tensor, spoken: Tensor) -> list[Tensor]:
        """rows (B, T, 1 + Q), spoken (B, T) bool: which rows are to be predicted -> logits of those, in order."""
        hidden = self.model(rows[:, :-1])
        return self.depth_logits(hidden[spoken[:, 1:]], rows[spoken])

    @torch.no_grad()
    def next_row(self, rows: Tensor, temperature: float, top_p: float, end: int, slot: int) -> Tensor:
        """(1, T, 1 + Q) -> (1 + Q,): sampled without any cache; a check of training, not a runtime."""
        hidden = self.model(rows)[:, -1]
        row = rows.new_zeros(1, rows.shape[-1])
        choices = torch.tensor([slot, end], device=rows.device)
        row[0, 0] = choices[draw(self.depth_logits(hidden, row)[0][0, choices], 1.0, 1.0)]
        for channel in range(1, rows.shape[-1]):
            logits = self.depth_logits(hidden, row)[channel][0]
            row[0, channel] = draw(logits[:-1], temperature, top_p)
        return row[0]


def draw(logits: Tensor, temperature: float, top_p: float) -> Tensor:
    """One index from logits (K,)."""
    chances, order = torch.softmax(logits.float() / temperature, 0).sort(descending=True)
    chances = torch.where(chances.cumsum(0) - chances < top_p, chances, 0.0)
    return order[torch.multinomial(chances, 1)[0]]
