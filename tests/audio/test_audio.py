"""Laws of audio files and waveforms: what is written comes back, what cannot be used is refused in one sentence."""

import io
import sys

import mlx.core as mx
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from moss_tts.audio.files import WRITABLE_FORMATS, encode_audio, read_audio, write_audio
from moss_tts.audio.waveform import (
    MAX_SECONDS,
    as_waveform,
    check_audible,
    fit_channels,
    normalize_loudness,
    resample,
)
from moss_tts.errors import AudioError

RATE = 24_000
# Worst difference after a round trip: quantisation, or what a lossy encoder makes of a tone in noise.
TOLERANCE = {".wav": 1e-4, ".flac": 1e-4, ".mp3": 0.1, ".ogg": 0.1}


def tone(seconds=0.5, rate=RATE, frequency=440.0, amplitude=0.3, channels=1):
    """(C, S): a sine per channel, each an octave above the one before, and a little noise."""
    t = np.arange(int(seconds * rate)) / rate
    sines = np.sin(2 * np.pi * frequency * 2.0 ** np.arange(channels)[:, None] * t)
    noise = np.random.default_rng(0).standard_normal(sines.shape)
    return (amplitude * (sines + 0.01 * noise)).astype(np.float32)


def frequency_of(samples, rate):
    return np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples)


def complaint(call, *args):
    with pytest.raises(AudioError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Files.


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", WRITABLE_FORMATS)
def test_what_is_written_comes_back(tmp_path, suffix, channels):
    samples = tone(channels=channels)
    path = write_audio(tmp_path / f"tone{suffix}", samples, RATE)
    read = read_audio(path)
    assert (read.samples.shape, read.sample_rate, read.samples.dtype) == (samples.shape, RATE, np.float32)
    np.testing.assert_allclose(read.samples, samples, atol=TOLERANCE[suffix])


@pytest.mark.parametrize("suffix", WRITABLE_FORMATS)
def test_content_decides_how_a_file_is_read_and_suffixes_know_no_case(tmp_path, suffix):
    path = write_audio(tmp_path / f"tone{suffix.upper()}", tone(), RATE)
    renamed = path.rename(tmp_path / "tone.raw")
    assert read_audio(renamed).samples.shape == tone().shape


@pytest.mark.parametrize(
    ("suffix", "codec", "channels", "rate"),
    [(".m4a", "aac", 1, RATE), (".m4a", "aac", 2, 48_000), (".aac", "aac", 1, RATE), (".webm", "libopus", 2, 48_000)],
)
def test_other_containers_are_read_with_pyav(tmp_path, suffix, codec, channels, rate):
    path = write_with_av(tmp_path / f"tone{suffix}", tone(1, rate, channels=channels), rate, codec)
    read = read_audio(path)
    assert (len(read.samples), read.sample_rate) == (channels, rate)
    assert 1 <= read.seconds < 1.1
    for channel, samples in enumerate(read.samples):
        assert frequency_of(samples, rate) == pytest.approx(440 * 2**channel, rel=0.02)


def write_with_av(path, samples, rate, codec):
    av = pytest.importorskip("av")
    layout = "stereo" if len(samples) == 2 else "mono"
    with av.open(str(path), "w") as container:
        track = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        frame.sample_rate = rate
        for packet in [*track.encode(frame), *track.encode(None)]:
            container.mux(packet)
    return path


def test_without_pyav_other_files_name_the_extra(tmp_path, monkeypatch):
    path = write_with_av(tmp_path / "tone.m4a", tone(), RATE, "aac")
    monkeypatch.setitem(sys.modules, "av", None)
    message = complaint(read_audio, path)
    assert str(path) in message
    assert "pip install 'moss-tts-mlx[av]'" in message


def test_files_of_libsndfile_need_no_pyav(tmp_path, monkeypatch):
    path = write_audio(tmp_path / "tone.mp3", tone(), RATE)
    monkeypatch.setitem(sys.modules, "av", None)
    assert read_audio(path).samples.shape == tone().shape


def flac_of_unknown_length(samples, rate=RATE):
    content = bytearray(encode_audio(samples, rate, ".flac"))
    # The 36 bits at this place hold the number of samples; zero means unknown, as in a recorded stream.
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    return bytes(content)


def test_streams_that_do_not_announce_their_length_are_read_whole(tmp_path):
    pytest.importorskip("av")
    path = tmp_path / "stream.flac"
    path.write_bytes(flac_of_unknown_length(tone()))
    np.testing.assert_allclose(read_audio(path).samples, tone(), atol=1e-4)


@pytest.mark.parametrize("announced", [True, False])
def test_small_files_that_decode_to_hours_are_refused_unread(tmp_path, monkeypatch, announced):
    bomb = np.zeros(int(3 * MAX_SECONDS) * 1000, np.float32)
    path = tmp_path / "bomb.flac"
    path.write_bytes(encode_audio(bomb, 1000, ".flac") if announced else flac_of_unknown_length(bomb, 1000))
    assert path.stat().st_size < len(bomb) / 10
    if announced:
        monkeypatch.setattr(soundfile.SoundFile, "read", None)
    assert "at most 600 s are allowed" in complaint(read_audio, path)


def test_a_limit_of_ones_own(tmp_path):
    path = write_audio(tmp_path / "tone.wav", tone(2), RATE)
    assert read_audio(path, max_seconds=2).seconds == 2
    assert "at most 1 s" in complaint(read_audio, path, 1)


def wav(**options):
    file = io.BytesIO()
    soundfile.write(file, format="WAV", **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b"no sound in here\n" * 99, "not audio that can be decoded"),
        (b"RIFF\xff\xff\xff\xffWAVE", "not audio that can be decoded"),
        (wav(data=np.zeros(0), samplerate=RATE), "no samples"),
        (wav(data=np.full(99, np.nan), samplerate=RATE, subtype="FLOAT"), "not finite"),
        (wav(data=np.zeros((99, 9)), samplerate=RATE), "9 channels; at most 8"),
        (wav(data=np.zeros(99), samplerate=10), "a sample rate must be"),
    ],
)
def test_files_that_cannot_serve_are_refused_by_name(tmp_path, content, problem):
    pytest.importorskip("av")
    path = tmp_path / "voice.wav"
    path.write_bytes(content)
    message = complaint(read_audio, path)
    assert message.startswith(f"{path}: ")
    assert problem in message


