"""When segments are heard: the samples decide, in every way to speak and in every container."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import moss_tts
from moss_tts.audio.files import WRITABLE_FORMATS, decode_audio, encode_audio, read_audio
from moss_tts.audio.m4b import Tags, write_m4b
from moss_tts.audio.pcm import as_pcm
from moss_tts.long_form import LongFormOptions, TextSegment
from moss_tts.model import Model
from moss_tts.server.formats import FORMATS, new_encoder
from moss_tts.subtitles.cues import Cue, CueClock, CueRules, caption
from moss_tts.text.boundaries import BoundaryKind

TEXT = "It was cold.\n\n[pause 1s]\n\nThen it rained. The rain went on."
RATE = 24000


@pytest.fixture(scope="module")
def model() -> Model:
    return moss_tts.load()


def segment(text: str, **options: object) -> TextSegment:
    return TextSegment(text, 0, len(text), None, BoundaryKind.SENTENCE, **options)


def test_cues_are_the_samples_of_segments_without_the_pauses_around_them(model):
    speech = model.say(TEXT, seed=1)
    samples = [segment.emitted_samples for segment in speech.segments]
    starts = [0, *itertools.accumulate(samples)]
    pauses = [0, round(speech.sample_rate), 0]  # the pause belongs to one of the segments beside it
    assert [cue.text for cue in speech.cues] == ["It was cold.", "Then it rained.", "The rain went on."]
    heard = [(round(cue.start * speech.sample_rate), round(cue.end * speech.sample_rate)) for cue in speech.cues]
    assert heard[0] == (0, starts[1] - pauses[1])
    assert heard[1:] == list(itertools.pairwise(starts))[1:]
    assert not speech.audio[heard[0][1] : heard[1][0]].any()
    assert heard[-1][1] == len(speech)


@pytest.mark.parametrize("speed", [1.0, 1.7])
def test_a_stream_and_a_batch_have_the_same_cues(model, speed):
    options = {"seed": 1, "speed": speed}
    whole = model.say(TEXT, **options).cues
    results = list(model.generate(TEXT, stream=True, streaming_interval=0.3, **options))
    assert tuple(cue for result in results for cue in result.cues) == whole
    # A segment's cue comes as soon as the next one begins, and not all at the end.
    assert sum(bool(result.cues) for result in results) == 3
    [(_, in_batch)] = model.generate_batch([{"text": TEXT, **options}])
    assert in_batch.cues == whole
    assert whole[-1].end == pytest.approx(sum(result.samples for result in results) / RATE)


def test_a_text_in_one_piece_is_one_cue(delay_model):
    speech = delay_model.say("[S1] Hello.", seed=1, max_tokens=8)
    assert speech.cues == (Cue(0.0, speech.seconds, "Hello.", "S1"),)


def test_crossfades_and_trims_shift_what_follows(delay_model):
    text = "One sentence that is long enough. Another sentence, long enough too. And a third one to end with."
    options = {"seed": 3, "max_tokens": 12, "long_form": True, "long_form_max_chars": 40, "long_form_min_chars": 10}
    options |= {"long_form_target_chars": 35, "long_form_crossfade_ms": 60.0}
    speech = delay_model.say(text, **options)
    assert len(speech.cues) == 3
    assert [cue.end for cue in speech.cues[:-1]] == [cue.start for cue in speech.cues[1:]]
    assert speech.cues[-1].end == pytest.approx(speech.seconds)
    # Each crossfade takes its own length away.
    raw = sum(segment.emitted_samples for segment in speech.segments)
    assert raw - len(speech) == 2 * round(0.06 * RATE)


def test_pauses_are_cut_off_at_the_speed_of_the_audio_and_only_where_they_are():
    rules = CueRules(1000, speed=2.0, ties=LongFormOptions(crossfade_ms=10))
    paused = segment("Hello.", silence_before=0.2, silence_after=0.4)
    assert rules.cue(paused, 0, 1000) == Cue(0.1, 0.81, "Hello.")
    assert rules.cue(paused, 0, 1000, is_whole=False) == Cue(0.1, 1.0, "Hello.")
    trimmed = CueRules(1000, ties=LongFormOptions(trim_silence=True))
    assert trimmed.cue(paused, 0, 1000) == Cue(0.0, 1.0, "Hello.")


def test_what_was_cancelled_ends_with_its_samples_and_nothing_is_no_cue():
    clock = CueClock(CueRules(1000), [segment("One.", silence_after=0.1), segment("Two.", silence_after=0.1)])
    assert clock.after(0, 500, None) == ()
    assert clock.after(1, 300, None) == (Cue(0.0, 0.4, "One."),)
    assert clock.after(1, 200, "cancelled") == (Cue(0.5, 1.0, "Two."),)
    assert CueClock(CueRules(1000), [segment("One.")]).after(0, 0, "cancelled") == ()


def test_captions_have_no_tags_and_a_line_for_each_turn():
    assert caption("[S1]  Hello,\nyou! [pause 2s] Yes?") == "Hello, you! Yes?"
    assert caption("[S1] Hello! [S2] Hi, Alice. [S1]") == "- Hello!\n- Hi, Alice."
    assert caption("And so on. [S2] Hi [laughs]") == "- And so on.\n- Hi [laughs]"
    rules = CueRules(1000)
    assert [rules.cue(segment(text), 0, 1).voice for text in ("Hi.", "[S2] Hi.", "[S1] Hi. [S2] Hi.")] == [
        None,
        "S2",
        None,
    ]
    assert CueRules(1000, voice="ada").cue(segment("[S2] Hi."), 0, 1).voice == "ada"


# ---------------------------------------------------------------------------------------------- containers

STARTS = (0.5, 1.25, 3.0)


def bursts(rate: int) -> np.ndarray:
    """Tones that begin all at once at STARTS."""
    audio = np.zeros(4 * rate, np.float32)
    tone = 0.6 * np.sin(2 * np.pi * 700 * np.arange(round(0.3 * rate)) / rate)
    for start in STARTS:
        audio[round(start * rate) : round(start * rate) + len(tone)] = tone
    return audio


def assert_heard(content: bytes, delay: float) -> None:
    """The tones of a file begin at STARTS, to 10 ms, once the delay that it does not tell is taken into account."""
    waveform = decode_audio(content)
    loud = np.abs(waveform.samples.reshape(-1, waveform.samples.shape[-1])[0]) > 0.2
    for start in STARTS:
        first = round((start + delay - 0.2) * waveform.sample_rate)
        assert abs((first + np.argmax(loud[first:])) / waveform.sample_rate - start - delay) < 0.01


@pytest.mark.parametrize("rate", [16000, RATE, 48000])
@pytest.mark.parametrize("suffix", WRITABLE_FORMATS)
def test_files_begin_with_the_first_sample(suffix, rate):
    assert_heard(encode_audio(bursts(rate), rate, suffix), 0)


def test_audiobooks_begin_with_the_first_sample(tmp_path):
    path = tmp_path / "book.m4b"
    write_m4b(path, [as_pcm(bursts(RATE))], RATE, 1, [], Tags("Bursts"))
    assert_heard(path.read_bytes(), 0)


@pytest.mark.parametrize("rate", [16000, RATE, 48000])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("format_", sorted(FORMATS.keys() - {"pcm"}))
def test_responses_begin_with_the_first_sample_or_their_delay_is_known(format_, whole, rate):
    encoder = new_encoder(format_, rate, 1, whole)
    parts = [encoder.feed(part) for part in np.split(bursts(rate), 8)]
    assert_heard(b"".join([*parts, encoder.close()]), encoder.delay)


def test_a_written_file_has_the_cues_of_its_speech(model, tmp_path):
    """To the sample: silence between the first two cues, sound after it."""
    speech = model.say(TEXT, seed=1)
    waveform = read_audio(speech.save(tmp_path / "speech.flac"))
    first, second, _ = speech.cues
    pause = waveform.samples[..., round(first.end * RATE) : round(second.start * RATE)]
    assert pause.shape[-1] == RATE
    assert not pause.any()
    assert speech.write_subtitles(tmp_path / "speech.srt") == Path(tmp_path / "speech.srt")
