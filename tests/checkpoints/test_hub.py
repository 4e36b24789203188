"""From a name to a model: looked up, fetched, kept and removed, against a hub on this machine.

Every command runs in a process of its own, because huggingface_hub reads its environment once.
"""

from __future__ import annotations

import json
import os
import pty
import random
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

import moss_tts
from moss_tts.checkpoints import hub as hub_door
from moss_tts.checkpoints.hub import HubFile, Listing, check_room
from moss_tts.checkpoints.hub_failures import reason
from moss_tts.checkpoints.loading import find_checkpoint
from moss_tts.checkpoints.names import PUBLISHED, HubName, suggestion
from moss_tts.errors import CheckpointError, CodecNotFoundError, HubError, NotHereError
from moss_tts.weights.layout import read_weights
from support.hub import COMMIT, GATED, UNKNOWN, Hub, Repository, cache_entry, hub_of
from support.pickles import saved
from support.serving import wait_until
from support.sounds import write_sound_model

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
MODEL, CODEC = "OpenMOSS-Team/MOSS-TTS", "OpenMOSS-Team/MOSS-Audio-Tokenizer"
# Words of huggingface_hub and of what it stands on, none of which helps anybody.
INTERNALS = re.compile(
    r"Traceback|Error\b|Errno|httpx|local_files_only|Client Error|Request ID|repo_type|Fetching \d|snapshot folder|"
    r"Reconstruct|huggingface_hub"
)


@pytest.fixture(scope="module")
def parts(checkpoints, tmp_path_factory) -> tuple[Path, Path]:
    """A checkpoint as it is published, and its codec, which is another repository."""
    root = tmp_path_factory.mktemp("published")
    model = Path(shutil.copytree(checkpoints["delay"], root / "model"))
    return model, (model / "audio_tokenizer").rename(root / "codec")


@pytest.fixture
def hub(parts) -> Iterator[Hub]:
    model, codec = map(Repository.of, parts)
    with hub_of({MODEL: model, CODEC: codec}) as started:
        yield started


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(hub, tmp_path) -> Run:
    """moss-tts with that hub, an empty cache of its own, and no terminal."""

    def run_(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "moss_tts", *map(str, arguments)]
        settings = hub.environment(tmp_path / "home", **{"PYTHONPATH": str(SOURCE), **environment})
        ended = subprocess.run(
            command, env=settings, cwd=tmp_path, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL
        )
        assert not INTERNALS.search(ended.stdout + ended.stderr), ended.stdout + ended.stderr
        return ended

    return run_


def cache(tmp_path: Path) -> Path:
    return tmp_path / "home" / "hub"


# --------------------------------------------------------------------------------------------------- fetching


@pytest.mark.slow
def test_a_download_says_how_much_fetches_model_and_codec_and_then_speaks_offline(run, hub, parts):
    ended = run("download", MODEL)
    assert ended.returncode == 0, ended.stderr
    first, second, last = ended.stdout.splitlines()
    assert re.fullmatch(rf"{MODEL}: 1\.\d+ MB, 0 B of it already on this machine", first)
    assert re.fullmatch(rf"{CODEC}: 0\.\d+ MB, 0 B of it already on this machine", second)
    directory = Path(last.removeprefix(f"{MODEL} is complete: "))
    for path in parts[0].iterdir():
        assert (directory / path.name).read_bytes() == path.read_bytes()
    spoken = run("generate", "Hello there.", "--model", MODEL, "--max-tokens", 4, HF_HUB_OFFLINE="1")
    assert spoken.returncode == 0, spoken.stderr
    hub.asked.clear()
    again = run("download", MODEL)
    assert re.search(r"MB, 1\.\d+ MB of it already on this machine", again.stdout)
    # What tells which files there are is asked again, and config.json, on which all else depends, but no weights.
    assert set(hub.fetched()) <= {"config.json"}


def documented() -> list[str]:
    """The downloads that the documents tell people to begin."""
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    lines = [line for path in documents for line in path.read_text().splitlines()]
    return [line for line in lines if line.startswith("moss-tts download ")]


