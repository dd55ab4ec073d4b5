"""The wide search for an interlaminar window: every probe that stands over the gap, every place of the canal it shows.

Laminae overlap like tiles, columns are turned and bent, and the middle of a vertebral body tells the canal's place
within 6 mm only: in real scans the few usual approaches miss windows that are open beside them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from sonogym.anatomy.anatomy import Body
from sonogym.anatomy.tissues import BONE
from sonogym.anatomy.volume import Volume
from sonogym.anatomy.windows import FACE, labels_at
from sonogym.geometry import Pose

SEEN = 1e-3  # m between the points at which a canal is looked for
ACROSS, BEHIND, ALONG = 35e-3, (60e-3, 8e-3), (-12e-3, 16e-3)  # m about a body's middle, where pedicles close the ring
RING = (80e-6, 900e-6)  # m2: a canal of 23 x 17 mm is 300; smaller holes are vessels'
STRAYS = 15e-3  # m aside of the body's middle: holes farther off are foramina
HALF_SEEN = 0.5  # share of the slices with a ring that hold a point of the canal's cross-section
ASIDE = (2e-3, 4e-3, 6e-3, 8e-3)  # m from the canal's middle, to the plane's side: half of a canal is 10 or more wide
ABOUT = (-18e-3, 7e-3, 3e-3)  # m along the canal about the disc: an upper lamina covers its own disc, as tiles do
STANDS = (30e-3, 3e-3, 50e-3, 5e-3)  # m aside and its step, m along and its step: where a probe over the gap may stand
TURNED = (0.0, -10.0, 10.0, -20.0, 20.0)  # deg about the skin's normal: the paramedian oblique view
OFF_PLANE, OFF_MIDDLE = 2e-3, 40e-3  # m that the target may lie beside the image, and from its middle


def canal_offset(tissues: Volume, centre: Float[Tensor, "3"], frame: Float[Tensor, "3 3"]) -> Float[Tensor, "3"] | None:
    """From the middle of a vertebral body to that of the canal behind it [m]; None where no ring of bone closes.

    ``frame``: rows right, forward and up of the vertebra.
    """
    x, y = torch.arange(-ACROSS, ACROSS, SEEN), torch.arange(-BEHIND[0], -BEHIND[1], SEEN)
    ahead = torch.arange(-BEHIND[1], ACROSS, SEEN)  # the body closes the ring in front
    z = torch.arange(*ALONG, 2.0 * SEEN)
    grid = torch.stack(torch.meshgrid(x, torch.cat((y, ahead)), z, indexing="ij"), dim=-1)
    bone = np.isin(labels_at(tissues, centre + grid @ frame).numpy(), BONE)
    seen = np.zeros(bone.shape[:2])
    for slice_ in np.moveaxis(bone, 2, 0):
        parts, count = ndimage.label((ndimage.binary_fill_holes(slice_) & ~slice_)[:, : len(y)])
        for part in range(1, count + 1):
            if RING[0] < (parts == part).sum() * SEEN**2 < RING[1]:
                seen += np.pad(parts == part, ((0, 0), (0, len(ahead))))
    seen *= (x.abs() < STRAYS).numpy()[:, None]
    if not seen.any():
        return None
    parts, count = ndimage.label(seen >= max(1.0, HALF_SEEN * seen.max()))
    largest = 1 + int(np.argmax(ndimage.sum_labels(seen, parts, range(1, count + 1))))
    i, j = ndimage.center_of_mass(seen, parts, largest)
    return torch.tensor([i * SEEN - ACROSS, j * SEEN - BEHIND[0], 0.0], dtype=torch.float32) @ frame


def canal_probes(
    body: Body, tissues: Volume, landmarks: Sequence[str], frame: Float[Tensor, "3 3"], side: float
) -> tuple[Pose, Float[Tensor, "probes 3"]]:
    """Probes on the skin over the gap between two ``landmarks`` (vertebrae or sacrum) and the target each shows.

    ``frame``: rows right, forward and up of the column there; ``side``: 1 for the right half of the canal, -1 for the
    left. No probes where the labels show no canal.
    """
    found = [canal_offset(tissues, body.landmark(n).float(), frame) for n in landmarks if n.startswith("vertebra_")]
    known = [offset for offset in found if offset is not None]
    if not known:
        return Pose.identity(0), torch.zeros(0, 3)
    middle = torch.stack([body.landmark(name).float() for name in landmarks]).mean(0) + torch.stack(known).mean(0)
    targets = _grid(side * torch.tensor(ASIDE), torch.arange(*ABOUT)) @ frame[[0, 2]] + middle
    aside, along = torch.arange(-STANDS[0], STANDS[0], STANDS[1]), torch.arange(-STANDS[2], 0.6 * STANDS[2], STANDS[3])
    above = _grid(aside, along) @ frame[[0, 2]] + middle
    above = above[body.skin.at(above) < 0.0]  # the scan may end there
    skin = body.skin.cast(above, (-frame[1]).expand(above.shape))
    turn = torch.deg2rad(torch.tensor(TURNED))
    image = turn.cos()[:, None] * frame[2] + turn.sin()[:, None] * frame[0]
    skin = skin.expand(len(turn), *skin.shape).reshape(-1, 3)
    pose = Pose.from_axes(image.repeat_interleave(len(above), 0), -body.skin.normal(skin), skin)
    seen = pose.inverse().unsqueeze(-1).apply(targets)  # (probes, targets, 3)
    shown = (seen[..., 1].abs() < OFF_PLANE) & (seen[..., 0].abs() < OFF_MIDDLE) & (seen[..., 2] < FACE.depth)
    probe, target = shown.nonzero(as_tuple=True)
    return pose[probe], targets[target]


def _grid(first: Float[Tensor, " n"], second: Float[Tensor, " m"]) -> Float[Tensor, "n*m 2"]:
    return torch.cartesian_prod(first, second)
