"""The fused CPU kernels give what PyTorch's operations give: outputs, gradients, batches, sizes, precisions."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tatcli.model import PRESETS, Tat, TatConfig, fused, native_library, packing
from tatcli.model.blocks import LayerNorm, TransformerBlock
from tatcli.model.fused import without_kernels
from tatcli.model.windows import Window

NARROW = TatConfig(
    width=16,
    encoder_blocks=(1, 2, 1),
    latent_blocks=1,
    decoder_blocks=(2, 1, 1),
    refinement_blocks=1,
    expansion=2.66,  # hidden widths 42, 85, 170, 340: none is a whole number of vectors
    tren_width=4,
    train_patch=32,
)


@pytest.fixture(autouse=True)
def kernels(request: pytest.FixtureRequest) -> None:
    if "building" not in request.node.name and native_library.native_library() is None:
        pytest.skip(f"no fused kernels: {native_library.why_not_native()}")


def random_network(config: TatConfig) -> Tat:
    torch.manual_seed(0)
    network = Tat(config)
    for name, parameter in network.named_parameters():
        if name.endswith("gain"):
            torch.nn.init.normal_(parameter, std=0.5)
        if name.endswith(("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "temperature")):
            torch.nn.init.normal_(parameter, 1.0, 0.3)
    return network


def fuses(network: Tat) -> bool:
    return fused.can_fuse(torch.zeros(1), *(network.config.dim(level) for level in range(4)))


@pytest.mark.parametrize("size", [(8, 8), (24, 16), (33, 70), (96, 96), (130, 65)])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("windows", [(), (48, 36, 18, 9)])
def test_outputs(size: tuple[int, int], batch: int, windows: tuple[int, ...]) -> None:
    """Sizes below, at and above a tile, a window and the padding's multiple."""
    network = random_network(replace(NARROW, windows=windows)).eval()
    assert fuses(network)
    x = torch.rand(batch, 1, *size)
    with torch.inference_mode():
        found = network(x)
        with without_kernels():
            expected = network(x)
    assert not torch.equal(found, expected)  # another order of sums: the kernels were at work
    assert (found - expected).abs().max() <= 1e-4 * (expected - x).std()


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_outputs_of_the_presets(preset: str) -> None:
    network = random_network(PRESETS[preset]).eval()
    assert fuses(network)
    x = torch.rand(1, 1, 40, 200)
    with torch.inference_mode():
        found = network(x)
        with without_kernels():
            expected = network(x)
    assert (found - expected).abs().max() <= 1e-4 * (expected - x).std()


def gradients(network: Tat, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    network.zero_grad()
    y = network(x)
    (y - 0.5).square().mean().backward()
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    return y.detach(), found


@pytest.mark.parametrize("size", [(32, 40), (48, 48)])
def test_gradients(size: tuple[int, int]) -> None:
    network = random_network(NARROW).train()
    x = torch.rand(3, 1, *size)
    y, found = gradients(network, x)
    with without_kernels():
        expected_y, expected = gradients(network, x)
    assert (y - expected_y).abs().max() <= 1e-4 * expected_y.std()
    assert found.keys() == expected.keys() == dict(network.named_parameters()).keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 5), (40, 33)])
def test_gradients_of_the_input(rows: int, columns: int) -> None:
    """Every pixel's gradient, at the borders of maps and of tiles too."""
    torch.manual_seed(2)
    block = TransformerBlock(32, heads=2, hidden=40, window=Window(48), adaptive=False)
    weights = torch.randn(2, 32, rows, columns)
    results = []
    for way in (torch.enable_grad, without_kernels):
        x = torch.randn(2, 32, rows, columns, generator=torch.Generator().manual_seed(3)).requires_grad_()
        with way():
            (block(x) * weights).sum().backward()
        assert x.grad is not None
        results.append(x.grad)
    assert (results[0] - results[1]).abs().max() <= 1e-4 * results[1].std()


