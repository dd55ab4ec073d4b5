"""Contact of the probe face with the skin, line by line: indentation and coupling (contact.md, "Coupling")."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonogym.anatomy.stack import VolumeStack

SOFTNESS = 0.5e-3  # m: rounding of the first touch
GAP_FULL, GAP_NONE = 0.3e-3, 2.5e-3  # m of gel: all, and nothing, of the sound passes
SUPPORT = 60e-3  # m: depth at which compression has died out (design, stands for the depth of bone)
DEEPEST = 0.5 * SUPPORT  # beyond half the support the map would fold (contact.md)
_STEEPEST = 0.3  # least cosine between a line and the skin's normal that is followed


def steepest(indentation: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Largest stretch dZ/dz of the material read along a pressed line: 1 + 1.5 A / (D - A), at t = 1/2.

    Elsewhere dZ/dz - 1 is 4 t (1 - t) of that.
    """
    return 1.0 + 1.5 * indentation / (SUPPORT - indentation)


def face_contact(
    skin: VolumeStack,
    index: Int[Tensor, " envs"],
    origin: Float[Tensor, "envs lines 3"],
    direction: Float[Tensor, "envs lines 3"],
) -> tuple[Float[Tensor, "envs lines"], Float[Tensor, "envs lines"]]:
    """Indentation [m] along each line and the two-way amplitude that passes into the body.

    ``origin`` and unit ``direction`` are patient coordinates [m]; depth p is that of the face point under the skin.
    A = .5 ln(1 + e^(p/.5)) mm, gap = A - p, coupling = 1 - smoothstep(.3, 2.5 mm, gap). The indentation is measured
    along the line: from p and the skin distance one p behind the face.
    """
    depth = -skin.trilinear(origin, index)
    behind = skin.trilinear(origin - depth[..., None] * direction, index)
    cosine = ((behind + depth) / torch.where(depth.abs() < 1e-6, 1e-6, depth)).clamp(_STEEPEST, 1.0)
    cosine = torch.where(depth > SOFTNESS, cosine, torch.ones_like(cosine))
    coupling = coupling_of(depth, depth.new_tensor(GAP_NONE))
    return (rounded(depth) / cosine).clamp_max(DEEPEST), coupling


def rounded(depth: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """.5 ln(1 + e^(p/.5)) mm: how far the skin is pushed in by a face at depth p, rounded at the first touch."""
    ratio = depth / SOFTNESS
    return SOFTNESS * (torch.log1p(torch.exp(-ratio.abs())) + ratio.clamp_min(0.0))


def coupling_of(depth: Float[Tensor, "*shape"], gel: Float[Tensor, "#*shape"]) -> Float[Tensor, "*shape"]:
    """Two-way amplitude that passes at a face point at ``depth`` p under the undeformed skin.

    1 - smoothstep(.12 g, g, gap), gap = A - p, ``gel`` g [m] the thickest layer of gel that couples.
    """
    full = (GAP_FULL / GAP_NONE) * gel
    t = ((rounded(depth) - depth - full) / (gel - full)).clamp(0.0, 1.0)
    return 1.0 - t * t * (3.0 - 2.0 * t)
