"""Registered voices: whole or not there, the same audio as their recording, names that lead nowhere else."""

from __future__ import annotations

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from moss_tts import cli
from moss_tts.cli.arguments import spoken_by
from moss_tts.errors import AudioError, CheckpointError, RequestError, UnknownVoiceError
from moss_tts.voices import Voices, check_name, default_directory


@pytest.fixture
def recording(tmp_path) -> Path:
    noise = 0.1 * np.random.default_rng(0).standard_normal(24000)
    soundfile.write(tmp_path / "alice.wav", noise, 24000, subtype="PCM_16")
    return tmp_path / "alice.wav"


@pytest.fixture
def voices(tmp_path) -> Voices:
    return Voices(tmp_path / "voices")


def test_a_voice_speaks_as_its_recording_does(model, voices, recording):
    voice = voices.add("alice", recording, transcript="Hi.")
    expected = next(model.generate("Hello.", ref_audio=recording, seed=1, max_tokens=8))
    for options in (voice.options(), voice.options(model), voices["alice"].options(model)):
        np.testing.assert_array_equal(
            next(model.generate("Hello.", **options, seed=1, max_tokens=8)).audio, expected.audio
        )


def test_a_continuation_gets_the_transcript(delay_model, voices, recording):
    voice = voices.add("alice", recording, transcript="It was dry.")
    options = voice.options(delay_model, mode="continuation")
    spoken = next(delay_model.generate("It rained.", mode="continuation", **options, seed=1, max_tokens=8))
    given = {"ref_audio": recording, "ref_text": "It was dry."}
    expected = next(delay_model.generate("It rained.", mode="continuation", **given, seed=1, max_tokens=8))
    np.testing.assert_array_equal(spoken.audio, expected.audio)


def test_what_was_generated_becomes_a_voice_of_a_dialogue(delay_model, voices):
    designed = next(delay_model.generate("I am old.", instruction="An old man", seed=3))
    voices.add("old", (designed.audio, designed.sample_rate), transcript="I am old.", description="An old man")
    speakers = {"S1": voices["old"].speaker(delay_model), "S2": None}
    assert next(delay_model.generate("[S1] Hello!", dialogue_speakers=speakers, seed=1, max_tokens=8)).samples


def test_codes_are_made_once_for_each_codec(models, voices, recording, monkeypatch):
    voice = voices.add("alice", recording, model=models["delay"])
    monkeypatch.setattr(models["delay"].codec(), "batch_encode", lambda *_, **__: pytest.fail("encoded again"))
    first = voice.codes(models["delay"])
    np.testing.assert_array_equal(first, voice.codes(models["delay"]))
    assert voice.codes(models["local_v1_5"]).shape[1] == models["local_v1_5"].config.n_vq
    assert len(list(voice.directory.glob("codes-*.safetensors"))) == 2


def test_a_recording_of_16_bits_is_kept_exactly(voices, recording):
    added = voices.add("alice", recording)
    np.testing.assert_array_equal(*[soundfile.read(file, dtype="int16")[0] for file in (recording, added.sample)])
    assert added.record.seconds == 1.0
    assert added.record.created.endswith("+00:00")


def test_voices_come_and_go(voices, recording):
    assert list(voices) == []
    for name in ("bob", "alice"):
        voices.add(name, recording, description=name.title())
    assert [voice.name for voice in voices] == ["alice", "bob"]
    with pytest.raises(RequestError, match="already"):
        voices.add("bob", recording)
    assert voices.add("bob", recording, transcript="New.", replace=True).record.transcript == "New."
    voices.remove("alice")
    assert [voice.name for voice in voices] == ["bob"]
    with pytest.raises(RequestError, match=r"no voice 'alice'\. Registered voices: bob"):
        voices["alice"]
    assert sorted(os.listdir(voices.directory)) == ["bob"]


