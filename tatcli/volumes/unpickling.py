"""A pickle reader that admits tensors and arrays and nothing else.

A pickle is a program that names functions and calls them, so loading one from a stranger runs what he wrote. Here the
only names that resolve are those of :func:`_admitted`, and none of them resolves to the real thing: each is answered by
a stand-in that keeps its arguments and checks them. No function of torch or numpy is called by a pickle, nothing is
imported, and no size that a pickle claims is allocated before as many bytes were found in the file.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Final

from tatcli.volumes.pickled_objects import (
    STORAGE_TYPES,
    ElementType,
    Maker,
    RefusedPickle,
    StandIn,
    StorageType,
    StoredTensor,
    TensorStorage,
    TypedArray,
    lengths,
)

__all__ = ["loaded", "pickle_end"]

_MOST_OPERATIONS: Final = 10_000
"""A tensor or array takes some fifty; more is another object, or a bomb."""

_REFUSED_OPERATIONS: Final = frozenset(
    {"EXT1", "EXT2", "EXT4", "INST", "NEWOBJ", "NEWOBJ_EX", "NEXT_BUFFER", "OBJ", "PERSID", "READONLY_BUFFER"}
)
"""Ways to make objects that no tensor or array needs."""


def _encoded(text: object, codec: object) -> bytes:
    """``_codecs.encode``, by which protocols below 3 write bytes."""
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        msg = "a codec"
        raise RefusedPickle(msg)
    return text.encode("latin-1")


def _no_hooks(*arguments: object) -> None:
    """``OrderedDict()``: a tensor's backward hooks, of which it has none."""
    if arguments:
        msg = "a dictionary"
        raise RefusedPickle(msg)


def _admitted(nested: Callable[[object], object]) -> dict[tuple[str, str], object]:
    names: dict[tuple[str, str], object] = {
        ("torch._utils", "_rebuild_tensor"): Maker(StoredTensor),
        ("torch._utils", "_rebuild_tensor_v2"): Maker(StoredTensor),
        ("torch.storage", "_load_from_bytes"): Maker(nested),
        ("collections", "OrderedDict"): Maker(_no_hooks),
        ("_codecs", "encode"): Maker(_encoded),
        ("numpy", "dtype"): Maker(ElementType),
        ("numpy", "ndarray"): StandIn(),
    }
    for package in ("numpy.core", "numpy._core"):
        names[f"{package}.multiarray", "_reconstruct"] = Maker(TypedArray.empty)
        names[f"{package}.numeric", "_frombuffer"] = Maker(TypedArray.of_buffer)
    return names | {("torch", name): StorageType(dtype) for name, dtype in STORAGE_TYPES.items()}


def _nothing_nested(_: object) -> object:
    msg = "a file within a file within a file"
    raise RefusedPickle(msg)


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, nested: Callable[[object], object]) -> None:
        super().__init__(io.BytesIO(data), fix_imports=False, encoding="latin-1")
        self._admitted = _admitted(nested)
        self.storages: dict[str, TensorStorage] = {}

    def find_class(self, module: str, name: str, /) -> object:
        try:
            return self._admitted[module, name]
        except KeyError:
            msg = f"it calls for {module}.{name}"
            raise RefusedPickle(msg) from None

    def persistent_load(self, pid: object, /) -> object:
        match pid:
            case ("storage", StorageType() as kind, str() as key, str(), int() as count, *rest) if rest in (
                [],
                [None],
            ):
                (length,) = lengths((count,))
                return self.storages.setdefault(key, TensorStorage(kind.dtype, key, length))
        msg = "a reference to something else than a tensor's storage"
        raise RefusedPickle(msg)


def pickle_end(data: bytes, start: int = 0) -> int:
    """Where the pickle that begins at ``start`` ends; its operations are read, not run.

    Raises:
        RefusedPickle: it isn't a pickle, or has operations that no tensor or array needs.
    """
    stream = io.BytesIO(data)
    stream.seek(start)
    try:
        for number, (operation, argument, _) in enumerate(pickletools.genops(stream)):
            if operation.name in _REFUSED_OPERATIONS:
                msg = f"the operation {operation.name}"
                raise RefusedPickle(msg)
            # the unpickler allocates its memory of objects up to the greatest index
            is_memo = operation.name in ("PUT", "BINPUT", "LONG_BINPUT")
            if number >= _MOST_OPERATIONS or (is_memo and int(argument or 0) >= _MOST_OPERATIONS):
                msg = "more operations than a tensor or array takes"
                raise RefusedPickle(msg)
    except (ValueError, KeyError, IndexError, OverflowError, MemoryError) as error:
        msg = "no pickle that can be read to its end"
        raise RefusedPickle(msg) from error
    return stream.tell()


def loaded(
    data: bytes, *, nested: Callable[[object], object] = _nothing_nested
) -> tuple[object, dict[str, TensorStorage]]:
    """The object of a whole pickle, in stand-ins, and the storages that it refers to.

    Args:
        data: one pickle, as :func:`pickle_end` delimits it.
        nested: reads the file that ``torch.storage._load_from_bytes`` is given.

    Raises:
        RefusedPickle: it names, calls or refers to anything that isn't part of a tensor or array.
    """
    pickle_end(data)
    unpickler = _Unpickler(data, nested)
    try:
        return unpickler.load(), unpickler.storages
    except RefusedPickle:
        raise
    except (pickle.UnpicklingError, TypeError, ValueError, AttributeError, LookupError, EOFError) as error:
        msg = "no tensor or array"
        raise RefusedPickle(msg) from error
    except (ImportError, MemoryError, OverflowError, RecursionError) as error:
        msg = "no tensor or array"
        raise RefusedPickle(msg) from error
