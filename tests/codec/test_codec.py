"""Laws of the codec: against a slow reference, and between whole, chunked, batched and streamed runs."""

from __future__ import annotations

from functools import cache
from math import erf, sqrt
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moss_tts.codec import MossAudioTokenizer, StreamingDecoder, StreamingEncoder
from moss_tts.codec.network import Network
from moss_tts.codec.stages import PatchConfig, TransformerConfig
from moss_tts.codec.transformer import TransformerStage, gelu_by_erf, gelu_by_ratio
from moss_tts.device import compiled
from moss_tts.errors import AudioError, RequestError
from support.codec_tiny import (
    mono,
    nano,
    random_audio,
    random_codec,
    random_codes,
    random_weights,
    reference_codes,
    reference_decode,
    reference_latents,
    stereo,
)

# Each as this machine computes it, in C where there is a compiler, and as others do.
IN_MLX = " in MLX"
KINDS = {
    name + way: config
    for name, config in {"mono": mono, "stereo": stereo, "nano": nano}.items()
    for way in ("", IN_MLX)
}
FRAMES = 40  # several windows of every stage


@cache
def codec_of(kind: str) -> MossAudioTokenizer:
    codec = random_codec(KINDS[kind]())
    if kind.endswith(IN_MLX):
        codec.encoder._compiled = codec.decoder._compiled = None
    return codec


@pytest.fixture(params=list(KINDS))
def codec(request: pytest.FixtureRequest) -> MossAudioTokenizer:
    return codec_of(request.param)


def same(made: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(np.array(made), np.array(wanted), atol=tolerance, rtol=0)


def equal(made: Any, wanted: Any) -> None:
    np.testing.assert_array_equal(np.array(made), np.array(wanted))


cuts = st.lists(st.integers(0, 9), min_size=1, max_size=20)


def pieces(total: int, sizes: list[int]) -> list[slice]:
    """Consecutive slices of 0..total: of these sizes, then the rest."""
    ends = [end for end in np.cumsum(sizes).tolist() if end < total]
    return [slice(first, stop) for first, stop in zip([0, *ends], [*ends, total], strict=True)]


# ------------------------------------------------------------------------------------------------- reference


@pytest.mark.parametrize("kind", list(KINDS))
def test_decode_is_the_reference(kind: str) -> None:
    raw, codec = KINDS[kind](), codec_of(kind)
    codes = random_codes(codec, FRAMES)
    stream = reference_decode(raw, random_weights(raw), codes)
    same(codec.decode(codes).audio[0], stream.reshape(-1, codec.config.channels).T)


@pytest.mark.parametrize("kind", list(KINDS))
def test_encode_is_the_reference(kind: str) -> None:
    raw, codec = KINDS[kind](), codec_of(kind)
    audio = random_audio(codec, FRAMES * codec.config.downsample_rate)
    stream = audio.T.reshape(-1)
    latents = reference_latents(raw, random_weights(raw), stream)
    made, _ = codec.encoder(mx.array(stream)[None, :, None], codec.encoder.empty_state(1))
    same(made[0].T, latents)
    equal(codec.encode(audio).codes[:, 0], reference_codes(raw, random_weights(raw), latents))


@pytest.mark.parametrize("window", [1, 2, 63, 200])
def test_blocks_of_a_long_call_are_short_calls(window: int) -> None:
    config = TransformerConfig(8, 8, 8, num_heads=2, num_layers=2, dim_feedforward=8, window=window)
    stage = TransformerStage(config, mx.float32, version=1)
    x = mx.random.normal((2, 500, 8), key=mx.random.key(0))
    whole, state = stage(x, stage.empty_state(2), None)
    assert state.positions == (500, 500)
    state, steps = stage.empty_state(2), []
    for first in range(0, 500, 9):
        y, state = stage(x[:, first : first + 9], state, None)
        steps.append(y)
    same(whole, mx.concatenate(steps, axis=1))


@pytest.mark.c_on_cpus
@pytest.mark.skipif(compiled.library() is None, reason="no OpenBLAS or no C compiler here")
def test_large_calls_in_c_are_those_in_mlx() -> None:
    """Large enough for several cores, and uneven."""
    config = TransformerConfig(128, 96, 128, num_heads=2, num_layers=2, dim_feedforward=256, window=100)
    network = Network([config], mx.float32, version=2)
    mx.eval(network.parameters())
    in_mlx, in_c = network.empty_state(2), None
    for steps, counts in ((600, [600, 350]), (700, [1, 700]), (90, None)):
        x = mx.random.normal((2, steps, 128), key=mx.random.key(steps))
        network._compiled = None
        wanted, in_mlx = network(x, in_mlx, counts)
        network.compile()
        made, in_c = network(x, in_c or network.empty_state(2), counts)
        assert network._compiled is not None
        for row, count in enumerate(counts or [steps, steps]):
            same(made[row, :count], wanted[row, :count], tolerance=2e-5)


# ------------------------------------------------------------------------------------------------- laws


@settings(max_examples=25, deadline=None)
@given(kind=st.sampled_from(list(KINDS)), sizes=cuts)
def test_any_cut_of_a_stream_decodes_to_the_whole(kind: str, sizes: list[int]) -> None:
    codec = codec_of(kind)
    codes = random_codes(codec, FRAMES)
    decoder = StreamingDecoder(codec)
    audio = [decoder.push(codes[:, piece]) for piece in pieces(FRAMES, sizes)]
    same(mx.concatenate(audio, axis=2), codec.decode(codes).audio)


@settings(max_examples=25, deadline=None)
@given(kind=st.sampled_from(list(KINDS)), sizes=st.lists(st.integers(0, 150), min_size=1, max_size=20))
def test_any_cut_of_a_stream_encodes_to_the_whole(kind: str, sizes: list[int]) -> None:
    codec = codec_of(kind)
    audio = random_audio(codec, FRAMES * codec.config.downsample_rate + 7)
    encoder = StreamingEncoder(codec)
    codes = [encoder.push(audio[:, piece]) for piece in pieces(audio.shape[1], sizes)]
    equal(mx.concatenate(codes, axis=2), codec.encode(audio).codes)
    assert encoder.waiting_samples == 7


@settings(max_examples=15, deadline=None)
@given(kind=st.sampled_from(list(KINDS)), chunk_frames=st.integers(1, 50))
def test_chunks_change_nothing(kind: str, chunk_frames: int) -> None:
    codec = codec_of(kind)
    codes, audio = random_codes(codec, FRAMES), random_audio(codec, 1000)
    same(codec.decode(codes, chunk_frames=chunk_frames).audio, codec.decode(codes).audio)
    equal(codec.encode(audio, chunk_frames=chunk_frames).codes, codec.encode(audio).codes)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), kind=st.sampled_from(list(KINDS)))
