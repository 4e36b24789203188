"""The tiny voice's recipe: its networks are upstream's, its prompts the runtime's, and it runs from end to end."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the recipe needs PyTorch: pip install moss-tts-mlx[recipes]")
pytest.importorskip("tokenizers")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from recipes.tiny_voice import adversary, alignment, checkpoint, codec, data, teachers, texts, train_codec  # noqa: E402
from recipes.tiny_voice.__main__ import main, parse, tokenizer, trained_codec, trained_model  # noqa: E402
from recipes.tiny_voice.data import FRAME, utterances  # noqa: E402
from recipes.tiny_voice.listen import edits  # noqa: E402
from recipes.tiny_voice.model import LocalModel, common_rows  # noqa: E402
from recipes.tiny_voice.prompt import Lesson, RowWriter  # noqa: E402
from recipes.tiny_voice.spoken import number_words, ordinal_words, year_words  # noqa: E402
from recipes.tiny_voice.teachers import Reading  # noqa: E402
from recipes.tiny_voice.texts import LONGEST, Counts, everyday, held_out, passages, prose, several, write_texts  # noqa: E402
from recipes.tiny_voice.train_model import Corpus  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(scope="module", autouse=True)
def denormals() -> Iterator[None]:
    """The recipe flushes them to zero, which other tests of this process must not see."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder after the whole recipe ran at its smallest."""
    state = tmp_path_factory.mktemp("tiny_voice")
    main(["all", "--smoke", "--threads", "1", "--device", "cpu", "--state", str(state)])
    return state


@pytest.fixture(scope="module")
def settings(smoke: Path):
    return parse(["all", "--smoke", "--device", "cpu", "--state", str(smoke)])[1]


