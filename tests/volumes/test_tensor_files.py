"""Pickled tensors and arrays: every form reads to its values, and no hostile one gets to run or to fill memory."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tatcli.errors import GeometryError, VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes import read_volume
from tatcli.volumes.tensor_files import tensor_in

VALUES = np.random.default_rng(0).normal(0, 500, (1, 24, 20)).astype(np.float32)
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def saved(tensor: object, *, zipped: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(tensor, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def read(folder: Path, data: bytes) -> np.ndarray:
    (folder / "slice.bin").write_bytes(data)
    return read_volume(folder / "slice.bin").array


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_plain_pickles(tmp_path: Path, protocol: int, kind: str) -> None:
    values = torch.from_numpy(VALUES) if kind == "tensor" else VALUES
    np.testing.assert_array_equal(read(tmp_path, pickle.dumps(values, protocol=protocol)), VALUES)


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_as_torch_reads_them(zipped: bool) -> None:
    """Views with strides and offsets included."""
    base = torch.arange(120.0).reshape(4, 5, 6)
    for tensor in (base, base.transpose(0, 2), base[1:3, ::2, 1:], base[2].clone().to(torch.int16)):
        data = saved(tensor, zipped=zipped)
        expected = torch.load(io.BytesIO(data), weights_only=True).numpy()
        found = tensor_in(data)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int32, torch.int64, torch.bool],
)
def test_element_types(dtype: torch.dtype) -> None:
    tensor = torch.arange(-4, 4).reshape(2, 4).to(dtype)
    expected = tensor.float().numpy() if dtype == torch.bfloat16 else tensor.numpy()
    for data in (pickle.dumps(tensor), saved(tensor), saved(tensor, zipped=False)):
        np.testing.assert_array_equal(tensor_in(data), expected)


def test_arrays_of_other_order(tmp_path: Path) -> None:
    for array in (np.asfortranarray(VALUES), VALUES.astype(">i2"), VALUES.astype("<f8")):
        for protocol in (2, 5):
            np.testing.assert_array_equal(tensor_in(pickle.dumps(array, protocol=protocol)), array)


def test_a_slice_is_a_volume_of_one(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(pickle.dumps(torch.from_numpy(VALUES)))
    volume = read_volume(tmp_path / "a.bin", units=Units.HU)
    assert volume.geometry.shape == (1, 24, 20)
    assert volume.units is Units.HU
    assert volume.provenance.format == "tensor"
    (tmp_path / "b.bin").write_bytes(pickle.dumps(torch.zeros(2, 3, 4, 5)))
    with pytest.raises(GeometryError, match=r"b\.bin: expected a 2-D or 3-D"):
        read_volume(tmp_path / "b.bin")


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call, self.arguments


def named(module: str, name: str, *arguments: object) -> bytes:
    """A pickle that calls a name with arguments."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + pickle.dumps(arguments, protocol=2)[2:-1] + b"R."