@pytest.mark.slow
@pytest.mark.parametrize("command", documented())
def test_the_documents_own_downloads_run(run, command):
    assert run(*shlex.split(command, comments=True)[1:]).returncode == 0


@pytest.mark.slow
def test_what_does_not_belong_to_a_checkpoint_is_not_fetched(run, hub):
    hub.repositories[MODEL].files |= {name: b"x" for name in ("modeling.py", "pytorch_model.bin", "a/b.pt", "x.pkl")}
    assert run("download", MODEL).returncode == 0
    assert not [path for path in hub.fetched() if not path.endswith((".json", ".safetensors", ".txt"))]


@pytest.mark.slow
def test_pickled_weights_are_fetched_where_there_are_no_others(run, hub, parts):
    files = hub.repositories[MODEL].files
    del files["model.safetensors"]
    files["pytorch_model.bin"] = saved(read_weights(parts[0]))
    before = run("inspect", MODEL)
    assert before.returncode == 1
    assert f"once it is here: `moss-tts download {MODEL}` fetches it" in " ".join(before.stderr.split())
    assert run("download", MODEL).returncode == 0
    assert "pytorch_model.bin" in hub.fetched()
    assert run("inspect", MODEL).returncode == 0
    assert run("generate", "Hello there.", "--model", MODEL, "--max-tokens", 4).returncode == 0


@pytest.mark.slow
def test_a_first_generate_fetches_what_it_needs_and_the_next_asks_nothing(run, hub):
    for announced in (True, False):
        hub.asked.clear()
        ended = run("generate", "Hello there.", "--model", MODEL, "--max-tokens", 4)
        assert ended.returncode == 0, ended.stderr
        assert (f"fetching {MODEL}, 1." in ended.stderr) is announced
        assert (f"fetching {CODEC}, 0." in ended.stderr) is announced
        assert bool([path for _, path, _ in hub.asked if "resolve" in path]) is announced