def test_streams_join_leave_and_advance_on_their_own(data: st.DataObject, kind: str) -> None:
    """Three signals share one decoder; each comes out as if it had been alone."""
    codec = codec_of(kind)
    codes = random_codes(codec, 3, 30)
    whole = np.array(codec.decode(codes).audio)
    decoder, rows, decoded = StreamingDecoder(codec), [0], {0: 0, 1: 0, 2: 0}
    audio: dict[int, list[np.ndarray]] = {0: [], 1: [], 2: []}
    for _ in range(12):
        order = data.draw(st.permutations(range(3))) if data.draw(st.booleans()) else rows
        keep = list(order)[: data.draw(st.integers(1, 3))]
        fresh = [row for row in keep if row not in rows]
        decoder.arrange([None if row in fresh else rows.index(row) for row in keep])
        rows = keep
        for row in fresh:  # a stream that left starts over
            decoded[row], audio[row] = 0, []
        counts = [min(data.draw(st.integers(0, 8)), 30 - decoded[row]) for row in rows]
        frames = max(counts) + data.draw(st.integers(0, 2))
        given_codes = np.zeros((codes.shape[0], len(rows), frames), np.int32)
        for place, (row, count) in enumerate(zip(rows, counts, strict=True)):
            given_codes[:, place, :count] = codes[:, row, decoded[row] : decoded[row] + count]
        made = np.array(decoder.push(given_codes, counts))
        for place, (row, count) in enumerate(zip(rows, counts, strict=True)):
            audio[row].append(made[place, :, : count * codec.config.downsample_rate])
            assert not made[place, :, count * codec.config.downsample_rate :].any()
            decoded[row] += count
    for row in rows:
        joined = np.concatenate(audio[row], axis=1)
        # Values go up to ten, and their last bits depend on how many steps a product has.
        same(joined, whole[row, :, : joined.shape[1]], tolerance=3e-5)


