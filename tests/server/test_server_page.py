"""The page at /, in a headless Chromium: with keyboard and finger, and nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("fastapi", reason="the extra server is not installed")

from moss_tts.audio.files import write_audio
from support.serving import assert_same_speech, serving

BROWSER = Path(__file__).parents[1] / "browser"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.slow
def test_the_page(checkpoints, delay_model, tmp_path):
    if CHROMIUM is None or shutil.which("node") is None:
        pytest.skip("needs chromium and node (Debian: apt install chromium nodejs npm)")
    if not (BROWSER / "node_modules" / "playwright-core").is_dir():
        pytest.skip("needs playwright-core: npm install --prefix tests/browser")
    recording = tmp_path / "alice.wav"
    write_audio(recording, 0.1 * np.random.default_rng(0).standard_normal(24000), 24000)
    with serving(checkpoints["delay"], tmp_path / "voices", max_frames=4096) as running:
        command = ["node", BROWSER / "page.js", CHROMIUM, running.url, recording]
        used = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert used.returncode == 0, used.stderr
    found = json.loads(used.stdout)
    spoken = next(delay_model.generate("Hello there.", seed=1))
    assert_same_speech(heard(found["spoken"]), spoken.audio)
    cloned = next(delay_model.generate("Hello there.", seed=1, duration_s=0.5, reference=recording))
    assert_same_speech(heard(found["cloned"]), cloned.audio)


def heard(wav: str) -> np.ndarray:
    return soundfile.read(io.BytesIO(base64.b64decode(wav)), dtype="int16")[0]


def test_the_page_names_nobody_else(checkpoints, tmp_path):
    with serving(checkpoints["delay"], tmp_path) as running:
        page = running.get("/")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        for path in ("/", "/docs", "/static/page.js", "/static/page.css", "/static/sound.js", "/static/docs.js"):
            content = running.get(path)
            assert content.status_code == 200
            assert "http://" not in content.text
            assert "https://" not in content.text
