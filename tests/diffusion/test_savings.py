"""What is left out of upstream's computation changes nothing: each saving against the plain form."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from moss_tts.diffusion.config import TEXT_ROWS
from moss_tts.diffusion.decoder import SoundDecoder
from moss_tts.diffusion.loading import EncoderOnDemand, SoundFiles
from moss_tts.diffusion.sampler import Guide, denoise
from moss_tts.diffusion.schedule import Schedule
from moss_tts.diffusion.transformer import DiffusionTransformer
from support.sounds import GOLDEN, PUBLISHED_DECODER, TINY, TINY_DECODER, random, tiny_decoder, tiny_transformer

LATENTS = random(2, TINY.channels, 9)
SHORT, LONG = random(5, TINY.text_width, seed=3), random(11, TINY.text_width, seed=4)
NOTHING = mx.zeros((0, TINY.text_width))


def padded(hidden: mx.array) -> mx.array:
    """All 512 rows, as upstream gives them to the transformer."""
    return mx.pad(hidden, [(0, TEXT_ROWS - len(hidden)), (0, 0)])


def close(made: mx.array, wanted: mx.array, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(np.array(made), np.array(wanted), atol=tolerance)


@pytest.fixture(scope="module")
def network() -> DiffusionTransformer:
    return tiny_transformer()


@pytest.mark.parametrize("hidden", [SHORT, LONG, NOTHING, random(511, TINY.text_width), random(512, TINY.text_width)])
def test_padding_is_one_key_with_its_number_and_no_description_is_a_constant(network, hidden):
    time = network.times(np.array([700.0]))[0]
    wanted = network(LATENTS[:1], time, network.text([padded(hidden)]))
    close(network(LATENTS[:1], time, network.text([hidden])), wanted)


def test_a_batch_of_unequal_descriptions_is_each_alone(network):
    time = network.times(np.array([400.0]))[0]
    hidden = [LONG, SHORT, NOTHING, NOTHING]
    latents = random(4, TINY.channels, 9)
    wanted = [network(latents[i : i + 1], time, network.text([one])) for i, one in enumerate(hidden)]
    close(network(latents, time, network.text(hidden)), mx.concatenate(wanted))


def test_descriptions_come_first(network):
    with pytest.raises(ValueError, match="come last"):
        network.text([NOTHING, SHORT])


def test_times_together_are_those_alone(network):
    times = np.array([1000.0, 333.3, 12.5])
    together = network.times(times)
    for index, time in enumerate(together):
        alone = network.times(times[index : index + 1])[0]
        close(time.blocks, alone.blocks)
        close(time.head, alone.head)


def plainly(network, hidden, negative, strength, noise, schedule):
    """Upstream's way: two passes a sound and step, all 512 rows, everything anew."""
    latents = noise
    for timestep, change in zip(schedule.timesteps, schedule.changes, strict=True):
        rows = []
        for index, one in enumerate(hidden):
            passes = []
            for text in (one, negative):
                time = network.times(np.array([timestep]))[0]
                passes.append(network(latents[index : index + 1], time, network.text([padded(text)])))
            rows.append(passes[1] + strength * (passes[0] - passes[1]))
        latents = latents + float(change) * mx.concatenate(rows)
        mx.eval(latents)
    return latents


@pytest.mark.parametrize(
    ("hidden", "negative", "strength", "passes"),
    [
        ([SHORT], NOTHING, 4.0, 2),
        ([SHORT, LONG], NOTHING, 4.0, 4),
        ([SHORT, LONG], SHORT[:3], 2.5, 4),
        ([NOTHING, LONG], SHORT, 4.0, 4),
        ([SHORT, LONG], SHORT, 4.0, 4),
        ([SHORT], LONG, 1.0, 1),
        ([SHORT], SHORT, 4.0, 1),
        ([NOTHING, NOTHING], NOTHING, 4.0, 2),
        ([SHORT], NOTHING, 0.0, 2),
    ],
    ids=[
        "one",
        "two",
        "negative",
        "nothing described",
        "one alike",
        "no guidance",
        "same text",
        "nothing at all",
        "away",
    ],
)
def test_all_passes_as_one_batch_give_the_sounds_of_upstreams_way(network, hidden, negative, strength, passes):
    schedule, noise = Schedule.of(3, 5.0), random(len(hidden), TINY.channels, 9)
    guide = Guide.of(network, hidden, negative, strength)
    assert len(guide.sounds) == passes
    *_, latents = denoise(network, guide, noise, schedule)
    close(latents, plainly(network, hidden, negative, strength, noise, schedule))


