"""MLX's products with packed weights are computed in C on Linux CPUs, with MLX's own meaning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moss_tts.device import compiled, packed

SRC = Path(__file__).parents[2] / "src"
TYPES = (mx.float32, mx.bfloat16, mx.float16)

needs_door = pytest.mark.skipif(not packed.state().in_use, reason="no OpenBLAS or no C++ compiler here")


def random(*shape: int, dtype: mx.Dtype = mx.float32) -> mx.array:
    """Evaluated normal numbers."""
    made = mx.array(np.random.default_rng(len(shape)).standard_normal(shape, np.float32)).astype(dtype)
    mx.eval(made)
    return made


def assert_close(made: mx.array, right: mx.array) -> None:
    """The same type and shape, and the same values to 1e-5 of the largest."""
    assert (made.dtype, made.shape) == (right.dtype, right.shape)
    np.testing.assert_allclose(np.array(made), np.array(right), atol=1e-5 * float(mx.abs(right).max()))


def unpacked(parts: list[mx.array], bits: int, group: int) -> mx.array:
    """The float32 matrix that packed weights stand for."""
    return mx.dequantize(parts[0], parts[1].astype(mx.float32), parts[2].astype(mx.float32), group, bits)


def primitives(made: mx.array, path: Path) -> str:
    """The graph of an array, as text."""
    mx.export_to_dot(str(path), made)
    return path.read_text()


@needs_door
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_quantised_products(bits: int, dtype: mx.Dtype, tmp_path: Path) -> None:
    parts = mx.quantize(random(96, 256, dtype=dtype), 64, bits)
    mx.eval(parts)
    for x in (random(256), random(1, 256), random(2, 3, 256), random(40, 256), random(256, 5).T):
        made = mx.quantized_matmul(x, *parts, group_size=64, bits=bits)
        assert "PackedProduct" in primitives(made, tmp_path / "graph.dot")
        assert_close(made, x @ unpacked(parts, bits, 64).T)


@needs_door
def test_products_with_bfloat16(tmp_path: Path) -> None:
    weight = random(96, 256, dtype=mx.bfloat16)
    for x in (random(1, 256), random(2, 3, 256), random(256, 5).T):
        made = x @ weight.T
        assert "PackedProduct" in primitives(made, tmp_path / "graph.dot")
        assert_close(made, x @ weight.astype(mx.float32).T)


@needs_door
def test_what_the_c_does_not_know_is_mlx_s(tmp_path: Path) -> None:
    """Weights that are not computed yet or lie otherwise, other types and modes, and gradients."""
    weight, x = random(64, 128, dtype=mx.bfloat16), random(3, 128)
    full = weight.astype(mx.float32)
    half = mx.quantize(weight, 64, 4)
    mx.eval(half)
    turned = mx.quantize(random(128, 64), 64, 4)
    mx.eval(turned)
    packed_of_half = unpacked(half, 4, 64)
    mxfp4 = mx.quantize(full, mode="mxfp4")
    mx.eval(mxfp4)
    cases = {
        "not computed": (x @ (weight * 2).T, x @ (full * 2).T),
        "rows apart": (x @ weight[::2].T, x @ full[::2].T),
        "not turned": (
            x @ random(128, 64, dtype=mx.bfloat16),
            x @ random(128, 64, dtype=mx.bfloat16).astype(mx.float32),
        ),
        "batched": (x[None] @ weight[None].swapaxes(1, 2), x[None] @ full[None].swapaxes(1, 2)),
        "quantised rows apart": (mx.quantized_matmul(x, *(part[::2] for part in half)), x @ packed_of_half[::2].T),
        "quantised, not turned": (mx.quantized_matmul(x, *turned, transpose=False), x @ unpacked(turned, 4, 64)),
        "mxfp4": (mx.quantized_matmul(x, *mxfp4, mode="mxfp4"), x @ mx.dequantize(*mxfp4, mode="mxfp4").T),
    }
    for case, (made, right) in cases.items():
        assert "PackedProduct" not in primitives(made, tmp_path / "graph.dot"), case
        assert_close(made, right)
    gradient = mx.grad(lambda x: mx.quantized_matmul(x, *half).sum())(x)
    assert_close(gradient, mx.ones((3, 64)) @ packed_of_half)
    compiled_product = mx.compile(lambda x: mx.quantized_matmul(x, *half) + x @ weight.T)
    assert_close(compiled_product(x), x @ packed_of_half.T + x @ full.T)
    with pytest.raises(ValueError, match="quantized_matmul"):
        mx.quantized_matmul(random(3, 64), *half)


@needs_door
def test_weights_live_as_long_as_their_products() -> None:
    x = random(1, 512)
    right = None
    for _ in range(50):
        weight = random(512, 512, dtype=mx.bfloat16)
        made = x @ weight.T
        del weight
        mx.clear_cache()
        right = made if right is None else right
        assert mx.array_equal(made, right)


@pytest.mark.skipif(compiled.library() is None, reason="no OpenBLAS or no C compiler here")
def test_without_a_cpp_compiler_mlx_computes(tmp_path: Path) -> None:
    for name in ("gcc", "cc", "as", "ld"):
        found = subprocess.run(["which", name], capture_output=True, text=True, check=False).stdout.strip()
        if found:
            (tmp_path / name).symlink_to(found)
    code = """
import moss_tts, mlx.core as mx
from moss_tts.device import compiled, packed
parts = mx.quantize(mx.random.normal((64, 64)))
print(compiled.state().status, packed.state().in_use, packed.state().error)
print(mx.quantized_matmul(mx.ones((1, 64)), *parts).shape)
"""
    environment = os.environ | {"PYTHONPATH": str(SRC), "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    made = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600)
    assert made.returncode == 0, made.stderr
    assert made.stdout == "in_use False there is no C++ compiler\n(1, 64)\n"
