"""What a terminal sees, and what a pipe sees."""

from __future__ import annotations

import errno
import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tatcli.cli import console
from tatcli.cli.console import is_stdout
from tatcli.cli.options import completes, parse_list, parse_size, parse_units
from tatcli.errors import OutputError, UsageError
from tatcli.intensity import Units


def test_messages_are_one_line_on_a_terminal_too(terminal):
    screen = terminal()
    console.error("a very long message " * 20 + "[with brackets]\nand a second line")
    text = screen.getvalue()
    assert text.count("\n") == 1
    assert "[with brackets] and a second line" in text


def test_messages_in_a_pipe_are_plain(capsys):
    console.warn("odd")
    console.note("done")
    assert capsys.readouterr().err == "warning: odd\ndone\n"


def test_no_bar_without_a_terminal(capsys):
    with console.progress_bar("x", unit="slice") as advance:
        advance(1, 2)
    with console.stage_bar() as report:
        report("reading", 1, 2)
    assert capsys.readouterr().err == ""


def test_the_bar_counts_to_the_total(terminal):
    screen = terminal()
    with console.progress_bar("scan", unit="slice") as advance:
        advance(1, 4)
        time.sleep(0.15)  # tqdm draws ten times a second
        advance(4, 4)
    assert "4/4" in screen.getvalue()
    with console.progress_bar("scan", unit="slice", quiet=True) as advance:
        assert advance is None


def test_a_resumed_bar_starts_where_the_run_did(terminal):
    screen = terminal()
    with console.progress_bar("train", unit="step", resumes=True) as advance:
        advance(901, 1000)
        time.sleep(0.15)
        advance(902, 1000)
    assert "902/1000" in screen.getvalue()


def test_stages_name_what_is_being_done(terminal):
    screen = terminal()
    with console.stage_bar() as report:
        report("tuning nlm", 3, 7)
    assert "tuning nlm" in screen.getvalue()
    assert "3/7" in screen.getvalue()


def test_tables_in_a_pipe_are_not_cut(capsys):
    console.table(("a", "b"), [("x" * 150, "y" * 150)], title="both")
    out = capsys.readouterr().out
    assert "x" * 150 in out
    assert "y" * 150 in out


class FullDisk(io.StringIO):
    def flush(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("show", [lambda: console.result("text"), lambda: console.table(("a",), [("1",)], title="t")])
def test_a_full_disk_behind_stdout_is_no_bug(monkeypatch, show):
    monkeypatch.setattr(sys, "stdout", FullDisk())
    with pytest.raises(OutputError, match="stdout: expected to write the result, got No space left on device; make"):
        show()
    console.result("and nothing fails again")
    sys.stdout.close()


def test_a_message_that_cannot_be_written_ends_no_work(monkeypatch):
    monkeypatch.setattr(sys, "stderr", FullDisk())
    console.warn("odd")
    console.note("and nothing fails again")
    sys.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_stderr_changes_no_exit_code(nifti):
    scan = nifti(np.random.default_rng(0).gamma(2.0, 100, (24, 20, 2)).astype(np.float32))
    tat = [sys.executable, "-c", "from tatcli.cli.app import main; main()"]
    words = ["simulate", str(scan), "--task", "mri-sr", "-o", str(scan.with_name("out.nii.gz"))]
    for code in (0, 2):  # done; the output exists
        with Path("/dev/full").open("w", encoding="utf-8") as full:
            assert subprocess.run([*tat, *words], stderr=full, check=False).returncode == code


@pytest.mark.skipif(os.name == "nt", reason="names are not bytes there")
def test_names_that_are_not_utf8_go_through_stdin_and_stdout():
    code = "import sys; from tatcli.cli import console; console.keep_names(); console.result(sys.stdin.read())"
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    ended = subprocess.run([sys.executable, "-c", code], input=b"Andr\xe9", stdout=-1, env=strict, check=True)
    assert ended.stdout == b"Andr\xe9\n"


@pytest.mark.parametrize(
    ("encoding", "text"), [("cp1252", "é \\u2212 \\u4e2d\\u6587"), ("ascii", "\\xe9 \\u2212 \\u4e2d\\u6587")]
)
def test_letters_that_an_outputs_encoding_lacks_are_no_bug(encoding, text):
    code = "from tatcli.cli import console; console.keep_names(); console.result('é − 中文'); "
    code += "console.table(['b'], [['é − 中文']]); console.result('\\udce9中')"
    system = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict", "PYTHONUTF8": "0"}
    ended = subprocess.run([sys.executable, "-X", "utf8=0", "-c", code], stdout=-1, env=system, check=True)
    lines = ended.stdout.splitlines()
    assert lines[0].decode(encoding) == text
    assert sum(text in line.decode("latin-1") for line in lines) == 2
    assert lines[-1] == b"\xe9\\u4e2d"


@pytest.mark.skipif(os.name == "nt", reason="a folder in use can't be deleted there")
def test_a_current_folder_that_is_gone_is_said_in_a_line(tmp_path):
    (tmp_path / "gone").mkdir()
    tat = [sys.executable, "-c", "from tatcli.cli.app import main; main()", "restore", "a.nii.gz"]
    command = ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *tat]
    ended = subprocess.run(command, cwd=tmp_path / "gone", stderr=-1, text=True, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith("error: current folder: expected one that exists")


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell closes them")
def test_a_run_whose_standard_streams_are_closed_does_its_work(nifti):
    """As under some daemons: Python gives it None for each of them."""
    scan = nifti(np.random.default_rng(0).gamma(2.0, 100, (24, 20, 2)).astype(np.float32))
    tat = [sys.executable, "-c", "from tatcli.cli.app import main; main()"]
    words = ["simulate", str(scan), "--task", "mri-sr", "-o", str(scan.with_name("out.nii.gz"))]
    for code in (0, 2):  # done; the output exists
        ended = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *tat, *words], check=False)
        assert ended.returncode == code
    assert nib.load(scan.with_name("out.nii.gz")).shape == (24, 20, 2)