def test_a_batch_is_its_singles(codec: MossAudioTokenizer) -> None:
    codes = [random_codes(codec, frames, seed=frames) for frames in (33, 1, 0, 12)]
    for item, row in zip(codes, codec.batch_decode(codes).rows(), strict=True):
        assert row.shape == (codec.config.channels, item.shape[1] * codec.config.downsample_rate)
        same(row, codec.decode(item).audio[0])
    frame = codec.config.downsample_rate
    audio = [random_audio(codec, samples, seed=samples) for samples in (31 * frame + 4, frame, 2 * frame - 1, 177)]
    encoded = codec.batch_encode(audio)
    assert encoded.lengths.tolist() == [31, 1, 1, 177 // frame]
    for item, row in zip(audio, encoded.rows(), strict=True):
        equal(row, codec.encode(item).codes[:, 0])


def test_padding_is_silence_and_the_code_for_none(codec: MossAudioTokenizer) -> None:
    decoded = codec.batch_decode([random_codes(codec, 5), random_codes(codec, 3)])
    assert not np.array(decoded.audio[1, :, 3 * codec.config.downsample_rate :]).any()
    encoded = codec.batch_encode([random_audio(codec, 100), random_audio(codec, 40)])
    assert (np.array(encoded.codes[:, 1, 2:]) == codec.config.codebook_size).all()


def test_the_first_codebooks_are_a_codec_of_their_own(codec: MossAudioTokenizer) -> None:
    codes, audio = random_codes(codec, 20), random_audio(codec, 400)
    nothing = codec.config.codebook_size
    for depth in range(1, codec.config.num_quantizers + 1):
        masked = np.where(np.arange(len(codes))[:, None] < depth, codes, nothing)
        prefix = codec.decode(codes[:depth]).audio
        same(prefix, codec.decode(codes, num_quantizers=depth).audio)
        same(prefix, codec.decode(masked).audio)
        equal(codec.encode(audio, num_quantizers=depth).codes, codec.encode(audio).codes[:depth])


def test_samples_of_an_unfinished_frame_change_no_code(codec: MossAudioTokenizer) -> None:
    rate = codec.config.downsample_rate
    audio = random_audio(codec, 11 * rate + rate - 1)
    encoded = codec.encode(audio)
    assert encoded.lengths.tolist() == [11]
    equal(encoded.codes, codec.encode(audio[:, : 11 * rate]).codes)


def test_nothing_sounds_longer_than_the_windows_reach(codec: MossAudioTokenizer) -> None:
    config, rate, reach = codec.config, codec.config.frame_rate, 1 / codec.config.frame_rate
    for stage in config.decoder:
        if isinstance(stage, PatchConfig):
            rate *= stage.size
        else:
            reach += stage.num_layers * (stage.window - 1) / rate
    last = round(reach * config.sampling_rate)
    frames = last // config.downsample_rate + 5
    codes = random_codes(codec, frames)
    other = codes.copy()
    other[:, 0] = (codes[:, 0] + 1) % config.codebook_size
    change = np.abs(np.array(codec.decode(codes).audio - codec.decode(other).audio))[0].max(axis=0)
    assert change[: config.downsample_rate].max() > 1e-2
    assert change[last:].max() < 1e-6


def test_nothing_sounds_before_it_is_said(codec: MossAudioTokenizer) -> None:
    codes = random_codes(codec, 12)
    other = codes.copy()
    other[:, 8:] = 0
    cut = 8 * codec.config.downsample_rate
    same(codec.decode(codes).audio[..., :cut], codec.decode(other).audio[..., :cut], 1e-6)


def test_memory_grows_with_the_length_and_not_its_square() -> None:
    codec = codec_of("mono")

    def peak(frames: int) -> int:
        codes = random_codes(codec, frames)
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        mx.eval(codec.decode(codes, chunk_frames=frames).audio)
        return mx.get_peak_memory() - before

    peak(500)
    # What is no longer needed is given back a moment later or sooner; the square would be there every time.
    assert min(peak(4000) for _ in range(3)) < 2.5 * peak(2000)


# ------------------------------------------------------------------------------------------------- streams


def test_a_primed_stream_goes_on_as_if_it_had_sounded(codec: MossAudioTokenizer) -> None:
    codes = random_codes(codec, 100)
    decoder = StreamingDecoder(codec)
    decoder.prime(codes[:, :90])
    same(decoder.push(codes[:, 90:]), codec.decode(codes).audio[..., 90 * codec.config.downsample_rate :])


def test_forks_do_not_disturb_each_other(codec: MossAudioTokenizer) -> None:
    codes = [random_codes(codec, 30, seed=seed) for seed in (1, 2)]
    decoder = StreamingDecoder(codec)
    for frame in range(10):
        decoder.push(codes[0][:, frame : frame + 1])
    fork = decoder.fork()
    start = 10 * codec.config.downsample_rate
    for item, stream in zip(codes, (decoder, fork), strict=True):
        joined = np.concatenate([codes[0][:, :10], item[:, 10:]], axis=1)
        audio = [stream.push(item[:, frame : frame + 1]) for frame in range(10, 30)]
        same(mx.concatenate(audio, axis=2), codec.decode(joined).audio[..., start:])


def test_a_forked_encoder_goes_on_alone(codec: MossAudioTokenizer) -> None:
    audio = random_audio(codec, 300)
    encoder = StreamingEncoder(codec, num_quantizers=2)
    first = encoder.push(audio[:, :150])
    fork = encoder.fork()
    encoder.push(audio[:, :77])
    whole = codec.encode(audio, num_quantizers=2).codes
    equal(mx.concatenate([first, fork.push(audio[:, 150:])], axis=2), whole)
    encoder.reset()
    equal(encoder.push(audio), whole)


def test_a_reset_stream_starts_over_beside_others(codec: MossAudioTokenizer) -> None:
    codes = random_codes(codec, 2, 20)
    decoder = StreamingDecoder(codec, batch_size=2)
    decoder.push(codes[:, :, :9])
    decoder.reset(rows=[1])
    audio = decoder.push(np.stack([codes[:, 0, 9:], codes[:, 1, :11]], axis=1))
    rate = codec.config.downsample_rate
    same(audio[0], codec.decode(codes[:, 0]).audio[0, :, 9 * rate :])
    same(audio[1], codec.decode(codes[:, 1]).audio[0, :, : 11 * rate])
    decoder.reset()
    same(decoder.push(codes), codec.decode(codes).audio)


def test_no_frames_are_no_audio(codec: MossAudioTokenizer) -> None:
    nothing = np.zeros((2, 0), np.int32)
    shape = (1, codec.config.channels, 0)
    assert codec.decode(nothing).audio.shape == StreamingDecoder(codec).push(nothing).shape == shape


# ------------------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_half_precision_stays_near_and_returns_float32(dtype: mx.Dtype) -> None:
    codec, exact = random_codec(mono(), dtype=dtype), codec_of("mono")
    codes = random_codes(exact, FRAMES)
    audio, wanted = np.array(codec.decode(codes).audio), np.array(exact.decode(codes).audio)
    assert audio.dtype == np.float32
    assert np.sqrt(((audio - wanted) ** 2).mean() / (wanted**2).mean()) < 0.03
    kept = StreamingDecoder(codec)
    kept.push(codes)
    assert kept._state[0].keys[0].dtype == dtype


def test_the_quantizer_is_float32_whatever_the_networks_compute_in() -> None:
    low, exact = random_codec(mono(), dtype=mx.bfloat16), codec_of("mono")
    equal(low._quantizer.tables, exact._quantizer.tables)


# ------------------------------------------------------------------------------------------------- input


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((4,), np.int32), r"shape \(Q, F\) or \(Q, B, F\)"),
        (np.zeros((4, 5), np.float32), "must be integers"),
        (np.full((4, 5), 33), r"0\.\.31 \(32 for none\); got 33"),
        (np.full((4, 5), -1), "got -1"),
        (np.zeros((5, 5), np.int32), "5 codebooks; this codec has 4"),
        (np.zeros((0, 5), np.int32), "0 codebooks"),
    ],
)
def test_codes_that_are_none_are_refused(codes: np.ndarray, message: str) -> None:
    codec = codec_of("mono")
    with pytest.raises(RequestError, match=message):
        codec.decode(codes)
    with pytest.raises(RequestError, match=message):
        codec.batch_decode([codes])
    with pytest.raises(RequestError, match=message):
        StreamingDecoder(codec).push(codes)


