"""Tissue pushed away by the face: which point of the undeformed body lies at a point of the image (docs/contact.md).

Along a line Z = z - A S(t), S = 1 - 3 t^2 + 2 t^3, t = z / (D - A): z from the face, A the indentation of the line, D
the depth of its support. The face shows the skin; at and below the support nothing has moved.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from sonogym.ultrasound.contact import Press


def steepest(press: Press) -> Float[Tensor, "envs lines"]:
    """Largest stretch dZ/dz of the material read along a pressed line: 1 + 1.5 A / (D - A), at t = 1/2.

    Elsewhere dZ/dz - 1 is 4 t (1 - t) of that.
    """
    return 1.0 + 1.5 * press.indentation / press.column
