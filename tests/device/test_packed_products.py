"""Products with packed weights are those with the weights that they stand for, in C for every processor."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moss_tts.device import compiled

SOURCE = Path(compiled.__file__).with_name("packed_products.c")
PROCESSORS = ("native", "haswell", "x86-64")
SCALES = (mx.float32, mx.bfloat16, mx.float16)
# Widths that do and do not fill blocks of lanes, with products on one core and on several.
SIZES = ((128, 5), (384, 70), (2048, 300))
ROWS = (1, 2, 3, 4, 5, 7, 8, 16, 31, 32)

needs_c = pytest.mark.skipif(compiled.library() is None, reason="no OpenBLAS or no C compiler here")


class Product(ctypes.Structure):
    """packed_products.c: packed_product."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("rows", "width", "columns")),
        *((name, ctypes.c_int) for name in ("bits", "group", "scale_type")),
        *((name, ctypes.c_void_p) for name in ("x", "w", "scales", "biases", "y")),
    )


@pytest.fixture(scope="module", params=PROCESSORS)
def product(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., np.ndarray]:
    """x (M, K) times packed weights, in C for a processor."""
    return compiled_product(SOURCE, request.param, tmp_path_factory.mktemp("packed"))


def compiled_product(source: Path, processor: str, folder: Path) -> Callable[..., np.ndarray]:
    path = folder / "packed.so"
    flags = [f"-march={processor}" if flag == "-march=native" else flag for flag in compiled.FLAGS]
    include = f"-I{SOURCE.parent}"
    made = subprocess.run(["cc", *flags, include, "-o", path, source], capture_output=True, text=True, check=False)
    if made.returncode != 0 and "bad value" in made.stderr:
        pytest.skip("another kind of processor")
    assert made.returncode == 0, made.stderr
    library = ctypes.CDLL(str(path))

    def multiply(x: np.ndarray, bits: int, group: int, weight: mx.array, *scales: mx.array) -> np.ndarray:
        x, y = np.ascontiguousarray(x), np.full((len(x), len(weight)), np.nan, np.float32)
        kind = SCALES.index(scales[0].dtype) if scales else 0
        parts = [np.array(part.view(mx.uint8)) for part in (weight, *scales)]
        addresses = [part.ctypes.data for part in parts] + [None] * (3 - len(parts))
        sizes = (len(x), x.shape[1], len(weight), bits, group, kind)
        assert library.moss_tts_packed_product(ctypes.byref(Product(*sizes, x.ctypes.data, *addresses, y.ctypes.data)))
        return y

    return multiply


def check(multiply: Callable[[np.ndarray], np.ndarray], weight: np.ndarray) -> None:
    """The products are those of `weight` (N, K), and rows do not depend on their neighbours."""
    x = np.random.default_rng(1).standard_normal((40, weight.shape[1]), np.float32)
    right = x @ weight.astype(np.float64).T
    alone = np.concatenate([multiply(x[row : row + 1]) for row in range(32)])
    np.testing.assert_allclose(multiply(x), right, atol=1e-5 * np.abs(right).max())
    for rows in ROWS:
        made = multiply(x[:rows])
        np.testing.assert_allclose(made, right[:rows], atol=1e-5 * np.abs(right).max())
        np.testing.assert_array_equal(made, alone[:rows])


@needs_c
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_packed_products_are_those_of_the_unpacked_weights(
    product: Callable[..., np.ndarray], bits: int, group: int
) -> None:
    for (width, columns), dtype in zip(SIZES, SCALES, strict=True):
        weight = np.random.default_rng(bits).standard_normal((columns, width), np.float32)
        packed = mx.quantize(mx.array(weight).astype(dtype), group, bits)
        stands_for = mx.dequantize(packed[0], *(part.astype(mx.float32) for part in packed[1:]), group, bits)
        check(lambda x, packed=packed: product(x, bits, group, *packed), np.array(stands_for))


@needs_c
def test_products_with_bfloat16_are_those_of_float32(product: Callable[..., np.ndarray]) -> None:
    for width, columns in (*SIZES, (34, 9)):
        weight = mx.array(np.random.default_rng(2).standard_normal((columns, width), np.float32)).astype(mx.bfloat16)
        check(lambda x, weight=weight: product(x, 16, 0, weight), np.array(weight.astype(mx.float32)))


@needs_c
def test_weights_wider_than_a_tile(tmp_path: Path) -> None:
    """A tile then is one column; real ones have 2**20 values."""
    source = tmp_path / "small_tiles.c"
    source.write_text(SOURCE.read_text().replace("TILE = 1 << 20", "TILE = 1 << 6"))
    product, weight = compiled_product(source, "native", tmp_path), np.ones((3, 128), np.float32)
    weight[1] = 2
    packed = mx.quantize(mx.array(weight), 64, 4)
    made = product(np.ones((40, 128), np.float32), 4, 64, *packed)
    np.testing.assert_allclose(made, np.tile([128, 256, 128], (40, 1)), rtol=1e-5)


@needs_c
def test_widths_that_no_weights_have_are_refused(product: Callable[..., np.ndarray]) -> None:
    with pytest.raises(AssertionError):
        product(np.ones((1, 32), np.float32), 7, 32, mx.zeros((1, 7), mx.uint32))


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-gcc") is None, reason="no compiler for ARM64 here")
@pytest.mark.parametrize("source", compiled.SOURCES, ids=lambda source: source.name)
def test_the_c_compiles_for_arm64(source: Path, tmp_path: Path) -> None:
    command = ["aarch64-linux-gnu-gcc", "-O2", "-fopenmp", "-fPIC", "-c", "-o", tmp_path / "arm64.o", source]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