@pytest.mark.parametrize("windows", [(), (48, 36, 18, 9)])
def test_crops_beyond_the_window_train_too(windows: tuple[int, ...]) -> None:
    """Several windows in training are left to PyTorch's operations, with the same gradients."""
    network = random_network(replace(NARROW, windows=windows)).train()
    x = torch.rand(1, 1, 64, 64)
    _, found = gradients(network, x)
    with without_kernels():
        _, expected = gradients(network, x)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


def test_bf16_is_as_close_as_the_operations_are() -> None:
    library = native_library.native_library()
    assert library is not None
    if not library.tat_has_bf16():
        pytest.skip("this processor has no AVX512-BF16")
    network = random_network(NARROW).eval()
    x = torch.rand(2, 1, 72, 56)
    with torch.inference_mode():
        exact = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            found = network(x)
            with without_kernels():
                other = network(x)
    assert 0 < (found - exact).std() <= 1.1 * (other - exact).std()
    assert (found - exact).std() <= 0.05 * (exact - x).std()


def test_bf16_gradients_are_as_close_as_the_operations_are() -> None:
    library = native_library.native_library()
    assert library is not None
    if not library.tat_has_bf16():
        pytest.skip("this processor has no AVX512-BF16")
    network = random_network(NARROW).train()
    x = torch.rand(2, 1, 40, 32)
    with without_kernels():
        _, exact = gradients(network, x)
        with torch.autocast("cpu", torch.bfloat16):
            _, other = gradients(network, x)
    with torch.autocast("cpu", torch.bfloat16):
        _, found = gradients(network, x)
    errors = [sum(float((some[name] - exact[name]).square().sum()) for name in exact) ** 0.5 for some in (found, other)]
    assert 0 < errors[0] <= 1.1 * errors[1]


@pytest.fixture
def matrix_unit() -> Iterator[None]:
    library = native_library.native_library()
    assert library is not None
    if not library.tat_use_amx(1):
        pytest.skip("this processor has no AMX")
    yield
    library.tat_use_amx(1)


def test_the_matrix_unit_gives_what_vectors_give(matrix_unit: None) -> None:
    """The same bfloat16 words in another order of sums; maps of widths and sizes that are no multiples of its tiles."""
    library = native_library.native_library()
    assert library is not None
    network = random_network(NARROW).train()
    x = torch.rand(2, 1, 56, 40)
    results = []
    for wanted in (1, 0, 0):
        assert library.tat_use_amx(wanted) == wanted
        with torch.autocast("cpu", torch.bfloat16):
            results.append(gradients(network, x))
    (found, found_gradients), (expected, expected_gradients), (again, _) = results
    assert torch.equal(expected, again)
    assert not torch.equal(found, expected)
    assert (found - expected).norm() <= 0.02 * (expected - x).norm()
    one, other = (torch.cat([g.flatten() for g in some.values()]) for some in (found_gradients, expected_gradients))
    assert (one - other).norm() <= 0.02 * other.norm()


def test_the_matrix_unit_can_be_switched_off(matrix_unit: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAT_AMX", "0")
    native_library._library.cache_clear()
    network = random_network(NARROW).eval()
    x = torch.rand(1, 1, 32, 32)

    def restored() -> torch.Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            return network(x)

    library = native_library.native_library()  # loaded again
    assert library is not None
    off = restored()
    library.tat_use_amx(0)
    assert torch.equal(restored(), off)
    library.tat_use_amx(1)
    assert not torch.equal(restored(), off)


def test_changed_weights_are_seen() -> None:
    """Packed weights are kept between calls, and made again after every way of changing them."""
    network = random_network(NARROW).eval()
    x = torch.rand(1, 1, 32, 32)

    def agree() -> bool:
        with torch.inference_mode():
            found = network(x)
            with without_kernels():
                expected = network(x)
        return bool((found - expected).abs().max() <= 1e-4 * (expected - x).std())

    assert agree()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.2)
    assert agree()
    network.load_state_dict(random_network(NARROW).state_dict())
    assert agree()
    with torch.inference_mode():
        network.output.weight.mul_(1.1)
    assert agree()
    network.load_state_dict({key: value * 1.1 for key, value in network.state_dict().items()}, assign=True)
    assert agree()
    with torch.inference_mode():
        network = random_network(NARROW).eval()  # its weights keep no version
        assert agree()
        network.encoder1[0].attention.qkv.weight.mul_(1.1)
    assert agree()