@pytest.mark.slow
def test_revision_and_token_reach_the_hub(hub, tmp_path):
    code = f"import moss_tts\nmoss_tts.load({MODEL!r}, revision='v2', token='hf_x')"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=hub.environment(tmp_path / "home", PYTHONPATH=str(SOURCE)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"moss_tts.errors.HubError: {MODEL} is not here yet" in ended.stderr
    assert "it has no revision 'v2'" in ended.stderr
    assert ("GET", f"/api/models/{MODEL}/revision/v2", None) in hub.asked
    assert hub.tokens == {"Bearer hf_x"}


def large(hub: Hub) -> bytes:
    """In place of the weights: more than huggingface_hub writes at a time."""
    content = random.Random(0).randbytes(25_000_000)
    hub.repositories[MODEL].files["model.safetensors"] = content
    return content


@pytest.mark.slow
def test_a_connection_that_breaks_is_taken_up_where_it_broke(run, hub):
    content = large(hub)
    hub.repositories[MODEL].breaks = 2
    ended = run("download", MODEL)
    assert ended.returncode == 0, ended.stderr
    assert {wanted for _, path, wanted in hub.asked if path.endswith("model.safetensors")} == {
        None,
        f"bytes={constants.DOWNLOAD_CHUNK_SIZE}-",
    }
    directory = Path(ended.stdout.splitlines()[-1].removeprefix(f"{MODEL} is complete: "))
    assert (directory / "model.safetensors").read_bytes() == content


def started(
    hub: Hub, home: Path, *arguments: str, stderr: int = subprocess.PIPE, **environment: str
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "moss_tts", *arguments],
        env=hub.environment(home, PYTHONPATH=str(SOURCE), COLUMNS="100", TERM="xterm", **environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        # Those that start in the background ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_download_goes_on_with_the_file_that_was_under_way(run, hub, tmp_path, number):
    hub.repositories[MODEL].pause = threading.Event()
    # A thread that waits for the hub notices Ctrl-C no sooner.
    process = started(hub, tmp_path / "home", "download", MODEL, HF_HUB_DOWNLOAD_TIMEOUT="5")
    wait_until(lambda: "model.safetensors" in hub.fetched())
    process.send_signal(number)
    _, err = process.communicate(timeout=600)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert not INTERNALS.search(err.decode())
    # Neither taken for whole, nor for nothing.
    refused = run("generate", "Hello.", "--model", MODEL, HF_HUB_OFFLINE="1")
    assert refused.returncode == 1
    assert "is not here yet" in refused.stderr
    assert f"incomplete; `moss-tts download {MODEL}` completes it" in run("models").stdout
    hub.repositories[MODEL].pause = None
    hub.asked.clear()
    ended = run("download", MODEL)
    assert ended.returncode == 0, ended.stderr
    assert f"{MODEL}: 1." in ended.stdout
    assert ", 0 B of it" not in ended.stdout.splitlines()[0]
    assert "tokenizer.json" not in hub.fetched()
    assert run("generate", "Hello.", "--model", MODEL, "--max-tokens", 2, HF_HUB_OFFLINE="1").returncode == 0


@pytest.mark.slow
def test_what_a_killed_download_left_long_ago_is_deleted(run, tmp_path, parts):
    cache_entry(cache(tmp_path), CODEC, parts[1])
    blobs = cache(tmp_path) / f"models--{CODEC.replace('/', '--')}" / "blobs"
    for name, age in (("a.01234567.incomplete", 7200), ("b.01234567.incomplete", 60)):
        (blobs / name).write_bytes(b"x" * 1000)
        os.utime(blobs / name, (time.time() - age,) * 2)
    assert run("download", CODEC).returncode == 0
    assert [path.name for path in blobs.glob("*.incomplete")] == ["b.01234567.incomplete"]


@pytest.mark.slow
def test_a_terminal_shows_how_far_a_download_is(hub, tmp_path):
    """The rest of the file comes once a part of it was shown."""
    large(hub)
    seen_in_part = hub.repositories[MODEL].pause = threading.Event()
    terminal, end = pty.openpty()
    process = started(hub, tmp_path / "home", "download", MODEL, stderr=end)
    os.close(end)
    seen, end_of_patience = b"", time.monotonic() + 300
    while process.poll() is None or select.select([terminal], [], [], 0.1)[0]:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:  # how Linux says that nobody writes any more
                break
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode("utf-8", "ignore"))
        percents = [int(found) for found in re.findall(r"(\d+) %", shown)]
        if any(20 < percent < 80 for percent in percents):
            seen_in_part.set()
        assert time.monotonic() < end_of_patience, shown
    os.close(terminal)
    process.communicate(timeout=600)
    assert process.returncode == 0
    assert f"fetching {MODEL}, 25 MB" in shown
    assert 100 in percents
    assert not INTERNALS.search(shown)


# ----------------------------------------------------------------------------------------- before it is fetched


@pytest.mark.slow
def test_inspect_looks_at_what_is_not_here_as_at_what_is(run, hub, tmp_path, checkpoints):
    asked = json.loads(run("inspect", MODEL, "--json").stdout)
    assert not cache(tmp_path).exists() or not list(cache(tmp_path).glob("models--*"))
    weights = [wanted for _, path, wanted in hub.asked if path.endswith(".safetensors")]
    assert weights
    assert all(wanted == "bytes=0-100000" for wanted in weights)
    assert set(hub.fetched()) <= {"config.json", "tokenizer_config.json", "model.safetensors"}
    sizes = [sum(map(len, hub.repositories[name].files.values())) for name in (MODEL, CODEC)]
    assert asked["download_bytes"] == sum(sizes)
    assert asked["codec"]["where"] == CODEC
    here = json.loads(run("inspect", checkpoints["delay"], "--json").stdout)
    for key in ("model", "weights", "tokenizer", "memory", "needed_bytes", "runs"):
        assert asked[key] == here[key]
    text = run("inspect", MODEL).stdout
    assert f"not on this machine yet; `moss-tts download {MODEL}` fetches 1.5" in text
    assert text.rstrip().endswith("It would run here.")


@pytest.mark.slow
def test_inspect_of_a_codec_on_the_hub(run):
    found = json.loads(run("inspect", CODEC, "--json").stdout)
    assert (found["kind"], found["runs"], found["directory"]) == ("codec", True, CODEC)


@pytest.mark.slow
def test_inspect_of_a_sound_model_before_and_after_it_is_fetched(run, hub, tmp_path):
    name = "OpenMOSS-Team/MOSS-SoundEffect-v2.0"
    hub.repositories[name] = Repository.of(write_sound_model(tmp_path / "sounds"))
    asked = json.loads(run("inspect", name, "--json").stdout)
    assert asked["kind"] == "sound model"
    assert asked["download_bytes"] == sum(map(len, hub.repositories[name].files.values()))
    assert f"`moss-tts download {name}` fetches" in run("inspect", name).stdout
    assert run("download", name).returncode == 0
    here = json.loads(run("inspect", name, "--json").stdout)
    assert (here["kind"], here["runs"]) == ("sound model", True)
    assert here["needed_bytes"] > 0


@pytest.mark.slow
def test_what_does_not_run_here_is_refused_before_it_is_fetched(run, hub):
    hub.repositories["OpenMOSS-Team/MOSS-TTS-Realtime"] = Repository(
        {"config.json": b'{"model_type": "something_else"}', "model.safetensors": b"x" * 100_000}
    )
    hub.repositories["Some/Files"] = Repository({"README.md": b"x"})
    for command in (["download"], ["generate", "x", "--model"], ["inspect"]):
        ended = run(*command, "OpenMOSS-Team/MOSS-TTS-Realtime")
        assert ended.returncode == 1
        assert "OpenMOSS-Team/MOSS-TTS-Realtime does not run here: config.json has model_type" in ended.stderr
        assert (
            "Some/Files is on the hub, but is not a checkpoint: it has no config.json"
            in run(*command, "Some/Files").stderr
        )
    assert "model.safetensors" not in hub.fetched()


# --------------------------------------------------------------------------------------------------- failures

REFUSALS = {
    "unknown": (UNKNOWN, "has no public repository of that name"),
    "gated": (GATED, "its owner must give you access"),
    "token": ((401, {"X-Error-Message": "Invalid credentials in Authorization header"}), "does not accept the token"),
    "forbidden": ((403, {}), "your token does not allow this"),
    "closed": ((403, {"X-Error-Message": "Access to this resource is disabled."}), "the hub has disabled it"),
    "many": ((429, {}), "has received too many requests"),
    "fault": ((500, {}), "answers 500, which is an error of the hub"),
    "down": ((503, {}), "answers 503, which is an error of the hub"),
    "page": ((200, {"Content-Type": "text/html"}), "http://127.0.0.1:\\d+ does not answer as a hub does"),
}


@pytest.mark.slow
def test_every_refusal_of_the_hub_is_one_sentence(hub, tmp_path):
    for name, (answer, _) in REFUSALS.items():
        hub.repositories[f"Some/{name}"] = Repository(refusal=answer)
    said = asked_for(hub, tmp_path, *hub.repositories.keys() - {MODEL, CODEC})
    hub.repositories["Some/slow"] = Repository(seconds=600)
    said |= asked_for(hub, tmp_path, "Some/slow", HF_HUB_ETAG_TIMEOUT="1")
    expected = {name: words for name, (_, words) in REFUSALS.items()} | {"slow": "did not answer in time"}
    for name, words in expected.items():
        sentence = said[f"Some/{name}"]
        assert re.search(f"^Some/{name} is not here yet, and could not be looked up on the hub: .*{words}", sentence)
        assert sentence.endswith(".")
        assert "\n" not in sentence
        assert not INTERNALS.search(sentence)


def asked_for(hub: Hub, tmp_path: Path, *names: str, **environment: str) -> dict[str, str]:
    """What is said when these names are looked up, all in one process."""
    code = (
        "import json, sys\nfrom moss_tts.checkpoints.loading import find_checkpoint\nsaid = {}\n"
        "for name in sys.argv[1:]:\n try: find_checkpoint(name)\n except Exception as error: said[name] = str(error)\n"
        "print(json.dumps(said))"
    )
    settings = hub.environment(tmp_path / "home", PYTHONPATH=str(SOURCE), **environment)
    ended = subprocess.run(
        [sys.executable, "-c", code, *names], env=settings, capture_output=True, text=True, check=True
    )
    assert ended.stderr == ""
    return dict(json.loads(ended.stdout))


@pytest.mark.slow
def test_a_gated_repository_that_may_be_listed_is_told_apart_when_it_is_opened(run, hub):
    hub.repositories[MODEL].closed = GATED
    for command in (["download"], ["inspect"], ["generate", "x", "--model"]):
        ended = run(*command, MODEL)
        assert ended.returncode == 1
        wanted = f"its owner must give you access; ask for it at {hub.address}/{MODEL}, then log in"
        assert f"{MODEL} could not be looked at on the hub: {wanted}" in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set, so"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9 cannot be reached; check the network"),
        ({"HTTP_PROXY": "http://127.0.0.1:9"}, "cannot be reached|the proxy refuses the connection"),
        (
            {"HF_ENDPOINT": "https://127.0.0.1:{port}"},
            "the certificate of https://127.0.0.1:\\d+ is not trusted|was lost",
        ),
    ],
)
def test_without_a_hub_one_sentence_says_so(hub, tmp_path, environment, words):
    port = hub.address.rpartition(":")[2]
    settings = {key: value.format(port=port) for key, value in environment.items()}
    said = asked_for(hub, tmp_path, MODEL, **settings)[MODEL]
    assert re.match(f"{MODEL} is not here yet, and could not be looked up on the hub: .*({words})", said)
    assert not INTERNALS.search(said)