def test_latents_stay_float32_whatever_the_blocks_compute_in(network):
    half = tiny_transformer()
    half.blocks = [block for block in half.blocks]
    for block in half.blocks:
        for layer in (*(block.self_attn[p] for p in "qkvo"), *(block.cross_attn[p] for p in "qkvo")):
            layer.set_dtype(mx.bfloat16)
        block.ffn.set_dtype(mx.bfloat16)
    schedule, noise = Schedule.of(4, 5.0), random(1, TINY.channels, 9)
    made = [list(denoise(one, Guide.of(one, [SHORT], NOTHING, 4.0), noise, schedule)) for one in (half, network)]
    assert {latents.dtype for latents in made[0]} == {mx.float32}
    error = mx.abs(made[0][-1] - made[1][-1]).max() / mx.abs(made[1][-1]).max()
    assert 1e-5 < float(error) < 0.05


def test_the_text_encoder_needs_no_padding():
    encode = EncoderOnDemand(SoundFiles.find(GOLDEN), "float32")
    ids = [5, 9, 200, 7]
    close(encode(ids), encode([*ids, *[316] * 20])[:4])
    assert encode([]).shape == (0, encode(ids).shape[1])


# ------------------------------------------------------------------------------------------------ the decoder


@pytest.mark.parametrize("samples", [1, 7, 40, 41, 78])
@pytest.mark.parametrize("most", [1, 2**26])
def test_parts_are_the_whole(monkeypatch, samples, most):
    monkeypatch.setattr("moss_tts.diffusion.decoder._MOST_VALUES", most)
    decoder, latents = tiny_decoder(), random(2, TINY_DECODER.channels, 13)
    whole = np.array(decoder(latents))
    parts = list(decoder.parts(latents, samples))
    assert len(parts) == (1 if most > 1 else -(-samples // TINY_DECODER.hop))
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole[:, :samples], atol=1e-6)


def test_parts_in_the_middle_of_a_sound_have_all_latents_that_they_need(monkeypatch):
    """None is missing on either side, and those that lie farther away are not decoded."""
    monkeypatch.setattr("moss_tts.diffusion.decoder._MOST_VALUES", 1)
    decoder, latents, decoded = tiny_decoder(), random(1, TINY_DECODER.channels, 80), []
    whole, plain = np.array(decoder(latents)), SoundDecoder.__call__
    monkeypatch.setattr(
        SoundDecoder, "__call__", lambda self, part: decoded.append(part.shape[-1]) or plain(self, part)
    )
    made = np.concatenate(list(decoder.parts(latents, 80 * TINY_DECODER.hop)), axis=1)
    np.testing.assert_allclose(made, whole, atol=1e-5)
    assert len(decoded) == 80
    assert max(decoded) < 80


@pytest.mark.parametrize("first", [30 * 6, 31 * 6 + 2, 32 * 6 + 5])
def test_a_sample_depends_on_its_latents_alone(first):
    """On the first and the last of them, and on none beyond."""
    decoder, latents = tiny_decoder(), random(1, TINY_DECODER.channels, 64)
    start, end = decoder.latents_of(first, first + 1)

    def sample(changed: int) -> float:
        other = mx.where(mx.arange(64) == changed, latents + 5.0, latents)
        return float(decoder(other)[0, first])

    before = sample(-1)
    assert sample(start - 1) == sample(end) == before
    assert sample(start) != before
    assert sample(end - 1) != before


def test_the_published_decoder_reaches_ten_latents():
    decoder = SoundDecoder(PUBLISHED_DECODER)
    starts = [decoder.latents_of(100 * 960 + offset, 100 * 960 + offset + 1) for offset in range(960)]
    assert (100 - min(first for first, _ in starts), max(last for _, last in starts) - 101) == (10, 10)