def test_threads_that_share_a_network_never_read_half_packed_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one begins to pack while the first is at it, and hasn't got far when the first goes on."""
    weight, shape = torch.rand(64, 32, 1, 1), packing.Shape.of_gate(32, 32)
    shared, real = packing.PackedWeights(), packing.call
    second_began, first_ended = threading.Event(), threading.Event()

    def get(kept: packing.PackedWeights) -> torch.Tensor:
        with torch.no_grad():
            return kept.get("tat_pack_expansion", weight, shape, bf16=False)[0].clone()

    expected = get(packing.PackedWeights())
    assert expected.count_nonzero() == weight.numel()
    with ThreadPoolExecutor(1) as other:

        def call(*arguments: Any) -> None:
            if threading.current_thread() is threading.main_thread():
                real(*arguments)
                results.append(other.submit(get, shared))
                assert second_began.wait(60)
            else:
                arguments[-2].zero_()
                second_began.set()
                assert first_ended.wait(60)
                real(*arguments)

        results: list[Future[torch.Tensor]] = []
        monkeypatch.setattr(packing, "call", call)
        first = get(shared)
        first_ended.set()
        assert torch.equal(first, expected)
        assert torch.equal(results[0].result(), expected)


def test_sections_are_timed() -> None:
    """Everything that a pass does in the kernels, and nothing once the context ended."""
    network = random_network(NARROW).eval()
    x = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        network(x)
        with fused.section_seconds() as spent:
            network(x)
        before = dict(spent)
        network(x)
    assert spent == before
    assert set(spent) == {"LayerNorm", "products", "depthwise", "gate", "statistics"}
    assert min(spent.values()) > 0
    with fused.section_seconds() as spent, without_kernels(), torch.inference_mode():
        network(x)
    assert max(spent.values()) == 0


def test_threads_change_rounding_at_most() -> None:
    network = random_network(NARROW).eval()
    x = torch.rand(1, 1, 96, 80)
    before = torch.get_num_threads()
    try:
        outputs = []
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            with torch.inference_mode():
                outputs.append(network(x))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(outputs[1], outputs[2])
    assert (outputs[0] - outputs[1]).abs().max() <= 1e-5 * (outputs[0] - x).std()


def test_odd_channel_counts_are_left_to_the_operations() -> None:
    assert not fused.can_fuse(torch.zeros(1, 24, 8, 8), 24)
    assert not fused.can_fuse(torch.zeros(1, 32, 8, 8, dtype=torch.float64), 32)
    assert fused.can_fuse(torch.zeros(1, 32, 8, 8), 32)
    block = TransformerBlock(24, heads=1, hidden=48, window=Window(48), adaptive=False)
    x = torch.rand(1, 24, 8, 8)
    with torch.inference_mode(), without_kernels():
        expected = block(x)
    with torch.inference_mode():
        assert torch.equal(block(x), expected)


