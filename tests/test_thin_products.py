"""Products of a few rows are the products of a BLAS, whatever the sizes and the layout."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from moss_tts import thin_products

SIZES = [(1, 1), (7, 9), (32, 65), (100, 257), (1030, 1100)]


@pytest.mark.skipif(not thin_products.in_use(), reason="no OpenBLAS or no C compiler here")
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 8, 9])
@pytest.mark.parametrize(("width", "columns"), SIZES)
@pytest.mark.parametrize("turned", [False, True])
def test_products_are_those_of_numpy(rows: int, width: int, columns: int, turned: bool) -> None:
    rng = np.random.default_rng(rows * width)
    x, w = rng.standard_normal((rows, width), np.float32), rng.standard_normal((width, columns), np.float32)
    weight = mx.array(np.ascontiguousarray(w.T)).T if turned else mx.array(w)
    made = np.array(mx.array(x) @ weight)
    np.testing.assert_allclose(made, x.astype(np.float64) @ w.astype(np.float64), atol=2e-3 if width > 1000 else 1e-4)
