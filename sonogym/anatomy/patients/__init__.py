"""Seeded procedural torsos: adults from T8 to the sacrum, drawn from published sizes.

Inside this package lengths are millimetres, the unit of the anatomical tables; what it hands out is in metres.
"""

from __future__ import annotations

from sonogym.anatomy.anatomy import Anatomy, anatomy_from_tensors, anatomy_tensors
from sonogym.anatomy.cache import cache_folder, kept
from sonogym.anatomy.patients.drawing import draw_patient
from sonogym.errors import require_between

VERSION = "9"  # raise it with every change of what a seed looks like: cached patients are keyed by it


def make_procedural(seed: int, spacing: float = 1.5e-3, name: str | None = None) -> Anatomy:
    """The patient called ``seed`` at isotropic ``spacing`` [m]: a pure function of its arguments.

    Raises :class:`InvalidInputError` for a spacing outside [0.5, 6] mm.
    """
    from sonogym.anatomy.patients.torso import assemble

    require_between("spacing", spacing, 0.5e-3, 6e-3, "m", "millimetres?")
    return assemble(draw_patient(seed), spacing, name if name is not None else f"procedural-{seed}")


def load_procedural(seed: int, spacing: float, name: str) -> Anatomy:
    """:func:`make_procedural`, kept in the cache folder; a damaged file is made again.

    Raises :class:`InvalidInputError` for a bad spacing or a cache folder that cannot be written.
    """
    require_between("spacing", spacing, 0.5e-3, 6e-3, "m", "millimetres?")
    file = f"seed{seed}-{round(1e6 * spacing)}um-v{VERSION}.safetensors"
    stored = kept(
        cache_folder() / "patients" / file,
        read=anatomy_from_tensors,
        make=lambda: make_procedural(seed, spacing, name),
        pack=anatomy_tensors,
    )
    return stored if stored.name == name else _renamed(stored, name)


def _renamed(anatomy: Anatomy, name: str) -> Anatomy:
    from dataclasses import replace

    return replace(anatomy, name=name)
