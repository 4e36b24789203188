"""The programs under docs/examples, run as a reader runs them: with the packaged voice, in an empty directory."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile

FOLDER = Path(__file__).parents[1] / "docs" / "examples"
# Program -> its arguments, what it writes, the pattern of what it says.
PROGRAMS = {
    "first_speech.py": ([], ["first_speech.wav"], "<Speech"),
    "batch_to_files.py": ([], ["line_0.wav", "line_1.wav", "line_2.wav"], "stop"),
    "in_a_thread.py": ([], ["first.wav", "second.wav"], "cancelled"),
    "with_asyncio.py": ([], ["left.wav", "right.wav"], "clock ticked [1-9]"),
    "progress.py": ([], ["progress.mp3"], "segment 1"),
    "stop_and_repeat.py": ([], ["liked.flac", "short.wav"], "the same samples: True"),
    "streaming_to_a_player.py": (
        [sys.executable, "-c", "import sys; open('heard', 'wb').write(sys.stdin.buffer.read())"],
        ["heard"],
        "sent",
    ),
    "voices.py": ([], ["cloned.wav"], "the voice of the package"),
}

pytestmark = pytest.mark.slow


def test_every_example_is_listed_and_run():
    there = {path.name for path in FOLDER.iterdir() if path.suffix in (".py", ".ipynb")}
    assert set(re.findall(r"\]\(([\w.]+)\)", (FOLDER / "README.md").read_text())) == there
    assert there == {*PROGRAMS, "chat_aloud.py", "with_fastapi.py", "notebook.ipynb"}


def run(program: str, arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MOSS_TTS_VOICES": str(folder / "voices")}
    return subprocess.run(
        [sys.executable, FOLDER / program, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_runs(program, tmp_path):
    arguments, files, said = PROGRAMS[program]
    done = run(program, arguments, tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(said, done.stdout)
    assert [name for name in files if (tmp_path / name).stat().st_size < 2000] == []


def test_a_voice_is_cloned_by_a_model_that_can(checkpoints, tmp_path):
    done = run("voices.py", [str(checkpoints["local"])], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (tmp_path / "cloned.wav").exists()


def test_the_web_service_answers():
    from fastapi.testclient import TestClient

    program = {"__name__": "with_fastapi"}
    exec(compile((FOLDER / "with_fastapi.py").read_text(), "with_fastapi.py", "exec"), program)
    with TestClient(program["app"]) as client:
        answer = client.get("/say", params={"text": "Hello, 2 of you", "seed": 1})
        assert answer.headers["content-type"] == "audio/wav"
        assert answer.content[:4] == b"RIFF"
        assert client.get("/say", params={"text": "***"}).status_code == 422


def test_the_notebook_runs():
    cells = json.load(io.StringIO((FOLDER / "notebook.ipynb").read_text()))["cells"]
    names: dict[str, object] = {}
    shown = []
    for cell in cells:
        if cell["cell_type"] == "code":
            *before, last = "".join(cell["source"]).rstrip().split("\n")
            exec("\n".join(before), names)
            shown.append(eval(last, names))
    assert shown[1]._repr_html_().startswith("<audio controls")
    assert re.fullmatch(r"\d\.\d\d s, -\d\d dB", shown[2])
    assert "closed" in repr(shown[3])


class Chat(BaseHTTPRequestHandler):
    """A chat server that writes its answer in pieces, as OpenAI's does."""

    answer: ClassVar = ["Well, ", "this is the ", "first clause, ", "and that is more. ", "It was late!"]
    asked: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for text in self.answer:
            part = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
            self.wfile.write(f"data: {json.dumps(part)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_a_chat_is_heard_while_it_is_written(checkpoints, delay_model, tmp_path):
    pytest.importorskip("websockets", reason="the extra server is not installed")
    from support.serving import assert_same_speech, serving

    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as chat, serving(checkpoints["delay"], tmp_path) as speech:
        threading.Thread(target=chat.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{chat.server_port}/v1"
        arguments = [
            "Tell me a story.",
            "--chat",
            address,
            "--model",
            "any",
            "--speech",
            f"ws://127.0.0.1:{speech.port}",
        ]
        done = run("chat_aloud.py", arguments, tmp_path)
        chat.shutdown()
    assert done.returncode == 0, done.stderr
    assert Chat.asked[0]["messages"] == [{"role": "user", "content": "Tell me a story."}]
    assert "".join(Chat.answer) in done.stdout
    heard, rate = soundfile.read(tmp_path / "answer.wav", dtype="int16")
    assert rate == delay_model.sample_rate
    with delay_model.session(seed=1) as session:
        assert_same_speech(heard, np.concatenate([chunk.audio for chunk in session.speak(Chat.answer)]))
