"""Where FDG goes: organs as ellipsoids in a standing adult of 170 cm, and the range of their SUVbw.

Coordinates in mm: x to the patient's left, y to the back, z to the head; z = 0 lies a little above the knees' half-way
to the hips, z = 1000 at the vertex, and (0, 0) in the middle of the trunk.

SUV ranges. SUVmean of 98 patients: cerebellum 8.0 +- 2.2, palatine tonsils 3.45 +- 1.4, lingual tonsils 3.1 +- 1.0,
soft palate 2.9 +- 0.9, sublingual glands 3.3 +- 1.5, testes 2.6 +- 0.6, every other organ 2.5 or less (Wang et al., Mol
Imaging Biol 9:83, 2007). Liver 1.9 +- 0.4 in 343 patients (Liu et al., Iran J Radiol 16:e84881, 2019); liver 2.5, blood
2.3, spleen 1.9, marrow 1.0, lung 0.7 as maxima (Mettler & Guiberteau, Essentials of Nuclear Medicine Imaging, 5th ed.,
2006, ch. 13), which means are below. Myocardium, bowel and urine vary over an order of magnitude between patients
(Shreve et al., RadioGraphics 19:61, 1999). Grey matter lies above the cerebellum, white matter at about a third of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["BLOOD", "FAT", "LANDMARKS", "LESION_SITES", "LUNG", "MESENTERY", "MUSCLE", "ORGANS", "Organ"]

Range = tuple[float, float]
Point = tuple[float, float, float]

FAT: Final[Range] = (0.15, 0.35)
MUSCLE: Final[Range] = (0.45, 0.8)
MESENTERY: Final[Range] = (0.25, 0.55)
LUNG: Final[Range] = (0.25, 0.5)
BLOOD: Final[Range] = (1.2, 2.0)

LANDMARKS: Final[tuple[Point, ...]] = (
    (60.0, 168.0, 100.0),
    (120.0, 172.0, 106.0),
    (200.0, 174.0, 108.0),
    (330.0, 152.0, 102.0),
    (400.0, 142.0, 98.0),
    (500.0, 152.0, 108.0),
    (600.0, 162.0, 113.0),
    (690.0, 166.0, 106.0),
    (735.0, 150.0, 88.0),
    (765.0, 95.0, 68.0),
    (785.0, 62.0, 60.0),
    (840.0, 55.0, 58.0),
)
"""The trunk's outline from the groin to the neck: (z, half width, half depth)."""


@dataclass(frozen=True)
class Organ:
    """An ellipsoid of one uptake.

    Attributes:
        name: parts of one thing ("kidney, cortex") share what comes before the comma: their place.
        uptake: range of SUV; log-uniform where it spans more than a factor of three.
        centre: mm.
        radii: mm.
        tilt: degrees that it leans to the left in the coronal plane.
        paired: whether there is another one on the right.
        share: of patients who show it.
        waviness: of its surface, as a fraction of the radii.
        like: the organ before the comma whose drawn uptake this one's range multiplies, else ''.
    """

    name: str
    uptake: Range
    centre: Point
    radii: Point
    tilt: float = 0.0
    paired: bool = False
    share: float = 1.0
    waviness: float = 0.05
    like: str = ""


