"""pytorch_model.bin without PyTorch: what torch.save writes is read, and nothing else; nothing of it is run."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_tts.checkpoints.convert import convert
from moss_tts.checkpoints.inspection import weight_facts
from moss_tts.checkpoints.loading import CheckpointSource, load_config
from moss_tts.checkpoints.plan import plan
from moss_tts.errors import CheckpointError
from moss_tts.weights import shards
from moss_tts.weights.layout import read_weights
from moss_tts.weights.pickled import pickled_tensors, read_pickled
from moss_tts.weights.tensor_pickle import read_pickle
from support import pickles

GOLDEN = Path(__file__).parents[1] / "golden"
FOUR = np.arange(4, dtype=np.float32).tobytes()
WHOLE = pickles.storage("FloatStorage", "0", 4)
ONE = pickles.table({"w": pickles.tensor(WHOLE, 0, (2, 2), (2, 1))})


def put(folder: Path, raw: bytes) -> Path:
    path = folder / "pytorch_model.bin"
    path.write_bytes(raw)
    return path


def test_what_torch_writes_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    grid = torch.arange(12.0).reshape(3, 4)
    table = {
        "bfloat16": grid.bfloat16(),
        "half": grid.half(),
        "double": grid.double() / 3,
        "turned": grid.t(),
        "part": grid[1:, 2:],
        "deep": grid.reshape(3, 2, 2).permute(2, 0, 1),
        "scalar": torch.tensor(5, dtype=torch.int64),
        "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(grid[:1].clone()),
    }
    torch.save(table, tmp_path / "pytorch_model.bin")
    read = read_weights(tmp_path)
    assert read.keys() == table.keys()
    for label, value in table.items():
        assert tuple(read[label].shape) == tuple(value.shape), label
        assert np.array_equal(np.array(read[label].astype(mx.float32)), value.detach().float().numpy()), label
    assert read["bfloat16"].dtype == mx.bfloat16
    assert read["half"].dtype == mx.float16
    assert read["double"].dtype == mx.float32


def test_the_pickles_made_by_hand_mean_what_those_of_torch_mean(tmp_path):
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(2, 3)
    torch.save(layer.state_dict(), tmp_path / "torch.bin")
    weights = {label: mx.array(value.detach().numpy()) for label, value in layer.state_dict().items()}
    pickles.write(tmp_path / "hand.bin", weights)
    ours, theirs = (pickled_tensors(tmp_path / label) for label in ("hand.bin", "torch.bin"))
    assert [(key, one.dtype, one.shape) for key, one in ours.items()] == [
        (key, one.dtype, one.shape) for key, one in theirs.items()
    ]
    assert all(mx.array_equal(ours[key].whole(), theirs[key].whole()) for key in ours)


# torch.save({"w": torch.tensor([1.5, -2.0]).bfloat16()}, ...) of PyTorch 2.14: its data.pkl, byte by byte.
OF_TORCH = (
    b"\x80\x02}q\x00X\x01\x00\x00\x00wq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storageq\x03"
    b"ctorch\nBFloat16Storage\nq\x04X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06K\x02tq\x07QK\x00K\x02\x85q\x08"
    b"K\x01\x85q\t\x89ccollections\nOrderedDict\nq\n)Rq\x0btq\x0cRq\rs."
)


def test_a_pickle_of_torch_is_read_without_torch(tmp_path):
    path = put(tmp_path, pickles.archive(OF_TORCH, {"0": b"\xc0\x3f\x00\xc0"}))
    assert read_pickled(path)["w"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize("dtype", list(pickles.NAMES), ids=str)
def test_every_type_is_read_as_it_is(tmp_path, dtype):
    weights = {"w": mx.arange(6).reshape(2, 3).astype(dtype), "scalar": mx.array(3).astype(dtype)}
    pickles.write(tmp_path / "pytorch_model.bin", weights)
    read = read_weights(tmp_path)
    assert [(one.dtype, one.tolist()) for one in read.values()] == [
        (one.dtype, one.tolist()) for one in weights.values()
    ]


def test_doubles_become_floats(tmp_path):
    stored = pickles.storage("DoubleStorage", "0", 2)
    raw = pickles.archive(pickles.table({"w": pickles.tensor(stored, 0, (2,), (1,))}), {"0": np.float64([1 / 3, 2])})
    assert read_pickled(put(tmp_path, raw))["w"].tolist() == mx.array([1 / 3, 2]).tolist()


def test_parts_and_turned_tensors_by_rows(tmp_path):
    values = np.arange(24, dtype=np.float32)
    stored = pickles.storage("FloatStorage", "0", 24)
    items = {
        "turned": pickles.tensor(stored, 0, (6, 4), (1, 6)),
        "part": pickles.parameter(pickles.tensor(stored, 7, (2, 3), (6, 1))),
        "column": pickles.tensor(stored, 1, (4, 1), (6, 1)),
    }
    found = pickled_tensors(put(tmp_path, pickles.archive(pickles.table(items), {"0": values.tobytes()})))
    grid = values.reshape(4, 6)
    for label, wanted in (("turned", grid.T), ("part", grid[1:3, 1:4]), ("column", grid[:, 1:2])):
        assert np.array_equal(np.array(found[label].whole()), wanted), label
        for row in range(len(wanted)):
            assert np.array_equal(np.array(found[label].rows(row, row + 1)), wanted[row : row + 1]), label


def test_tied_copies_are_one_array(tmp_path):
    weight = mx.ones((8, 4))
    read = read_pickled(pickles.write(tmp_path / "pytorch_model.bin", {"wte": weight, "head": weight}))
    assert read["wte"] is read["head"]


# ----------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A golden checkpoint as upstream might have published it: with pytorch_model.bin in place of safetensors."""
    shutil.copytree(GOLDEN / "local", tmp_path / "source")
    pickles.write(tmp_path / "source" / "pytorch_model.bin", read_weights(GOLDEN / "local"))
    (tmp_path / "source" / "model.safetensors").unlink()
    return tmp_path / "source"


