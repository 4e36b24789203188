"""Requests that join and leave a running batch: each gets the rows it gets alone."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moss_tts.architectures import ARCHITECTURES
from moss_tts.config import parse_config
from moss_tts.context import batch_cache, reading
from moss_tts.context.batch_cache import BatchCache
from moss_tts.context.prefixes import PrefixCache
from moss_tts.context.reading import PartSizes, whole
from moss_tts.evidence.goldens import golden, load, prompt_of
from moss_tts.evidence.speech import left_padded
from moss_tts.local_v1_5_model import MossTTSLocalV15Model
from moss_tts.rows import RowRequest, run
from moss_tts.sampling import ChannelSampling, Sampling

GOLDEN = Path(__file__).parent / "golden"
STEPS = 12


def request(seed: int, penalty: float) -> RowRequest:
    audio = ChannelSampling(0.9 if seed % 2 else 0.0, 0.9, 5 + seed, penalty)
    return RowRequest(Sampling(ChannelSampling(1.2, 0.95, 20), audio), seed, max_frames=1000)


def alone(architecture, prompt, asked) -> list[np.ndarray]:
    batch = architecture.batch(left_padded([prompt], architecture.config), [asked], architecture.config.n_vq)
    return [rows[0] for rows, _ in zip(run(batch), range(STEPS), strict=False)]


@pytest.mark.parametrize("name", ["delay", "local", "local_v1_5", "nano", "realtime"])
def test_requests_join_and_leave_undisturbed(name: str) -> None:
    network, config = load(GOLDEN / name)
    architecture = ARCHITECTURES[type(config)](config, network)
    prompts = [prompt_of(GOLDEN / name, case) for case in ("start", "cont", "start")]
    requests = [request(1, 1.0), request(2, 1.3), request(3, 1.0)]
    batch = architecture.batch(left_padded(prompts[:1], config), requests[:1], config.n_vq)
    members, made = [0], {0: [], 1: [], 2: []}

    def advance(steps: int) -> None:
        for _ in range(steps):
            for member, row in zip(members, np.array(batch.step()), strict=True):
                made[member].append(row)

    advance(3)
    batch.extend(architecture.batch(left_padded(prompts[1:2], config), requests[1:2], config.n_vq))
    members = [0, 1]
    advance(2)
    batch.extend(architecture.batch(left_padded(prompts[2:], config), requests[2:], config.n_vq))
    members = [0, 1, 2]
    advance(2)
    batch.select([2, 1])
    members = [2, 1]
    advance(3)
    for member, rows in made.items():
        expected = alone(architecture, prompts[member], requests[member])
        # A request that has ended goes on in its row; what comes after is nobody's.
        assert len(rows) >= 5
        np.testing.assert_array_equal(rows[: len(expected)], expected[: len(rows)])


@pytest.mark.parametrize("room", [2, 256])
@pytest.mark.parametrize("name", ["delay", "local", "local_v1_5", "nano", "realtime"])
def test_requests_take_the_places_of_others(name: str, room: int, monkeypatch) -> None:
    """In turns, the one with the longest prompt last, so that padding grows, becomes needless, and is too little."""
    monkeypatch.setattr(batch_cache, "SLOTS", room)
    network, config = load(GOLDEN / name)
    architecture = ARCHITECTURES[type(config)](config, network)
    short, long = sorted((prompt_of(GOLDEN / name, case) for case in ("start", "cont")), key=len)
    prompts = [short[-4:], short[-3:], short, short[-4:], np.concatenate([long[:-1]] * 3 + [long[-1:]]), short]
    requests = [request(seed, 1.3 if seed % 3 else 1.0) for seed in range(len(prompts))]
    expected = [alone(architecture, *pair) for pair in zip(prompts, requests, strict=True)]

    def batch_of(member: int):
        return architecture.batch(left_padded([prompts[member]], config), [requests[member]], config.n_vq)

    batch = batch_of(0)
    batch.extend(batch_of(1))
    members, made = [0, 1], {member: [] for member in range(len(prompts))}
    for steps, member in enumerate([2, 3, 4, 5], start=4):
        for _ in range(steps):
            for speaking, row in zip(members, np.array(batch.step()), strict=True):
                made[speaking].append(row)
        batch.select([1])
        batch.extend(batch_of(member))
        members = [members[1], member]
    for member, rows in made.items():
        np.testing.assert_array_equal(rows[: len(expected[member])], expected[member][: len(rows)])
    assert [len(made[member]) for member in range(5)] == [4, 9, 11, 13, 7]


def test_who_stays_is_not_moved_and_room_is_given_back() -> None:
    rng = np.random.default_rng(0)
    contexts = [mx.array(rng.standard_normal((1, 2, count, 3), np.float32)) for count in (5, 3, 9, 4, 7, 2)]

    def batch_of(context: mx.array) -> BatchCache:
        batch = BatchCache([0])
        batch.update_and_fetch(context, -context)
        return batch

    batch = batch_of(contexts[0])
    for context in contexts[1:]:
        batch.extend(batch_of(context))
    members, places = list(range(6)), len(batch._buffers[0])
    for kept in ([0, 5, 2, 3, 4], [4, 1, 2, 3], [1, 3, 0], [0], [0]):
        batch.keep(kept, batch.moving(kept))
        members = [members[row] for row in kept]
        row = mx.array(rng.standard_normal((len(kept), 2, 1, 3), np.float32))
        contexts = [
            mx.concatenate([context, row[members.index(n)][None]], axis=2) if n in members else context
            for n, context in enumerate(contexts)
        ]
        keys, values = batch.update_and_fetch(row, -row)
        assert keys.shape[2] == max(contexts[n].shape[2] for n in members)
        assert batch.offset.tolist() == [contexts[n].shape[2] for n in members]
        for place, n in enumerate(members):
            held = contexts[n].shape[2]
            np.testing.assert_array_equal(keys[place : place + 1, :, -held:], contexts[n])
            np.testing.assert_array_equal(values[place : place + 1, :, -held:], -contexts[n])
    assert (places, len(batch._buffers[0])) == (7, 1)


@pytest.mark.parametrize("rows_per_read", [2, 3, 7])
@pytest.mark.parametrize("name", ["delay", "local", "local_v1_5", "nano", "realtime"])
def test_prompts_read_in_parts_give_the_same_rows(name: str, rows_per_read: int, monkeypatch) -> None:
    network, config = load(GOLDEN / name)
    architecture = ARCHITECTURES[type(config)](config, network)
    prompts = left_padded([prompt_of(GOLDEN / name, case) for case in ("start", "cont")], config)

    def made() -> np.ndarray:
        batch = architecture.batch(prompts, [request(1, 1.0), request(2, 1.3)], config.n_vq)
        return np.stack([rows for rows, _ in zip(run(batch), range(STEPS), strict=False)])

    whole = made()
    monkeypatch.setattr(reading, "ON_CPU", PartSizes(rows_per_read, 2**16))
    monkeypatch.setattr(reading, "ON_GPU", PartSizes(rows_per_read, 2**16))
    np.testing.assert_array_equal(made(), whole)


def all_unknown(architecture, prompts, asked: RowRequest) -> list[list[np.ndarray]]:
    """Rows of each prompt where nothing was read before."""
    made = []
    for prompt in prompts:
        architecture.prefixes.clear()
        made.append(alone(architecture, prompt, asked))
    architecture.prefixes.clear()
    return made


def rows_read(network) -> list[int]:
    """How many rows the backbone will have read in each call from now on."""
    read = []
    forward = type(network.backbone).__call__

    class Counting(type(network.backbone)):
        def __call__(self, x, *arguments):
            read.append(x.shape[1])
            return forward(self, x, *arguments)

    network.backbone.__class__ = Counting
    return read


@pytest.mark.parametrize("name", ["delay", "local", "local_v1_5", "nano", "realtime"])
def test_a_voice_that_speaks_again_is_not_read_again_and_speaks_the_same(name: str) -> None:
    network, config = load(GOLDEN / name)
    architecture = ARCHITECTURES[type(config)](config, network)
    slot = config.audio_user_slot_token_id
    first = prompt_of(GOLDEN / name)[-30:].copy()
    first[1:5, 0], first[1:5, 1:] = slot, 3
    other = first.copy()
    other[-3, 0] = first[-4, 0]  # the same voice, another text
    unlike = first.copy()
    unlike[2, 1] += 1  # another voice
    asked = request(1, 1.3)
    expected = all_unknown(architecture, (first, other, unlike), asked)
    read = rows_read(network)
    for prompt, rows, voices in zip((first, other, unlike, first), [*expected, expected[0]], (1, 1, 2, 2), strict=True):
        read.clear()
        np.testing.assert_array_equal(alone(architecture, prompt, asked), rows)
        assert len(architecture.prefixes) == voices
        known = prompt is other or (rows is expected[0] and voices == 2)
        assert read[:2] == ([len(prompt) - 5, 1] if known else [5, len(prompt) - 5])


@pytest.mark.parametrize("referenced", [False, True])
@pytest.mark.parametrize("name", ["delay", "local", "local_v1_5", "nano", "realtime"])
def test_the_template_before_a_text_is_not_read_again(name: str, referenced: bool) -> None:
    """Behind a reference or without one; another field, and the reference is still known."""
    network, config = load(GOLDEN / name)
    architecture = ARCHITECTURES[type(config)](config, network)
    first = prompt_of(GOLDEN / name)[-30:].copy()
    assert len(first) > 8
    first[1:3, 0] = config.audio_user_slot_token_id if referenced else 1
    first[3:6, 0], first[6:, 0] = (27, 28, 29), np.arange(31, 31 + len(first) - 6)
    other, field = first.copy(), first.copy()
    other[-1, 0], field[3, 0] = 28, 30
    asked = request(1, 1.3)
    architecture.prefixes.heading = (28, 29)
    expected = all_unknown(architecture, (first, other, field), asked)
    read = rows_read(network)
    text, parts = len(first) - 6, [3, 3] if referenced else [6]
    for prompt, rows, new in zip((first, other, field), expected, (parts, [], parts[-1:]), strict=True):
        read.clear()
        np.testing.assert_array_equal(alone(architecture, prompt, asked), rows)
        assert read[: len(new) + 2] == [*new, text, 1]


def test_few_voices_are_kept_and_those_used_last() -> None:
    network, config = load(GOLDEN / "local")
    prefixes = PrefixCache(config.audio_user_slot_token_id, most=2)
    read: list[tuple[int, int]] = []
    said: dict[int, np.ndarray] = {}
    for voice in (1, 2, 1, 3, 2):
        prompt = np.full((6, 1 + config.n_vq), voice, np.int32)
        prompt[:, 0] = config.audio_user_slot_token_id
        cache = network.backbone.make_cache([0])

        def read_part(start: int, end: int, prompt=prompt, cache=cache):
            read.append((start, end))
            yield end
            return network(mx.array(prompt[None, start:end]), cache, config.n_vq)

        hidden = np.array(whole(prefixes.read(prompt, config.n_vq, cache, read_part)))
        np.testing.assert_array_equal(said.setdefault(voice, hidden), hidden)  # to the last bit, known or not
    anew, known = [(0, 5), (5, 6)], [(5, 6)]
    assert read == [*anew, *anew, *known, *anew, *anew]
    assert len(prefixes) == 2


# ------------------------------------------------------------------------------------------- rows read again


def without_binary_head():
    """Local v1.5 that chooses its text from the whole vocabulary."""
    raw = json.loads((GOLDEN / "local_v1_5" / "config.json").read_text())
    config = parse_config(raw | {"local_text_head_mode": "full_vocab"})
    mx.random.seed(0)
    return MossTTSLocalV15Model(config), config


@pytest.mark.parametrize("name", ["delay", "local", "local_v1_5", "local_v1_5 without a binary head"])
def test_greedy_rows_are_the_likeliest_when_read_again(name: str) -> None:
    network, config = load(GOLDEN / name) if (GOLDEN / name).is_dir() else without_binary_head()
    architecture = ARCHITECTURES[type(config)](config, network)
    sampling = Sampling(ChannelSampling(1.5, 1.0, 50), ChannelSampling(0.0, 1.0, 0))
    prompt = golden(GOLDEN / name.split()[0])["start.input_ids"][0]
    rows = architecture.generate_rows(prompt, RowRequest(sampling, 0, 6))
    text, audio = architecture.teacher_forced_logits(prompt, rows)
    sampled = rows[:, 1:] < config.audio_vocab_size
    assert sampled.sum() > config.n_vq
    np.testing.assert_array_equal(audio.argmax(axis=-1)[sampled], rows[:, 1:][sampled])
    binary = getattr(config, "binary_text_head", False)
    assert text.shape == (len(rows), 2 if binary else config.vocab_size)