@pytest.mark.slow
def test_a_failure_in_the_middle_is_one_sentence_too(run, hub):
    hub.repositories[MODEL].breaks = 1000
    hub.repositories[MODEL].empty = True
    ended = run("download", MODEL)
    assert ended.returncode == 1
    assert re.search("could not be fetched from the hub: the connection to .* was lost; try again", ended.stderr)


@pytest.mark.slow
def test_a_cache_that_may_not_be_written_to_is_named(run, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "hub").write_text("no directory")
    ended = run("download", MODEL)
    assert ended.returncode == 1
    assert str(tmp_path / "home" / "hub") in ended.stderr


def test_a_disk_that_is_too_small_is_refused_before_anything_is_fetched(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))  # type: ignore[attr-defined]
    listed = Listing("Some/Model", None, COMMIT, (HubFile("model.safetensors", 17_000_000_000),))
    with pytest.raises(CheckpointError, match=r"Some/Model: 17\.00 GB to fetch, but the disk of .* has only 1 B left"):
        check_room(listed)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "is full; free some space"),
        (PermissionError(13, "Permission denied"), "you may not write into"),
        (OSError("Consistency check failed: file should be of size 3"), "did not arrive completely"),
        (RuntimeError("task panicked"), "failed (RuntimeError)"),
    ],
)
def test_failures_of_this_machine_are_told_apart(error, words):
    assert words in reason(error, "Some/Model")


