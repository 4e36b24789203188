"""Laws of references: every form of the same audio gives the same codes; order is kept; one codec call at most."""

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import save_file

from moss_tts.audio.files import encode_audio, read_audio, write_audio
from moss_tts.audio.references import AudioArray, AudioFile
from moss_tts.audio.waveform import normalize_loudness, resample
from moss_tts.errors import AudioError, RequestError
from moss_tts.prompts.reference_codes import encode_references, load_waveform
from support.codec_tiny import mono, random_codec, stereo

N_VQ = 3
RATE = mono()["sampling_rate"]
FRAME = mono()["downsample_rate"]


class CodecCalls:
    """A real codec behind a loader that counts how often it is asked for and what it is given."""

    def __init__(self, raw):
        self._codec = random_codec(raw)
        self.config = self._codec.config
        self.loads, self.batches = 0, []

    def __call__(self):
        self.loads += 1
        return self

    def batch_encode(self, audio, *, num_quantizers):
        self.batches.append([np.array(item) for item in audio])
        return self._codec.batch_encode(audio, num_quantizers=num_quantizers)

    def codes_of(self, samples):
        """(F, N_VQ) of samples (S,) or (C, S), as they are."""
        return np.array(self._codec.encode(samples, num_quantizers=N_VQ).codes)[:, 0].T


@pytest.fixture
def codec():
    return CodecCalls(mono())


@pytest.fixture
def stereo_codec():
    return CodecCalls(stereo())


def refuse_codec():
    raise AssertionError("nothing here needs a codec")


def noise(n_samples=5 * FRAME, seed=0, amplitude=0.1):
    """(S,), at a loudness the codec hears unchanged or nearly so."""
    return (amplitude * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


def codes(n_frames, seed=0, n_vq=N_VQ):
    return np.random.default_rng(seed).integers(0, 32, (n_frames, n_vq), dtype=np.int32)


def encode(references, codec=refuse_codec, rate=RATE):
    encoded = encode_references(references, codec, N_VQ, rate)
    assert all(matrix.dtype == np.int32 and matrix.flags.c_contiguous for matrix in encoded)
    return encoded


def refusal(error, reference, codec=refuse_codec, before=()):
    with pytest.raises(error) as caught:
        encode([*before, reference], codec)
    return str(caught.value)


# Codes.


def test_codes_are_oriented_and_cut_without_a_codec():
    deep = codes(70, n_vq=4)
    given = [deep, deep.T, mx.array(deep), deep.astype(np.uint8), deep[:, :N_VQ]]
    for encoded in encode(given):
        np.testing.assert_array_equal(encoded, deep[:, :N_VQ])


def test_codes_are_read_from_files(tmp_path):
    matrix = codes(9)
    np.save(tmp_path / "a.npy", matrix)
    save_file({"codes": matrix.T.copy().astype(np.int64)}, tmp_path / "b.SAFETENSORS")
    for encoded in encode([tmp_path / "a.npy", str(tmp_path / "b.SAFETENSORS")]):
        np.testing.assert_array_equal(encoded, matrix)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"no codes", None])
def test_broken_and_missing_code_files_are_refused_by_name(tmp_path, suffix, content):
    path = tmp_path / f"codes{suffix}"
    if content is not None:
        path.write_bytes(content)
    message = refusal(AudioError, path)
    assert message.startswith(f"{path}: cannot be read as codes")


@pytest.mark.parametrize(
    ("arrays", "held"),
    [
        ({"a": codes(9), "b": codes(9)}, "int32 (9, 3), int32 (9, 3)"),
        ({"a": noise(9)}, "float32 (9,)"),
        ({}, "nothing"),
    ],
)
def test_code_files_hold_one_integer_matrix(tmp_path, arrays, held):
    save_file(arrays, tmp_path / "codes.safetensors")
    assert f"it holds {held}" in refusal(AudioError, tmp_path / "codes.safetensors")