def test_a_checkpoint_without_safetensors_is_read_from_its_pickle(checkpoint):
    read, wanted = read_weights(checkpoint), read_weights(GOLDEN / "local")
    assert read.keys() == wanted.keys()
    assert all(mx.array_equal(read[label], wanted[label]) for label in wanted)
    ours, theirs = weight_facts(checkpoint), weight_facts(GOLDEN / "local")
    assert (ours.tensors, ours.parameters, ours.dtypes) == (theirs.tensors, theirs.parameters, theirs.dtypes)


def test_safetensors_come_first(checkpoint):
    (checkpoint / "pytorch_model.bin").write_bytes(b"no zip")
    shutil.copy(GOLDEN / "local" / "model.safetensors", checkpoint)
    assert read_weights(checkpoint).keys() == read_weights(GOLDEN / "local").keys()


def test_shards_that_an_index_names(checkpoint):
    weights = list(read_weights(GOLDEN / "local").items())
    shards_of = {"pytorch_model-00001-of-00002.bin": weights[::2], "pytorch_model-00002-of-00002.bin": weights[1::2]}
    for label, part in shards_of.items():
        pickles.write(checkpoint / label, dict(part))
    (checkpoint / "pytorch_model.bin").unlink()
    weight_map = {key: label for label, part in shards_of.items() for key, _ in part}
    (checkpoint / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert read_weights(checkpoint).keys() == dict(weights).keys()
    (checkpoint / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(CheckpointError, match=r"names shards that are not there: pytorch_model-00002"):
        read_weights(checkpoint)


def test_convert_makes_safetensors_of_it(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "BLOCK_BYTES", 512)
    source = CheckpointSource(str(checkpoint), checkpoint, from_hub=False)
    convert(source, tmp_path / "copy", plan(checkpoint, load_config(checkpoint)))
    assert not list((tmp_path / "copy").glob("*.bin*"))
    copy, wanted = read_weights(tmp_path / "copy"), read_weights(GOLDEN / "local")
    assert all(mx.array_equal(copy[label], wanted[label]) for label in copy)
    assert (tmp_path / "copy" / "model.safetensors").is_file()


# ------------------------------------------------------------------------------------------ what is refused

SYSTEM = pickles.name("os", "system") + b"(" + pickles.text("touch was_run") + b"tR"
REBUILD = pickles.name("torch._utils", "_rebuild_tensor_v2")
NESTED = b"\x80\x02" + b")" + b"\x85" * 100_000 + b"."
PICKLES = {
    "a call of the system": (b"\x80\x02" + SYSTEM + b".", r"asks for 'os\.system' of Python"),
    "a call of the system inside a table": (pickles.table({"w": SYSTEM}), r"asks for 'os\.system'"),
    "eval": (b"\x80\x02cbuiltins\neval\n(" + pickles.text("1") + b"tR.", r"asks for 'builtins\.eval'"),
    "a name in parts": (
        b"\x80\x04\x8c\x02os\x8c\x06system\x93(" + pickles.text("x") + b"tR.",
        r"asks for 'os\.system'",
    ),
    "a name with a path": (b"\x80\x04" + pickles.text("torch") + pickles.text("a.b") + b"\x93.", r"'torch\.a\.b'"),
    "a whole model": (b"\x80\x02c__main__\nModel\n)\x81}b.", r"asks for '__main__\.Model'"),
    "an instance": (b"\x80\x02" + pickles.name("collections", "OrderedDict") + b")\x81.", "NEWOBJ"),
    "an instance of the old kind": (b"(" + b"ios\nsystem\n.", "INST"),
    "an object of the old kind": (b"(" + pickles.name("collections", "OrderedDict") + b"o.", "OBJ"),
    "a call of a type": (b"\x80\x02" + pickles.name("torch", "FloatStorage") + b")R.", "calls what makes no tensor"),
    "a call of a text": (b"\x80\x02" + pickles.text("x") + b")R.", "calls what makes no tensor"),
    "a state for a function": (b"\x80\x02" + REBUILD + b"}" + pickles.text("x") + b"Nsb.", "changes a finished thing"),
    "a state for a table": (b"\x80\x02" + pickles.TABLE + b"}" + pickles.text("items") + b"Nsb.", "changes a finished"),
    "a table that is filled at once": (
        b"\x80\x02" + pickles.name("collections", "OrderedDict") + b"(}tR.",
        "fills a table otherwise",
    ),
    "a tensor of other arguments": (b"\x80\x02" + REBUILD + b"(K\x01tR.", "describes a tensor otherwise"),
    "a tensor without a storage": (pickles.table({"w": pickles.tensor(b"N", 0, (2,), (1,))}), "tensor otherwise"),
    "a parameter of nothing": (pickles.table({"w": pickles.parameter(b"N")}), "describes a parameter otherwise"),
    "a part that is no number": (
        pickles.table({"w": pickles.tensor(WHOLE, 0, (2,), (1,)).replace(pickles.numbers((2,)), b"(" + b"Nt")}),
        "impossible shape",
    ),
    "fewer strides than axes": (pickles.table({"w": pickles.tensor(WHOLE, 0, (2, 2), (1,))}), "impossible shape"),
    "a negative size": (pickles.table({"w": pickles.tensor(WHOLE, 0, (-2,), (1,))}), "impossible shape"),
    "a negative start": (pickles.table({"w": pickles.tensor(WHOLE, -1, (2,), (1,))}), "impossible shape"),
    "too many axes": (pickles.table({"w": pickles.tensor(WHOLE, 0, (1,) * 9, (1,) * 9)}), "impossible shape"),
    "a size beyond its values": (pickles.table({"w": pickles.tensor(WHOLE, 0, (5,), (1,))}), "beyond its 4 values"),
    "a start beyond its values": (pickles.table({"w": pickles.tensor(WHOLE, 3, (2,), (1,))}), "beyond its 4 values"),
    "a stride beyond its values": (pickles.table({"w": pickles.tensor(WHOLE, 0, (2,), (4,))}), "beyond its 4 values"),
    "one value a million times": (pickles.table({"w": pickles.tensor(WHOLE, 0, (10**6,), (0,))}), "beyond its 4"),
    "a size beyond all numbers": (pickles.table({"w": pickles.tensor(WHOLE, 0, (2**600,), (1,))}), "larger than any"),
    "sizes whose product is": (
        pickles.table({"w": pickles.tensor(WHOLE, 0, (2**62,) * 8, (1,) * 8)}),
        "reaches beyond its 4 values",
    ),
    "values that are not there": (
        pickles.table({"w": pickles.tensor(pickles.storage("FloatStorage", "../1", 4), 0, (2,), (1,))}),
        r"lacks 'data/\.\./1'",
    ),
    "more values than there are": (
        pickles.table({"w": pickles.tensor(pickles.storage("FloatStorage", "0", 5), 0, (2,), (1,))}),
        "data/0 should hold 5 values of 4 bytes but has 16 bytes",
    ),
    "values of an unknown type": (
        pickles.table({"w": pickles.tensor(pickles.storage("ComplexFloatStorage", "0", 16), 0, (2,), (1,))}),
        r"asks for 'torch\.ComplexFloatStorage'",
    ),
    "values elsewhere": (b"\x80\x02" + pickles.text("a file") + b"Q.", "values of an unknown type"),
    "a bare tensor": (b"\x80\x02" + pickles.tensor(WHOLE, 0, (2,), (1,)) + b".", "beside tensors by name"),
    "a training state": (pickles.table({"model": pickles.TABLE, "step": b"K\x01"}), "beside tensors by name"),
    "a table of nothing": (pickles.table({}), "beside tensors by name"),
    "keys that are no text": (b"\x80\x02}K\x01K\x01s.", "no dict with text for keys"),
    "a list": (b"\x80\x02].", "beside tensors by name"),
    "nothing": (b"\x80\x02.", "describes more than one thing, or none"),
    "no bytes": (b"", "pickle exhausted"),
    "an end without an end": (ONE[:-1], "pickle exhausted"),
    "half an instruction": (ONE[:150], "cannot be read"),
    "an unknown instruction": (b"\x80\x02\xff.", "cannot be read"),
    "a stack without a mark": (b"\x80\x02t.", "lacks what it works on"),
    "a stack that is empty": (b"\x80\x02\x85.", "lacks what it works on"),
    "a memory far away": (b"\x80\x02Nr\xff\xff\xff\xffj\xff\xff\xff\x7f.", "refers to what it has not described"),
    "a tower of tuples": (NESTED, "beside tensors by name"),
    "a table inside itself": (b"\x80\x02}q\x00" + pickles.text("w") + b"h\x00s.", "beside tensors by name"),
    "a number without end": (b"\x80\x02\x8b\xff\xff\xff\x7f\x01.", "cannot be read"),
}


@pytest.mark.parametrize(("pickle", "message"), PICKLES.values(), ids=PICKLES.keys())
def test_any_other_pickle_is_refused_in_a_sentence_and_nothing_is_run(tmp_path, monkeypatch, pickle, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_pickled(put(tmp_path, pickles.archive(pickle, {"0": FOUR})))
    assert str(tmp_path / "pytorch_model.bin") in str(caught.value)
    assert len(str(caught.value)) < 500
    assert os.listdir(tmp_path) == ["pytorch_model.bin"]


def test_many_views_of_one_storage_do_not_fill_the_memory(tmp_path):
    stored = pickles.storage("FloatStorage", "0", 10_000)
    items = {f"w{n}": pickles.tensor(stored, n, (9_000,), (1,)) for n in range(20)}
    raw = pickles.archive(pickles.table(items), {"0": bytes(40_000)})
    with pytest.raises(CheckpointError, match="claim more values than the file has"):
        read_pickled(put(tmp_path, raw))


def doubled(raw: bytes) -> bytes:
    """The same with a second pickle under another name."""
    made = io.BytesIO(raw)
    with zipfile.ZipFile(made, "a") as file:
        file.writestr("other/data.pkl", b"")
    return made.getvalue()


def moved(raw: bytes) -> bytes:
    """The same with the list at its end saying that the values lie elsewhere."""
    at = raw.rindex(b"archive/data/0") - 4
    return raw[:at] + (1).to_bytes(4, "little") + raw[at + 4 :]


FILES = {
    "the form before 1.6": (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", r"before version 1\.6"),
    "no file of torch": (b"hello", "torch.save did not write it"),
    "an empty file": (b"", "torch.save did not write it"),
    "a git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer"),
    "another zip file": (doubled(b""), r"cannot be read|without one data\.pkl"),
    "two pickles": (doubled(pickles.archive(ONE, {"0": FOUR})), r"without one data\.pkl"),
    "compressed": (pickles.archive(ONE, {"0": FOUR}, compression=zipfile.ZIP_DEFLATED), "compressed or encrypted"),
    "a zip bomb": (
        pickles.archive(ONE, {"0": bytes(10**7)}, compression=zipfile.ZIP_DEFLATED),
        "compressed or encrypted",
    ),
    "an endless pickle": (pickles.archive(b"\x80\x02" + b"N" * 2**22 + b".", {"0": FOUR}), "longer than 4194304 bytes"),
    "numbers in another order": (pickles.archive(ONE, {"0": FOUR}, order=b"big"), "not in little-endian order"),
    "values that lie elsewhere": (moved(pickles.archive(ONE, {"0": FOUR})), "is not where the file says"),
}


@pytest.mark.parametrize(("raw", "message"), FILES.values(), ids=FILES.keys())
def test_any_other_file_is_refused_in_a_sentence(tmp_path, raw, message):
    with pytest.raises(CheckpointError, match=message):
        read_pickled(put(tmp_path, raw))


@given(st.data())
def test_a_cut_or_damaged_file_is_refused_or_read_and_never_runs(tmp_path_factory, data):
    raw = bytearray(pickles.archive(ONE, {"0": FOUR}))
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = put(tmp_path_factory.mktemp("damaged"), bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    try:
        read = read_pickled(path)
    except CheckpointError:
        return
    assert all(one.size <= 4 for one in read.values())


@given(st.binary(max_size=60))
def test_any_bytes_as_a_pickle_are_refused_as_wrong_values(raw):
    try:
        read_pickle(raw, {"collections.OrderedDict": None}, lambda reference: reference)
    except ValueError:
        return