def test_missing_files_and_directories_are_refused_by_name(tmp_path):
    assert complaint(read_audio, tmp_path / "none.wav") == f"{tmp_path / 'none.wav'}: cannot be read: " + (
        "No such file or directory"
    )
    assert "cannot be read" in complaint(read_audio, tmp_path)


def test_playlists_are_refused_for_they_name_other_files(tmp_path):
    pytest.importorskip("av")
    audio = write_audio(tmp_path / "secret.wav", tone(), RATE)
    path = tmp_path / "list.m3u8"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{audio}\n#EXT-X-ENDLIST\n")
    assert "not audio that can be decoded" in complaint(read_audio, path)


# Writing.


@pytest.mark.parametrize("name", ["tone.m4a", "tone", "tone.wav.txt"])
def test_other_suffixes_are_refused_with_the_allowed_ones(tmp_path, name):
    message = complaint(write_audio, tmp_path / name, tone(), RATE)
    assert all(suffix in message for suffix in WRITABLE_FORMATS)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = write_audio(tmp_path / "tone.wav", tone(), RATE)
    before = path.read_bytes()
    complaint(write_audio, path, np.array([np.nan]), RATE)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    assert complaint(write_audio, path, tone(1), RATE) == f"{path}: cannot be written: No space left on device"
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]


def test_a_directory_that_is_not_there_is_no_place_to_write(tmp_path):
    assert "cannot be written" in complaint(write_audio, tmp_path / "none" / "tone.wav", tone(), RATE)


@pytest.mark.parametrize(("suffix", "rate", "channels"), [(".mp3", 96_000, 1), (".mp3", RATE, 3)])
def test_what_a_format_cannot_hold_is_refused(suffix, rate, channels):
    assert f"cannot hold {channels} channels at {rate} Hz" in complaint(
        encode_audio, tone(channels=channels), rate, suffix
    )


def test_values_beyond_full_scale_are_clipped(tmp_path):
    path = write_audio(tmp_path / "loud.wav", np.array([2.0, -2.0, 0.5, 0.0]), RATE)
    np.testing.assert_allclose(read_audio(path).samples[0], [1, -1, 0.5, 0], atol=1e-4)


def test_long_output_may_be_written():
    seconds = 2 * MAX_SECONDS
    assert soundfile.info(io.BytesIO(encode_audio(np.zeros(int(seconds * 1000)), 1000, ".flac"))).duration == seconds


# Arrays.


@given(st.integers(1, 8), st.integers(9, 50), st.sampled_from(["numpy", "mlx"]))
def test_the_shorter_axis_is_the_channels(channels, n_samples, library):
    samples = np.arange(channels * n_samples, dtype=np.float32).reshape(channels, n_samples)
    given_as = mx.array if library == "mlx" else np.asarray
    for array in (given_as(samples), given_as(samples.T)):
        np.testing.assert_array_equal(as_waveform(array, RATE).samples, samples)
    np.testing.assert_array_equal(as_waveform(given_as(samples[0]), RATE).samples, samples[:1])


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.float32])
def test_mlx_floats_of_any_width_are_waveforms(dtype):
    np.testing.assert_array_equal(as_waveform(mx.array([0.5, -0.25]).astype(dtype), RATE).samples, [[0.5, -0.25]])