def archive(pickled: bytes, **records: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("a/data.pkl", pickled)
        for key, record in records.items():
            file.writestr(f"a/data/{key}", record)
    return stream.getvalue()


def legacy(pickled: bytes) -> bytes:
    return b"".join(pickle.dumps(part, protocol=2) for part in (MAGIC, VERSION, SYSTEM)) + pickled + pickle.dumps([])


def tensor_pickle(count: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    """A data.pkl that claims a storage of ``count`` floats and a view of it."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if value is storage else None

    storage = object()
    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump(
        Runs(torch._utils._rebuild_tensor_v2, storage, offset, shape, strides, False, collections.OrderedDict())
    )
    return stream.getvalue()


def hostile(mark: Path) -> dict[str, bytes]:
    command = f"touch {mark}"
    evil = pickle.dumps(Runs(os.system, command), protocol=2)
    good = pickle.dumps(torch.from_numpy(VALUES))
    nested = named("torch.storage", "_load_from_bytes", evil)
    return {
        **{f"os.system, protocol {p}": pickle.dumps(Runs(os.system, command), protocol=p) for p in range(6)},
        "eval": pickle.dumps(Runs(eval, f"__import__('os').system({command!r})")),
        "open": pickle.dumps(Runs(open, str(mark), "w")),
        "beside a tensor": pickle.dumps([torch.zeros(1), Runs(os.system, command)]),
        "as an argument": pickle.dumps(Runs(collections.OrderedDict, [("a", Runs(os.system, command))])),
        "in an array of objects": pickle.dumps(np.array([Runs(os.system, command)], dtype=object)),
        "in a zip archive": archive(evil),
        "in a legacy file": legacy(evil),
        "in a storage": nested,
        "in a storage's torch file": named("torch.storage", "_load_from_bytes", legacy(evil)),
        "in a storage's storage": named("torch.storage", "_load_from_bytes", legacy(nested)),
        "torch.load": named("torch", "load", str(mark)),
        "torch.storage, dotted": named("torch", "storage._load_from_bytes", evil),
        "getattr": named("builtins", "getattr", "a", "b"),
        "a partial": named("functools", "partial", "a"),
        "another codec": named("_codecs", "encode", "a" * 100, "zip"),
        "a changed function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.",
        "by an extension code": b"\x80\x02\x82\x01.",
        "a made object": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        "after the tensor": good[:-1] + b"0" + evil[2:],
        "objects": pickle.dumps({"a": 1}),
        "two tensors": pickle.dumps([torch.zeros(2), torch.zeros(2)]),
        "nothing": b"",
        "text": b"not a pickle at all",
        "a cut tensor": good[: len(good) // 2],
        "a cut archive": saved(torch.from_numpy(VALUES))[:-200],
        "a cut legacy file": saved(torch.from_numpy(VALUES), zipped=False)[:-200],
        # memory: each claims more than it holds
        "bytes of 2^60": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b".",
        "bytes of 2^33": b"\x80\x04\x8e" + struct.pack("<Q", 2**33) + b".",
        "a memory of 2^31 objects": b"\x80\x02Nr" + struct.pack("<I", 2**31 - 1) + b".",
        "a million operations": b"\x80\x02" + b"N0" * 500_000 + b"N.",
        "a huge storage": archive(tensor_pickle(2**40, (2**20, 2**20), (2**20, 1)), **{"0": bytes(64)}),
        "a huge tensor": archive(tensor_pickle(16, (2**20, 2**20), (2**20, 1)), **{"0": bytes(64)}),
        "an expanded tensor": archive(tensor_pickle(16, (2**16, 2**16), (0, 0)), **{"0": bytes(64)}),
        "a tensor beside its storage": archive(tensor_pickle(16, (4, 4), (4, 1), offset=1), **{"0": bytes(64)}),
        "a negative step": archive(tensor_pickle(16, (4, 4), (-4, 1), offset=12), **{"0": bytes(64)}),
        "a huge array": named("numpy.core.numeric", "_frombuffer", b"abc", np.dtype("f4"), (2**40,), "C"),
        "a bomb": compressed(bytes(10_000_000)),
    }


def compressed(record: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", tensor_pickle(len(record) // 4, (len(record) // 4,), (1,)))
        file.writestr("a/data/0", record)
    return stream.getvalue()


MARK = Path("mark-of-a-hostile-pickle")
HOSTILE = hostile(MARK)


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "slice.bin"
    path.write_bytes(HOSTILE[name])
    size = path.stat().st_size
    tracemalloc.start()
    try:
        with pytest.raises(VolumeReadError, match=r"slice\.bin: expected") as refused:
            read_volume(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(refused.value)
    assert not MARK.exists()
    assert peak < 8 * size + 4_000_000


def test_a_refusal_says_what_was_called_for(tmp_path: Path) -> None:
    with pytest.raises(VolumeReadError, match=r"got it calls for (posix|nt)\.system; it was not run"):
        read(tmp_path, pickle.dumps(Runs(os.system, "true")))


def test_what_a_pickle_does_leaves_no_trace(tmp_path: Path) -> None:
    """A refused attempt to change a stand-in doesn't spoil the next file."""
    with pytest.raises(VolumeReadError):
        read(tmp_path, HOSTILE["a changed function"])
    np.testing.assert_array_equal(read(tmp_path, pickle.dumps(torch.from_numpy(VALUES))), VALUES)