@pytest.mark.parametrize(
    ("kind", "audio", "message"),
    [
        ("mono", np.zeros((2, 100), np.float32), r"\(S,\), \(1, S\) or \(B, 1, S\).*got \(2, 100\)"),
        ("stereo", np.zeros((100,), np.float32), r"\(2, S\) or \(B, 2, S\).*got \(100,\)"),
        ("mono", np.zeros((1, 1, 1, 100), np.float32), "must have shape"),
        ("mono", np.float32(0), "must have shape"),
        ("mono", np.zeros((100,), np.int16), "must be floats"),
        ("mono", np.full((100,), np.nan, np.float32), "not finite"),
        ("mono", np.full((100,), np.inf, np.float32), "not finite"),
    ],
)
def test_audio_that_is_none_is_refused(kind: str, audio: np.ndarray, message: str) -> None:
    codec = codec_of(kind)
    with pytest.raises(AudioError, match=message):
        codec.encode(audio)
    with pytest.raises(AudioError, match=f"audio 0 .*{message}"):
        codec.batch_encode([audio])
    with pytest.raises(AudioError, match=message):
        StreamingEncoder(codec).push(audio)


def test_audio_shorter_than_a_frame_is_refused_unless_it_streams() -> None:
    codec = codec_of("mono")
    with pytest.raises(AudioError, match="15 samples, fewer than the 16 of one frame"):
        codec.encode(np.zeros(15, np.float32))
    assert StreamingEncoder(codec).push(np.zeros(15, np.float32)).shape == (4, 1, 0)


