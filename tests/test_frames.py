"""Frame readers: rows in, complete frames out, in the order of speech and with the reason of the end.

Delay's rows are written here from whole frames with the delay pattern; the readers have to find the frames again.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_tts.audio.codes import apply_delay_pattern
from moss_tts.frames import MAX_IDLE_ROWS, DelayFrameReader, Frames, LocalFrameReader
from support.small_configs import (
    AUDIO_END,
    AUDIO_START,
    CODEBOOK,
    DELAY,
    GEN,
    IM_END,
    IM_START,
    USER_SLOT,
    delay_config,
    local_config,
)

PLENTY = 10_000


def frames_of(count: int, n_vq: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, CODEBOOK, (count, n_vq), dtype=np.int32)


def text_row(token: int, n_vq: int) -> np.ndarray:
    return np.array([[token, *[CODEBOOK] * n_vq]], dtype=np.int32)


def delay_segment(codes: np.ndarray) -> np.ndarray:
    """Rows of a segment with its audio_end: F - 1 gen slots, Q delay slots, the end."""
    n_frames, n_vq = codes.shape
    slots = [GEN] * (n_frames - 1) + [DELAY] * n_vq
    rows = np.concatenate([np.array(slots)[:, None], apply_delay_pattern(codes, CODEBOOK)], axis=1)
    return np.concatenate([rows, text_row(AUDIO_END, n_vq)])


def delay_prompt(codes: np.ndarray) -> np.ndarray:
    """A prompt to be continued: it ends on the gen slot of its last frame, the delay tail cut off."""
    n_frames, n_vq = codes.shape
    rows = np.concatenate([np.full((n_frames, 1), GEN), apply_delay_pattern(codes, CODEBOOK)[:n_frames]], axis=1)
    return np.concatenate([text_row(IM_START, n_vq), text_row(AUDIO_START, n_vq), rows])


def read(reader, rows: np.ndarray) -> list[list[Frames]]:
    """What each row completes."""
    return [reader.start(), *(reader.push(row) for row in rows)]


def codes_of(parts: list[Frames], n_vq: int, segment: int = 0, context: bool = False) -> np.ndarray:
    wanted = [part.codes for part in parts if (part.segment, part.context) == (segment, context)]
    return np.concatenate([np.zeros((0, n_vq), np.int32), *wanted])


def flat(pushed: list[list[Frames]]) -> list[Frames]:
    return [part for parts in pushed for part in parts]


# --------------------------------------------------------------------------------------------------- delay


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(1, 6), st.integers(0, 99))
def test_delay_segments_come_back_in_order(lengths, n_vq, seed):
    segments = [frames_of(count, n_vq, seed + number) for number, count in enumerate(lengths)]
    rows = delay_segment(segments[0])
    for codes in segments[1:]:
        rows = np.concatenate([rows, text_row(3, n_vq), text_row(AUDIO_START, n_vq), delay_segment(codes)])
    rows = np.concatenate([rows, text_row(IM_END, n_vq)])
    reader = DelayFrameReader(text_row(AUDIO_START, n_vq), delay_config(n_vq), PLENTY)
    parts = flat(read(reader, rows))
    for number, codes in enumerate(segments):
        np.testing.assert_array_equal(codes_of(parts, n_vq, number), codes)
    assert [part.segment for part in parts] == sorted(part.segment for part in parts)
    assert not any(part.context for part in parts)
    assert reader.finish_reason == "stop"


@given(st.integers(1, 12), st.integers(1, 6))
def test_a_frame_comes_with_the_row_that_completes_it(n_frames, n_vq):
    codes = frames_of(n_frames, n_vq)
    reader = DelayFrameReader(text_row(AUDIO_START, n_vq), delay_config(n_vq), PLENTY)
    pushed = read(reader, delay_segment(codes))
    for rows_seen in range(len(pushed)):
        complete = codes_of(flat(pushed[: rows_seen + 1]), n_vq)
        np.testing.assert_array_equal(complete, codes[: max(0, rows_seen - n_vq + 1)])


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_a_continuation_gives_back_the_prompts_frames_as_context(n_prompt, n_new, n_vq):
    """The prompt lacks the tail of its last frames: the model writes those codes again, and they are context too."""
    codes = frames_of(n_prompt + n_new, n_vq)
    reader = DelayFrameReader(delay_prompt(codes[:n_prompt]), delay_config(n_vq), PLENTY)
    following = delay_segment(codes)[n_prompt:]
    parts = flat(read(reader, following))
    np.testing.assert_array_equal(codes_of(parts, n_vq, context=True), codes[:n_prompt])
    np.testing.assert_array_equal(codes_of(parts, n_vq), codes[n_prompt:])
    contexts = [part.context for part in parts]
    assert contexts == sorted(contexts, reverse=True)


def test_a_second_segment_of_a_continuation_is_no_context():
    prompt, rest, second = frames_of(6, 4, 1), frames_of(2, 4, 2), frames_of(5, 4, 3)
    first = delay_segment(np.concatenate([prompt, rest]))[len(prompt) :]
    rows = np.concatenate([first, text_row(AUDIO_START, 4), delay_segment(second)])
    parts = flat(read(DelayFrameReader(delay_prompt(prompt), delay_config(4), PLENTY), rows))
    np.testing.assert_array_equal(codes_of(parts, 4, 0, context=True), prompt)
    np.testing.assert_array_equal(codes_of(parts, 4, 0), rest)
    np.testing.assert_array_equal(codes_of(parts, 4, 1), second)


def test_a_reference_in_the_prompt_is_no_context():
    reference = np.concatenate([np.full((3, 1), USER_SLOT), frames_of(3, 2)], axis=1)
    prompt = np.concatenate([text_row(AUDIO_START, 2), reference, text_row(AUDIO_END, 2), text_row(AUDIO_START, 2)])
    codes = frames_of(4, 2, 5)
    parts = flat(read(DelayFrameReader(prompt, delay_config(2), PLENTY), delay_segment(codes)))
    assert not any(part.context for part in parts)
    np.testing.assert_array_equal(codes_of(parts, 2), codes)


@pytest.mark.parametrize(("budget", "reason"), [(3, "length"), (4, "stop")])
def test_delay_says_length_when_the_budget_is_used_up(budget, reason):
    reader = DelayFrameReader(text_row(AUDIO_START, 2), delay_config(2), budget)
    pushed = read(reader, delay_segment(frames_of(3, 2)))
    assert reader.finish_reason is None
    assert len(codes_of(flat(pushed), 2)) == 3
    assert reader.push(text_row(IM_END, 2)[0]) == []
    assert reader.finish_reason == reason


def test_a_model_that_never_speaks_ends():
    reader = DelayFrameReader(text_row(IM_START, 2), delay_config(2), PLENTY)
    for count in range(1, MAX_IDLE_ROWS + 1):
        assert reader.finish_reason is None, count
        assert reader.push(text_row(5, 2)[0]) == []
    assert reader.finish_reason == "length"


def test_audio_start_without_frames_is_no_frame():
    reader = DelayFrameReader(text_row(IM_START, 3), delay_config(3), PLENTY)
    rows = np.concatenate([text_row(AUDIO_START, 3), delay_segment(frames_of(1, 3)), text_row(IM_END, 3)])
    assert len(codes_of(flat(read(reader, rows)), 3)) == 1
    assert reader.finish_reason == "stop"


# --------------------------------------------------------------------------------------------------- local


def local_rows(codes: np.ndarray) -> np.ndarray:
    return np.concatenate([np.full((len(codes), 1), GEN), codes], axis=1)


@given(st.integers(0, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4))
def test_every_local_row_with_a_slot_is_a_frame(n_prompt, n_new, used, unused):
    """Unused codebooks never leave the reader, of the prompt's frames neither."""
    n_vq = used + unused
    prompt, codes = frames_of(n_prompt, n_vq, 1), frames_of(n_new, n_vq, 2)
    rows = np.concatenate([text_row(IM_START, n_vq), text_row(AUDIO_START, n_vq), local_rows(prompt)])
    reader = LocalFrameReader(rows, local_config(n_vq), PLENTY, used)
    pushed = read(reader, local_rows(codes))
    np.testing.assert_array_equal(codes_of(pushed[0], used, context=True), prompt[:, :used])
    for row, parts in zip(codes, pushed[1:], strict=True):
        np.testing.assert_array_equal(codes_of(parts, used), row[None, :used])