ORGANS: Final[tuple[Organ, ...]] = (  # painted in this order; later ones cover earlier ones
    Organ("lung", LUNG, (76, 8, 615), (60, 82, 118), -4, paired=True),
    Organ("mediastinum", (0.9, 1.3), (0, 5, 640), (40, 70, 110)),
    Organ("descending aorta", BLOOD, (14, 42, 540), (12, 12, 190), waviness=0),
    Organ("aortic arch", BLOOD, (10, 10, 690), (14, 38, 14), waviness=0),
    Organ("vena cava", BLOOD, (-16, 22, 480), (11, 10, 150), waviness=0),
    Organ("heart, muscle", (1.0, 9.0), (28, -28, 585), (48, 40, 46), 35),
    Organ("heart, chamber", (0.95, 1.05), (30, -30, 587), (34, 27, 33), 35, like="descending aorta"),
    Organ("heart, right chambers", (0.95, 1.05), (-14, -34, 590), (28, 26, 38), 10, like="descending aorta"),
    Organ("liver", (1.4, 2.7), (-72, -6, 498), (84, 80, 84), -14, waviness=0.08),
    Organ("liver, left lobe", (1.0, 1.0), (-2, -48, 515), (72, 36, 44), 8, waviness=0.08, like="liver"),
    Organ("gallbladder", (0.5, 0.9), (-55, -55, 440), (16, 20, 26)),
    Organ("spleen", (0.75, 1.0), (108, 34, 512), (30, 42, 54), -15, like="liver"),
    Organ("stomach, wall", (1.2, 3.5), (58, -30, 490), (52, 42, 62), -25, waviness=0.1),
    Organ("stomach, content", (0.5, 1.2), (58, -30, 490), (40, 30, 50), -25, waviness=0.1),
    Organ("pancreas", (1.0, 1.6), (20, 5, 440), (60, 14, 14), 15, waviness=0.15),
    Organ("kidney, cortex", (1.8, 3.8), (64, 46, 415), (27, 25, 56), 8, paired=True),
    Organ("kidney, pelvis", (3.0, 25.0), (54, 42, 412), (10, 10, 20), 8, paired=True, share=0.8),
    Organ("ureter", (2.5, 15.0), (32, 38, 290), (4, 4, 40), 4, paired=True, share=0.4),
    Organ("colon, ascending", (0.8, 2.2), (-98, 5, 350), (24, 24, 75), waviness=0.2),
    Organ("colon, descending", (0.8, 2.2), (100, 15, 340), (20, 20, 90), waviness=0.2),
    Organ("transverse colon", (0.8, 2.0), (0, -55, 385), (88, 18, 20), 8, waviness=0.2),
    Organ("colon, hot", (3.0, 9.0), (-96, 0, 300), (24, 24, 45), share=0.15, waviness=0.25),
    Organ("rectum", (1.0, 2.5), (0, 55, 180), (18, 18, 45), waviness=0.15),
    Organ("vertebrae", (0.8, 1.6), (0, 58, 470), (21, 19, 345), waviness=0.06),
    Organ("spinal cord", (1.1, 1.8), (0, 88, 560), (6, 6, 260), waviness=0),
    Organ("sacrum", (0.9, 1.0), (0, 70, 215), (48, 24, 60), like="vertebrae"),
    Organ("ilium", (0.8, 1.0), (92, 38, 265), (22, 48, 62), 15, paired=True, like="vertebrae"),
    Organ("femoral head", (0.5, 0.8), (92, 6, 140), (24, 24, 24), paired=True, like="vertebrae"),
    Organ("femur", (0.3, 0.6), (92, 0, 20), (14, 14, 130), paired=True, like="vertebrae"),
    Organ("sternum", (0.7, 0.9), (0, -92, 625), (17, 8, 72), like="vertebrae"),
    Organ("scapula", (0.5, 0.8), (105, 78, 690), (40, 8, 55), 20, paired=True, like="vertebrae"),
    Organ("humeral head", (0.5, 0.8), (172, 8, 725), (24, 24, 26), paired=True, like="vertebrae"),
    Organ("bladder", (3.0, 60.0), (0, -30, 140), (38, 34, 32), waviness=0.03),
    Organ("uterus or prostate", (1.2, 2.8), (0, 10, 125), (24, 20, 20), share=0.9),
    Organ("testes", (2.0, 3.2), (14, -62, 72), (13, 15, 20), paired=True, share=0.5),
    Organ("thyroid", (0.9, 1.8), (20, -28, 790), (10, 10, 22), paired=True),
    Organ("brown fat", (3.0, 9.0), (70, 5, 770), (26, 10, 14), paired=True, share=0.05, waviness=0.3),
    Organ("larynx", (1.2, 2.6), (0, -32, 812), (14, 14, 10)),
    Organ("sublingual glands", (1.8, 4.8), (15, -52, 838), (9, 16, 7), paired=True),
    Organ("palatine tonsils", (2.0, 5.0), (17, -20, 852), (8, 10, 13), paired=True),
    Organ("soft palate", (2.0, 3.8), (0, -28, 866), (16, 16, 6)),
    Organ("parotid", (1.2, 2.4), (56, 5, 862), (12, 20, 24), paired=True),
    Organ("eye muscles", (1.5, 3.0), (32, -62, 908), (12, 16, 10), paired=True),
    Organ("brain, grey", (8.0, 14.0), (0, 6, 934), (66, 82, 58), waviness=0.04),
    Organ("brain, white", (0.3, 0.4), (24, 6, 938), (30, 64, 38), paired=True, waviness=0.3, like="brain"),
    Organ("basal ganglia", (0.9, 1.1), (22, -8, 926), (10, 22, 14), paired=True, like="brain"),
    Organ("ventricles", (0.1, 0.2), (11, 4, 938), (5, 30, 8), 10, paired=True, like="brain"),
    Organ("cerebellum", (0.65, 0.85), (26, 46, 880), (30, 30, 22), paired=True, like="brain"),
    Organ("brain stem", (0.45, 0.6), (0, 22, 876), (11, 11, 28), like="brain"),
)

LESION_SITES: Final[tuple[tuple[str, Point, Point, float], ...]] = (
    ("lung", (80, 5, 620), (45, 60, 95), 3.0),
    ("liver", (-72, -6, 495), (60, 55, 60), 2.0),
    ("mediastinal nodes", (0, 5, 660), (32, 40, 70), 2.0),
    ("neck nodes", (40, 5, 810), (18, 25, 35), 1.0),
    ("axillary nodes", (130, 5, 700), (20, 30, 35), 1.0),
    ("retroperitoneal nodes", (0, 30, 380), (40, 15, 100), 1.0),
    ("groin nodes", (75, -45, 130), (20, 15, 30), 0.7),
    ("spine", (0, 58, 470), (14, 12, 330), 2.0),
    ("pelvic bone", (92, 38, 245), (18, 40, 60), 1.0),
    ("abdomen", (0, -20, 360), (100, 50, 90), 1.0),
    ("thigh", (90, 0, 20), (45, 45, 90), 1.0),
)
"""Where lesions lie: name, centre, extent (mm) and how often relative to each other; either side of the body."""