def test_words_become_values():
    assert parse_units(None) is None
    assert parse_units("suvBW") is Units.SUVBW
    assert parse_units("a.u.") is Units.ARBITRARY
    with pytest.raises(UsageError, match="expected one of HU"):
        parse_units("unknown")
    assert parse_list("--x", " 1, 2,", int) == (1, 2)
    assert parse_list("--x", "", int) == ()
    assert completes("cpu", "cuda")("cu") == ["cuda"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("6GiB", 6 * 2**30), ("1.5g", 3 * 2**29), ("800 MB", 800 * 10**6), ("512", 512), ("7kib", 7168), ("2b", 2)],
)
def test_sizes(text, size):
    assert parse_size("--max-memory", text) == size


@pytest.mark.parametrize("text", ["", "much", "0GiB", "-3GiB", "6 gallons", "6iB", "9" * 400])
def test_no_sizes(text):
    with pytest.raises(UsageError, match=r"--max-memory .*expected an amount of memory such as 6GiB"):
        parse_size("--max-memory", text)


ESCAPES = "\x1b]0;mine\x07\x1b[2J\u202egnp.nii\x9b1m"


def test_names_give_the_terminal_no_orders(terminal):
    screen = terminal()
    console.warn(f"{ESCAPES}: expected a scan, [red]not[/red] this")
    shown = terminal("stdout")
    console.table(("scan",), [(f"{ESCAPES}[bold]",)], title=ESCAPES)
    assert r"\x1b]0;mine\x07\x1b[2J\u202egnp.nii\x9b1m: expected a scan, [red]not[/red] this" in screen.getvalue()
    for text in (screen.getvalue(), shown.getvalue()):
        assert not {"\x07", "\u202e", "\x9b"} & set(text)
        assert "\x1b]" not in text
        assert "\x1b[2J" not in text
    assert shown.getvalue().count(r"\x1b]0;mine\x07") == 2


def test_words_that_are_too_long_for_the_terminal_are_broken_not_cut_off(terminal, monkeypatch):
    uid = "1.3.12.2.1107.5.2.32.35389.2010072308355010673364888.0.0.0"
    shown = terminal("stdout")
    monkeypatch.setenv("COLUMNS", "50")
    console.table(("series", "UID"), [("4", uid)])
    rows = [line.split()[-1] for line in shown.getvalue().splitlines() if "." in line]
    assert len(rows) > 1
    assert "".join(rows) == uid


def test_paths_are_named_from_the_current_folder_where_they_lie_in_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert console.from_here(tmp_path / "out" / "a.nii") == str(Path("out/a.nii"))
    assert console.from_here("out/a.nii") == "out/a.nii"
    assert console.from_here(tmp_path.parent / "a.nii") == str(tmp_path.parent / "a.nii")
    assert console.from_here(tmp_path / "gone" / ".." / "a.nii") == str(tmp_path / "gone" / ".." / "a.nii")


def test_numbers_are_not_broken_in_a_narrow_terminal(terminal, monkeypatch):
    shown = terminal("stdout")
    monkeypatch.setenv("COLUMNS", "40")
    columns = ("method", *(f"SUVpeak error {number}" for number in range(6)))
    console.table(columns, [("restored", *(f"-0.0051{number}" for number in range(6)))])
    lines = re.sub("\x1b[^m]*m", "", shown.getvalue()).splitlines()
    assert max(map(len, lines)) <= 40
    found = [line.split() for line in lines if "-0.0051" in line]
    assert [row[0] for row in found] == ["restored"] * len(found)
    assert [cell for row in found for cell in row[1:]] == [f"-0.0051{number}" for number in range(6)]


def test_what_stands_for_stdout():
    assert [is_stdout(None if name is None else Path(name)) for name in ("-", "/dev/stdout", "x-", None)] == [
        True, True, False, False,
    ]  # fmt: skip
