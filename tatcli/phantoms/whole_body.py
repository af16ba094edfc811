"""Whole-body FDG uptake of a made-up patient, from the thighs to the vertex, as a scanner without noise would show it.

Body habitus, arms up or down, organs, their uptake and place, and lesions all follow from one seed. It is no patient's
anatomy: what matters is that sizes, contrasts, edges and their frequency are those of patients. The noise of fewer
counts is the simulator's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from tatcli.intensity import Units
from tatcli.phantoms.shapes import Grid, Wave, bent_grid, ellipsoid, limb, paint, smooth_field, trunk
from tatcli.phantoms.uptake import FAT, LANDMARKS, LESION_SITES, MESENTERY, MUSCLE, ORGANS, Organ
from tatcli.volumes import Geometry, Provenance, Volume

__all__ = ["Patient", "draw_patient", "whole_body_pet"]

_FWHM: Final = 2.0 * float(np.sqrt(2.0 * np.log(2.0)))
_BOTTOM, _TOP = -60.0, 1015.0
_IN_TRUNK: Final = (160.0, 680.0, 120.0)
"""Organs whose centres lie between these heights, and no further out, end under the muscle of the trunk, mm."""
_VOXELS: Final = ((4.07, 3.0), (4.69, 3.27), (4.0, 4.0), (5.47, 3.27), (3.65, 3.27))
"""In-plane and slice spacings of clinical scanners, mm."""
_BEND: Final = (7.0, 60.0)
"""Organs are bent by so many mm (standard deviation) over so many mm, so that no two are alike."""
_SMALLEST, _LARGEST, _MOST_LESIONS = 6.0, 55.0, 12
"""Diameters of lesions, mm, and how many there are."""
_BOWEL_PIECES: Final = 70
_PATCHES_MM: Final = 12.0
"""Tissue varies at the scanner's resolution, and over so many mm."""


@dataclass(frozen=True)
class Patient:
    """Whose scan it is, and of which scanner.

    Attributes:
        height: relative to 170 cm.
        girth: relative to a body mass index of 23.
        fat: thickness of the subcutaneous fat, mm.
        arms_up: beside the head, else beside the trunk.
        resolution: full width at half maximum of the scanner's point spread, mm.
        voxel: in-plane and slice spacing, mm.
        lesions: how many.
    """

    height: float
    girth: float
    fat: float
    arms_up: bool
    resolution: float
    voxel: tuple[float, float]
    lesions: int


def draw_patient(rng: np.random.Generator) -> Patient:
    """A patient: 150 to 190 cm, body mass index 17 to 42; one in four without lesions."""
    index = float(np.clip(rng.lognormal(np.log(26.0), 0.2), 17.0, 42.0))
    return Patient(
        height=float(rng.uniform(0.88, 1.12)),
        girth=float(np.sqrt(index / 23.0)),
        fat=float(np.clip(6.0 + 1.6 * (index - 18.0) + rng.normal(0.0, 3.0), 4.0, 45.0)),
        arms_up=bool(rng.random() < 0.75),
        resolution=float(rng.uniform(4.5, 7.5)),
        voxel=_VOXELS[int(rng.integers(len(_VOXELS)))],
        lesions=0 if rng.random() < 0.25 else int(min(1 + rng.geometric(0.3), _MOST_LESIONS)),
    )


def whole_body_pet(seed: int, *, patient: Patient | None = None) -> Volume:
    """A made-up FDG scan without noise.

    Args:
        seed: of everything.
        patient: body and scanner; default: drawn too.

    Returns:
        (slices, rows, columns), SUVbw, feet first; LPS.
    """
    patient_rng, place_rng, uptake_rng, lesion_rng, texture_rng = (
        np.random.default_rng(stream) for stream in np.random.SeedSequence([seed, 511]).spawn(5)
    )
    patient = patient or draw_patient(patient_rng)
    grid, geometry = _grid(patient, place_rng)
    image, inner = _body(grid, patient, uptake_rng)
    body = image > 0.02
    painter = _Painter((image, inner), grid, patient, place_rng)
    painter.bowel(uptake_rng)
    painter.organs(uptake_rng)
    for _ in range(patient.lesions):
        painter.lesion(lesion_rng)
    image *= body  # an organ of the slimmest ends at the skin, too
    sides = geometry.spacing
    grain = patient.resolution / _FWHM
    for length, least, most in ((grain, 0.06, 0.16), (_PATCHES_MM, 0.03, 0.12)):
        texture = smooth_field(texture_rng, geometry.shape, (length / sides[0], length / sides[1], length / sides[2]))
        image *= np.exp(np.float32(texture_rng.uniform(least, most)) * texture)
    blur = [patient.resolution / _FWHM / side for side in sides]
    image = scipy.ndimage.gaussian_filter(image, blur, mode="nearest")
    provenance = Provenance(modality="PT", dtype=np.dtype(np.float32), steps=(f"made up: whole-body FDG, seed {seed}",))
    return Volume(image, geometry, Units.SUVBW, provenance)


