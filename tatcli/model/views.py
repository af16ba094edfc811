"""The ways to show a network a slice: mirrored or not, then turned by quarters; and back."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["View", "turned", "turned_back"]

View = tuple[int, bool]
"""(Quarter turns, mirrored before)."""
Images = Float[Tensor, "*stack _ _"]
"""(..., rows, columns); a quarter turn swaps the two."""


def turned(images: Images, view: View) -> Images:
    """Images mirrored along their columns or not, then turned by quarters: the first one takes the last column up."""
    turns, mirrored = view
    return torch.rot90(images.flip(-1) if mirrored else images, turns, (-2, -1))


def turned_back(images: Images, view: View) -> Images:
    """The inverse of :func:`turned`."""
    turns, mirrored = view
    straight = torch.rot90(images, -turns, (-2, -1))
    return straight.flip(-1) if mirrored else straight
