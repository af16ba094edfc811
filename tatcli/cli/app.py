"""The command ``tat``: its subcommands, and how every run ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import tatcli
from tatcli.cli import console
from tatcli.cli.benchmark import benchmark
from tatcli.cli.evaluate import evaluate
from tatcli.cli.info import info
from tatcli.cli.node import node
from tatcli.cli.phantom import phantom
from tatcli.cli.prepare import prepare
from tatcli.cli.restore import restore
from tatcli.cli.simulate import simulate
from tatcli.cli.train import train
from tatcli.cli.train_plot import plot
from tatcli.cli.weights import weights
from tatcli.errors import DeviceError, TatError, UsageError, reason_of

__all__ = ["app", "main"]

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as in a shell."""

_NO_THREAD = "can't start new thread"
"""What Python says, in a plain RuntimeError, where the system starts none."""

_MAY_BE_EMPTY = ("--series-suffix",)
"""Options that an empty word means something to."""

_NAMED = ("-o", "--output", "--html", "--csv", "--failures")
"""Options whose file or folder needs a name: none of them goes to stdout, which - stands for elsewhere."""


class TatGroup(TyperGroup):
    """Ends every run with its exit code: one line for a mistake of the user's, a traceback for one of ours."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Parse, run, and exit (or, not standalone, return the exit code)."""
        args = sys.argv[1:] if args is None else args
        try:
            _check_values(args)
            _check_folder()
            code = super().main(
                args,
                prog_name or "tat",
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
        except (KeyboardInterrupt, typer.Abort):
            code = INTERRUPTED
        except TatError as error:
            console.error(str(error))
            code = error.exit_code
        except Exception as error:
            known = _known(error)
            if known is None:
                raise
            message, code = known
            console.error(message)
        code = code if isinstance(code, int) else 0
        if code == INTERRUPTED:
            console.error("interrupted")
        if standalone_mode:
            raise SystemExit(code)
        return code


def _known(error: Exception) -> tuple[str, int] | None:
    """What to say of an exception that is none of tat's own, and its exit code; None for a bug."""
    # (one that counts characters is of a full pipe)
    none_left = isinstance(error, BlockingIOError) and not hasattr(error, "characters_written")
    if none_left or str(error) == _NO_THREAD:
        message = f"expected the system to start another thread or process, got {reason_of(error)}; "
        remedy = "give the job more processes and address space (ulimit -u, ulimit -v, a container's limit of pids)"
        return message + remedy, DeviceError.exit_code
    # Typer's own mistakes of usage; their common base is not public.
    if not hasattr(error, "format_message"):
        return None
    command = getattr(getattr(error, "ctx", None), "command_path", "tat")
    return f"{error.format_message().rstrip('.')}; see {command} --help", getattr(error, "exit_code", 2)


def _check_values(words: Sequence[str]) -> None:
    """Refuse empty words, as values of options or by themselves: as paths they would stand for the current folder.

    And - for what has a name, or a file or folder of that name would appear.

    Raises:
        UsageError: there is one.
    """
    for index, word in enumerate(words):
        option, _, value = word.partition("=")
        if "-" in (word, value) and (words[index - 1] if word == "-" and index else option) in _NAMED:
            told = words[index - 1] if word == "-" else option
            msg = f"{told} -: expected the name of a file or folder, as it isn't written to stdout; choose one"
            raise UsageError(msg)
        if word == "" and index > 0:
            option = words[index - 1]
        elif value or "=" not in word:
            continue
        if option in _MAY_BE_EMPTY:
            continue
        if option.startswith("-"):
            msg = f"{option}: expected a value, got an empty word (an unset variable?); leave the option out"
            raise UsageError(msg)
        if word == "":
            msg = "expected a path, got an empty word (an unset variable?); use . for the current folder"
            raise UsageError(msg)


def _check_folder() -> None:
    """Refuse to begin in a folder that is gone, to which no path is relative.

    Raises:
        UsageError: it is.
    """
    try:
        os.getcwd()  # noqa: PTH109  the same, without a Path
    except OSError as error:
        msg = f"current folder: expected one that exists, got {reason_of(error)}; change to another"
        raise UsageError(msg) from error


training = typer.Typer(name="train", rich_markup_mode=None)
training.callback(invoke_without_command=True)(train)
training.command()(plot)

app = typer.Typer(
    name="tat",
    cls=TatGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(restore)
app.command()(simulate)
app.command()(evaluate)
app.command()(phantom)
app.command()(prepare)
app.add_typer(training)
app.command()(info)
app.command()(node)
app.add_typer(weights)
app.add_typer(benchmark)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.result(f"tat {tatcli.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Restore medical scans: low-dose CT, low-count PET, low-resolution MRI. Not for diagnosis."""
    if context.invoked_subcommand is None and not version:
        console.result(context.get_help())
        raise typer.Exit(2)


def _terminated(number: int, frame: object) -> NoReturn:  # noqa: ARG001 - the signature of a signal handler
    """End as by Ctrl-C, so that what is half-written is deleted; 128 + the signal is what a shell reports."""
    raise SystemExit(128 + number)


def main() -> None:
    """The entry point of the installed command."""
    console.attach_closed_streams()
    console.keep_names()
    signal.signal(signal.SIGTERM, _terminated)
    hangup = getattr(signal, "SIGHUP", None)  # of a terminal that was closed; Windows has none
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:  # as nohup does
        signal.signal(hangup, _terminated)
    app()
