"""The examples: the phantom is a believable CT, and the scripts start."""

from __future__ import annotations

import importlib.util
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def phantom():
    module = example("make_phantom")
    clean = module.paint(1, 0)
    return module, clean, module.with_full_dose_noise(clean, 0)


def region(module, image, x_mm, y_mm, radius_mm):
    """Voxels of a disc; x to the patient's left, y to the back, from the body's centre."""
    voxel = module.FIELD_OF_VIEW / module.MATRIX
    offset = 0.03 * module.BODY_HALF_WIDTH
    steps = (np.arange(module.MATRIX) + 0.5) * voxel - module.FIELD_OF_VIEW / 2
    inside = np.hypot(steps[None, :] - x_mm, steps[:, None] + offset - y_mm) < radius_mm
    return image[0][inside]


@pytest.mark.parametrize(
    ("place", "hu"),
    [((-40, -17), 8), ((10, 28), 165), ((99, 23), 118), ((56, -60), -960), ((0, -150), -1000)],
    ids=["gallbladder", "aorta", "spleen", "stomach gas", "air"],
)
def test_organs_have_their_hounsfield_units(phantom, place, hu):
    module, clean, noisy = phantom
    assert region(module, clean, *place, 4).mean() == pytest.approx(hu, abs=6)
    assert region(module, noisy, *place, 4).mean() == pytest.approx(hu, abs=12)


def test_the_noise_is_a_full_dose_scans(phantom):
    module, clean, noisy = phantom
    spleen = region(module, noisy - clean, 99, 23, 15)
    assert spleen.std() == pytest.approx(module.FULL_DOSE_NOISE, rel=0.35)
    # correlated, as a scanner's: neighbours share more than a third
    noise = (noisy - clean)[0, 200:300, 200:300]
    assert np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1] > 0.33


def test_the_scan_is_axial_whole_hu_and_the_seed_decides(phantom):
    module, _, noisy = phantom
    scan = module.as_scan(noisy)
    assert scan.geometry.orientation == "SPL"
    np.testing.assert_allclose(scan.geometry.spacing, (5.0, 380 / 512, 380 / 512))
    np.testing.assert_array_equal(scan.array, np.clip(np.rint(noisy), -1024, 3071))
    again = module.with_full_dose_noise(module.paint(1, 0), 0)
    np.testing.assert_array_equal(again, noisy)
    assert not np.array_equal(module.paint(1, 1), module.paint(1, 0))


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_python_examples_start(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert not ended.value.code
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.sh")), ids=lambda path: path.name)
def test_shell_examples_parse(script):
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def clone(tmp_path):
    """A clone with stand-ins for Python, one too old and one that makes a virtual environment as Windows does."""
    (tmp_path / "clone" / "examples").mkdir(parents=True)
    shutil.copy(EXAMPLES / "quickstart.sh", tmp_path / "clone" / "examples")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("python3", "py", "python3.13", "python3.12", "python3.11"):
        (programs / name).write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    new = '#!/bin/sh\n[ "$2" = venv ] || exit 0\nmkdir -p "$3/Scripts"; cp "$0" "$3/Scripts/python"\n'
    new += 'printf "#!/bin/sh\\necho tat \\$1" > "$3/Scripts/tat"; chmod +x "$3/Scripts/tat"\n'
    (programs / "python").write_text(new, encoding="utf-8")
    for program in programs.iterdir():
        program.chmod(0o755)

    def start():
        command, path = ["bash", tmp_path / "clone" / "examples" / "quickstart.sh"], f"{programs}:/usr/bin:/bin"
        return subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=False, timeout=60)

    return start


def test_the_quickstart_finds_a_python_that_is_new_enough_and_windows_programs(clone, tmp_path):
    done = clone()
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["tat simulate", "tat restore"]
    assert (tmp_path / "clone" / ".venv" / "Scripts" / "tat").is_file()
    assert "Installing" in done.stderr
    assert "Installing" not in clone().stderr  # once


def test_the_quickstart_without_a_python_says_so(clone, tmp_path):
    shutil.copy(tmp_path / "programs" / "python3", tmp_path / "programs" / "python")
    done = clone()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "quickstart: expected Python 3.11 or later, found none; install one and run this again\n"
    assert not (tmp_path / "clone" / ".venv").exists()


def test_the_folder_script_tries_again_then_lists_what_failed(tmp_path):
    """With a stand-in for tat that succeeds at the second or never, and counts its calls."""
    (tmp_path / "bin").mkdir()
    stand_in = tmp_path / "bin" / "tat"
    stand_in.write_text(
        '#!/bin/sh\necho "$@" >> "$LOG"\nmkdir -p "$4"; echo "scan,reason" > "$4/failures.csv"\n'
        '[ "$(wc -l < "$LOG")" -lt "$GOOD_AT" ] && exit 6\nexit 0\n',
        encoding="utf-8",
    )
    stand_in.chmod(0o755)

    def run(log, good_at):
        environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "LOG": str(tmp_path / log), "GOOD_AT": str(good_at)}
        command = ["bash", EXAMPLES / "restore_folder.sh", "scans", tmp_path / "out", "ct-denoise", "--threads", "1"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        return done, (tmp_path / log).read_text(encoding="utf-8").splitlines()

    done, calls = run("soon", 2)
    assert done.returncode == 0
    assert calls == [f"restore scans -o {tmp_path / 'out'} --task ct-denoise --threads 1"] * 2
    done, calls = run("never", 9)
    assert done.returncode == 6
    assert len(calls) == 3
    assert "scan,reason" in done.stderr