def _grid(patient: Patient, rng: np.random.Generator) -> tuple[Grid, Geometry]:
    """A grid around the body, and the same in the body's own coordinates, bent a little."""
    in_plane, step = patient.voxel
    width = max(200.0 * patient.girth, 215.0) + (0.0 if patient.arms_up else 60.0)
    depth = 140.0 * patient.girth + 10.0
    bottom, top = _BOTTOM * patient.height, _TOP * patient.height + (60.0 if patient.arms_up else 0.0)
    columns, rows = (2 * int(np.ceil(half / in_plane)) for half in (width, depth))
    slices = int(np.ceil((top - bottom) / step))
    affine = np.diag([in_plane, in_plane, step, 1.0])
    affine[:3, 3] = -(columns - 1) / 2 * in_plane, -(rows - 1) / 2 * in_plane, bottom
    geometry = Geometry(affine, (slices, rows, columns))
    return bent_grid(geometry, rng, *_BEND, height=patient.height), geometry


def _body(grid: Grid, patient: Patient, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fat, muscle and mesentery: everything that the organs lie in; and where those of the trunk may be."""
    fat, muscle, mesentery = (_drawn(each, rng) for each in (FAT, MUSCLE, MESENTERY))
    outline = np.array(LANDMARKS)
    outline[:, 1:] *= 1.0 + (patient.girth - 1.0) * np.interp(outline[:, :1], [60, 700, 780], [1.0, 1.0, 0.4])
    image = np.zeros(grid.x.shape, dtype=np.float32)
    limbs = _limbs(patient)
    for start, end, radii in limbs:
        paint(image, *limb(grid, start, end, radii), fat)
    head = ellipsoid(grid, np.array([0.0, 5.0, 905.0]), np.array([78.0, 98.0, 106.0]))
    paint(image, *head, fat)
    everywhere = (slice(None), slice(None), slice(None))
    paint(image, everywhere, trunk(grid, outline), fat)
    for start, end, radii in limbs:
        thin = (max(radii[0] - 0.6 * patient.fat, 12.0), max(radii[1] - 0.6 * patient.fat, 10.0))
        paint(image, *limb(grid, start, end, thin), muscle)
    paint(image, *ellipsoid(grid, np.array([0.0, 0.0, 880.0]), np.array([66.0, 84.0, 72.0])), muscle)
    wall = min(patient.fat, 0.35 * float(outline[:, 2].min()))
    paint(image, everywhere, trunk(grid, outline, shrunk=wall), muscle)
    cavity = np.stack([np.linspace(100, 520, 29), *(_across(outline, column) for column in (1, 2))], axis=1)
    paint(image, everywhere, trunk(grid, cavity, shrunk=wall + 20.0), mesentery)
    return image, trunk(grid, outline, shrunk=wall + 10.0)


def _across(outline: NDArray[np.float64], column: int) -> NDArray[np.float64]:
    """An axis of the abdominal cavity, which closes towards the pelvic floor and the diaphragm."""
    heights = np.linspace(100, 520, 29)
    closing = np.interp(heights, [100, 130, 200, 440, 520], [0.35, 0.65, 1.0, 1.0, 0.6])
    return np.asarray(np.interp(heights, outline[:, 0], outline[:, column]) * closing)


def _limbs(patient: Patient) -> list[tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]]:
    """Thighs, shoulders and arms: start, end and radii at both."""
    limbs = []
    thick = 1.0 + 0.7 * (patient.girth - 1.0)
    for side in (-1.0, 1.0):
        hip = np.array([side * 88.0 * patient.girth, 0.0, 100.0])
        limbs.append((hip, np.array([side * 92.0 * patient.girth, 0.0, -140.0]), (88.0 * thick, 72.0 * thick)))
        shoulder = np.array([side * (132.0 + 26.0 * patient.girth), 5.0, 722.0])
        if patient.arms_up:
            limbs.append((shoulder, np.array([side * 150.0, -5.0, 960.0]), (50.0 * thick, 40.0 * thick)))
            limbs.append((np.array([side * 150.0, -5.0, 960.0]), np.array([side * 60.0, -30.0, 1130.0]), (38.0, 30.0)))
        else:
            elbow = np.array([side * 232.0 * patient.girth**0.8, 20.0, 440.0])
            limbs.append((shoulder, elbow, (50.0 * thick, 38.0 * thick)))
            limbs.append((elbow, np.array([elbow[0] * 0.97, -20.0, 190.0]), (36.0, 26.0)))
    return limbs


class _Painter:
    """Paints organs and lesions over the body."""

    def __init__(
        self,
        layers: tuple[NDArray[np.float32], NDArray[np.float32]],
        grid: Grid,
        patient: Patient,
        rng: np.random.Generator,
    ) -> None:
        (self.image, self.inner), self.grid, self.rng = layers, grid, rng
        # organs of the stout lie further apart, by less than the skin
        self.scale = np.array([*[1.0 + 0.5 * (patient.girth - 1.0)] * 2, 1.0])
        self.shifts: dict[str, NDArray[np.float64]] = {}
        self.sizes: dict[str, float] = {}
        self.drawn: dict[str, float] = {}

    def organs(self, rng: np.random.Generator) -> None:
        """All organs that this patient shows."""
        for organ in ORGANS:
            whole = organ.name.split(",")[0]
            uptake = _drawn(organ.uptake, rng) * self.drawn.get(organ.like, 1.0)
            self.drawn.setdefault(whole, uptake)
            if rng.random() < organ.share:
                for side in (1.0, -1.0) if organ.paired else (1.0,):
                    self._organ(organ, f"{whole} {side}", side, uptake * float(rng.lognormal(0.0, 0.04)))

    def bowel(self, rng: np.random.Generator) -> None:
        """Loops of small bowel: short pieces of tube, one after the other through the abdomen."""
        level = float(rng.lognormal(np.log(1.1), 0.3))
        place = np.array([60.0, -35.0, 430.0])
        for _ in range(_BOWEL_PIECES):
            turn = rng.normal(0.0, 1.0, 3) * np.array([38.0, 16.0, 26.0])
            end = np.clip(place + turn, [-85.0, -65.0, 180.0], [85.0, 10.0, 440.0])
            radius = float(rng.uniform(8.0, 14.0))
            uptake = level * float(rng.lognormal(0.0, 0.25))
            paint(self.image, *limb(self.grid, place * self.scale, end * self.scale, (radius, radius)), uptake)
            place = end

    def lesion(self, rng: np.random.Generator) -> None:
        """A lesion of 6 to 55 mm and SUV 2.5 to 25, some with a cold centre."""
        frequencies = np.array([site[3] for site in LESION_SITES])
        _, centre, extent, _ = LESION_SITES[int(rng.choice(len(LESION_SITES), p=frequencies / frequencies.sum()))]
        side = np.array([rng.choice([-1.0, 1.0]) if centre[0] > 0 else 1.0, 1.0, 1.0])
        place = (np.array(centre) + rng.uniform(-1.0, 1.0, 3) * np.array(extent)) * side * self.scale
        diameter = float(np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST))))
        radii = diameter / 2 * rng.uniform(0.75, 1.25, 3)
        uptake = float(np.exp(rng.uniform(np.log(2.5), np.log(25.0))))
        wave = Wave(float(rng.uniform(0.0, 0.15)), _phases(rng))
        tilt = float(rng.uniform(0.0, 180.0))
        paint(self.image, *ellipsoid(self.grid, place, radii, tilt=tilt, wave=wave), uptake)
        if diameter > 22.0 and rng.random() < 0.35:
            core = uptake * float(rng.uniform(0.15, 0.5))
            within = radii * float(rng.uniform(0.4, 0.65))
            paint(self.image, *ellipsoid(self.grid, place, within, tilt=tilt, wave=wave), core)

    def _organ(self, organ: Organ, key: str, side: float, uptake: float) -> None:
        """One organ; parts of one thing are moved and scaled together."""
        shift = self.shifts.setdefault(key, self.rng.normal(0.0, 1.0, 3) * np.minimum(organ.radii, 30.0) * 0.12)
        size = self.sizes.setdefault(key, float(self.rng.lognormal(0.0, 0.07)))
        centre = (np.array(organ.centre) * np.array([side, 1.0, 1.0])) * self.scale + shift
        wave = Wave(organ.waviness, _phases(self.rng))
        radii = np.array(organ.radii) * size
        box, filled = ellipsoid(self.grid, centre, radii, tilt=side * organ.tilt, wave=wave)
        if _IN_TRUNK[0] < organ.centre[2] < _IN_TRUNK[1] and abs(organ.centre[0]) < _IN_TRUNK[2]:
            filled = filled * self.inner[box]
        paint(self.image, box, filled, uptake)


def _drawn(limits: tuple[float, float], rng: np.random.Generator) -> float:
    low, high = limits
    if high > 3.0 * low:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return float(rng.uniform(low, high))


def _phases(rng: np.random.Generator) -> tuple[float, float, float]:
    a, b, c = (float(phase) for phase in rng.uniform(0.0, 2.0 * np.pi, 3))
    return a, b, c
