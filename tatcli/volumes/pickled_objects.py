"""What a pickled tensor or array is made of, in stand-ins that keep their arguments and check them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "STORAGE_TYPES",
    "ElementType",
    "Maker",
    "RefusedPickle",
    "StandIn",
    "StorageType",
    "StoredTensor",
    "TensorStorage",
    "TypedArray",
    "lengths",
]

_MOST_AXES: Final = 8

STORAGE_TYPES: Final = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bf16",
    "ByteStorage": "|u1",
    "CharStorage": "|i1",
    "ShortStorage": "<i2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
    "BoolStorage": "|b1",
}
"""torch's typed storages -> numpy's name of their elements."""


class RefusedPickle(Exception):
    """The pickle does something else than to describe a tensor or array; says what."""


class StandIn:
    """Something that a pickle may hold but not change: it has no attributes to set, and BUILD is refused."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        msg = "it changes an object that it didn't make"
        raise RefusedPickle(msg)


class Maker(StandIn):
    """Answers an admitted name; calling it makes a stand-in."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., object]) -> None:
        self.make = make

    def __call__(self, *arguments: object) -> object:
        """What the name makes of them."""
        return self.make(*arguments)


class StorageType(StandIn):
    """The name of a torch storage type."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype


class TensorStorage(StandIn):
    """A torch storage: its elements are elsewhere in the file, under a key, and arrive in ``data``."""

    __slots__ = ("count", "data", "dtype", "key")

    def __init__(self, dtype: str, key: str, count: int) -> None:
        self.dtype, self.key, self.count = dtype, key, count
        self.data: bytes | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.count * (2 if self.dtype == "bf16" else np.dtype(self.dtype).itemsize)

    def elements(self) -> NDArray[Any]:
        """All elements, one axis; bfloat16 as float32.

        Raises:
            RefusedPickle: as many bytes as claimed were not found.
        """
        if self.data is None or len(self.data) != self.nbytes:
            found = 0 if self.data is None else len(self.data)
            msg = f"a storage of {self.nbytes} bytes is claimed and {found} bytes are there"
            raise RefusedPickle(msg)
        if self.dtype == "bf16":
            halves = np.frombuffer(self.data, dtype="<u2").astype(np.uint32)
            return (halves << np.uint32(16)).view(np.float32)
        return np.frombuffer(self.data, dtype=self.dtype)


class StoredTensor(StandIn):
    """A tensor: a view of a storage."""

    __slots__ = ("offset", "shape", "storage", "strides")

    def __init__(self, storage: object, offset: object, shape: object, strides: object, *_: object) -> None:
        if not isinstance(storage, TensorStorage):
            msg = "a tensor without a storage"
            raise RefusedPickle(msg)
        self.storage = storage
        self.shape, self.strides = lengths(shape), lengths(strides)
        (self.offset,) = lengths((offset,))
        if len(self.shape) != len(self.strides):
            msg = "a tensor with more axes than strides"
            raise RefusedPickle(msg)

    def array(self) -> NDArray[Any]:
        """The values.

        Raises:
            RefusedPickle: the view reaches beyond its storage, or has more elements than it (an expanded tensor).
        """
        elements = self.storage.elements()
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        count = math.prod(self.shape)
        if count and (last >= elements.size or count > elements.size):
            msg = f"a tensor of {self.shape} is claimed in a storage of {elements.size} elements"
            raise RefusedPickle(msg)
        if not count:
            return np.zeros(self.shape, dtype=elements.dtype)
        strides = tuple(step * elements.itemsize for step in self.strides)
        return np.lib.stride_tricks.as_strided(elements[self.offset :], self.shape, strides).copy()


class ElementType(StandIn):
    """A numpy dtype of real numbers; its byte order comes by BUILD."""

    __slots__ = ("dtype",)

    def __init__(self, name: object, *_: object) -> None:
        if not isinstance(name, str) or name[:1] not in "biuf" or not name[1:].isdigit():
            msg = f"elements of type {name!r}"
            raise RefusedPickle(msg)
        self.dtype = np.dtype(name)

    def __setstate__(self, state: object) -> None:
        match state:
            case (_, ("<" | ">" | "|" | "=") as order, None, None, None, *_):
                self.dtype = self.dtype.newbyteorder(order)
            case _:
                msg = "elements with fields or parts"
                raise RefusedPickle(msg)


@dataclass
class TypedArray:
    """A numpy array: it is made empty, and its values come by BUILD."""

    values: NDArray[Any] | None = None

    def __setstate__(self, state: object) -> None:
        match state:
            case (int(), shape, ElementType() as element, bool() | int() as fortran, bytes() | str() as raw):
                # Python 2 wrote bytes as text
                data = raw.encode("latin-1") if isinstance(raw, str) else raw
                self.values = _array(data, element, shape, "F" if fortran else "C")
            case _:
                msg = "an array of objects"
                raise RefusedPickle(msg)

    @classmethod
    def empty(cls, *_: object) -> Self:
        """``numpy.core.multiarray._reconstruct(ndarray, (0,), b'b')``."""
        return cls()

    @classmethod
    def of_buffer(cls, data: object, element: object, shape: object, order: object) -> Self:
        """``numpy.core.numeric._frombuffer``, by which protocol 5 writes arrays."""
        if not isinstance(data, bytes | bytearray) or not isinstance(element, ElementType) or order not in ("C", "F"):
            msg = "an array of objects"
            raise RefusedPickle(msg)
        return cls(_array(bytes(data), element, shape, str(order)))


def _array(data: bytes, element: ElementType, shape: object, order: str) -> NDArray[Any]:
    axes = lengths(shape)
    if math.prod(axes) * element.dtype.itemsize != len(data):
        msg = f"an array of {axes} is claimed and {len(data)} bytes are there"
        raise RefusedPickle(msg)
    flat = np.frombuffer(data, dtype=element.dtype)
    return flat.reshape(axes, order="F" if order == "F" else "C")


def lengths(values: object) -> tuple[int, ...]:
    """A tuple of a few lengths, as shapes and strides are.

    Raises:
        RefusedPickle: it is something else.
    """
    if not isinstance(values, tuple | list) or len(values) > _MOST_AXES:
        msg = "a shape that isn't one"
        raise RefusedPickle(msg)
    if not all(type(value) is int and 0 <= value < 2**48 for value in values):
        msg = "a shape that isn't one"
        raise RefusedPickle(msg)
    return tuple(values)
