"""What the terminal shows: results on stdout, everything else on stderr."""

from __future__ import annotations

import codecs
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Final, Protocol

from tatcli.cli.progress_lines import ProgressLines
from tatcli.errors import OutputError, reason_of

__all__ = [
    "Report",
    "attach_closed_streams",
    "error",
    "from_here",
    "give_json",
    "is_stdout",
    "keep_names",
    "note",
    "progress_bar",
    "result",
    "table",
    "visible",
    "warn",
]

_LENIENT: Final = "tat-names"
"""What the codecs call :func:`_as_on_disk`."""
_UNLIMITED: Final = 10_000
"""Columns of a table that goes to a file."""
_GUTTER: Final = 3
"""Columns of the terminal between those of a table."""
_LONG_WORD: Final = 24
"""Paths and UIDs are longer, and are broken."""
_CONTROLS: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What terminals obey: control characters but the end of a line, and those that turn the direction of writing."""


class Report(Protocol):
    """What a command found."""

    def to_json(self) -> str:
        """All of it."""


def result(text: str) -> None:
    """What was asked for.

    Raises:
        OutputError: the system refuses to write it.
    """
    with _told_in_a_line():
        sys.stdout.write(f"{text}\n")


def is_stdout(path: Path | None) -> bool:
    """Whether a file's name stands for stdout."""
    return str(path) in ("-", "/dev/stdout")


def give_json(report: Report, path: Path | None) -> None:
    """A report as JSON: into a file, to stdout for ``-``, or nowhere.

    Raises:
        OutputError: the system refuses.
    """
    if is_stdout(path):
        result(report.to_json().rstrip())
    elif path is not None:
        from tatcli.reporting.run_report import write_json

        write_json(report.to_json(), path)


def visible(text: str) -> str:
    """Text whose control characters are shown, not obeyed: names come from whoever made the scan."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def from_here(path: Path | str) -> str:
    """A path as it is named from the current folder, where it lies in there."""
    here = Path.cwd()
    path = Path(path)
    return str(path.relative_to(here) if path.is_relative_to(here) and ".." not in path.parts else path)


def note(message: str) -> None:
    """What is good to know."""
    _say(message)


def warn(message: str) -> None:
    """What was odd, in one line."""
    _say(message, label="warning", style="yellow")


def error(message: str) -> None:
    """What went wrong, in one line."""
    _say(message, label="error", style="bold red")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> None:
    """A table, on stdout.

    Raises:
        OutputError: the system refuses to write it.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table

    cells = [[visible(cell) for cell in row] for row in rows]
    # Piped or logged, nothing may be cut off or wrapped.
    console = Console(width=None if sys.stdout.isatty() else _UNLIMITED, markup=False, highlight=False)
    with _told_in_a_line():
        if title is not None:
            # in a narrow table's own title it would be broken up
            console.print(visible(title), style="italic", soft_wrap=True)
        longest = _longest_words(columns, cells)
        least = longest if max(longest) <= _LONG_WORD else [0] * len(longest)
        for block in _blocks(columns, cells, console.width):
            # in a narrow terminal long words are broken, not cut off: a UID is there to be copied
            shown = [Column(columns[index], overflow="fold", min_width=least[index]) for index in block]
            grid = Table(*shown, box=box.SIMPLE_HEAD, show_header=any(columns))
            for row in cells:
                grid.add_row(*(row[index] for index in block))
            console.print(grid)


def _blocks(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Which columns stand beside each other: numbers are not broken, so what doesn't fit goes below, with the names."""
    needs = [longest + _GUTTER for longest in _longest_words(columns, rows)]
    blocks: list[list[int]] = [[0]]
    for index in range(1, len(columns)):
        full = sum(needs[each] for each in blocks[-1]) + needs[index] + _GUTTER > width
        if full and len(blocks[-1]) > 1 and max(needs) <= _LONG_WORD + _GUTTER:
            blocks.append([0])
        blocks[-1].append(index)
    return blocks


def _longest_words(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    texts = zip(columns, *rows, strict=True)
    return [max((len(word) for text in column for word in text.split()), default=0) for column in texts]


def command_line() -> str:
    """The command as it was typed, for records."""
    return shlex.join(["tat", *sys.argv[1:]])


@contextmanager
def progress_bar(
    description: str, *, unit: str, quiet: bool = False, resumes: bool = False
) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr while the block runs, fed with (done, total); where it isn't a terminal, a line now and then.

    Args:
        description: at its left end.
        unit: of what is counted.
        quiet: nothing at all, and None.
        resumes: what was done before the first report doesn't count for speed and ETA.
    """
    if quiet or not sys.stderr.isatty():
        log = ProgressLines(note)
        yield None if quiet else lambda done, total: log.report(description, done, total, f" {unit}s")
        return
    from tqdm import tqdm

    with tqdm(desc=description, unit=unit, leave=False, dynamic_ncols=True) as bar:

        def advance(done: int, total: int) -> None:
            if resumes and bar.total is None:
                bar.initial = bar.n = bar.last_print_n = done - 1
            bar.total = total
            bar.update(done - bar.n)

        yield advance


@contextmanager
def stage_bar(*, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A bar that is fed with (what is being done, done, total); where stderr isn't a terminal, a line now and then."""
    if quiet or not sys.stderr.isatty():
        yield (lambda *_: None) if quiet else ProgressLines(note).report
        return
    from tqdm import tqdm

    with tqdm(unit="step", leave=False, dynamic_ncols=True) as bar:

        def report(stage: str, done: int, total: int) -> None:
            bar.set_description_str(visible(stage), refresh=False)
            bar.total, bar.n = total, done
            bar.refresh()

        yield report


def keep_names() -> None:
    """Let names of files that aren't UTF-8, as old ones in Latin-1, come in and go out as they are on the disk.

    Letters that the output's encoding lacks, as a pipe's on Windows lacks most, go out as their numbers.
    """
    codecs.register_error(_LENIENT, _as_on_disk)
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, _LENIENT)):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def attach_closed_streams() -> None:
    """Let a run whose standard streams are closed, as a daemon's may be, do its work and say nothing there.

    In this order each takes its own number, 0 to 2, so that no other file gets it, here or in processes of the run.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - as long as the process lives
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _as_on_disk(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeEncodeError):
        error.end = error.start + 1
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


@contextmanager
def _told_in_a_line() -> Iterator[None]:
    """A full disk is the user's, not a bug; a reader that went away is left to the command's own end."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - the old one would fail again at exit
        msg = f"stdout: expected to write the result, got {reason_of(error)}; make space or send it elsewhere"
        raise OutputError(msg) from error


def _say(message: str, *, label: str = "", style: str = "") -> None:
    line = visible(" ".join(message.split()))
    if not sys.stderr.isatty():  # rich takes longer to import than to be of use here
        try:
            sys.stderr.write(f"{label}: {line}\n" if label else f"{line}\n")
            sys.stderr.flush()
        except OSError:  # a full disk, a reader that went away: the work is worth more than what is said of it
            sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - the old one would fail at exit
        return
    from rich.console import Console
    from rich.text import Text

    start = Text(f"{label}: ", style) if label else Text()
    with _bars_away():
        Console(stderr=True).print(start + Text(line), soft_wrap=True, highlight=False)


def _bars_away() -> AbstractContextManager[None]:
    """A line among bars would stand at the end of one."""
    drawn = sys.modules.get("tqdm")
    return nullcontext() if drawn is None else drawn.tqdm.external_write_mode(file=sys.stderr)
