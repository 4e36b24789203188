"""Long texts with Nano: its pieces, the silence between them and one voice, by every way that speaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from moss_tts.audio.references import CodeArray
from support.command_line import runner
from support.serving import serving

# The demo checkpoint has a token for each byte, so a piece has 75 bytes at most.
PIECES = [
    "The quick brown fox jumps over the lazy dog near the bank of the river.",
    "It paid $3.50 there.",
    "A small model reads a short text and speaks it aloud in one voice; so.",
]
TEXT = " ".join(PIECES)
SILENCES = [0.24, 0.4, 0.0]
OPTIONS = {"long_form": True, "max_tokens": 3, "seed": 7}


@pytest.fixture
def nano(models):
    return models["nano"]


def silence_at_end(audio: np.ndarray, rate: int) -> float:
    """Seconds at the end in which every sample is 0."""
    return (len(audio) - 1 - int(np.flatnonzero(np.any(audio != 0, axis=1))[-1])) / rate


def parts(model, audio: np.ndarray) -> list[np.ndarray]:
    """The audio of each segment that was spoken last."""
    ends = np.cumsum([segment.emitted_samples for segment in model._last_long_form_segment_metrics])
    assert ends[-1] == len(audio)
    return np.split(audio, ends[:-1])


def test_a_long_text_is_spoken_in_pieces_with_silence_between_them(nano):
    [result] = nano.generate(TEXT, **OPTIONS)
    audio = np.array(result.audio)
    assert [segment.segment_chars for segment in nano._last_long_form_segment_metrics] == [len(p) for p in PIECES]
    made = [silence_at_end(part, nano.sample_rate) for part in parts(nano, audio)]
    assert made == pytest.approx(SILENCES, abs=2 / nano.sample_rate)
    streamed = [np.array(chunk.audio) for chunk in nano.generate(TEXT, stream=True, streaming_interval=0.08, **OPTIONS)]
    assert len(streamed) > len(PIECES)
    assert np.allclose(np.concatenate(streamed), audio, atol=1e-4)


def test_a_short_text_is_one_piece_without_silence(nano):
    [long], [short] = (list(nano.generate("Hello.", **OPTIONS | {"long_form": form})) for form in (True, False))
    assert np.array_equal(np.array(long.audio), np.array(short.audio))


def conditions(nano, **options) -> list:
    """(references, prompt, instruction) that each piece was spoken with, and its codes."""
    seen = []

    def change_backend(backend):
        def job(request):
            seen.append((request.reference, request.prompt_audio, request.instruction))
            return backend.job(request)

        return replace(backend, job=job)

    narrator = nano.narrator(nano.request({"text": TEXT, **OPTIONS, **options}), change_backend=change_backend)
    return list(zip(seen, [spoken.codes for spoken in narrator.segments()], strict=True))


def test_every_piece_has_the_voice_of_the_reference_and_nothing_else(nano):
    voice = np.ones((5, nano.config.n_vq), np.int32)
    seen = [condition for condition, _ in conditions(nano, ref_audio=voice)]
    assert all(prompt is None and instruction is None for _, prompt, instruction in seen)
    assert all(np.array_equal(reference[0].codes, voice) and len(reference) == 1 for reference, _, _ in seen)


def test_without_a_reference_the_first_piece_is_the_voice_of_the_others(nano):
    [(first, codes), *others] = conditions(nano)
    assert first == ((), None, None)
    for (reference, prompt, _), _ in others:
        assert prompt is None
        assert isinstance(reference[0], CodeArray)
        assert np.array_equal(reference[0].codes, codes)


def test_read_plans_and_speaks_these_pieces(checkpoints, capsys, tmp_path):
    run = runner(capsys)
    (tmp_path / "book.txt").write_text(TEXT)
    asked = ("read", tmp_path / "book.txt", "--model", checkpoints["nano"])
    plan = run(*asked, "--plan")
    assert plan.code == 0, plan.err
    assert f"1 chapter, {len(PIECES)} segments" in plan.out
    for piece in PIECES:
        assert f"{len(piece)} characters, ends at" in plan.out
    spoken = run(*asked, "--output", tmp_path / "out", "--max-tokens", 3, "--seed", 7, "--format", "wav")
    assert spoken.code == 0, spoken.err
    [file] = (tmp_path / "out").glob("*.wav")
    spoken_seconds = soundfile.info(file).duration
    assert spoken_seconds == pytest.approx(3 * len(PIECES) / 12.5 + sum(SILENCES), abs=0.01)


def test_the_server_speaks_these_pieces(checkpoints, nano, tmp_path):
    [result] = nano.generate(TEXT, **OPTIONS)
    with serving(checkpoints["nano"], tmp_path) as server:
        samples = server.pcm({"input": TEXT, **OPTIONS})
        defaults = server.get("/v1/models").json()["data"][0]["defaults"]
    assert samples.shape == np.array(result.audio).shape
    assert np.abs(samples / 32767 - np.array(result.audio)).max() < 1e-3
    assert defaults["long_form_prefix_audio_seconds"] == 0
    assert "long_form_max_chars" not in defaults
