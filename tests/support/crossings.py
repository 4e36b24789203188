"""Counts the arrays that go over between NumPy and MLX while the package computes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import mlx.core as mx
import numpy as np
import pytest


class _MakesArrays(type):
    """Stands in for mx.array: the same type to ask about, and a count for every array of NumPy it is made of."""

    crossings: list[str]

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, mx.array)

    def __call__(cls, value: Any, *options: Any, **named: Any) -> mx.array:
        if isinstance(value, np.ndarray):
            cls.crossings.append(f"NumPy to MLX in {_place()}")
        return mx.array(value, *options, **named)


class _Library:
    """A library with other functions in the place of some of its own."""

    def __init__(self, library: ModuleType, **others: Any) -> None:
        self._library, self._others = library, others

    def __getattr__(self, name: str) -> Any:
        return self._others[name] if name in self._others else getattr(self._library, name)


@contextmanager
def counted_crossings() -> Iterator[list[str]]:
    """One entry for each array that goes over in any module of the package, with the place where it does."""
    crossings: list[str] = []

    def to_numpy(convert: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def counting(value: Any, *options: Any, **named: Any) -> np.ndarray:
            if isinstance(value, mx.array):
                crossings.append(f"MLX to NumPy in {_place()}")
            return convert(value, *options, **named)

        return counting

    array = _MakesArrays("array", (), {"crossings": crossings})
    libraries = {
        "mx": _Library(mx, array=array),
        "np": _Library(np, **{name: to_numpy(getattr(np, name)) for name in ("array", "asarray")}),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            for alias in libraries if name.startswith("moss_tts.") else ():
                if alias in vars(module):
                    patch.setattr(module, alias, libraries[alias])
        yield crossings


def _place() -> str:
    """The function that converts."""
    frame = sys._getframe(2)
    return f"{frame.f_globals['__name__']}.{frame.f_code.co_name}"