def test_a_header_that_promises_more_than_the_file_holds_is_refused(tmp_path):
    with (tmp_path / "codes.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": (2**40, 3)})
    assert "cannot be read as codes" in refusal(AudioError, tmp_path / "codes.npy")


def test_pickles_are_not_opened(tmp_path):
    np.save(tmp_path / "codes.npy", np.array([object()]), allow_pickle=True)
    assert "cannot be read as codes" in refusal(AudioError, tmp_path / "codes.npy")


# Waveforms.


def test_every_form_of_a_waveform_gives_the_same_codes(codec, tmp_path):
    samples = noise()
    expected = codec.codes_of(normalize_loudness(samples))
    given = [samples, mx.array(samples), samples.astype(np.float64), samples[None], np.stack([samples, samples], 1)]
    for encoded in encode([*given, (samples, RATE), (mx.array(samples), np.int64(RATE))], codec):
        np.testing.assert_array_equal(encoded, expected)
    path = write_audio(tmp_path / "voice.wav", samples, RATE)
    expected = codec.codes_of(normalize_loudness(read_audio(path).samples[0]))
    pcm = np.round(samples * 2**15).astype(np.int16)
    for encoded in encode([path, str(path), (pcm, RATE)], codec):
        np.testing.assert_array_equal(encoded, expected)


@pytest.mark.parametrize("rate", [RATE // 2, 2 * RATE, 441])
def test_the_given_rate_counts(codec, rate):
    samples = noise(20 * FRAME)
    (encoded,) = encode([(samples, rate)], codec)
    np.testing.assert_array_equal(encoded, codec.codes_of(normalize_loudness(resample(samples, rate, RATE))))


def test_channels_are_mixed_before_loudness_is_measured(codec):
    left, right = noise(seed=1), noise(seed=2)
    (encoded,) = encode([np.stack([left, right])], codec)
    np.testing.assert_array_equal(encoded, codec.codes_of(normalize_loudness((left + right) / 2)))


def test_loudness_is_left_alone_where_training_left_it(models):
    """Local v1.5 and Nano have codecs of one kind, and only one of them was trained at one loudness."""
    levelled = {name: models[name].config.levels_references for name in ("local_v1_5", "nano")}
    assert levelled == {"local_v1_5": True, "nano": False}
    for name, is_levelled in levelled.items():
        codec = models[name].codec()
        quiet = 0.01 * np.stack([noise(8 * codec.config.downsample_rate)] * 2)
        (encoded,) = models[name].processor.encode_audio([(quiet, codec.config.sampling_rate)])
        wanted = codec.encode(normalize_loudness(quiet) if is_levelled else quiet).codes[:, 0]
        np.testing.assert_array_equal(encoded.T, np.array(wanted)[: models[name].config.n_vq])


def test_stereo_codecs_hear_mono_twice_and_the_first_two_of_many(stereo_codec):
    samples = noise((4 * stereo_codec.config.downsample_rate), seed=1)
    many = np.stack([samples, -samples, noise(len(samples), seed=2)])
    encode([samples, many[:2], many], stereo_codec)
    twice, pair, first_two = stereo_codec.batches[0]
    np.testing.assert_array_equal(twice, normalize_loudness(np.stack([samples, samples])))
    np.testing.assert_array_equal(pair, normalize_loudness(many[:2]))
    np.testing.assert_array_equal(first_two, pair)


def test_mixed_lists_keep_their_order_and_waveforms_share_one_call(codec):
    first, second = noise(5 * FRAME, seed=1), noise(3 * FRAME + 1, seed=2)
    a, b, c, d = encode([first, codes(4), second, codes(2, seed=1)], codec)
    np.testing.assert_array_equal(a, encode([first], codec)[0])
    np.testing.assert_array_equal(b, codes(4))
    np.testing.assert_array_equal(c, encode([second], codec)[0])
    np.testing.assert_array_equal(d, codes(2, seed=1))
    assert (len(a), len(c)) == (5, 3)
    assert [len(batch) for batch in codec.batches] == [2, 1, 1]
    assert codec.loads == 3


def test_one_recording_may_serve_twice(codec, tmp_path):
    path = write_audio(tmp_path / "voice.wav", noise(), RATE)
    once, again = encode([path, path], codec)
    np.testing.assert_array_equal(once, again)


def test_nothing_to_encode_asks_for_no_codec():
    assert encode([]) == []
    assert len(encode([codes(2), codes(3)])) == 2


def test_loading_keeps_the_loudness_and_mixes_to_mono(tmp_path):
    samples = noise(amplitude=0.5)
    np.testing.assert_array_equal(load_waveform(AudioArray(samples), RATE), samples)
    np.testing.assert_allclose(
        load_waveform(AudioArray(np.stack([samples, 0 * samples])), RATE), samples / 2, atol=1e-7
    )
    np.testing.assert_array_equal(load_waveform(AudioArray(samples, RATE), 2 * RATE), resample(samples, RATE, 2 * RATE))
    path = write_audio(tmp_path / "voice.flac", samples / 4, RATE)
    np.testing.assert_allclose(load_waveform(AudioFile(str(path)), RATE), samples / 4, atol=1e-4)


# What is refused: one sentence that names the reference, before the codec is loaded where that is possible.


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        (np.array([0.1, np.nan]), "not finite"),
        (np.zeros(0, np.float32), "no samples"),
        (np.zeros((3, 3), np.float32), "may be (C, S) or (S, C)"),
        (np.zeros((40, 32), np.float32), "32 channels"),
        (np.zeros(601 * RATE, np.float32), "at most 600 s"),
        ((noise(), 0), "sample rate"),
        ((noise(), 24000.5), "sample rate"),
        (np.zeros(99, bool), "got bool"),
        (np.zeros(99, complex), "got complex128"),
    ],
)
def test_arrays_that_are_no_waveform_are_refused_by_position(reference, problem):
    message = refusal(AudioError, reference, before=[codes(2)])
    assert message.startswith("reference 2: ")
    assert problem in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        (np.zeros(5 * FRAME), "silent"),
        (np.stack([noise(), -noise()]), "cancel each other"),
        (1000 * noise(), "not scaled"),
        (noise(FRAME - 1), "lasts 75 ms; it must last at least one frame of 80 ms"),
    ],
)
def test_what_the_codec_could_not_hear_is_refused(codec, tmp_path, samples, problem):
    assert problem in refusal(AudioError, samples, codec)
    assert not codec.batches
    if problem != "not scaled":
        path = write_audio(tmp_path / "voice.wav", samples, RATE)
        message = refusal(AudioError, path, codec)
        assert message.startswith(f"{path}: ")
        assert problem in message


