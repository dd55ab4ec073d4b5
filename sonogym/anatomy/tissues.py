"""The closed list of tissues a label volume may hold."""

from __future__ import annotations

from enum import IntEnum


class Tissue(IntEnum):
    """Tissue ids (uint8 in label volumes). 0-19 follow the acoustic table; from 20 the ids it asks to keep apart."""

    AIR = 0
    GEL = 1
    SKIN = 2
    SUBCUTANEOUS_FAT = 3
    MUSCLE = 4
    CONNECTIVE = 5
    LIVER = 6
    KIDNEY_CORTEX = 7
    SPLEEN = 8
    PANCREAS = 9
    BLOOD = 10
    FLUID = 11
    BILE = 12
    MYOCARDIUM = 13
    BOWEL = 14
    CARTILAGE = 15
    TRABECULAR_BONE = 16
    CORTICAL_BONE = 17
    LUNG = 18
    NERVE = 19
    VISCERAL_FAT = 20
    KIDNEY_PYRAMID = 21
    KIDNEY_SINUS = 22
    DISC = 23
    LIGAMENT = 24
    DIAPHRAGM = 25
    STOMACH = 26
    VEIN = 27
    METAL = 28
    STONE = 29
    LESION = 30


TISSUE_COUNT = len(Tissue)
BONE = (Tissue.TRABECULAR_BONE, Tissue.CORTICAL_BONE)
# air inside the body (bowel gas) and outside share id 0: what lies outside the skin becomes gel where it is rendered