def test_the_codes_beside_audio_end_are_not_audio():
    reader = LocalFrameReader(text_row(AUDIO_START, 2), local_config(2), PLENTY, 2)
    assert reader.push(np.array([GEN, 1, 2])) != []
    assert reader.finish_reason is None
    assert reader.push(np.array([AUDIO_END, 3, 4])) == []
    assert reader.finish_reason == "stop"


def test_a_reference_is_not_what_a_local_prompt_goes_on_from():
    reference = np.concatenate([np.full((3, 1), USER_SLOT), frames_of(3, 2)], axis=1)
    prompt = np.concatenate([text_row(AUDIO_START, 2), reference, text_row(AUDIO_END, 2), text_row(AUDIO_START, 2)])
    assert LocalFrameReader(prompt, local_config(2), PLENTY, 2).start() == []


@pytest.mark.parametrize("budget", [1, 3])
def test_local_says_length_with_the_last_frame_of_its_budget(budget):
    reader = LocalFrameReader(text_row(AUDIO_START, 2), local_config(2), budget, 2)
    for _ in range(budget - 1):
        reader.push(np.array([GEN, 1, 2]))
        assert reader.finish_reason is None
    assert len(reader.push(np.array([GEN, 1, 2]))[0].codes) == 1
    assert reader.finish_reason == "length"
