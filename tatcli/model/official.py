"""Checkpoints under the official parameter names: one table, both ways, and the config read off the shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from torch import Tensor

from tatcli.errors import UsageError, WeightsError
from tatcli.model.config import TatConfig
from tatcli.model.tat import Tat

__all__ = ["from_official", "official_name", "to_official"]

_STAGE_NAMES: Final = {
    "encoder1": "encoder_level1",
    "encoder2": "encoder_level2",
    "encoder3": "encoder_level3",
    "latent": "latent",
    "decoder3": "decoder_level3",
    "decoder2": "decoder_level2",
    "decoder1": "decoder_level1",
    "refinement": "refinement",
}
_STATIC_STAGES: Final = ("encoder1", "encoder2", "encoder3")
_BLOCK_NAMES: Final = {
    "norm1.weight": "norm1.body.weight",
    "norm1.bias": "norm1.body.bias",
    "attention.temperature": "attn.temperature",
    "attention.qkv.weight": "attn.qkv.weight",
    "attention.project.weight": "attn.project_out.weight",
    "norm2.weight": "norm2.body.weight",
    "norm2.bias": "norm2.body.bias",
    "feedforward.expand.weight": "ffn.project_in.weight",
    "feedforward.project.weight": "ffn.project_out.weight",
}
_DEPTHWISE_NAMES: Final = {
    True: {
        "attention.depthwise.shared": "attn.dw_kernel",
        "attention.depthwise.gain": "attn.lambda_dw",
        "feedforward.depthwise.shared": "ffn.dw_kernel",
        "feedforward.depthwise.gain": "ffn.lambda_dw",
    },
    False: {
        "attention.depthwise.shared": "attn.qkv_dwconv.weight",
        "feedforward.depthwise.shared": "ffn.dwconv.weight",
    },
}
_SINGLE_NAMES: Final = {
    "patch_embedding.weight": "patch_embed.proj.weight",
    "down1.conv.weight": "down1_2.body.0.weight",
    "down2.conv.weight": "down2_3.body.0.weight",
    "down3.conv.weight": "down3_4.body.0.weight",
    "up3.conv.weight": "up4_3.body.0.weight",
    "up2.conv.weight": "up3_2.body.0.weight",
    "up1.conv.weight": "up2_1.body.0.weight",
    "reduce3.weight": "reduce_chan_level3.weight",
    "reduce2.weight": "reduce_chan_level2.weight",
    "fuse.0.weight": "reduce_final.0.weight",
    "fuse.2.weight": "reduce_final.2.weight",
    "output.weight": "output.weight",
    "tren.extract.0.bias": "tren.E.0.bias",
    **{f"tren.extract.{i}.weight": f"tren.E.{i}.weight" for i in (0, 4, 6, 8)},
    **{
        f"tren.extract.{i}.conv{j + 1}.{leaf}": f"tren.E.{i}.body.{2 * j}.{leaf}"
        for i in (2, 3)
        for j in (0, 1)
        for leaf in ("weight", "bias")
    },
    **{f"tren.represent.{i}.weight": f"tren.mlp.{i}.weight" for i in (0, 2)},
    **{
        f"tren.{ours}.{kind}.linear.weight": f"tren.kernel_{theirs}_{short}.0.weight"
        for ours, theirs in (
            ("decoder1", "level1"),
            ("decoder2", "level2"),
            ("decoder3", "level3"),
            ("latent", "latent"),
        )
        for kind, short in (("attention", "attn"), ("feedforward", "ffn"))
    },
}


def official_name(name: str) -> str:
    """The official name of one of our parameters.

    Raises:
        KeyError: no such parameter.
    """
    stage, _, rest = name.partition(".")
    if stage not in _STAGE_NAMES:
        return _SINGLE_NAMES[name]
    index, _, leaf = rest.partition(".")
    names = _BLOCK_NAMES | _DEPTHWISE_NAMES[stage not in _STATIC_STAGES]
    return f"{_STAGE_NAMES[stage]}.{index}.{names[leaf]}"


def to_official(network: Tat) -> dict[str, Tensor]:
    """The network's parameters under the official names and shapes (views)."""
    return {
        official_name(name): parameter.detach().view(_official_shape(name, parameter))
        for name, parameter in network.named_parameters()
    }


def from_official(state_dict: Mapping[str, Tensor]) -> Tat:
    """A network in eval mode from a checkpoint under the official names.

    The config is read off the shapes; the training crop (and so the local windows) is the paper's 128.

    Raises:
        WeightsError: missing, extra or misshapen keys, all named.
    """
    network = Tat(_infer_config(state_dict))
    own = dict(network.named_parameters())
    expected = {official_name(name): (name, _official_shape(name, value)) for name, value in own.items()}
    problems = [f"missing {key}" for key in expected if key not in state_dict]
    problems += [f"unexpected {key}" for key in state_dict if key not in expected]
    problems += [
        f"{key} has shape {tuple(state_dict[key].shape)}, expected {shape}"
        for key, (_, shape) in expected.items()
        if key in state_dict and tuple(state_dict[key].shape) != shape
    ]
    if problems:
        msg = f"official checkpoint: {len(problems)} wrong keys: {'; '.join(problems)}"
        raise WeightsError(msg)
    network.load_state_dict({name: state_dict[key].reshape(own[name].shape) for key, (name, _) in expected.items()})
    return network.eval()


def _official_shape(name: str, parameter: Tensor) -> tuple[int, ...]:
    shape = tuple(parameter.shape)
    if name.endswith("temperature"):
        return (*shape, 1, 1)
    if ".depthwise." in name and name.partition(".")[0] not in _STATIC_STAGES:
        return (1, *shape)
    return shape


def _infer_config(state_dict: Mapping[str, Tensor]) -> TatConfig:
    """The config whose network has these shapes (as far as they agree; the rest is found by the key check)."""

    def blocks(stage: str) -> int:
        pattern = re.compile(rf"{re.escape(_STAGE_NAMES[stage])}\.(\d+)\.")
        return 1 + max((int(match[1]) for match in map(pattern.match, state_dict) if match), default=-1)

    def shape(key: str, dimensions: int) -> tuple[int, ...]:
        if key not in state_dict or state_dict[key].ndim != dimensions:
            msg = f"official checkpoint: expected {key} with {dimensions} dimensions, found none; is it a TAT?"
            raise WeightsError(msg)
        return tuple(state_dict[key].shape)

    width = shape("patch_embed.proj.weight", 4)[0]
    latent = shape("latent.0.ffn.project_out.weight", 4)
    stages = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")
    heads = tuple(shape(f"{stage}.0.attn.temperature", 3)[0] for stage in stages)
    try:
        return TatConfig(
            width=width,
            encoder_blocks=(blocks("encoder1"), blocks("encoder2"), blocks("encoder3")),
            latent_blocks=blocks("latent"),
            decoder_blocks=(blocks("decoder1"), blocks("decoder2"), blocks("decoder3")),
            refinement_blocks=blocks("refinement"),
            heads=(heads[0], heads[1], heads[2], heads[3]),
            expansion=_expansion(hidden=latent[1], dim=latent[0]),
            tren_width=shape("tren.E.0.weight", 4)[0],
        )
    except UsageError as error:
        msg = f"official checkpoint: {error}"
        raise WeightsError(msg) from error


def _expansion(*, hidden: int, dim: int) -> float:
    """The expansion factor with int(factor * dim) = hidden: the paper's where it fits, else the middle of the range."""
    paper = TatConfig.expansion
    return paper if int(paper * dim) == hidden else (hidden + 0.5) / dim
