#!/usr/bin/env python3
"""Make a full-dose CT of a made-up abdomen, for trying tat without a patient's scan.

Usage: python examples/make_phantom.py OUTPUT.nii.gz [--slices N] [--seed N]

Organs, bones, vessels, fat and bowel gas lie where they do in an upper abdomen (no real patient's) and have the
HU of a portal-venous scan. The edges have a scanner's blur, and the noise is a full-dose scan's: inserted
through projections, so that it is correlated and streaky as on a scanner.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from tatcli import write_volume
from tatcli.degradation.ct_kernel import find_kernel
from tatcli.degradation.low_dose_ct import ct_noise_realisations
from tatcli.intensity import Units
from tatcli.volumes import Geometry, Provenance, Volume

MATRIX = 512
FIELD_OF_VIEW = 380.0  # mm
SLICE_SPACING = 5.0  # mm
SUPERSAMPLING = 2  # edges cover voxels partly
FULL_DOSE_NOISE = 11.0  # HU: standard deviation in soft tissue, as in abdominal scans of 5 mm slices
BLUR = 0.45  # mm: standard deviation of a soft-tissue kernel's point spread

Image = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Box = tuple[slice, slice]


@dataclass(frozen=True)
class Organ:
    """An ellipse with a wavy outline, which drifts and grows from slice to slice.

    Lengths are fractions of the body's half-width; x grows to the patient's left, y to the back.
    """

    name: str
    hu: float
    centre: tuple[float, float]
    radii: tuple[float, float]
    angle: float = 0.0  # degrees
    waviness: float = 0.0
    drift: tuple[float, float] = (0.0, 0.0)  # of the centre, per 10 mm
    growth: float = 0.0  # of the radii, per 10 mm
    texture: float = 4.0  # HU: how much the tissue itself varies


BODY_HALF_WIDTH = 165.0  # mm

BODY = (  # painted in this order; later ones cover earlier ones
    Organ("body, skin", 10, (0.0, 0.0), (1.0, 0.74), waviness=0.012, texture=3),
    Organ("body, subcutaneous fat", -102, (0.0, 0.0), (0.985, 0.725), waviness=0.012, texture=6),
    Organ("trunk, muscle", 58, (0.0, 0.01), (0.87, 0.625), waviness=0.02, texture=7),
    Organ("trunk, fat", -96, (0.0, -0.03), (0.81, 0.555), waviness=0.02, texture=8),
    Organ("psoas right", 60, (-0.2, 0.32), (0.1, 0.1), texture=6),
    Organ("psoas left", 60, (0.2, 0.32), (0.1, 0.1), texture=6),
    Organ("erector right", 55, (-0.22, 0.53), (0.2, 0.12), 12, 0.05, texture=9),
    Organ("erector left", 55, (0.22, 0.53), (0.2, 0.12), -12, 0.05, texture=9),
    Organ("liver", 108, (-0.4, -0.1), (0.395, 0.42), 10, 0.08, growth=0.03, texture=4),
    Organ("liver, left lobe", 108, (-0.08, -0.36), (0.3, 0.15), 8, 0.08, growth=0.05, texture=4),
    Organ("gallbladder", 8, (-0.24, -0.1), (0.07, 0.1), 20, 0.03, growth=-0.05, texture=1),
    Organ("liver cyst", 6, (-0.5, -0.2), (0.045, 0.045), growth=-0.1, texture=1),
    Organ("liver metastasis", 68, (-0.42, 0.12), (0.055, 0.05), waviness=0.06, growth=0.1),
    Organ("small metastasis", 72, (-0.6, -0.02), (0.022, 0.022)),
    Organ("spleen", 118, (0.6, 0.14), (0.13, 0.25), 18, 0.06, growth=0.04, texture=4),
    Organ("stomach, wall", 78, (0.34, -0.26), (0.27, 0.2), -18, 0.06, growth=0.04),
    Organ("stomach, content", 18, (0.34, -0.255), (0.25, 0.178), -18, 0.06, growth=0.04, texture=9),
    Organ("stomach gas", -960, (0.33, -0.36), (0.15, 0.055), texture=0),
    Organ("pancreas", 92, (0.06, -0.02), (0.19, 0.06), -20, 0.14, (0.0, 0.015), texture=10),
    Organ("right kidney, cortex", 182, (-0.37, 0.3), (0.125, 0.15), 25, 0.04, growth=-0.04, texture=6),
    Organ("right kidney, medulla", 135, (-0.36, 0.29), (0.085, 0.1), 25, 0.12, growth=-0.04, texture=8),
    Organ("right renal sinus", -70, (-0.33, 0.27), (0.045, 0.05), 25, 0.2),
    Organ("left kidney, cortex", 182, (0.38, 0.31), (0.125, 0.15), -25, 0.04, growth=-0.02, texture=6),
    Organ("left kidney, medulla", 135, (0.37, 0.3), (0.085, 0.1), -25, 0.12, growth=-0.02, texture=8),
    Organ("left renal sinus", -70, (0.34, 0.28), (0.045, 0.05), -25, 0.2),
    Organ("vena cava", 148, (-0.13, 0.14), (0.068, 0.055), 10, texture=2),
    Organ("aorta", 165, (0.06, 0.17), (0.062, 0.062), texture=2),
    Organ("aortic plaque", 620, (0.105, 0.2), (0.012, 0.022), 40, growth=0.2),
    Organ("superior mesenteric artery", 160, (0.055, 0.075), (0.024, 0.024), drift=(0.0, -0.012)),
    Organ("portal vein", 155, (-0.09, 0.03), (0.05, 0.036), -30, drift=(-0.02, -0.01)),
    Organ("jejunum 1, wall", 88, (0.33, -0.02), (0.11, 0.08), 10, 0.08, (0.01, 0.02)),
    Organ("jejunum 1, content", 22, (0.33, -0.02), (0.085, 0.055), 10, 0.15, (0.01, 0.02), texture=15),
    Organ("jejunum 2, wall", 88, (0.54, -0.1), (0.09, 0.08), -30, 0.08, (-0.01, 0.01)),
    Organ("jejunum 2, content", 22, (0.54, -0.1), (0.065, 0.055), -30, 0.15, (-0.01, 0.01), texture=15),
    Organ("colon, wall", 62, (0.66, -0.13), (0.085, 0.11), 10, 0.06),
    Organ("colon, content", -30, (0.66, -0.12), (0.075, 0.098), 10, 0.06, texture=60),
    Organ("colon gas", -950, (0.66, -0.17), (0.055, 0.042), texture=0),
    Organ("vertebra, cortex", 520, (0.0, 0.36), (0.155, 0.125), waviness=0.03, texture=30),
    Organ("vertebra, spongiosa", 190, (0.0, 0.36), (0.14, 0.11), waviness=0.03, texture=30),
    Organ("arch", 560, (0.0, 0.52), (0.135, 0.085), texture=40),
    Organ("transverse process right", 430, (-0.19, 0.47), (0.11, 0.028), 14, texture=30),
    Organ("transverse process left", 430, (0.19, 0.47), (0.11, 0.028), -14, texture=30),
    Organ("spinous process", 480, (0.0, 0.62), (0.03, 0.075), texture=40),
    Organ("spinal canal", -20, (0.0, 0.51), (0.085, 0.062), texture=3),
    Organ("dural sac", 32, (0.0, 0.505), (0.06, 0.05), texture=3),
)
RIBS = 14
RIB_HU = (680.0, 230.0)  # cortex, marrow


def paint_slice(z: float, textures: Image, seed: int) -> Image:
    """The noise-free slice at height z.

    Args:
        z: mm from the middle slice.
        textures: (3, MATRIX, MATRIX) smooth fields of unit variance: parenchyma, liver vessels, mesentery.
        seed: fixes the outlines.

    Returns:
        (MATRIX, MATRIX) HU.
    """
    size = MATRIX * SUPERSAMPLING
    steps = ((np.arange(size, dtype=np.float32) + 0.5) / size - 0.5) * (FIELD_OF_VIEW / BODY_HALF_WIDTH)
    x, y = steps[np.newaxis, :], steps[:, np.newaxis] + np.float32(0.03)  # patients don't lie in the very centre
    image = np.full((size, size), -1000.0, dtype=np.float32)
    image[(np.abs(y - 0.80 + 0.10 * x**2) < 0.008) & (np.abs(x) < 0.95)] = -20.0  # the couch's shell
    parenchyma, vessels, mesentery = (zoom(t, SUPERSAMPLING, order=1, mode="nearest") for t in textures)
    rng = np.random.default_rng(seed)
    phases: dict[str, NDArray[np.float64]] = {}  # parts of one thing ("stomach, wall") share its outline
    for organ in BODY:
        wave = phases.setdefault(organ.name.split(",")[0], rng.uniform(0, 2 * np.pi, 3))
        box, mask = _outline(organ, x, y, z, wave)
        image[box][mask] = organ.hu + organ.texture * parenchyma[box][mask]
        if organ.name in {"liver", "liver, left lobe"}:
            image[box][mask & (vessels[box] > 2.0)] = 158.0
        elif organ.name == "trunk, fat":
            image[box][mask & (np.abs(mesentery[box]) < 0.05)] = 40.0
    _add_ribs(image, x, y, z)
    coarse = image.reshape(MATRIX, SUPERSAMPLING, MATRIX, SUPERSAMPLING).mean(axis=(1, 3))
    return np.asarray(gaussian_filter(coarse, BLUR * MATRIX / FIELD_OF_VIEW), dtype=np.float32)


def paint(slices: int, seed: int) -> Image:
    """The noise-free volume, (slices, MATRIX, MATRIX) in HU, feet first."""
    rng = np.random.default_rng(seed)
    voxel = FIELD_OF_VIEW / MATRIX
    scales = (2.0, 4.0, 7.0)  # mm: grain of parenchyma, width of liver vessels, distance of mesenteric ones
    textures = np.stack([_smooth_field(rng, slices, scale, voxel) for scale in scales], axis=1)
    heights = (np.arange(slices) - (slices - 1) / 2) * SLICE_SPACING
    return np.stack([paint_slice(float(z), textures[i], seed) for i, z in enumerate(heights)])


def with_full_dose_noise(clean: Image, seed: int) -> Image:
    """The volume as a full-dose scan shows it, through a standard soft-tissue kernel."""
    kernels = [find_kernel("standard")]
    spacing = (FIELD_OF_VIEW / MATRIX, FIELD_OF_VIEW / MATRIX)
    streams = np.random.SeedSequence(seed).spawn(len(clean))
    noise = [
        ct_noise_realisations(hu, spacing_mm=spacing, kernels=kernels, seed=stream, noise_hu=FULL_DOSE_NOISE)[0]
        for hu, stream in zip(clean, streams, strict=True)
    ]
    return clean + np.float32(FULL_DOSE_NOISE) * np.stack(noise)


def as_scan(hu: Image) -> Volume:
    """The array as an axial CT: whole HU from -1024 to 3071, centred on the patient."""
    voxel = FIELD_OF_VIEW / MATRIX
    slices, rows, columns = hu.shape
    affine = np.diag([voxel, voxel, SLICE_SPACING, 1.0])  # LPS: columns to the left, rows to the back, slices upwards
    affine[:3, 3] = -(columns - 1) / 2 * voxel, -(rows - 1) / 2 * voxel, 0.0
    whole = np.clip(np.rint(hu), -1024, 3071)
    provenance = Provenance(modality="CT", dtype=np.dtype(np.int16))
    return Volume(whole, Geometry(affine, (slices, rows, columns)), Units.HU, provenance)


def main() -> None:
    """Paint, add noise, write."""
    parser = argparse.ArgumentParser(description="Make a full-dose CT of a made-up abdomen.")
    parser.add_argument("output", help="such as phantom.nii.gz; an existing file is replaced")
    parser.add_argument("--slices", type=int, default=6, help="number of 5 mm slices (default: 6)")
    parser.add_argument("--seed", type=int, default=0, help="of the outlines, the tissue and the noise (default: 0)")
    arguments = parser.parse_args()
    scan = as_scan(with_full_dose_noise(paint(arguments.slices, arguments.seed), arguments.seed))
    write_volume(scan, arguments.output, overwrite=True)


def _outline(organ: Organ, x: Image, y: Image, z: float, phases: NDArray[np.float64]) -> tuple[Box, Mask]:
    """Where an organ lies: a box of the slice, and the mask inside it."""
    cx, cy = (c + d * z / 10 for c, d in zip(organ.centre, organ.drift, strict=True))
    scale = max(1e-3, 1 + organ.growth * z / 10)
    box = _box(x, y, (cx, cy), 1.2 * scale * max(organ.radii))
    dx, dy = x[:, box[1]] - cx, y[box[0]] - cy
    turn = np.deg2rad(organ.angle)
    u = (dx * np.cos(turn) + dy * np.sin(turn)) / (organ.radii[0] * scale)
    v = (dy * np.cos(turn) - dx * np.sin(turn)) / (organ.radii[1] * scale)
    if not organ.waviness:
        return box, u * u + v * v < 1
    angle = np.arctan2(v, u)
    waves = sum(np.cos(k * angle + phase + 0.04 * z) for k, phase in zip((2, 3, 5), phases, strict=True))
    return box, np.hypot(u, v) < 1 + organ.waviness * waves


def _box(x: Image, y: Image, centre: tuple[float, float], reach: float) -> Box:
    """The part of the grid that lies within reach of a point."""
    rows = np.searchsorted(y[:, 0], (centre[1] - reach, centre[1] + reach))
    columns = np.searchsorted(x[0], (centre[0] - reach, centre[0] + reach))
    return slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))


def _add_ribs(image: Image, x: Image, y: Image, z: float) -> None:
    """Ribs in the muscle wall, cut obliquely; they move round the chest from slice to slice."""
    for number in range(RIBS):
        angle = np.pi * (number + 0.5) / RIBS * 1.6 - 0.3 * np.pi + 0.012 * z
        centre = 0.84 * np.cos(angle), 0.01 + 0.595 * np.sin(angle)
        tilt = float(np.rad2deg(np.arctan2(0.595 * np.cos(angle), -0.84 * np.sin(angle))))
        for hu, radii in zip(RIB_HU, ((0.062, 0.026), (0.05, 0.016)), strict=True):
            box, mask = _outline(Organ("rib", hu, centre, radii, tilt), x, y, z, np.zeros(3))
            image[box][mask] = hu


def _smooth_field(rng: np.random.Generator, slices: int, scale: float, voxel: float) -> NDArray[np.float32]:
    """A (slices, MATRIX, MATRIX) Gaussian random field of unit variance with this correlation length in mm."""
    noise = rng.standard_normal((slices, MATRIX, MATRIX)).astype(np.float32)
    sigma = (scale / SLICE_SPACING, scale / voxel, scale / voxel)
    field = gaussian_filter(noise, sigma, mode="wrap")
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


if __name__ == "__main__":
    main()