def test_what_fails_leaves_nothing(voices, delay_model, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(24000), 24000)
    soundfile.write(tmp_path / "blip.wav", 0.1 * np.ones(20), 24000)
    with pytest.raises(AudioError, match="silent"):
        voices.add("alice", tmp_path / "silence.wav")
    with pytest.raises(AudioError, match="one frame"):
        voices.add("alice", tmp_path / "blip.wav", model=delay_model)
    with pytest.raises(AudioError, match="not finite"):
        voices.add("alice", (np.full(24000, np.nan, np.float32), 24000))
    assert not voices.directory.exists() or os.listdir(voices.directory) == []


@pytest.mark.parametrize(
    "name",
    ["", "default", "..", "../alice", "a/b", "a\\b", "Alice", "-a", "a.b", "a\0", "a\n", "é", "a" * 65, ".tmp", "C:"],
)
def test_names_that_are_none(voices, recording, name):
    with pytest.raises(RequestError, match="name of a voice"):
        voices.add(name, recording)
    assert name not in voices


@given(st.text(max_size=80))
def test_no_name_leads_out_of_the_directory(name):
    try:
        check_name(name)
    except RequestError:
        return
    assert (Path("/voices") / name).resolve().parent == Path("/voices")


def test_broken_codes_are_made_again(voices, recording, delay_model):
    voice = voices.add("alice", recording, model=delay_model)
    [file] = voice.directory.glob("codes-*")
    expected = voice.codes(delay_model)
    file.write_bytes(b"nothing")
    np.testing.assert_array_equal(voice.codes(delay_model), expected)
    assert len(file.read_bytes()) > 100


