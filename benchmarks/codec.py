"""The codec: ten minutes decoded whole, minute by minute, and live in chunks of eight frames beside mlx-audio's.

    python benchmarks/codec.py [--scale 4] [--minutes 10] [--peer-python PATH]

--scale 1 is the released v1 codec (1.8 G random weights); 4 has a quarter of its layers and widths. The peer is
left out where no interpreter with it is named (--peer-python or MOSS_TTS_PEER_PYTHON).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# isort: off
import synthetic
import common
from resident import peak_resident

# isort: on
import mlx.core as mx
import numpy as np

from moss_tts.codec import MossAudioTokenizer, StreamingDecoder

LIVE_FRAMES = 8


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Time, print tables and a line of JSON."""
    options = parsed(arguments)
    raw = synthetic.codec_raw_config(options.scale)
    weights = synthetic.codec_weights(raw, options.seed)
    codec = synthetic.codec_of(raw, weights)
    per_minute = 60 * codec.config.sampling_rate // codec.config.downsample_rate
    minutes = whole(codec, random_codes(per_minute * options.minutes, options.seed), per_minute)
    live = random_codes(LIVE_FRAMES * options.live_chunks, options.seed)
    results: dict[str, Any] = {"scale": options.scale, "minutes": minutes, **live_chunks(codec, live)}
    python = options.peer_python or os.environ.get("MOSS_TTS_PEER_PYTHON")
    if python is not None:
        results |= beside_peer(codec, raw, weights, str(python), live)
    report(results)
    return results


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--live-chunks", type=int, default=24)
    parser.add_argument("--peer-python", help="interpreter that has mlx-audio")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def random_codes(frames: int, seed: int) -> np.ndarray:
    """Codes (Q, F)."""
    return np.random.default_rng(seed).integers(0, 1024, (32, frames)).astype(np.int32)


def whole(codec: MossAudioTokenizer, codes: np.ndarray, per_minute: int) -> list[dict[str, float]]:
    """Seconds of each minute of one stream, decoded with whole-input chunks, and the process's peak memory so far."""
    decoder = StreamingDecoder(codec)
    minutes = []
    for start in range(0, codes.shape[1], per_minute):
        began = time.perf_counter()
        for first in range(start, start + per_minute, 50):
            mx.eval(decoder.push(codes[:, first : min(first + 50, start + per_minute)]))
        minutes.append({"seconds": time.perf_counter() - began, "peak_gb": peak_resident() / 1e9})
    return minutes


def live_chunks(codec: MossAudioTokenizer, codes: np.ndarray) -> dict[str, float]:
    """Milliseconds of each call of eight frames."""
    decoder, seconds = StreamingDecoder(codec), []
    for first in range(0, codes.shape[1], LIVE_FRAMES):
        began = time.perf_counter()
        mx.eval(decoder.push(codes[:, first : first + LIVE_FRAMES]))
        seconds.append(time.perf_counter() - began)
    return {"live_ms": 1e3 * statistics.median(seconds[2:])}


PEER_SESSION = """
import ctypes, json, sys, time
from importlib.util import find_spec
from pathlib import Path
spec = find_spec("ngsolve_openblas")
if spec is not None:
    ctypes.CDLL(str(sorted(Path(spec.origin).parent.glob("libopenblas*.so*"))[0]), mode=ctypes.RTLD_GLOBAL)
import mlx.core as mx, numpy as np
from mlx_audio.codec.models.moss_audio_tokenizer.moss_audio_tokenizer import MossAudioTokenizer
folder, step = Path(sys.argv[1]), int(sys.argv[2])
codec = MossAudioTokenizer.from_pretrained(folder)
codes = np.load(folder / "codes.npy").T
print("ready", flush=True)
for line in sys.stdin:
    session, audio, seconds = codec.make_streaming_decoder(num_quantizers=codes.shape[1]), [], []
    for first in range(0, len(codes), step):
        began = time.perf_counter()
        audio.append(np.array(session.decode_frames(codes[first : first + step])))
        seconds.append(time.perf_counter() - began)
    np.save(folder / "audio.npy", np.concatenate(audio))
    print(json.dumps(seconds), flush=True)
"""


def beside_peer(
    codec: MossAudioTokenizer, raw: synthetic.Raw, weights: synthetic.Weights, python: str, codes: np.ndarray
) -> dict[str, float]:
    """Both live, by turns; the audio is compared first."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "config.json").write_text(json.dumps(raw))
        mx.save_safetensors(str(folder / "model.safetensors"), weights)
        np.save(folder / "codes.npy", codes)
        command = [python, "-c", PEER_SESSION, directory, str(LIVE_FRAMES)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            if process.stdout.readline() != "ready\n":
                sys.exit("the peer's process did not start; its messages are above.")
            turns = [_turn(process, codec, codes) for _ in range(3)]
            process.stdin.close()
        theirs = np.load(folder / "audio.npy")[:, 0]
    ours = np.array(codec.decode(codes).audio)[0, 0]
    peer_ms, ours_ms = (statistics.median(values) for values in zip(*turns[1:], strict=True))
    difference = float(np.abs(ours - theirs).max() / np.abs(ours).max())
    return {"peer_live_ms": peer_ms, "live_ms": ours_ms, "live_speedup": peer_ms / ours_ms, "difference": difference}


def _turn(process: subprocess.Popen[str], codec: MossAudioTokenizer, codes: np.ndarray) -> tuple[float, float]:
    """Median milliseconds per chunk: the peer's, ours."""
    process.stdin.write("go\n")
    process.stdin.flush()
    peer = json.loads(process.stdout.readline())
    return 1e3 * statistics.median(peer[2:]), live_chunks(codec, codes)["live_ms"]


def report(results: dict[str, Any]) -> None:
    """Tables and last line."""
    rows = [[index + 1, minute["seconds"], minute["peak_gb"]] for index, minute in enumerate(results["minutes"])]
    common.print_table("Whole decode", ("minute", "seconds", "peak GB"), rows)
    live = [[name, value] for name, value in results.items() if name != "minutes"]
    common.print_table(f"Live, {LIVE_FRAMES} frames a call", ("", "value"), live)
    common.print_last_line(results)


if __name__ == "__main__":
    main()
