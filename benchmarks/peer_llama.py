"""The backbone against llama.cpp: a random Qwen3 of the 1.7B widths, a few layers, one token at a time.

    pip install 'moss-tts-mlx[llama]'    # builds llama.cpp, which takes minutes
    python benchmarks/peer_llama.py [--layers 8] [--bits 8 4] [--tokens 32]

Both sides have the same shapes, threads and number of tokens, and take turns. llama.cpp's Q8_0 and Q4_0 keep a scale
for 32 weights, which makes 8.5 and 4.5 bits each; ours keep a scale and a bias for 64, which makes as many.
llama.cpp also rounds what it multiplies to 8 bits; we do not.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# isort: off
import synthetic
import common

# isort: on
import mlx.core as mx
import numpy as np

from moss_tts.architectures import Architecture

SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
TYPES = {8: "Q8_0", 4: "Q4_0"}
VOCABULARY = 256


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Time both sides at each precision, print a table and a line of JSON."""
    options = parsed(arguments)
    results = {}
    for bits in options.bits:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.gguf"
            write_gguf(path, options.layers, TYPES[bits])
            theirs = llama_step(path, options.threads)
            ours = our_step(options.layers, bits)
            rounds = [[timed(step, options.tokens) for step in (theirs, ours)] for _ in range(options.rounds)]
        their_ms, our_ms = (1e3 * statistics.median(side) for side in zip(*rounds, strict=True))
        results[f"{bits} bit"] = {"llama_ms": their_ms, "ours_ms": our_ms, "ours_over_llama": our_ms / their_ms}
    common.print_table(
        "Milliseconds per token of the backbone",
        ["precision", "llama.cpp", "ours", "ours / theirs"],
        [[name, *case.values()] for name, case in results.items()],
    )
    common.print_last_line(results)
    return results


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--bits", nargs="+", type=int, default=[8, 4], choices=TYPES)
    parser.add_argument("--tokens", type=int, default=32, help="in each round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of llama.cpp; we use all cores")
    return parser.parse_args(arguments)


def timed(step: Callable[[], None], tokens: int) -> float:
    """Seconds of the median token."""
    seconds = []
    for _ in range(tokens):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


# ------------------------------------------------------------------------------------------------------ ours


def our_step(layers: int, bits: int) -> Callable[[], None]:
    """One more row through our backbone."""
    size = synthetic.Size(**vars(synthetic.SIZES["wide"]) | {"layers": layers, "vocabulary": 512, "n_vq": 1})
    raw = synthetic.raw_config("delay", size)
    copy = synthetic.quantised(raw, synthetic.speech_weights(raw), bits)
    architecture: Architecture[Any, Any] = synthetic.architecture_of(*copy)
    backbone = architecture.network.backbone
    cache, x = backbone.make_cache([0]), mx.array(random((1, size.width)))[None]

    def step() -> None:
        mx.eval(backbone(x, cache))

    return step


# ------------------------------------------------------------------------------------------------- llama.cpp


def write_gguf(path: Path, layers: int, kind: str) -> None:
    """A random Qwen3 with so many layers, quantised, and a vocabulary that takes no time."""
    import gguf

    size, quantised = synthetic.SIZES["wide"], gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(str(path), "qwen3")
    writer.add_context_length(4096)
    writer.add_embedding_length(size.width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(size.ffn)
    writer.add_head_count(size.heads)
    writer.add_head_count_kv(size.kv_heads)
    writer.add_key_length(size.head)
    writer.add_value_length(size.head)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("none")
    queries, keys = size.heads * size.head, size.kv_heads * size.head
    matrices = {
        "attn_q": (queries, size.width),
        "attn_k": (keys, size.width),
        "attn_v": (keys, size.width),
        "attn_output": (size.width, queries),
        "ffn_gate": (size.ffn, size.width),
        "ffn_up": (size.ffn, size.width),
        "ffn_down": (size.width, size.ffn),
    }
    norms = {"attn_norm": size.width, "ffn_norm": size.width, "attn_q_norm": size.head, "attn_k_norm": size.head}
    packed = {name: gguf.quants.quantize(random(shape), quantised) for name, shape in matrices.items()}
    table = gguf.quants.quantize(random((VOCABULARY, size.width)), quantised)
    for name in ("token_embd", "output"):
        writer.add_tensor(f"{name}.weight", table, raw_dtype=quantised)
    writer.add_tensor("output_norm.weight", np.ones(size.width, np.float32))
    for layer in range(layers):
        for name, matrix in packed.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", matrix, raw_dtype=quantised)
        for name, width in norms.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def random(shape: tuple[int, int]) -> np.ndarray:
    """Normal numbers that keep the size of what they multiply."""
    return np.random.default_rng(0).standard_normal(shape, np.float32) * np.float32(shape[1] ** -0.5)


def llama_step(path: Path, threads: int) -> Callable[[], None]:
    """One more token through llama.cpp."""
    import llama_cpp

    llama_cpp.llama_log_set(SILENT, None)
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx, settings.n_threads, settings.n_threads_batch = 2048, threads, threads
    context = llama_cpp.llama_init_from_model(model, settings)
    assert context is not None, "llama.cpp cannot load the model"
    token = (llama_cpp.llama_token * 1)(7)

    def step() -> None:
        assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(token, 1)) == 0
        llama_cpp.llama_synchronize(context)

    return step


if __name__ == "__main__":
    main()
