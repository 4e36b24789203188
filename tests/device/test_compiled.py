"""Products of a few rows are the products of a BLAS, whatever the sizes and the layout."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moss_tts.device import compiled
from moss_tts.device.compiled import CStatus

SIZES = [(1, 1), (7, 9), (32, 65), (100, 257), (256, 1024), (1030, 1100)]


@pytest.mark.skipif(compiled.library() is None, reason="no OpenBLAS or no C compiler here")
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 8, 16, 17, 32, 33])
@pytest.mark.parametrize(("width", "columns"), SIZES)
@pytest.mark.parametrize("turned", [False, True])
def test_products_are_those_of_numpy(rows: int, width: int, columns: int, turned: bool) -> None:
    rng = np.random.default_rng(rows * width)
    x, w = rng.standard_normal((rows, width), np.float32), rng.standard_normal((width, columns), np.float32)
    weight = mx.array(np.ascontiguousarray(w.T)).T if turned else mx.array(w)
    made = np.array(mx.array(x) @ weight)
    np.testing.assert_allclose(made, x.astype(np.float64) @ w.astype(np.float64), atol=2e-3 if width > 1000 else 1e-4)


@pytest.mark.skipif(compiled.library() is None, reason="no OpenBLAS or no C compiler here")
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("width", "columns"), SIZES)
def test_a_row_is_the_same_to_the_last_bit_beside_others(width: int, columns: int, turned: bool) -> None:
    rng = np.random.default_rng(width)
    x = mx.array(rng.standard_normal((32, width), np.float32))
    w = rng.standard_normal((width, columns), np.float32)
    weight = mx.array(np.ascontiguousarray(w.T)).T if turned else mx.array(w)
    # The last columns of a transpose are summed one by one, and compilers choose whether with fused multiply-adds.
    same = columns - columns % 8 if turned else columns
    alone = np.concatenate([np.array(x[row : row + 1] @ weight) for row in range(32)])
    for rows in (2, 3, 5, 8, 16) if turned else (2, 3, 5, 8, 16, 20, 32):
        np.testing.assert_array_equal(np.array(x[:rows] @ weight)[:, :same], alone[:rows, :same])


# ------------------------------------------------------------------------------------------------ the switch

TESTS = Path(__file__).parents[1]
CODEC = f"""
import moss_tts
from pathlib import Path
from moss_tts.codec import MossAudioTokenizer
from moss_tts.device import compiled
from moss_tts.evidence.codecs import check_codec_decoding, check_codec_encoding

folder = Path({str(TESTS / "golden" / "codec_v1")!r})
check_codec_decoding(folder)
check_codec_encoding(folder)
in_c = MossAudioTokenizer.from_pretrained(folder).decoder._compiled is not None
print(moss_tts.OPENBLAS.status, compiled.state().status, compiled.library() is not None, in_c)
"""


def switched(value: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process of its own with the switch at `value`."""
    paths = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])
    environment = {**os.environ, "PYTHONPATH": paths, compiled.SWITCH: value}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


needs_compiler = pytest.mark.skipif(
    compiled.state().status not in (CStatus.IN_USE, CStatus.SWITCHED_OFF), reason="no OpenBLAS or no C compiler here"
)


@needs_compiler
@pytest.mark.parametrize(
    ("value", "expected"), [("0", "in_use switched_off False False"), ("1", "in_use in_use True True")]
)
def test_one_switch_decides_whether_c_computes(value: str, expected: str) -> None:
    """OpenBLAS serves either way, and the codec's golden is met."""
    made = switched(value, "-c", CODEC)
    assert made.returncode == 0, made.stderr
    assert made.stdout.strip() == expected


@needs_compiler
@pytest.mark.slow
def test_every_golden_is_met_without_the_c() -> None:
    made = switched("0", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS / "test_golden.py"))
    assert made.returncode == 0, made.stdout


@pytest.mark.skipif(compiled.library() is None, reason="no OpenBLAS or no C compiler here")
def test_a_first_run_that_compiles_says_so_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "moss_tts", "--version"]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    first, second = (
        subprocess.run(command, capture_output=True, text=True, env=environment, check=True) for _ in range(2)
    )
    assert first.stderr == f"{compiled.COMPILING}\n"
    assert second.stderr == ""
    assert first.stdout == second.stdout


@pytest.mark.skipif(compiled.library() is None, reason="no OpenBLAS or no C compiler here")
def test_a_cache_that_cannot_be_written_is_a_warning_with_what_helps(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "moss_tts", "--version"]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "file")}
    made = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert made.stderr == f"{compiled.SLOWER % f'you may not write into {tmp_path}/file/moss_tts'}\n"


@pytest.mark.skipif(compiled.library() is None, reason="no OpenBLAS or no C compiler here")
def test_a_user_without_a_home_is_warned(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: Path("~nobody of that name").expanduser())
    with pytest.raises(OSError, match="this user has no home directory"):
        compiled._compiled()
    assert caplog.messages == [compiled.SLOWER % "this user has no home directory"]


@needs_compiler
@pytest.mark.parametrize("spoil", [lambda content: content[:500], lambda _: b"", lambda content: b"x" + content[1:]])
def test_a_broken_library_is_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source, spoilt = tmp_path / "seven.c", tmp_path / "spoilt"
    source.write_text("int seven(void) { return 7; }")

    def build() -> Path:
        library = compiled.built("seven", ("cc", "-shared", "-fPIC", str(source)), [source], "")
        assert ctypes.CDLL(str(library)).seven() == 7
        return library

    library = build()
    place = library.stat().st_ino
    assert build().stat().st_ino == place, "it is compiled once"
    spoilt.write_bytes(spoil(library.read_bytes()))
    spoilt.replace(library)
    assert build() == library
