"""What a procedural patient is made from. Lengths in millimetres, angles in degrees (the field's tables)."""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = ("T8", "T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")  # from the head down
COUNT = len(LEVELS)
Row = tuple[float, ...]  # one value a level


@dataclass(frozen=True, kw_only=True)
class PatientParams:
    """One adult lying on the couch. Pairs are (right, left); factors are relative to the tables of the structures."""

    seed: int
    stratum: int  # 2 x fifth of the BMI distribution of the sex + (1 for women)
    female: bool
    age: float  # years
    height: float  # m
    bmi: float  # kg/m2
    size: float  # of the trunk, 1 for a stature of 1.68 m
    prone: bool
    width: float  # trunk half width at L3
    depth: float  # trunk depth at L3
    chest: float  # trunk depth at T9, in the midline
    chest_width: float  # trunk half width at T9
    fat_back: float
    fat_side: float
    fat_front: float
    hip: float  # hip width over waist width
    muscle: float
    infiltration: float  # part of multifidus that is fat
    lordosis: float  # 1: disc wedges of the mean supine curve
    recline: float  # tilt of L3 against the couch
    cobb: float  # of the lateral bend, + convex to the right at its first crest
    scoliosis_phase: float
    tilt: float  # of the whole spine in the coronal plane
    twist: float  # axial rotation that follows the bend
    spine_offset: tuple[float, float]  # of the spine in the trunk: right, forward
    vertebra_width: float
    vertebra_height: float
    wedge: float  # added to every body's wedge (front lower), lumbar levels
    spinous_length: float
    spinous_height: float
    spinous_width: float
    transverse_length: float
    disc_height: float
    canal: float
    level_scale: Row
    level_disc: Row  # disc below the level; narrowed ones are well below 1
    level_shift: Row  # rotation about the body axis
    level_tilt: Row
    crest: float  # iliac crest above the S1 end-plate
    pelvis_width: float
    kidney_size: tuple[float, float]
    kidney_height: tuple[float, float]
    kidney_aside: tuple[float, float]
    kidney_tilt: tuple[float, float]
    kidney_turn: tuple[float, float]
    liver_volume: float  # ml
    liver_drop: float
    spleen_volume: float  # ml
    dome: float  # height of the right dome over T9
    vessel: float
    gas: float  # part of the bowel segments that hold gas
    aorta_aside: float
    rib_drop: float
    trabecular: float  # HU
    findings: tuple[str, ...] = ()  # names of sonogym.anatomy.patients.findings
    fracture: str = ""  # level of a body that has collapsed in front by the part ``collapse``
    collapse: float = 0.0
