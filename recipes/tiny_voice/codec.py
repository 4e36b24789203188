"""A MOSS-Audio-Tokenizer in PyTorch, for training: modules are named so that state_dict() is upstream's file.

Nothing streams here and nothing is cached: the runtime does that. Sequences are (B, T, D) inside.
Shapes: B batch, S samples, T steps of a stage, F frames, Q codebooks, D width, C codebook dimension.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

HEAD_DIM = 64


def transformer(inputs: int, width: int, layers: int, outputs: int) -> dict:
    """One transformer entry of `encoder_kwargs` / `decoder_kwargs`."""
    return {
        "module_type": "Transformer", "input_dimension": inputs, "output_dimension": outputs,
        "d_model": width, "num_heads": max(1, width // HEAD_DIM), "num_layers": layers,
        "dim_feedforward": 4 * width, "causal": True, "conv_layout": True, "gating": "none",
        "layer_scale": 0.01, "max_period": 10000, "norm": "layer_norm", "positional_embedding": "rope",
    }  # fmt: skip


def patch(size: int) -> dict:
    return {"module_type": "PatchedPretransform", "patch_size": size}


@dataclass(frozen=True)
class Sizes:
    """(width, layers) of the stages at 100, 50, 25 and 12.5 Hz, each way, and the quantizer's sizes."""

    encoder: tuple[tuple[int, int], ...] = ((192, 2), (192, 2), (192, 2), (256, 1))
    decoder: tuple[tuple[int, int], ...] = ((384, 4), (256, 2), (256, 2), (256, 2))
    latent: int = 256
    rvq: int = 128
    codebooks: int = 12
    codebook_size: int = 512
    context: float = 1.28


SIZES = Sizes()
SMOKE = Sizes(((64, 1),) * 4, ((64, 1),) * 4, latent=32, rvq=16, codebooks=2, codebook_size=32, context=0.32)


def codec_config(sizes: Sizes) -> dict:
    """Upstream's config.json for these sizes."""
    encoder, decoder = [patch(240)], []
    inputs, widths = 240, [w for w, _ in sizes.encoder]
    for n, (width, layers) in enumerate(sizes.encoder):
        outputs = sizes.latent if n == 3 else widths[n + 1] // 2
        encoder += [transformer(inputs, width, layers, outputs), *([] if n == 3 else [patch(2)])]
        inputs = 2 * outputs
    inputs = sizes.latent
    for n, (width, layers) in enumerate(reversed(sizes.decoder)):
        outputs = 240 if n == 3 else width
        decoder += [transformer(inputs, width, layers, outputs), patch(240 if n == 3 else 2)]
        inputs = outputs // 2
    quantizer = {
        "quantizer_type": "rlfq", "input_dim": sizes.latent, "output_dim": sizes.latent,
        "rvq_dim": sizes.rvq, "num_quantizers": sizes.codebooks,
        "codebook_size": sizes.codebook_size, "codebook_dim": 8,
    }  # fmt: skip
    return {
        "architectures": ["MossAudioTokenizerModel"], "model_type": "moss-audio-tokenizer", "version": None,
        "dtype": "float16", "sampling_rate": 24000, "downsample_rate": 1920,
        "causal_transformer_context_duration": sizes.context, "quantizer_type": "rlfq",
        "encoder_kwargs": encoder, "decoder_kwargs": decoder, "quantizer_kwargs": quantizer,
    }  # fmt: skip


@cache
def turns(steps: int, width: int, device: str) -> tuple[Tensor, Tensor]:
    """Cosines and sines (T, width / 2) of rotary positions, base 10000, counted from the crop's start."""
    half = width // 2
    rate = torch.exp(-torch.arange(half, device=device) * (math.log(10000) / half))
    angle = torch.arange(steps, device=device)[:, None] * rate
    return angle.cos(), angle.sin()


def rotate(x: Tensor) -> Tensor:
    """Rotary positions on interleaved pairs. x (..., T, 64)."""
    cos, sin = turns(x.shape[-2], x.shape[-1], str(x.device))
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).to(x.dtype)