@pytest.mark.parametrize(("dtype", "zero", "full"), [("uint8", 128, 127), ("int16", 0, 2**15), ("int32", 0, 2**31)])
def test_integer_pcm_is_scaled_to_one(dtype, zero, full):
    values = np.array([zero, zero + full // 2, np.iinfo(dtype).min], dtype)
    np.testing.assert_allclose(as_waveform(values, RATE).samples, [[0, 0.5, -1]], atol=1e-2)


@pytest.mark.parametrize(
    ("samples", "rate", "problem"),
    [
        ([0.0, 1.0], RATE, "mlx or numpy array; got a list"),
        (np.zeros((3, 3)), RATE, "(3, 3) may be (C, S) or (S, C)"),
        (np.zeros((2, 3, 4)), RATE, "got (2, 3, 4)"),
        (np.float32(1), RATE, "got a float32"),
        (np.zeros((9, 10)), RATE, "9 channels"),
        (np.zeros(0), RATE, "no samples"),
        (np.zeros((0, 5)), RATE, "no samples"),
        (np.array([1.0, np.inf]), RATE, "not finite"),
        (np.array([1e300]), RATE, "not finite"),
        (np.zeros(9, np.int64), RATE, "got int64"),
        (np.zeros(9, bool), RATE, "got bool"),
        (np.zeros(9, complex), RATE, "got complex128"),
        (np.zeros(9), 0, "got 0"),
        (np.zeros(9), -RATE, "got -24000"),
        (np.zeros(9), 24000.0, "got 24000.0"),
        (np.zeros(9), True, "got True"),
        (np.zeros(9), "24000", "got '24000'"),
        (np.zeros(601_000), 1000, "lasts 601 s"),
        (np.broadcast_to(np.float32(0), (8, 2**25)), 768_000, "values"),
    ],
)
def test_arrays_that_are_no_waveform_are_refused(samples, rate, problem):
    assert problem in complaint(as_waveform, samples, rate)


@pytest.mark.parametrize(("peak", "problem"), [(0, "silent"), (9e-5, "silent"), (3000.0, "not scaled")])
def test_silence_and_unscaled_samples_are_refused(peak, problem):
    assert problem in complaint(check_audible, np.full((1, 9), peak, np.float32))


@given(hnp.arrays(np.float32, (3, 7), elements=st.floats(-1, 1, width=32)), st.integers(1, 4))
def test_channels_are_mixed_repeated_or_cut(samples, channels):
    fitted = fit_channels(samples, channels)
    assert fitted.shape == (channels, 7)
    mono = np.repeat(samples.mean(axis=0, keepdims=True), channels, axis=0)
    np.testing.assert_allclose(fitted, samples[:channels] if channels in (2, 3) else mono, atol=1e-6)
    np.testing.assert_array_equal(fit_channels(samples[:1], channels), np.repeat(samples[:1], channels, axis=0))


# Resampling and loudness.

RATES = st.sampled_from([8_000, 16_000, 22_050, 24_000, 44_100, 48_000])


@given(RATES, RATES, st.integers(1, 5000))
def test_resampling_keeps_the_duration(source, target, n_samples):
    resampled = resample(np.zeros((2, n_samples), np.float32), source, target)
    assert resampled.dtype == np.float32
    assert len(resampled) == 2
    assert abs(resampled.shape[1] - n_samples * target / source) <= 0.5


@given(RATES, RATES)
def test_resampling_keeps_the_tone(source, target):
    samples = tone(1, source, channels=2)
    resampled = resample(samples, source, target)
    assert [frequency_of(channel, target) for channel in resampled] == [440, 880]
    expected = tone(1, target, channels=2)
    inner = slice(target // 10, -target // 10)
    # Within the noise of 1 %, a few standard deviations of it.
    assert np.abs(resampled[:, inner] - expected[:, inner]).max() < 0.3 * 0.1
    np.testing.assert_array_equal(resample(samples[0], source, target), resampled[0])


def test_frequencies_the_new_rate_cannot_hold_are_removed_not_folded():
    high = tone(1, 48_000, frequency=20_000)
    inner = resample(high, 48_000, RATE)[0, 2400:-2400]
    assert np.abs(inner).max() < 0.03


@given(st.floats(-60, 0), st.integers(1, 2))
def test_loudness_moves_towards_the_target_by_at_most_3_db(level, channels):
    samples = tone(channels=channels)
    samples *= 10 ** ((level - decibels(samples)) / 20)
    louder = normalize_loudness(samples)
    gain = np.clip(-20 - level, -3, 3)
    assert decibels(louder) == pytest.approx(level + gain, abs=0.01)
    np.testing.assert_allclose(louder, samples * 10 ** (gain / 20), rtol=1e-3, atol=1e-7)


def decibels(samples):
    return 10 * np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-9)
