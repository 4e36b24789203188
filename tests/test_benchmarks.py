"""The benchmarks run at tiny sizes and end with the line of JSON that others read."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from pathlib import Path
from typing import ClassVar

import mlx.core as mx
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import common
import convert as convert_benchmark
import decode
import peer_llama
import session as session_benchmark
import synthetic

import codec as codec_benchmark
import server as server_benchmark
from moss_tts.checkpoints.footprint import model_footprint, smaller
from moss_tts.checkpoints.loading import load_config


@pytest.fixture(scope="module", params=synthetic.ARCHITECTURE_NAMES)
def architecture(request):
    raw = synthetic.raw_config(request.param, synthetic.SIZES["tiny"])
    return synthetic.architecture_of(raw, synthetic.speech_weights(raw))


def test_synthetic_models_never_stop_and_batches_are_singles(architecture) -> None:
    prompt = synthetic.prompt_rows(architecture.config)
    alone = common.timed_run(architecture, prompt, 1, 12).rows
    together = common.timed_run(architecture, prompt, 3, 12).rows
    assert (alone[..., 0] == architecture.config.audio_assistant_gen_slot_token_id).all()
    np.testing.assert_array_equal(np.repeat(alone, 3, axis=1), together)


def test_at_most_one_sync_per_frame(architecture) -> None:
    prompt = synthetic.prompt_rows(architecture.config)
    assert common.syncs_per_frame(common.new_batch(architecture, prompt, 2)) <= 1


def test_a_read_in_the_loop_is_counted_as_a_sync() -> None:
    reads = common.HostReads()
    with reads.counting():
        for _ in range(3):
            value = mx.ones(3) * 2
            mx.async_eval(value)
            np.array(value)
            np.array(value)
            (value + 1).sum().item()
    assert reads.waits == 3


def test_the_floor_counts_every_weight_that_a_step_reads() -> None:
    size = synthetic.SIZES["tiny"]
    raw = synthetic.raw_config("delay", size)
    weights = synthetic.speech_weights(raw)
    layers = sum(w.nbytes for name, w in weights.items() if ".layers." in name or name.endswith("model.norm.weight"))
    heads = size.n_vq * (size.codebook + 1) * size.width * 4
    rows = (2 + 1 + size.n_vq) * size.width * 4
    assert synthetic.architecture_of(raw, weights).bytes_per_frame() == layers + heads + rows


def test_decode_ends_with_its_line(capsys) -> None:
    decode.main("--size tiny --architecture delay --batch 1 2 --frames 4 --probe-megabytes 1 --bits 8".split())
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    for case in ("tiny/delay/1", "tiny/delay/2"):
        assert last[case]["syncs_per_frame"] <= 1
        assert last[case]["floor_fraction"] > 0
        assert last[case]["primitives_per_frame"] > 0
        assert {"ms", "floor_fraction", "vs_float32"} <= last[case]["bits"]["8"].keys()


@pytest.fixture
def tiny_backbone(monkeypatch) -> None:
    """Sizes that llama.cpp's formats allow: rows of 32 weights."""
    size = synthetic.Size(**vars(synthetic.SIZES["tiny"]) | {"width": 64, "head": 32, "ffn": 64})
    monkeypatch.setitem(synthetic.SIZES, "wide", size)


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize("bits", peer_llama.TYPES)
def test_our_side_of_the_race_with_llama_takes_one_row_a_step(bits) -> None:
    step = peer_llama.our_step(2, bits)
    assert peer_llama.timed(step, 3) > 0


@pytest.mark.usefixtures("tiny_backbone")
def test_the_race_with_llama_ends_with_its_line(capsys) -> None:
    pytest.importorskip("llama_cpp", reason="the extra llama compiles for minutes")
    peer_llama.main("--layers 1 --tokens 2 --rounds 1".split())
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert {"llama_ms", "ours_ms", "ours_over_llama"} == last["8 bit"].keys() == last["4 bit"].keys()