def window_mask(steps: int, window: int, device: torch.device) -> Tensor:
    """bool (T, T): query i sees keys i - window + 1 .. i."""
    gap = torch.arange(steps, device=device)[:, None] - torch.arange(steps, device=device)
    return (gap >= 0) & (gap < window)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_projs = nn.ModuleList([nn.Linear(width, 3 * width, bias=False)])
        self.out_projs = nn.ModuleList([nn.Linear(width, width, bias=False)])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, steps, width = x.shape
        q, k, v = self.in_projs[0](x).view(batch, steps, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        # Written out: on a CPU the backward pass of scaled_dot_product_attention takes several times as long.
        scores = (rotate(q) @ rotate(k).mT).float() * q.shape[-1] ** -0.5
        y = scores.masked_fill(~mask, -torch.inf).softmax(-1).to(v.dtype) @ v
        return self.out_projs[0](y.transpose(1, 2).reshape(batch, steps, width))


class Scale(nn.Module):
    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.linear1 = nn.Linear(width, hidden, bias=False)
        self.linear2 = nn.Linear(hidden, width, bias=False)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.layer_scale_1, self.layer_scale_2 = Scale(width, scale), Scale(width, scale)
        for norm in (self.norm1, self.norm2):
            # From a zero bias, digital silence stays a zero vector, and its gradient grows 300-fold a layer.
            nn.init.normal_(norm.bias, std=0.1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.layer_scale_1(self.self_attn(self.norm1(x), mask))
        return x + self.layer_scale_2(self.linear2(F.gelu(self.linear1(self.norm2(x)))))


class Stage(nn.Module):
    """A causal transformer at one rate; a projection exists only where widths differ, as in upstream's v1."""

    def __init__(self, entry: dict, window: int) -> None:
        super().__init__()
        self.window = window
        inputs, width, outputs = entry["input_dimension"], entry["d_model"], entry["output_dimension"]
        if inputs != width:
            self.input_proj = nn.Linear(inputs, width, bias=False)
        if outputs != width:
            self.output_proj = nn.Linear(width, outputs, bias=False)
        # Upstream starts layer scales at 0.01, for depths of 68; a few layers learn faster from 0.3.
        layers = [Layer(width, entry["num_heads"], entry["dim_feedforward"], 0.3) for _ in range(entry["num_layers"])]
        self.transformer = nn.ModuleDict({"layers": nn.ModuleList(layers)})

    def forward(self, x: Tensor) -> Tensor:
        x = self.input_proj(x) if hasattr(self, "input_proj") else x
        mask = window_mask(x.shape[1], self.window, x.device)
        for layer in self.transformer["layers"]:
            x = layer(x, mask)
        return self.output_proj(x) if hasattr(self, "output_proj") else x


class Patch(nn.Module):
    """Joins `size` steps into one, or splits one into `size`; channel = d * size + j."""

    def __init__(self, size: int, up: bool) -> None:
        super().__init__()
        self.size, self.up = size, up

    def forward(self, x: Tensor) -> Tensor:
        batch, steps, width = x.shape
        if self.up:
            split = x.view(batch, steps, width // self.size, self.size).transpose(2, 3)
            return split.reshape(batch, steps * self.size, width // self.size)
        joined = x.view(batch, steps // self.size, self.size, width).transpose(2, 3)
        return joined.reshape(batch, steps // self.size, width * self.size)


def build_side(entries: list[dict], rate: float, context: float, up: bool) -> nn.ModuleList:
    modules = nn.ModuleList()
    for entry in entries:
        if entry["module_type"] == "PatchedPretransform":
            rate = rate * entry["patch_size"] if up else rate / entry["patch_size"]
            modules.append(Patch(entry["patch_size"], up))
        else:
            modules.append(Stage(entry, int(rate * context)))
    return modules


def normed_linear(inputs: int, outputs: int) -> nn.Conv1d:
    return weight_norm(nn.Conv1d(inputs, outputs, 1))


def linear(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """A kernel-1 convolution on (..., D), in float32."""
    return F.linear(x.float(), conv.weight[..., 0], conv.bias)


class Codebook(nn.Module):
    """One residual step: project to C dimensions, take the code nearest in direction, project back.

    Codes follow the mean of what chose them; codes that nobody chooses restart from inputs of the batch.
    """

    def __init__(self, size: int, dim: int, width: int) -> None:
        super().__init__()
        self.in_proj, self.out_proj = normed_linear(width, dim), normed_linear(dim, width)
        self.start_as_inverses()
        self.codebook = nn.Embedding(size, dim)
        self.codebook.weight.requires_grad_(False)
        self.register_buffer("count", torch.zeros(size), persistent=False)
        self.register_buffer("total", torch.zeros(size, dim), persistent=False)

    @torch.no_grad()
    def start_as_inverses(self) -> None:
        """Orthonormal rows in, their transpose out: each step then takes away what it explains, from the start."""
        rows = nn.init.orthogonal_(torch.empty(self.in_proj.out_channels, self.in_proj.in_channels))
        # Assigning to a parametrised weight keeps its memory: without copies the two would stay one.
        self.in_proj.weight = rows[..., None].clone()
        self.out_proj.weight = rows.T[..., None].contiguous().clone()
        self.in_proj.bias.zero_()
        self.out_proj.bias.zero_()

    def nearest(self, e: Tensor) -> Tensor:
        """(N, C) -> (N,), upstream's expression: first maximum of the negative squared distance."""
        unit, rows = F.normalize(e), F.normalize(self.codebook.weight)
        distance = unit.square().sum(1, keepdim=True) - 2 * unit @ rows.T + rows.square().sum(1)
        return (-distance).argmax(1)

    def forward(self, residual: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, F, D) -> quantised (B, F, D), codes (B, F), commitment loss (B,)."""
        e = linear(self.in_proj, residual)
        codes = self.nearest(e.flatten(0, 1)).view(e.shape[:2])
        if self.training:
            self.follow(e.detach().flatten(0, 1), codes.flatten())
        chosen = self.codebook(codes)
        commitment = (e - chosen).square().mean((1, 2))
        return linear(self.out_proj, e + (chosen - e).detach()), codes, commitment

    @torch.no_grad()
    def follow(self, e: Tensor, codes: Tensor, decay: float = 0.95) -> None:
        hits = torch.zeros_like(self.count).index_add_(0, codes, torch.ones_like(e[:, 0]))
        sums = torch.zeros_like(self.total).index_add_(0, codes, e)
        self.count.lerp_(hits, 1 - decay)
        self.total.lerp_(sums, 1 - decay)
        dead = self.count < 0.1 * len(e) / len(self.count)
        fresh = e[torch.randint(len(e), (len(dead),), device=e.device)]
        self.count[dead] = len(e) / len(self.count)
        self.total[dead] = fresh[dead] * self.count[dead, None]
        self.codebook.weight.copy_(self.total / self.count[:, None])


class Quantizer(nn.Module):
    def __init__(self, entry: dict) -> None:
        super().__init__()
        width, dim = entry["rvq_dim"], entry["codebook_dim"]
        self.input_proj = normed_linear(entry["input_dim"], width)
        self.output_proj = normed_linear(width, entry["output_dim"])
        books = [Codebook(entry["codebook_size"], dim, width) for _ in range(entry["num_quantizers"])]
        self.quantizers = nn.ModuleList(books)

    @torch.autocast("cpu", enabled=False)
    @torch.autocast("cuda", enabled=False)
    def forward(self, hidden: Tensor, used: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, F, D), codebooks used per row (B,) -> (B, F, D), codes (Q, B, F), commitment loss ().

        A row that uses none is passed on as it is: an encoder and a decoder find each other sooner that way.
        All of it is in float32, since codes are often nearly as near as others.
        """
        latent = residual = linear(self.input_proj, hidden)
        total, codes, loss = torch.zeros_like(residual), [], residual.new_zeros(())
        for n, book in enumerate(self.quantizers):
            quantised, chosen, commitment = book(residual)
            keep = (used > n).to(quantised)
            total = total + quantised * keep[:, None, None]
            residual = residual - quantised
            loss = loss + commitment.mean()
            codes.append(chosen)
        total = torch.where((used == 0)[:, None, None], latent, total)
        return linear(self.output_proj, total), torch.stack(codes), loss / len(self.quantizers)


class Codec(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.config = config
        rate, context = config["sampling_rate"], config["causal_transformer_context_duration"]
        self.encoder = build_side(config["encoder_kwargs"], rate, context, up=False)
        self.quantizer = Quantizer(config["quantizer_kwargs"])
        self.decoder = build_side(config["decoder_kwargs"], rate / config["downsample_rate"], context, up=True)

    @property
    def codebooks(self) -> int:
        return len(self.quantizer.quantizers)

    def codebook_state(self) -> Iterator[Tensor]:
        """What follows the data without a gradient."""
        for book in self.quantizer.quantizers:
            yield from (book.codebook.weight, book.count, book.total)

    def forward(self, audio: Tensor, used: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, S) -> (B, S), codes (Q, B, F), commitment loss (). S is a whole number of frames."""
        x = audio[..., None]
        for module in self.encoder:
            x = module(x)
        if used is None:
            used = torch.full((len(audio),), self.codebooks, device=audio.device)
        x, codes, loss = self.quantizer(x, used)
        for module in self.decoder:
            x = module(x)
        return x[..., 0].float(), codes, loss

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """(B, S) -> (Q, B, F)"""
        x = audio[..., None]
        for module in self.encoder:
            x = module(x)
        return self.quantizer(x, x.new_full((len(x),), self.codebooks))[1]

    def decode(self, codes: Tensor) -> Tensor:
        """(Q, B, F) -> (B, S); fewer codebooks than the codec has are a prefix."""
        books = self.quantizer.quantizers
        x = sum(linear(book.out_proj, book.codebook(c)) for book, c in zip(books, codes, strict=False))
        x = linear(self.quantizer.output_proj, x)
        for module in self.decoder:
            x = module(x)
        return x[..., 0].float()


def parameter_count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