def test_files_are_named_once(tmp_path):
    (tmp_path / "voice.wav").write_bytes(b"")
    assert refusal(AudioError, tmp_path / "voice.wav") == f"{tmp_path / 'voice.wav'}: the file is empty"
    (tmp_path / "voice.wav").write_bytes(encode_audio(np.zeros(99), RATE, ".wav")[:44])
    assert refusal(AudioError, tmp_path / "voice.wav").startswith(f"{tmp_path / 'voice.wav'}: it has no samples")


@pytest.mark.parametrize("matrix", [codes(9)[0], np.zeros((2, 2), np.int32), np.full((9, N_VQ), -1), np.int32(3)])
def test_code_matrices_that_cannot_be_are_refused_by_position(matrix):
    assert refusal(RequestError, matrix).startswith("reference 1: ")


def test_lone_integer_pcm_learns_how_it_is_given():
    assert "(samples, rate)" in refusal(RequestError, np.zeros(9999, np.int16))


@pytest.mark.parametrize("reference", [None, 3, [0.1, 0.2], {"path": "x"}, (1, 2, 3), ([0.1], RATE), b"x"])
def test_other_types_are_refused_with_the_allowed_ones(reference):
    message = refusal(RequestError, reference, before=[codes(2)])
    assert message.startswith("reference 2 must be a path, a waveform")