def test_norm_of_a_constant_pixel() -> None:
    """All channels alike: the variance is 0 and LayerNorm's epsilon decides."""
    block = TransformerBlock(32, heads=1, hidden=64, window=Window(48), adaptive=False)
    torch.nn.init.normal_(block.norm1.bias)
    x = torch.ones(1, 32, 12, 12)
    with torch.inference_mode():
        found = block(x)
        with without_kernels():
            expected = block(x)
    assert bool(torch.isfinite(found).all())
    assert (found - expected).abs().max() <= 1e-4
    assert isinstance(block.norm1, LayerNorm)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """Nothing is built yet, and the cache is an empty folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    native_library._library.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    native_library._library.cache_clear()


def test_building_can_be_switched_off(fresh: pytest.MonkeyPatch) -> None:
    fresh.setenv("TAT_NATIVE", "0")
    assert native_library.native_library() is None
    assert native_library.why_not_native() == "switched off by TAT_NATIVE=0"
    assert not fused.can_fuse(torch.zeros(1, 32, 8, 8), 32)


def test_building_without_a_compiler(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fresh.setenv("PATH", str(tmp_path))
    assert native_library.native_library() is None
    assert native_library.why_not_native() == "no C++ compiler (c++, g++, clang++) found"
    network = random_network(NARROW).eval()
    with torch.inference_mode():
        assert bool(torch.isfinite(network(torch.rand(1, 1, 16, 16))).all())


def test_nothing_is_built_where_it_was_never_run(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Apple's compiler asks to be installed; another's OpenMP beside PyTorch's ends the process."""
    compiler = tmp_path / "c++"
    compiler.write_text(f"#!/bin/sh\ntouch '{tmp_path / 'called'}'\nexit 1\n")
    compiler.chmod(0o755)
    fresh.setenv("CXX", str(compiler))
    fresh.setattr(native_library.platform, "system", lambda: "Darwin")
    assert native_library.native_library() is None
    assert native_library.why_not_native() == "not built on Darwin"
    assert not (tmp_path / "called").exists()