def golden(name: str) -> tuple[dict, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    folder = GOLDEN / name
    config = json.loads((folder / "config.json").read_text())
    return config, load_file(folder / "model.safetensors"), load_file(folder / "golden.safetensors")


def test_codec_is_upstreams() -> None:
    config, weights, wanted = golden("codec_v1")
    made = codec.Codec(config).eval()
    made.load_state_dict(weights)
    codes = wanted["codes"].T[:, None].long()
    whole = len(wanted["enc_in"]) // 1920 * 1920
    with torch.no_grad():
        torch.testing.assert_close(made.decode(codes)[0], wanted["wav"], atol=1e-4, rtol=0)
        torch.testing.assert_close(made.decode(codes[:2])[0], wanted["wav_prefix"], atol=1e-4, rtol=0)
        encoded = made.encode(wanted["enc_in"][None, :whole])
    assert torch.equal(encoded[:, 0].T.int(), wanted["enc_codes_0"])


def test_local_model_is_upstreams() -> None:
    config, weights, wanted = golden("local")
    model = LocalModel(config).eval()
    unused = model.load_state_dict(weights, strict=False)
    assert unused == ([], ["model.language_model.embed_tokens.weight"])
    with torch.no_grad():
        hidden = model.model(wanted["start.input_ids"].long())[0]
        logits = model.depth_logits(wanted["start.global_hidden"], wanted["start.labels"][0].long())
    torch.testing.assert_close(hidden, wanted["start.global_hidden"], atol=1e-4, rtol=0)
    torch.testing.assert_close(logits[0], wanted["start.logits_text"], atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.stack(logits[1:]), wanted["start.logits_audio"], atol=1e-4, rtol=0)


def test_rows_in_common_change_nothing() -> None:
    config, weights, wanted = golden("local")
    model = LocalModel(config).eval()
    model.load_state_dict(weights, strict=False)
    rows = wanted["cont.input_ids"].long().repeat(2, 1, 1)
    rows[1, 9:] = rows[1, 9:].flip(0)
    assert common_rows(rows) == 9
    with torch.no_grad():
        together, alone = model.model(rows), torch.cat([model.model(row[None]) for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("folder", "like"), [("checkpoint", "local"), ("checkpoint/audio_tokenizer", "codec_v1")])
def test_export_has_upstreams_layout(smoke: Path, folder: str, like: str) -> None:
    config, weights, _ = golden(like)
    made = json.loads((smoke / folder / "config.json").read_text())
    # Texts are prepared for ours alone.
    ours = {"transformers_version", "text_preparation"}
    assert set(made) | ours == set(config) | ours
    tensors = load_file(smoke / folder / "model.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.float16}
    assert {shape_of(name) for name in tensors} == {shape_of(name) for name in weights}


def shape_of(name: str) -> str:
    """A key without its numbers: which layers and codebooks there are is up to the sizes."""
    return ".".join("N" if part.isdigit() else part for part in name.split("."))


def test_curves_and_pictures_are_there(smoke: Path) -> None:
    for name, steps in (("codec", 6), ("model", 3)):
        lines = [json.loads(line) for line in (smoke / f"{name}.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == list(range(1, steps + 1))
        assert (smoke / f"{name}.png").stat().st_size > 0


def test_training_resumes_where_it_stopped(settings, tmp_path: Path) -> None:
    short, long = replace(settings.codec, steps=2), replace(settings.codec, steps=4)
    train_codec.train_codec(settings.data, tmp_path, short)
    before = checkpoint.read(tmp_path / "codec")
    resumed = train_codec.new_learner(long)
    assert checkpoint.restore(tmp_path / "codec", resumed.models, resumed.optimizers) == 2
    for name, value in resumed.codec.named_parameters():
        assert torch.equal(value, before[f"codec/{name}"])
    train_codec.train_codec(settings.data, tmp_path, long)
    steps = [json.loads(line)["step"] for line in (tmp_path / "codec.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


def test_a_run_that_is_ended_saves_its_last_step(settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = train_codec.codec_step

    def ended(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        return step(*args)

    monkeypatch.setattr(train_codec, "codec_step", ended)
    before = signal.getsignal(signal.SIGTERM)
    train_codec.train_codec(settings.data, tmp_path, settings.codec)
    assert json.loads((tmp_path / "codec" / "step.json").read_text()) == {"step": 1}
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("killed_after", ["writing", "moving"])
def test_a_checkpoint_survives_a_kill(tmp_path: Path, killed_after: str) -> None:
    model, folder = torch.nn.Linear(2, 2), tmp_path / "codec"
    checkpoint.save(folder, 7, {"codec": model}, {"codec": torch.optim.AdamW(model.parameters())})
    if killed_after == "writing":
        (tmp_path / "codec.new").mkdir()
    else:
        folder.rename(checkpoint.earlier(folder))
    assert checkpoint.restore(folder, {"codec": torch.nn.Linear(2, 2)}, {}) == 7


def test_critics_say_what_they_would_if_asked_twice(settings) -> None:
    """`debate` computes the critics once; its gradient is that of the codec's loss through them."""
    learner = train_codec.new_learner(settings.codec)
    made = (0.1 * torch.randn(2, 2 * FRAME)).requires_grad_()
    real = 0.1 * torch.randn(2, 2 * FRAME)
    with torch.autocast("cpu", torch.bfloat16):
        fooled, matched = adversary.persuasion(learner.adversary(made), learner.adversary(real))
    wish = adversary.ADVERSARIAL_WEIGHT * fooled + adversary.MATCH_WEIGHT * matched
    (wanted,) = torch.autograd.grad(wish, made)
    advice, _ = train_codec.debate(learner, made, real, 2)
    (found,) = torch.autograd.grad(advice, made)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def test_every_speaker_is_heard_alike(settings) -> None:
    crops = train_codec.Crops(settings.data, settings.codec, 0)
    assert [[shard.parent.name for shard in group] for group in crops.shards] == [["high"], ["low"]]


def test_references_are_of_the_same_speaker(settings) -> None:
    corpus = Corpus(settings.state, replace(settings.model, referred=1.0, joined=1.0))
    own = {name: [corpus.spoken(i).tobytes() for i in found] for name, found in corpus.by_speaker.items()}
    assert set(own) == {"high", "low"}
    rng = np.random.default_rng(0)
    for lesson in [corpus.lesson(rng) for _ in range(20)]:
        speakers = [name for name, codes in own.items() if all(part in b"".join(codes) for part in parts(lesson))]
        assert speakers


def parts(lesson: Lesson) -> list[bytes]:
    """The first frames of a lesson's answer and of its reference, as bytes."""
    return [np.ascontiguousarray(codes[:6]).tobytes() for codes in (lesson.codes, lesson.reference)]


def test_tables_keep_phonemes_and_durations(tmp_path: Path) -> None:
    reading = Reading(data.buzz(0.5, 0), ["hI", "ju"], [np.array([600, 1200, 600, 0]), np.array([0, 600, 600, 9000])])
    data.write_shard(["Hi. You"], tmp_path / "somebody" / "00000.npy", lambda _: reading)
    (found,) = utterances(tmp_path)
    assert (found.speaker, found.text, found.phonemes) == ("somebody", "Hi. You", ("hI", "ju"))
    assert found.durations == ((600, 1200, 600, 0), (0, 600, 600, 9000))


def test_frames_are_aligned_with_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = SimpleNamespace(vocab={"h": 1, "I": 2, " ": 3}, ids=lambda text: [0, *("_hI ".index(c) for c in text), 0])
    monkeypatch.setattr(alignment, "hibari", lambda: teacher)
    lengths = (FRAME, 2 * FRAME, FRAME, 2 * FRAME)
    said = data.Utterance(Path("a/0.npy"), 0, 6 * FRAME, "Hi", ("hI",), (lengths,))
    rows = alignment.alignment(said)
    assert rows[:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert rows[:, 2].tolist() == [0, 1, 1, 2, 0, 0]
    assert (alignment.alignment(replace(said, samples=7 * FRAME)) == alignment.UNKNOWN).all()


@pytest.mark.parametrize("size", [0.8, 1.25])
def test_a_larger_person_sounds_lower(size: float) -> None:
    tone = np.sin(2 * np.pi * 300 * np.arange(24_000) / 24_000).astype(np.float32)
    made, durations = teachers.resized(tone, np.array([7_800, 16_200]), size)
    assert len(made) == durations.sum() == round(24_000 / size)
    peak = np.abs(np.fft.rfft(made)).argmax() * 24_000 / len(made)
    assert peak == pytest.approx(300 * size, rel=0.01)


def test_slow_teachers_wait_for_fast_ones(tmp_path: Path) -> None:
    lines = [f"Sentence number {n} of many." for n in range(4_000)]
    fast, slow = teachers.Speaker("fast", 0.3), teachers.Speaker("slow", 0.3, {"jf_alpha": 1})
    order = [task.speaker.name for task in data.in_turn([slow, fast], lines, tmp_path)]
    assert (order.count("fast"), order.count("slow")) == (6, 29)
    assert order.index("slow") == 1  # twenty lines of the slow one wait for a hundred and sixty of the fast one
    assert order[:8].count("slow") == 3
    assert [task.lines for task in data.tasks(fast, lines, tmp_path)] != [
        task.lines for task in data.tasks(slow, lines, tmp_path)
    ]


def test_no_part_of_a_checkpoint_is_over_its_limit() -> None:
    tensors = {str(n): torch.zeros(1 << 20) for n in range(9)}
    parts = checkpoint.split(tensors)
    assert [name for part in parts for name in part] == list(tensors)
    assert max(sum(t.nbytes for t in part.values()) for part in parts) <= checkpoint.PART_BYTES


def test_codes_are_those_of_each_sentence_alone(settings) -> None:
    made, table = trained_codec(settings), (settings.state / "codes.tsv").read_text().splitlines()
    alone = [made.encode(torch.from_numpy(u.audio)[None])[:, 0].T.numpy() for u in utterances(settings.data)]
    assert [int(line.split("\t")[0]) for line in table] == [len(codes) for codes in alone]
    assert np.array_equal(np.load(settings.state / "codes.npy"), np.concatenate(alone))


def test_prompts_are_the_runtimes(settings) -> None:
    pytest.importorskip("mlx.core")
    from transformers import PreTrainedTokenizerFast

    from moss_tts.config import parse_config
    from moss_tts.processor import MossTTSProcessor
    from moss_tts.prompts.messages import UserMessage

    folder = settings.state / "checkpoint"
    config = json.loads((folder / "config.json").read_text())
    words = PreTrainedTokenizerFast.from_pretrained(folder)
    processor = MossTTSProcessor(words, parse_config(config), codec=None)
    codes = np.arange(12, dtype=np.int32).reshape(6, 2)
    writer = RowWriter(tokenizer(settings), config["audio_pad_code"])
    plain = Lesson("Hello there, <|im_end|> you!", codes)
    full = replace(plain, reference=codes, fields=(("Tokens", "6"), ("Language", "English")))
    for lesson, message in (
        (plain, UserMessage(plain.text)),
        (full, UserMessage(plain.text, [codes], tokens=6, language="English")),
    ):
        rows, _ = processor.prepare_generation_inputs([message], mode="generation")
        assert np.array_equal(np.array(rows)[0], writer.prompt(lesson))


def test_the_runtime_speaks_with_the_export(settings) -> None:
    mx = pytest.importorskip("mlx.core")
    from moss_tts.checkpoints.loading import load_architecture, load_config
    from moss_tts.codec.model import MossAudioTokenizer
    from moss_tts.weights.layout import read_weights

    folder = settings.state / "checkpoint"
    network = load_architecture(folder, load_config(folder), read_weights(folder), "float32").network
    runtime = MossAudioTokenizer.from_pretrained(folder / "audio_tokenizer")
    ours, speech = trained_codec(settings), trained_model(settings)
    for network_here in (ours, speech):
        network_here.half().float()
    codes = torch.arange(10).reshape(2, 1, 5)
    with torch.no_grad():
        wave = ours.decode(codes)[0].numpy()
    heard = np.array(runtime.decode(mx.array(codes[:, 0].numpy())).rows()[0]).reshape(-1)
    np.testing.assert_allclose(heard, wave, atol=1e-4)
    rows = RowWriter(tokenizer(settings), 32).prompt(Lesson("Good morning!", codes[:, 0].T.numpy()))[None]
    hidden = network(mx.array(rows), network.backbone.make_cache([0]), 2)
    with torch.no_grad():
        np.testing.assert_allclose(np.array(hidden), speech.model(torch.from_numpy(rows).long()).numpy(), atol=1e-4)


def test_held_out_sentences_are_held_out() -> None:
    kept = held_out()
    assert len(kept) == len(set(kept)) == 200
    source = everyday(random.Random(13))
    sentences = [next(source) for _ in range(2_000)]
    assert all(sentence[-1] in '.?!"' and "{" not in sentence for sentence in sentences)
    assert len(set(sentences)) > 1_800


def test_prose_is_long_and_has_no_digits() -> None:
    lines = several(prose(random.Random(17)), 3_000)
    assert max(map(len, lines)) <= LONGEST
    assert sum(len(line) > 150 for line in lines) > 300
    assert not any(set(line) & set("0123456789{}") for line in lines)
    assert any(line.startswith("Chapter ") for line in lines)
    assert not any(word in line for line in lines for word in (" An in ", "princesss", "fishermans"))


def test_passages_join_sentences() -> None:
    sentences = [f"This sentence has the number {number_words(n)}." for n in range(50)]
    found = list(passages(sentences, random.Random(0)))
    assert found
    assert all(100 <= len(text) <= LONGEST and text.count(".") > 1 for text in found)


def test_texts_hold_out_what_is_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = several(prose(random.Random(17)), 20)
    monkeypatch.setattr(texts, "held_out", lambda: [lines[3], lines[4][:12]])
    write_texts(tmp_path, None, Counts(everyday=5, prose=20))
    assert (tmp_path / "prose.txt").read_text().splitlines() == [*lines[:3], *lines[5:]]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (number_words(0), "zero"),
        (number_words(3_000_040), "three million forty"),
        (number_words(342), "three hundred and forty-two"),
        (number_words(70_015), "seventy thousand fifteen"),
        (ordinal_words(31), "thirty-first"),
        (ordinal_words(20), "twentieth"),
        (year_words(1905), "nineteen oh five"),
        (year_words(2004), "two thousand and four"),
    ],
)
def test_numbers_are_written_out(made: str, words: str) -> None:
    assert made == words


def test_edits_are_the_fewest() -> None:
    assert edits("a b c".split(), "a b c".split()) == 0
    assert edits("a b c".split(), "a c".split()) == 1
    assert edits("a b".split(), "x a b y".split()) == 2
    assert edits([], ["a"]) == 1