def test_depths_chunks_and_batches_that_cannot_be_are_refused() -> None:
    codec = codec_of("mono")
    codes, audio = random_codes(codec, 3), random_audio(codec, 50)
    for depth in (0, 5, -1):
        with pytest.raises(RequestError, match=rf"num_quantizers must lie in 1\.\.4, got {depth}"):
            codec.encode(audio, num_quantizers=depth)
    with pytest.raises(RequestError, match=r"1\.\.2, got 3"):
        codec.decode(codes[:2], num_quantizers=3)
    with pytest.raises(RequestError, match="chunk_frames"):
        codec.decode(codes, chunk_frames=0)
    with pytest.raises(RequestError, match="same number of codebooks"):
        codec.batch_decode([codes, codes[:2]])
    codec.batch_decode([codes, codes[:2]], num_quantizers=2)
    for batch in (codec.batch_decode, codec.batch_encode):
        with pytest.raises(RequestError, match="at least one item"):
            batch([])


def test_streams_refuse_rows_that_do_not_fit() -> None:
    codec = codec_of("mono")
    decoder = StreamingDecoder(codec, batch_size=2)
    with pytest.raises(RequestError, match="1 rows to a decoder of 2"):
        decoder.push(random_codes(codec, 3))
    for counts in ([1], [1, 4], [-1, 0]):
        with pytest.raises(RequestError, match="counts must give"):
            decoder.push(random_codes(codec, 2, 3), counts)
    for rows in ([], [2]):
        with pytest.raises(RequestError, match="rows must be taken"):
            decoder.arrange(rows)
    with pytest.raises(AudioError, match="1 rows to an encoder of 2"):
        StreamingEncoder(codec, batch_size=2).push(random_audio(codec, 50))
    with pytest.raises(RequestError, match="batch_size"):
        StreamingDecoder(codec, batch_size=0)


def test_a_state_can_be_used_twice(codec: MossAudioTokenizer) -> None:
    """States are values: going on from one does not change it, even where buffers are written in place."""
    codes = mx.array(random_codes(codec, 1, 12).astype(np.int32))
    state = codec.decoder.empty_state(1)
    for frame in range(11):
        audio, state = codec.decode_step(codes[:, :, frame : frame + 1], state)
        mx.eval(audio)
    first, _ = codec.decode_step(codes[:, :, 11:], state)
    mx.eval(first)
    second, _ = codec.decode_step(codes[:, :, 11:], state)
    equal(first, second)


def test_gelu_is_what_it_is_defined_as():
    """By the error function, and as CPUs have it faster: to the last bits of float32, and flat where it is flat."""
    x = np.concatenate([np.linspace(-9, 9, 20_001), [-1e30, -100.0, 100.0, 1e30]])
    exact = np.array([value * (1 + erf(value / sqrt(2))) / 2 for value in x])
    for gelu in (gelu_by_erf, gelu_by_ratio):
        made = np.array(gelu(mx.array(x, mx.float32)), np.float64)
        np.testing.assert_array_less(np.abs(made - exact), 3e-7 * np.maximum(np.abs(x), 1))