def test_pytorchs_openmp_is_found_where_arm_wheels_have_it(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch" / "lib").mkdir(parents=True)
    (tmp_path / "torch.libs").mkdir()
    (tmp_path / "torch.libs" / "libgomp-98df74fd.so.1.0.0").touch()
    compiler = tmp_path / "c++"
    compiler.write_text(
        f"#!/bin/sh\necho \"$@\" >> '{tmp_path / 'calls'}'\nwhile [ $1 != -o ]; do shift; done; touch $2\n"
    )
    compiler.chmod(0o755)
    fresh.setenv("CXX", str(compiler))
    fresh.setattr(native_library, "COMPILERS", ())
    fresh.setattr(native_library.torch, "__file__", str(tmp_path / "torch" / "__init__.py"))
    native_library.native_library()
    link = (tmp_path / "calls").read_text().splitlines()[1].split()
    assert link[0] == "-shared"
    assert link[2] == str(tmp_path / "torch.libs" / "libgomp-98df74fd.so.1.0.0")
    assert "-fopenmp" not in link


def test_building_with_a_broken_compiler(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_bytes(b"#!/bin/sh\necho 'no such header \xe4' >&2\nexit 1\n")  # in another encoding than ours
    compiler.chmod(0o755)
    fresh.setenv("CXX", str(compiler))
    fresh.setattr(native_library, "COMPILERS", ())
    assert native_library.native_library() is None
    assert native_library.why_not_native() == f"{compiler} failed: no such header \ufffd"
    assert list((tmp_path / "tat").iterdir()) == []


def test_building_with_the_next_compiler(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As where CXX is Clang, whose library needs LLVM's OpenMP and can't be loaded beside PyTorch's wheel."""
    compiler = tmp_path / "clang++"
    script = f"echo >> '{tmp_path / 'calls'}'\nwhile [ $1 != -o ]; do shift; done; echo no > $2\n"
    compiler.write_text(f"#!/bin/sh\n{script}")
    compiler.chmod(0o755)
    fresh.setenv("CXX", str(compiler))
    fresh.setattr(native_library, "FLAGS", ("-O0", *native_library.FLAGS[1:]))  # quicker
    known = native_library._compilers()
    assert known[0] == str(compiler)
    if len(known) == 1:
        pytest.skip("no other compiler")
    for _ in range(2):
        assert native_library.native_library() is not None, native_library.why_not_native()
        assert native_library.why_not_native() == ""
        native_library._library.cache_clear()
    assert len((tmp_path / "calls").read_text()) == 2  # compiled and linked once
    assert len([*(tmp_path / "tat").glob("*.so")]) == 2


def test_building_by_each_compiler_once(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).touch(mode=0o755)
    for name, meant in (("c++", "one"), ("g++", "one"), ("clang++", "other"), ("mine", "other")):
        (tmp_path / name).symlink_to(meant)
    fresh.setenv("PATH", str(tmp_path))
    assert native_library._compilers() == [str(tmp_path / "c++"), str(tmp_path / "clang++")]
    fresh.setenv("CXX", str(tmp_path / "mine"))
    assert native_library._compilers() == [str(tmp_path / "mine"), str(tmp_path / "c++")]


def test_building_for_a_user_without_a_home(fresh: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number which no user has."""
    for variable in ("XDG_CACHE_HOME", "HOME"):
        fresh.delenv(variable)
    fresh.setattr("os.getuid", lambda: 2**31 - 2)
    assert native_library.native_library() is None
    assert native_library.why_not_native() == "no folder to keep them in; set HOME or XDG_CACHE_HOME"


def test_building_in_an_unwritable_cache(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tat").write_text("a file, where a folder is wanted")
    fresh.setenv("CXX", "/bin/true")
    assert native_library.native_library() is None
    assert native_library.why_not_native().startswith(f"can't be compiled in {tmp_path / 'tat'}: ")


def test_building_loads_nothing_that_others_may_have_put_there(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where HOME is /tmp, as in some containers and jobs, anyone may make the cache first."""
    folder = tmp_path / "tat"
    folder.mkdir(mode=0o700)
    fresh.setattr(native_library, "_fingerprint", lambda *_: "known")
    (folder / "kernels-known.so").write_bytes(b"planted")
    fresh.setattr("os.getuid", lambda: folder.stat().st_uid + 1)
    if folder.stat().st_uid == 0:  # root's own are trusted by all
        os.chown(folder, 12345, -1)
    assert native_library.native_library() is None
    why = f"{folder}: expected a folder that only this user may write to, got another's or a shared one"
    assert native_library.why_not_native() == f"{why}; set XDG_CACHE_HOME to another"


def test_building_closes_an_own_folder_that_others_could_write_to(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As PyTorch's compiler makes it under umask 002; what may have been planted isn't loaded."""
    folder = tmp_path / "tat"
    (folder / "inductor").mkdir(parents=True)
    folder.chmod(0o775)
    fresh.setattr(native_library, "_fingerprint", lambda *_: "known")
    (folder / "kernels-known.so").write_bytes(b"planted")
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\nwhile [ $1 != -o ]; do shift; done; echo built > $2\n")
    compiler.chmod(0o755)
    fresh.setenv("CXX", str(compiler))
    fresh.setattr(native_library, "COMPILERS", ())
    native_library.native_library()
    assert (folder / "kernels-known.so").read_text() == "built\n"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "inductor").is_dir()


def test_building_afresh_for_another_c_library(fresh: pytest.MonkeyPatch) -> None:
    """As in a container that shares its user's home."""
    fresh.setattr(native_library.platform, "libc_ver", lambda: ("glibc", "2.28"))
    old = native_library._fingerprint("/usr/bin/c++", None)
    fresh.setattr(native_library.platform, "libc_ver", lambda: ("glibc", "2.39"))
    assert native_library._fingerprint("/usr/bin/c++", None) != old


def test_building_afresh_for_another_processor(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a cluster with one home, whose kernel names neither processor's newest instructions."""
    told = tmp_path / "cpuinfo"
    fresh.setattr("tatcli.processor._DESCRIPTION", told)
    keys = set()
    for model in ("85", "85", "143"):
        told.write_text(f"vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: {model}\nflags\t\t: fpu avx512f\n")
        keys.add(native_library._fingerprint("/usr/bin/c++", None))
    assert len(keys) == 2
