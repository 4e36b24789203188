"""Files beside the weights that were made to do harm: nothing that they say is believed, nothing is waited for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from moss_tts.errors import CheckpointError
from moss_tts.weights.headers import MOST_HEADER_BYTES, Entry, read_header
from moss_tts.weights.layout import MOST_JSON_BYTES, read_json, read_weights
from moss_tts.weights.shards import SUMS_FILE, check_sums

WEIGHT = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def written(place: Path, header: Any, data: bytes = bytes(4), length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = place / "model.safetensors"
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def complaint(place: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_weights(place)
    assert str(place) in str(caught.value)
    assert len(str(caught.value)) < 500
    return str(caught.value)


def test_a_header_says_where_its_tensors_are(tmp_path):
    mx.save_safetensors(str(tmp_path / "model.safetensors"), {"a": mx.zeros((2, 3)), "b": mx.ones(())}, {"note": "hi"})
    header = read_header(tmp_path / "model.safetensors")
    begin = (tmp_path / "model.safetensors").stat().st_size - 28
    places = sorted((entry.start, entry.end) for entry in header.tensors.values())
    assert header.tensors["a"] == Entry("F32", (2, 3), header.tensors["a"].start, header.tensors["a"].start + 24)
    assert (places[0][0], places[-1][1]) == (begin, begin + 28)
    assert header.metadata["note"] == "hi"


HEADERS: dict[str, Any] = {
    "a negative axis": {"a": WEIGHT | {"shape": [-1]}},
    "axes that are no numbers": {"a": WEIGHT | {"shape": ["1"]}},
    "an axis that is true": {"a": WEIGHT | {"shape": [True]}},
    "an axis beyond 32 bits": {"a": WEIGHT | {"shape": [2**31, 0], "data_offsets": [0, 0]}},
    "more axes than there can be": {"a": WEIGHT | {"shape": [1] * 100}},
    "values that it has not": {"a": WEIGHT | {"shape": [10**8, 10**8]}},
    "a place beyond 64 bits": {"a": WEIGHT | {"data_offsets": [10**30, 10**30 + 4]}},
    "an end before its start": {"a": WEIGHT | {"data_offsets": [4, 0]}},
    "a type that is no name": {"a": WEIGHT | {"dtype": ["F32"]}},
    "a key more": {"a": WEIGHT | {"strides": [1]}},
    "overlapping tensors": {"a": WEIGHT, "b": WEIGHT},
    "a gap": {"a": WEIGHT, "b": WEIGHT | {"shape": [0], "data_offsets": [2, 2]}},
    "a tensor twice": b'{"a": %b, "a": %b}' % ((json.dumps(WEIGHT).encode(),) * 2),
    "a number that is none": b'{"a": NaN}',
    "an endless number": b'{"a": 1' + b"0" * 5000 + b"}",
    "depth": b"[" * 10**5,
    "objects in objects": b'{"a":' * 100 + b"1" + b"}" * 100,
    "metadata that is no table": {"a": WEIGHT, "__metadata__": [1]},
    "metadata of numbers": {"a": WEIGHT, "__metadata__": {"format": 1}},
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_that_cannot_be_is_refused(kind, tmp_path):
    written(tmp_path, HEADERS[kind])
    assert "broken safetensors header" in complaint(tmp_path)


def test_a_header_has_a_greatest_length(tmp_path):
    """The file is as long as it says: without blocks on the disk, and without being read."""
    path = written(tmp_path, b"{", length=2**40)
    os.truncate(path, 2**40 + 8)
    assert f"at most {MOST_HEADER_BYTES} are allowed" in complaint(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_are_not_waited_for(kind, tmp_path):
    for name in ("model.safetensors", "config.json"):
        if kind == "pipe":
            os.mkfifo(tmp_path / name)
        else:
            (tmp_path / name).symlink_to("/dev/zero")
    assert "it is a pipe or a device, not a file" in complaint(tmp_path)
    with pytest.raises(CheckpointError, match="it is a pipe or a device, not a file"):
        read_json(tmp_path / "config.json")


JSON = {
    "a key twice": (b'{"n_vq": 4, "n_vq": 8}', "the key 'n_vq' is there twice"),
    "a number that is none": (b'{"a": -Infinity}', "-Infinity is no number of JSON"),
    "depth": (b'{"a":' * 10**5, "nested deeper than 32 levels"),
    "a little less depth": (b'{"a":' * 33 + b"1" + b"}" * 33, "nested deeper than 32 levels"),
    "length": (b" " * MOST_JSON_BYTES + b"{}", f"longer than {MOST_JSON_BYTES} bytes"),
}


@pytest.mark.parametrize("kind", JSON)
def test_json_that_cannot_be_meant_is_refused(kind, tmp_path):
    content, words = JSON[kind]
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_json(tmp_path / "config.json")


# ------------------------------------------------------------------------------------------- names of other files


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "notes.txt", "model.bin", "..", ""])
def test_an_index_names_safetensors_files_beside_it_alone(name, tmp_path):
    (tmp_path / "notes.txt").write_text("secret")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    assert "index.json names files that are" in complaint(tmp_path)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "notes.txt", ".."])
def test_sums_are_of_safetensors_files_beside_them_alone(name, tmp_path):
    (tmp_path / "notes.txt").write_text("secret")
    (tmp_path / SUMS_FILE).write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(CheckpointError, match=r"names what is no \.safetensors file beside it"):
        check_sums(tmp_path)


def test_a_tensor_in_two_files_is_refused(tmp_path):
    for name in ("model-1.safetensors", "model-2.safetensors"):
        mx.save_safetensors(str(tmp_path / name), {"a": mx.zeros(1)})
    assert "has a in two files" in complaint(tmp_path)
