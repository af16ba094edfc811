"""A teacher's part of the targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tatcli.baselines.edsr import Edsr
from tatcli.errors import UsageError, WeightsError
from tatcli.inference.options import VIEWS
from tatcli.model.config import TatConfig
from tatcli.model.tat import Tat
from tatcli.model.views import turned, turned_back
from tatcli.model.weights import load_weights
from tatcli.tasks import TASKS
from tatcli.training.config import TrainConfig
from tatcli.training.distributed import World
from tatcli.training.loop import Progress
from tatcli.training.references import prepare_references
from tatcli.training.sampler import Sampler
from tatcli.training.steps import Stepper
from tatcli.training.teacher import Teacher, TeachingNetwork
from tatcli.workflows.train import train
from tatcli.workflows.training.network import make_network
from tatcli.workflows.training.teachers import load_teachers

Make = Callable[..., TrainConfig]


class Ramp(nn.Module):
    """Adds 0 to 1 from the first column to the last: its restorations tell which view it was shown."""

    def forward(self, lq: Tensor) -> Tensor:
        return lq + torch.linspace(0, 1, lq.shape[-1])


def test_views_are_all_eight_and_turned_back() -> None:
    crop = torch.arange(16.0).reshape(1, 4, 4)
    views = [turned(crop, way) for way in VIEWS]
    assert len({tuple(view.flatten().tolist()) for view in views}) == 8
    assert all(torch.equal(turned_back(seen, way), crop) for way, seen in zip(VIEWS, views, strict=True))


def test_target_is_the_mix_of_reference_and_restoration_of_the_view() -> None:
    lq, hq = torch.rand(8, 1, 5, 5), torch.rand(8, 1, 5, 5)
    ramp = torch.linspace(0, 1, 5).expand(5, 5)
    # as they lie in the crop: after a quarter turn (from columns towards rows) the view's columns are the crop's rows
    ramps = torch.stack([ramp, ramp.T, ramp.flip(1), ramp.T.flip(0)])
    teacher = Teacher([TeachingNetwork(Ramp(), ["mri-sr"])], {"mri-sr": 0.25}, "fp32")
    targets = teacher.targets(lq, hq, range(8), ["mri-sr"] * 8)
    restored = lq[:, 0] + torch.cat([ramps, ramps.flip(-1)])
    assert torch.allclose(targets[:, 0], 0.25 * restored + 0.75 * hq[:, 0], atol=1e-6)


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, lq: Tensor) -> Tensor:
        return self.factor * lq


def test_each_teaches_its_tasks_and_several_are_averaged() -> None:
    lq, hq = torch.rand(3, 1, 4, 4), torch.rand(3, 1, 4, 4)
    networks = [TeachingNetwork(Times(2.0), ["ct-denoise", "mri-sr"]), TeachingNetwork(Times(3.0), ["mri-sr"])]
    shares = {"ct-denoise": 0.25, "pet-synthesis": 0.5, "mri-sr": 0.5}
    targets = Teacher(networks, shares, "fp32").targets(lq, hq, (1, 7, 4), ("mri-sr", "pet-synthesis", "ct-denoise"))
    assert torch.allclose(targets[0], 0.5 * hq[0] + 0.5 * 2.5 * lq[0])
    assert torch.equal(targets[1], hq[1])  # no one teaches PET
    assert torch.allclose(targets[2], 0.75 * hq[2] + 0.25 * 2.0 * lq[2])


def test_a_task_with_a_share_of_0_is_left_to_its_references() -> None:
    lq, hq = torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4)
    asked: list[int] = []

    class Counting(nn.Module):
        def forward(self, crops: Tensor) -> Tensor:
            asked.append(len(crops))
            return 2 * crops

    tasks = ("ct-denoise", "mri-sr")
    teacher = Teacher([TeachingNetwork(Counting(), tasks)], {"ct-denoise": 0.0, "mri-sr": 1.0}, "fp32")
    targets = teacher.targets(lq, hq, (3, 4), tasks)
    assert torch.equal(targets[0], hq[0])
    assert torch.allclose(targets[1], 2 * lq[1])
    assert asked == [1]  # nor is the teacher's time spent on it


def test_teacher_is_neither_changed_nor_trained(make_config: Make) -> None:
    config = make_config(tasks=("mri",), teacher_share=(1.0,), loss="l1")
    references = {"mri-sr": prepare_references(TASKS["mri-sr"], "train", config)}
    teacher = make_network(replace(config, seed=1)).module
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    teachers = [TeachingNetwork(teacher, config.tasks)]
    stepper = Stepper(make_network(config).module, config, world=World(), teachers=teachers)
    batch = Sampler(references, config).batch(0)
    # both networks are identities at the start, so that nothing is left to learn from such a teacher
    assert stepper.update(batch, 0).loss == pytest.approx(0, abs=1e-6)
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_views_differ_and_are_those_of_the_step(make_config: Make) -> None:
    config = make_config(batch=(4,))
    references = {task: prepare_references(TASKS[task], "train", config) for task in config.tasks}
    views = [Sampler(references, config).batch(step).views for step in range(5)]
    assert set(sum(views, ())) == set(range(8))
    assert Sampler(references, config).batch(3).views == views[3]
    halves = Sampler(references, config).batch(3).split(2)
    assert halves[0].views + halves[1].views == views[3]


@pytest.mark.parametrize(("share", "expected"), [(1.0, 0.7), (0.5, 0.85)])
def test_a_student_follows_its_teacher_by_its_share(make_config: Make, share: float, expected: float) -> None:
    """With its whole share the student darkens as the teacher does, with half of it half as much."""
    config = make_config(tasks=("mri",), steps=40, patch=(16,), learning_rate=4e-3, teacher_share=(share,))
    student = make_network(config).module
    references = {"mri-sr": prepare_references(TASKS["mri-sr"], "train", config)}
    stepper = Stepper(student, config, world=World(), teachers=[TeachingNetwork(Times(0.7), ["mri-sr"])])
    sampler = Sampler(references, config)
    for step in range(config.steps):
        stepper.update(sampler.batch(step), step)
    lq = sampler.batch(99).lq
    with torch.no_grad():
        restored = student.eval()(lq)
    assert float((restored * lq).sum() / lq.square().sum()) == pytest.approx(expected, abs=0.06)


@pytest.mark.slow
def test_a_taught_run_differs_and_goes_on_exactly(make_config: Make) -> None:
    first = str(train(make_config("first")).weights)

    def run(name: str, *, stop: int = 0, **options: object) -> dict[str, Tensor]:
        def on_step(progress: Progress) -> None:
            if progress.step == stop:
                raise KeyboardInterrupt

        done = train(make_config(name, init=first, **options), on_step=on_step)
        return load_weights(str(done.weights))[0].state_dict()

    plain, taught = run("plain"), run("taught", teacher=first)
    with pytest.raises(KeyboardInterrupt):
        run("cut", teacher=first, stop=3)
    resumed = run("cut", teacher=first)
    assert all(torch.equal(value, taught[key]) for key, value in resumed.items())
    assert any(not torch.equal(value, taught[key]) for key, value in plain.items())
    with pytest.raises(UsageError, match=r"teacher was .*, now None"):
        run("cut")


def test_teachers_are_found_with_their_tasks(make_config: Make) -> None:
    """A TAT of three tasks and a comparison network of one, as two runs left them."""
    tat = train(make_config("tat", steps=1)).weights
    edsr = train(make_config("edsr", network="edsr", network_width=4, tasks=("mri",), steps=1)).weights
    config = make_config("student", teacher=f"{tat}, {edsr}")
    teachers = load_teachers(config)
    assert [teacher.tasks for teacher in teachers] == [list(config.tasks), ["mri-sr"]]
    assert isinstance(teachers[0].module, Tat)
    assert isinstance(teachers[1].module, Edsr)
    assert load_teachers(make_config()) == ()
    train(config)
    with pytest.raises(UsageError, match="expected weights for ct-denoise, got ones for mri-sr"):
        load_teachers(make_config(tasks=("ct",), teacher=str(edsr)))
    with pytest.raises(UsageError, match=r"in the run's network range, .*; see --mri-range"):
        load_teachers(make_config(mri_range="paper", teacher=str(edsr)))
    untaught = tuple(float(task != "mri-sr") for task in config.tasks)
    (only,) = load_teachers(make_config(teacher=str(tat), teacher_share=untaught))
    assert only.tasks == [task for task in config.tasks if task != "mri-sr"]
    with pytest.raises(UsageError, match=r"got ones for mri-sr; the other tasks' --teacher-share is 0"):
        load_teachers(make_config(teacher=str(edsr), teacher_share=untaught))


def test_bad_teachers(make_config: Make, tmp_path: Path) -> None:
    for shares in ((0.0,), (0.5, 0.5), (1.5,), ()):
        with pytest.raises(UsageError, match="--teacher-share"):
            make_config(teacher_share=shares)
    with pytest.raises(WeightsError, match="nobody"):
        train(make_config(teacher=str(tmp_path / "nobody.safetensors")))
    lonely = tmp_path / "lonely.safetensors"
    lonely.touch()
    with pytest.raises(WeightsError, match=r"expected its card lonely\.json beside it"):
        load_teachers(make_config(teacher=str(lonely)))


def test_a_tat_of_another_size_can_teach() -> None:
    tiny = TatConfig(
        width=8, encoder_blocks=(1, 1, 1), latent_blocks=1, decoder_blocks=(1, 1, 1), refinement_blocks=1, tren_width=4
    )
    lq = torch.rand(2, 1, 32, 32)
    network = Tat(tiny)
    targets = Teacher([TeachingNetwork(network, ["ct-denoise"])], {"ct-denoise": 0.5}, "fp32").targets(
        lq, lq, (0, 5), ["ct-denoise"] * 2
    )
    assert targets.shape == lq.shape
    with torch.no_grad():
        assert torch.allclose(targets[0], (lq[0] + network(lq)[0]) / 2, atol=1e-4)
