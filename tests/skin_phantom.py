"""A torso-like elliptic cylinder with a spine, and a renderer over such patients that paints where the probe is."""

import functools

import torch

from sonogym.anatomy.anatomy import Body
from sonogym.anatomy.planes import LEVELS
from sonogym.anatomy.stack import VolumeStack
from sonogym.anatomy.surface import Skin
from sonogym.anatomy.volume import Volume
from sonogym.ultrasound.frame import Frame
from sonogym.ultrasound.transducer import load_probe

SPACING = 3e-3
LEVEL_STEP = 0.033


@functools.lru_cache
def torso(width=0.30, depth=0.20, height=0.42, tilt=0.0, shift=0.0, left_out=()):
    """An elliptic cylinder whose back leans by ``tilt``, with L4 at z = ``shift`` and 36 mm of border around it."""
    shape = [int(length / SPACING) + 24 for length in (width, depth, height)]
    matrix = torch.diag(torch.tensor([SPACING, SPACING, SPACING, 1.0], dtype=torch.float64))
    matrix[:3, 3] = -0.5 * SPACING * torch.tensor(shape, dtype=torch.float64)
    x, y, z = torch.meshgrid(*[SPACING * torch.arange(n) + matrix[i, 3] for i, n in enumerate(shape)], indexing="ij")
    lean = y - tilt * z
    radius = ((x / (width / 2)) ** 2 + (lean / (depth / 2)) ** 2).sqrt().clamp_min(1e-3)
    slope = ((x / (width / 2) ** 2) ** 2 + (1 + tilt**2) * (lean / (depth / 2) ** 2) ** 2).sqrt().clamp_min(
        1.0
    ) / radius
    distance = ((radius - 1.0) / slope).float()  # exact to first order at the skin
    landmarks = {}
    for at, level in enumerate(LEVELS):
        height_of = (LEVELS.index("L4") - at) * LEVEL_STEP + shift
        landmarks[f"vertebra_{level}"] = torch.tensor([0.0, -0.25 * depth + tilt * height_of, height_of])
    landmarks["kidney_left"] = torch.tensor([-0.06, -0.02, 0.06])
    landmarks["spleen"] = torch.tensor([-0.07, 0.0, 0.1])
    landmarks = {name: point for name, point in landmarks.items() if name not in left_out}
    return Person(
        name=f"torso-{width:g}", skin=Skin(Volume(distance[None], matrix)), landmarks=landmarks, digest=f"{width}"
    )


class Person(Body):
    """A body told apart by identity, so that tests can cache by it."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


class PaintingRenderer:
    """The renderer's protocol without physics: every pixel is a hash of pose and noise seed."""

    def __init__(self, bodies, lines=16, samples=16, probe="C5-2v"):
        self.bodies = list(bodies)
        self.transducer = load_probe(probe)
        self.skin = VolumeStack.from_volumes([body.skin.distance for body in self.bodies])
        self.lines, self.samples, self.device = lines, samples, "cpu"

    def render(self, patient_from_probe, anatomy_index, params=None):
        value = (patient_from_probe.translation.sum(-1) * 1e3 + anatomy_index * 7 + params.noise_seed % 64).long() % 256
        beam = value.to(torch.uint8)[:, None, None, None].expand(-1, 1, self.samples, self.lines).clone()
        return Frame(beam=beam, depth=torch.zeros(self.samples), line_position=torch.zeros(self.lines))