BROKEN = {
    "cut off": "{",
    "no object": "[]",
    "deep": "[" * 100_000,
    "of a newer release": {"mood": "calm"},
    "of another voice": {"name": "bob"},
    "of another type": {"seconds": "long"},
    "of no length": {"seconds": float("nan")},
    "without a date": {"created": "yesterday"},
    "before all dates": {"created": "0001-01-01"},
    "half a character": {"transcript": "\ud800"},
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_voice_breaks_no_other(voices, recording, content):
    voices.add("bob", recording)
    file = voices.add("alice", recording).directory / "voice.json"
    file.write_text(content if isinstance(content, str) else json.dumps(json.loads(file.read_text()) | content))
    with pytest.raises(CheckpointError, match=r"'alice' is broken: voice\.json"):
        voices["alice"]
    assert [voice.name for voice in voices] == ["bob"]
    broken, whole = voices.listed()
    assert (broken.name, whole.name) == ("alice", "bob")
    assert "voice.json" in broken.why
    assert str(voices.directory) not in broken.why
    with pytest.raises(RequestError, match="already"):
        voices.add("alice", recording)
    assert voices.add("alice", recording, replace=True).name == "alice"
    assert len(list(voices)) == 2


def test_a_voice_without_its_recording_is_broken(voices, recording):
    voices.add("alice", recording).sample.unlink()
    with pytest.raises(CheckpointError, match=r"no sample.wav; remove it, or add it again"):
        voices["alice"]
    voices.remove("alice")
    assert voices.names == []


def test_directories_that_are_no_voices_stay(voices, recording):
    (voices.directory / "photos").mkdir(parents=True)
    (voices.directory / "photos" / "summer").touch()
    for replace in (False, True):
        with pytest.raises(RequestError, match="something else is at the place of voice 'photos'"):
            voices.add("photos", recording, replace=replace)
    with pytest.raises(UnknownVoiceError):
        voices.remove("photos")
    assert os.listdir(voices.directory / "photos") == ["summer"]


def test_a_linked_voice_is_replaced_and_removed_without_what_it_points_to(voices, recording, tmp_path):
    elsewhere = Voices(tmp_path / "elsewhere").add("alice", recording).directory
    voices.directory.mkdir()
    for way in ("replace", "remove"):
        (voices.directory / "alice").symlink_to(elsewhere)
        if way == "replace":
            voices.add("alice", recording, replace=True)
        voices.remove("alice")
        assert os.listdir(voices.directory) == []
    assert (elsewhere / "voice.json").is_file()


@contextmanager
def read_only():
    """Nothing can be written to any registry; the owner of these tests may write everywhere."""

    def refuse(path: Path, **_: object) -> NoReturn:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moss_tts.audio.voice_files.atomic_file", refuse)
        patch.setattr("moss_tts.voices.atomic_directory", refuse)
        patch.setattr("moss_tts.voices.remove_directory", refuse)
        yield


def test_a_registry_that_is_read_only_speaks_from_memory(voices, recording, delay_model, monkeypatch):
    voices.add("alice", recording)
    with read_only():
        first = voices["alice"].codes(delay_model)
        monkeypatch.setattr(delay_model.codec(), "batch_encode", lambda *_, **__: pytest.fail("encoded again"))
        np.testing.assert_array_equal(Voices(voices.directory)["alice"].codes(delay_model), first)
        for change in (lambda: voices.add("bob", recording), lambda: voices.remove("alice")):
            with pytest.raises(RequestError, match="Read-only file system") as refused:
                change()
            assert str(voices.directory) not in str(refused.value)


def test_a_voice_that_was_replaced_keeps_no_codes_of_the_one_before(voices, recording, delay_model, tmp_path):
    """Even if those were still being made then."""
    old = voices.add("alice", (0.1 * np.random.default_rng(1).standard_normal(24000), 24000))
    new = voices.add("alice", recording, replace=True)
    expected = Voices(tmp_path / "apart").add("alice", recording).codes(delay_model)
    old.keep_codes(delay_model.codec().fingerprint, np.zeros_like(expected))
    np.testing.assert_array_equal(new.codes(delay_model), expected)
    voices.remove("alice")
    old.keep_codes(delay_model.codec().fingerprint, np.zeros_like(expected))
    assert os.listdir(voices.directory) == []


def test_a_voice_that_is_replaced_is_there_all_the_time(voices, recording):
    voices.add("alice", recording)
    with ThreadPoolExecutor(1) as other:
        replaced = other.submit(lambda: [voices.add("alice", recording, replace=True) for _ in range(20)])
        while not replaced.done():
            assert voices["alice"].sample.is_file()
        replaced.result()
    assert os.listdir(voices.directory) == ["alice"]


def test_where_voices_are(monkeypatch, tmp_path):
    monkeypatch.delenv("MOSS_TTS_VOICES", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "moss-tts" / "voices"
    monkeypatch.setenv("MOSS_TTS_VOICES", str(tmp_path / "mine"))
    assert Voices().directory == tmp_path / "mine"


def test_a_voice_is_an_option_of_generate(monkeypatch, delay_model, voices, recording):
    """By name or as it is; encoded for the first request only."""
    monkeypatch.setenv("MOSS_TTS_VOICES", str(voices.directory))
    voice = voices.add("alice", recording, transcript="It was dry.")
    options = {"seed": 1, "max_tokens": 8}
    expected = next(delay_model.generate("Hello.", ref_audio=recording, **options)).audio
    given = {"ref_audio": recording, "ref_text": "It was dry.", "mode": "continuation"}
    continued = next(delay_model.generate("It rained.", **given, **options)).audio
    np.testing.assert_array_equal(next(delay_model.generate("Hello.", voice="alice", **options)).audio, expected)
    monkeypatch.setattr(delay_model.codec(), "batch_encode", lambda *_, **__: pytest.fail("encoded again"))
    for named in ("alice", voice):
        np.testing.assert_array_equal(next(delay_model.generate("Hello.", voice=named, **options)).audio, expected)
    heard = next(delay_model.generate("It rained.", voice="alice", mode="continuation", **options)).audio
    np.testing.assert_array_equal(heard, continued)
    [(_, result)] = delay_model.generate_batch([{"text": "Hello.", "voice": "alice", **options}])
    np.testing.assert_array_equal(result.audio, expected)
    for wrong, match in (
        ({"voice": "bob"}, "no voice 'bob'"),
        ({"voice": 3}, "voice must be"),
        ({"voice": "alice", "ref_text": "Hi."}, "voice replaces ref_text"),
        ({"voice": "alice", "dialogue_speakers": [None]}, "dialogue_speakers replaces voice"),
    ):
        with pytest.raises(RequestError, match=match):
            delay_model.generate("Hello.", **wrong)


def test_a_command_has_one_voice(monkeypatch, voices, recording):
    monkeypatch.setenv("MOSS_TTS_VOICES", str(voices.directory))
    voices.add("alice", recording, transcript="Hi.")
    assert spoken_by({"voice": None, "seed": 1}) == {"seed": 1}
    assert spoken_by({"voice": "alice", "seed": 1}) == {"seed": 1, "ref_audio": [voices["alice"].sample]}
    with pytest.raises(RequestError, match="Give voice or ref_text, not both"):
        spoken_by({"voice": "alice", "ref_text": "Hi."})


def test_the_command_line(monkeypatch, tmp_path, recording, checkpoints, delay_model, capsys):
    monkeypatch.setenv("MOSS_TTS_VOICES", str(tmp_path / "voices"))

    def run(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as exit_:
            cli.main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return int(exit_.value.code), streams.out + streams.err

    assert run("voices", "add", "alice", recording, "--text", "Hi there.", "-m", checkpoints["delay"])[0] == 0
    assert "alice" in run("voices", "list")[1]
    assert json.loads(run("voices", "list", "--json")[1])[0]["transcript"] == "Hi there."
    spoken = ["Hello.", "-m", checkpoints["delay"], "--seed", 1, "--max-tokens", 8]
    assert run("generate", *spoken, "--voice", "alice", "-o", tmp_path / "a.wav")[0] == 0
    expected = next(delay_model.generate("Hello.", ref_audio=recording, seed=1, max_tokens=8)).audio
    np.testing.assert_allclose(soundfile.read(tmp_path / "a.wav")[0], np.clip(expected, -1, 1), atol=2e-4)
    assert run("voices", "add", "Alice", recording)[0] == 2
    code, said = run("generate", *spoken, "--voice", "bob", "-o", tmp_path / "b.wav")
    assert (code, "no voice 'bob'" in said) == (2, True)
    assert run("voices", "remove", "alice")[0] == 0
    assert run("voices", "list")[1].startswith("There are no voices")


# ------------------------------------------------------------------------------------------------- mishaps


def test_a_voice_that_cannot_be_replaced_stays(voices, recording, monkeypatch):
    voices.add("alice", recording, transcript="Old.")
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if target.name == "alice" and (self / "voice.json").read_text().find("New.") > 0:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr("moss_tts.atomic._exchanged", lambda *_: False)
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(RequestError, match="No space left"):
        voices.add("alice", recording, transcript="New.", replace=True)
    assert voices["alice"].record.transcript == "Old."
    assert os.listdir(voices.directory) == ["alice"]


def test_a_broken_voice_can_be_removed_and_replaced(voices, recording):
    for way in ("remove", "replace"):
        (voices.add("alice", recording, replace=True).directory / "voice.json").write_text("{")
        if way == "remove":
            voices.remove("alice")
            assert len(voices) == 0
    assert voices.add("alice", recording, replace=True).record.name == "alice"


def test_names_are_known_without_reading(voices, recording, monkeypatch):
    voices.add("alice", recording)
    monkeypatch.setattr("moss_tts.voices._read_voice", lambda _: pytest.fail("read"))
    assert ("alice" in voices, voices.names, len(voices)) == (True, ["alice"], 1)
    with pytest.raises(RequestError, match="Registered voices: alice"):
        voices["bob"]