def test_a_hub_that_names_files_outside_is_not_believed():
    with pytest.raises(HubError, match="would lie elsewhere"):
        list(hub_door._of_checkpoint([HubFile("../../evil.json", 1)], HubName.of(MODEL)))


# -------------------------------------------------------------------------------------------------- what is here


@pytest.mark.slow
def test_models_shows_what_is_here_and_remove_frees_it(run, tmp_path, parts, checkpoints):
    for name, source in ((MODEL, parts[0]), (CODEC, parts[1])):
        cache_entry(cache(tmp_path), name, source)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    cache_entry(cache(tmp_path), "google/bert", other)
    shutil.rmtree(other)
    shutil.copytree(checkpoints["local"], tmp_path / "MOSS-TTS-4bit")
    found = {one["name"]: one for one in json.loads(run("models", "--json").stdout)}
    assert set(found) == {None, MODEL, CODEC, "MOSS-TTS-4bit"}
    assert found[CODEC]["kind"] == "codec"
    assert found[MODEL]["nbytes"] == sum(path.stat().st_size for path in parts[0].rglob("*") if path.is_file())
    assert find_checkpoint(found[MODEL]["directory"]).directory.is_dir()
    lines = run("models").stdout.splitlines()
    assert len([line for line in lines if "speech model" in line]) == 3
    assert "  OpenMOSS-Team/MOSS-TTS-v1.5" in lines
    assert f"  {MODEL}" not in lines
    gone = run("models", "remove", MODEL)
    assert gone.returncode == 0, gone.stderr
    assert re.fullmatch(rf"{MODEL} is deleted, which frees 1\.\d+ MB\n", gone.stdout)
    assert not (cache(tmp_path) / "models--OpenMOSS-Team--MOSS-TTS").exists()
    assert MODEL not in [one["name"] for one in json.loads(run("models", "--json").stdout)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        (MODEL, "was not fetched from the hub; `moss-tts models` shows what was"),
        ("moss_audio_tokenizer", f"was not fetched from the hub; {CODEC} was"),
        ("MOSS-TTS-4bit", "is a directory of your own"),
    ],
)
def test_what_cannot_be_removed_says_why(run, tmp_path, parts, name, words):
    (tmp_path / "MOSS-TTS-4bit").mkdir()
    cache_entry(cache(tmp_path), CODEC, parts[1])
    ended = run("models", "remove", name)
    assert ended.returncode == 2
    assert words in ended.stderr


