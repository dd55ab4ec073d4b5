"""Patients: volumes, tissues, skin, landmarks, standard planes."""

from sonogym.anatomy.anatomy import Anatomy
from sonogym.anatomy.tissues import Tissue
from sonogym.anatomy.volume import Volume

__all__ = ["Anatomy", "Tissue", "Volume"]