def test_session_ends_with_its_line(capsys, checkpoints) -> None:
    asked = "--sessions 2 --tokens-per-second 200 --characters 120 --max-tokens 4".split()
    session_benchmark.main(["--checkpoint", str(checkpoints["delay"]), *asked])
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert set(last) == {"first_sound_ms", "underruns", "starved_ms", "sessions"}
    assert [run["sessions"] for run in last["sessions"]] == [1, 2]
    assert all(run["first_sound_ms"] > 0 and run["seconds_of_audio"] > 0 for run in last["sessions"])


def test_decode_measures_adapters_in_turns(capsys) -> None:
    decode.main("--size tiny --architecture local --batch 2 --frames 3 --probe-megabytes 1 --adapters 4,2".split())
    case = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["tiny/local/2"]
    assert case["adapters"] == [4, 2]
    assert case["adapted"] > 0
    assert case["ms_per_frame_adapted"] > 0 < case["ms_per_frame_without"]


def test_adapters_of_a_benchmark_are_beside_all_layers(architecture) -> None:
    prompt = synthetic.prompt_rows(architecture.config)
    before = common.timed_run(architecture, prompt, 1, 3).rows
    wanted = synthetic.add_adapters(architecture, [4, 2])
    batch = common.new_batch(architecture, prompt, 1, adapters=wanted)
    plain = common.new_batch(architecture, prompt, 1)
    assert common.primitives_of_step(batch) > common.primitives_of_step(plain)
    np.testing.assert_array_equal(common.timed_run(architecture, prompt, 1, 3, adapters=wanted).rows, before)


def test_codec_ends_with_its_line(capsys, monkeypatch) -> None:
    monkeypatch.delenv("MOSS_TTS_PEER_PYTHON", raising=False)
    codec_benchmark.main("--scale 32 --minutes 1 --live-chunks 4".split())
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert len(last["minutes"]) == 1
    assert last["live_ms"] > 0


def test_converting_a_synthetic_checkpoint_and_speaking(tmp_path, capsys) -> None:
    given = f"--work {tmp_path} --size tiny --group-size 32 --dtype float32 --frames 6".split()
    results = {}
    for step in convert_benchmark.STEPS:
        convert_benchmark.main([*given, "--step", step])
        results |= json.loads(capsys.readouterr().out)
    assert results["quantise"]["gb"] < results["write"]["gb"]
    assert results["speak"]["frames"] == results["speak"]["different_frames"] == 6
    assert 0 < results["speak"]["foretold_gb"] <= results["speak"]["weights_gb"]


def test_a_hollow_checkpoint_has_the_size_of_a_real_one(tmp_path) -> None:
    raw = synthetic.raw_config("local", synthetic.SIZES["local_1_7b"])
    directory = convert_benchmark.hollow_checkpoint(tmp_path / "hollow", raw)
    config = load_config(directory)
    assert 5.4e9 < model_footprint(directory, config, "bfloat16")[1] < 5.6e9
    sizes = list(smaller(directory, config, mx.bfloat16).values())
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 3.2e9


class Answering(http.server.BaseHTTPRequestHandler):
    """A server that speaks silence, and knows how many connections it had."""

    protocol_version = "HTTP/1.1"
    connections: ClassVar[list[object]] = []

    def setup(self) -> None:
        super().setup()
        self.connections.append(self.client_address)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(bytes(4))

    def log_message(self, *_: object) -> None:
        pass


def test_clients_of_the_servers_benchmark_keep_their_connection() -> None:
    """Until they leave: then the next request opens another one."""
    whole = server_benchmark.Task("whole", {"stream": True}, np.zeros(2, np.int16))
    leaving = server_benchmark.Task("cancelled", {"stream": True})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with server_benchmark.Client(server.server_address[1]) as client:
            outcomes = [client.ask(task)[0] for task in (whole, whole, whole, leaving, whole, whole)]
        server.shutdown()
    assert outcomes == ["ok"] * 3 + ["cancelled"] + ["ok"] * 2
    assert len(Answering.connections) == 2