@pytest.mark.slow
def test_a_directory_is_not_downloaded(run, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    ended = run("download", "a/b")
    assert ended.returncode == 2
    assert "a/b is a directory on this machine" in ended.stderr


def test_models_without_a_cache_shows_the_packaged_voice(run):
    (one,) = json.loads(run("models", "--json").stdout)
    assert one["name"] is None


# ------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("MOSS-TTS", "MOSS-TTS"),
        ("moss_tts", "MOSS-TTS"),
        ("OpenMOSS/MOSS-TTS", "MOSS-TTS"),
        ("MOSS-TTSD", "MOSS-TTSD-v1.0"),
        ("moss-voicegenerator", "MOSS-VoiceGenerator"),
        ("MOSS-SoundEfect", "MOSS-SoundEffect"),
        ("MOSS-TTS-Local", "MOSS-TTS-Local-Transformer"),
        ("MOSS-TTS-Realtime", "MOSS-TTS-Realtime"),
        ("MOSS-TTS-4bit", None),
        ("moss", None),
        ("plain", None),
        ("OpenMOSS-Team/MOSS-TTS", None),
    ],
)
def test_names_suggest_the_hub_ids_that_they_mean(given, meant):
    found = suggestion(given)
    assert (found and found.name) == meant


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.name)
def test_a_bare_published_name_is_told_its_id(published):
    with pytest.raises(CheckpointError, match=f"has the id '{re.escape(published.id)}': give that"):
        find_checkpoint(published.name)


@pytest.fixture
def cached(monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_hub_id_that_is_here_needs_no_hub_and_tells_its_variant(cached, checkpoints):
    cache_entry(cached, "OpenMOSS-Team/MOSS-TTSD-v1.0", checkpoints["delay"])
    model = moss_tts.load("OpenMOSS-Team/MOSS-TTSD-v1.0")
    assert model.preset.name == "ttsd"
    with pytest.raises(NotHereError, match=r"revision 'v2' of .* has not been fetched"):
        find_checkpoint("OpenMOSS-Team/MOSS-TTSD-v1.0", revision="v2", cached_only=True)


def test_a_snapshot_without_its_weights_is_not_taken_for_whole(cached, parts, tmp_path):
    model = Path(shutil.copytree(parts[0], tmp_path / "m"))
    (model / "model.safetensors").unlink()
    cache_entry(cached, MODEL, model)
    with pytest.raises(NotHereError, match=f"{MODEL} is incomplete, .*`moss-tts download {MODEL}` completes it"):
        find_checkpoint(MODEL, cached_only=True)


def test_a_codec_that_is_in_the_cache_serves_a_copy(cached, parts):
    """A copy without its codec speaks where the codec was fetched, and says what to do where it was not."""
    model = moss_tts.load(parts[0])
    with pytest.raises(CodecNotFoundError, match=rf"`moss-tts download {CODEC}`.*--codec.*without --no-codec"):
        model.codec()
    cache_entry(cached, CODEC, parts[1])
    assert next(moss_tts.load(parts[0]).generate("Hello.", max_tokens=2, seed=1)).samples > 0
