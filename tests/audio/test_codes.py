"""Laws of code matrices: the delay pattern is reversible, orientation is found or refused."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from moss_tts.audio.codes import apply_delay_pattern, check_code_range, is_code_matrix, orient_codes
from moss_tts.errors import RequestError
from moss_tts.inference_utils import extract_complete_delay_rows

PAD = 1024


def code_matrices(max_frames=40, max_codebooks=33):
    shapes = st.tuples(st.integers(1, max_frames), st.integers(1, max_codebooks))
    return shapes.flatmap(lambda shape: hnp.arrays(np.int32, shape, elements=st.integers(0, PAD - 1)))


@given(code_matrices())
def test_complete_rows_are_the_inverse_of_the_delay_pattern(codes):
    np.testing.assert_array_equal(extract_complete_delay_rows(apply_delay_pattern(codes, PAD)), codes)


@given(code_matrices())
def test_delay_pattern_adds_rows_of_pad_only(codes):
    n_frames, n_codebooks = codes.shape
    rows = apply_delay_pattern(codes, PAD)
    assert rows.shape == (n_frames + n_codebooks - 1, n_codebooks)
    assert (rows == PAD).sum() == rows.size - codes.size


def test_delay_pattern_moves_codebook_q_down_by_q_rows():
    rows = apply_delay_pattern(np.array([[1, 2, 3], [4, 5, 6]]), 9)
    assert rows.tolist() == [[1, 9, 9], [4, 2, 9], [9, 5, 3], [9, 9, 6]]


def test_rows_without_a_whole_frame_hold_no_frame():
    assert extract_complete_delay_rows(np.zeros((2, 4), dtype=np.int32)).shape == (0, 4)


@given(n_frames=st.integers(65, 200), n_vq=st.integers(1, 64), extra=st.integers(0, 63))
def test_long_matrices_orient_alike_both_ways(n_frames, n_vq, extra):
    codes = np.arange(n_frames * min(64, n_vq + extra)).reshape(n_frames, -1)
    expected = codes[:, :n_vq]
    np.testing.assert_array_equal(orient_codes(codes, n_vq), expected)
    np.testing.assert_array_equal(orient_codes(codes.T, n_vq), expected)


@pytest.mark.parametrize(
    ("shape", "n_vq", "oriented"),
    [
        ((5, 16), 16, (5, 16)),  # too few frames to hold the codebooks
        ((16, 5), 16, (5, 16)),
        ((40, 16), 16, (40, 16)),  # both axes fit: the one of exactly n_vq
        ((16, 40), 16, (40, 16)),
        ((16, 16), 16, (16, 16)),  # square: (F, Q)
        ((32, 32), 16, (32, 16)),
        ((100, 32), 16, (100, 16)),  # the codec gives more codebooks than the model reads
        ((5, 32), 16, (5, 16)),
    ],
)
def test_orientation_table(shape, n_vq, oriented):
    codes = np.arange(np.prod(shape)).reshape(shape)
    found = orient_codes(codes, n_vq)
    assert found.shape == oriented
    assert found.dtype == np.int32
    upright = codes if shape[0] == oriented[0] else codes.T
    np.testing.assert_array_equal(found, upright[:, :n_vq])


@pytest.mark.parametrize("shape", [(100, 8), (8, 8), (100, 100), (40, 32), (16,), (2, 16, 3), (0, 16), (16, 0)])
def test_shapes_without_a_reading_are_refused_by_name(shape):
    with pytest.raises(RequestError, match=r"\(" + ", ".join(map(str, shape))):
        orient_codes(np.zeros(shape, dtype=np.int64), 16)


@pytest.mark.parametrize(
    "value",
    [np.zeros((3, 16)), np.zeros((3, 16), dtype=bool), mx.zeros((3, 16)), [[1] * 16], "codes.npy", None],
)
def test_anything_but_an_integer_array_is_a_type_error(value):
    assert not is_code_matrix(value)
    with pytest.raises(TypeError, match="integer array"):
        orient_codes(value, 16)


@pytest.mark.parametrize("dtype", [mx.int32, mx.uint16, mx.int64])
def test_mlx_codes_are_codes(dtype):
    codes = mx.arange(80).reshape(5, 16).astype(dtype)
    assert is_code_matrix(codes)
    np.testing.assert_array_equal(orient_codes(codes, 16), np.arange(80).reshape(5, 16))


@pytest.mark.parametrize("bad", [-1, 2**31, 2**40])
def test_codes_that_no_int32_holds_are_refused_not_wrapped(bad):
    with pytest.raises(RequestError, match=str(bad)):
        orient_codes(np.full((3, 16), bad, dtype=np.int64), 16)


def test_range_check_refuses_the_pad_code():
    check_code_range(np.array([[0, PAD - 1]], dtype=np.int32), PAD)
    with pytest.raises(RequestError, match=r"0\.\.1023; got 0 to 1024"):
        check_code_range(np.array([[0, PAD]], dtype=np.int32), PAD)
