"""Pickles of one tensor or array, as the published dataset's ``.bin`` slices are: plain, or written by torch.save.

Three forms exist. ``pickle.dump(tensor)`` holds its storage as a torch file within the pickle; ``torch.save`` writes a
zip archive (since 1.6) or, before and on request, a row of pickles with the storages behind them;
``pickle.dump(array)`` is numpy's. All of them are read by :mod:`tatcli.volumes.unpickling`, none by torch.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes.npy import volume_of_array
from tatcli.volumes.pickled_objects import RefusedPickle, StoredTensor, TensorStorage, TypedArray
from tatcli.volumes.unpickling import loaded, pickle_end
from tatcli.volumes.volume import Volume

__all__ = ["read_tensor", "tensor_in"]

_LEGACY: Final = 0x1950A86A20F9469CFC6C
"""The number that torch.save put in front before it wrote zip archives."""
_PROTOCOL: Final = 1001


def read_tensor(path: Path, *, units: Units | None = None) -> Volume:
    """Read a pickled 2-D or 3-D tensor or array; its voxels are taken as 1 mm cubes.

    Raises:
        VolumeReadError: it holds anything else, or is damaged.
        GeometryError: not 2-D or 3-D, or empty.
    """
    try:
        values = tensor_in(path.read_bytes())
    except RefusedPickle as error:
        msg = f"{path.name}: expected the pickle of one tensor or array, got {error}; it was not run"
        raise VolumeReadError(msg) from error
    except OSError as error:
        msg = f"{path.name}: expected a readable file, got {error.strerror}; check it"
        raise VolumeReadError(msg) from error
    return volume_of_array(path, values, kind="tensor", units=units)


def tensor_in(data: bytes) -> NDArray[Any]:
    """The one tensor or array in a file's bytes.

    Raises:
        RefusedPickle: there is something else, or less than it claims.
    """
    if zipfile.is_zipfile(io.BytesIO(data)) and data[:2] == b"PK":
        found = _in_archive(data)
    elif _is_legacy(data):
        found = _in_legacy_file(data)
    else:
        found = loaded(data[: pickle_end(data)], nested=_nested_storage)[0]
    match found:
        case StoredTensor():
            return found.array()
        case TypedArray(values) if values is not None:
            return np.ascontiguousarray(values)
    msg = f"a {type(found).__name__.strip('_')}"
    raise RefusedPickle(msg)


def _is_legacy(data: bytes) -> bool:
    """Whether the first of several pickles is torch's number."""
    return data[:2] == b"\x80\x02" and _LEGACY.to_bytes(10, "little") in data[:20]


def _in_legacy_file(data: bytes) -> object:
    """A row of pickles: number, protocol, byte order, the object, its storages' keys; then their elements."""
    parts, start = [], 0
    for _ in range(5):
        end = pickle_end(data, start)
        parts.append(loaded(data[start:end], nested=_nested_storage))
        start = end
    (magic, protocol, system, found, keys), storages = [part for part, _ in parts], parts[3][1]
    if magic != _LEGACY or protocol != _PROTOCOL:
        msg = "another version of a torch file"
        raise RefusedPickle(msg)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        msg = "a torch file of a big-endian machine"
        raise RefusedPickle(msg)
    if not isinstance(keys, list) or len(keys) != len(storages) or not all(key in storages for key in map(str, keys)):
        msg = "a torch file whose storages are not those of its tensor"
        raise RefusedPickle(msg)
    for key in map(str, keys):
        storage = storages[key]
        if int.from_bytes(data[start : start + 8], "little") != storage.count:
            msg = "a storage of another length than claimed"
            raise RefusedPickle(msg)
        start += 8
        storage.data = data[start : start + storage.nbytes]
        start += storage.nbytes
    return found


def _nested_storage(data: object) -> object:
    """What ``torch.storage._load_from_bytes`` is given: a legacy file of a storage."""
    if not isinstance(data, bytes) or not _is_legacy(data):
        msg = "a storage that isn't one"
        raise RefusedPickle(msg)
    found = _in_legacy_file(data)
    if not isinstance(found, TensorStorage):
        msg = "a storage that isn't one"
        raise RefusedPickle(msg)
    return found


def _in_archive(data: bytes) -> object:
    """A zip archive: ``NAME/data.pkl``, ``NAME/data/KEY`` and, since 2.1, ``NAME/byteorder``; nothing compressed."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
            if "data.pkl" not in entries:
                msg = "a zip archive that torch didn't write"
                raise RefusedPickle(msg)
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
                msg = "a compressed archive, which torch doesn't write"
                raise RefusedPickle(msg)
            if any(entry.file_size > len(data) for entry in entries.values()):
                msg = "an archive that claims more than it holds"
                raise RefusedPickle(msg)
            if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
                msg = "a torch file of a big-endian machine"
                raise RefusedPickle(msg)
            found, storages = loaded(archive.read(entries["data.pkl"]))
            for key, storage in storages.items():
                if f"data/{key}" in entries:
                    storage.data = archive.read(entries[f"data/{key}"])
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        msg = "a damaged zip archive"
        raise RefusedPickle(msg) from error
    return found
