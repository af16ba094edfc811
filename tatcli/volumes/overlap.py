"""Reading ahead and writing behind: one thread each beside the one that computes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, Final, TypeVar

__all__ = ["read_ahead", "written_behind"]

Item = TypeVar("Item")
_END: Final = object()


@contextmanager
def read_ahead(items: Generator[Item]) -> Iterator[Iterator[Item]]:
    """The same items; while one is in use, the next is being made in another thread, and no more than that one.

    What making an item raises is raised where it would be used. The items are closed at the end of the block.
    """
    with closing(items), ThreadPoolExecutor(1, thread_name_prefix="tat-read") as reader:
        yield _ahead(items, reader)


def _ahead(items: Iterator[Item], reader: ThreadPoolExecutor) -> Iterator[Item]:
    waiting: Future[Any] = reader.submit(next, items, _END)
    while (item := waiting.result()) is not _END:
        waiting = reader.submit(next, items, _END)
        yield item
        del item


@contextmanager
def written_behind(write: Callable[..., None]) -> Iterator[Callable[..., None]]:
    """A function that has ``write`` called in another thread, once the call before that is done.

    What a call raised is raised by the next one, or at the end of the block.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="tat-write") as writer:
        pending: list[Future[None]] = []

        def put(*arguments: Any) -> None:
            if pending:
                pending.pop().result()
            pending.append(writer.submit(write, *arguments))

        yield put
        if pending:
            pending.pop().result()
