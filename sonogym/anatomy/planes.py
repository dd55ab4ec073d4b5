"""Standard planes: the probe pose on the skin that shows a named view, and how well it can be reached."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sonogym.anatomy.anatomy import Body, content_digest
from sonogym.anatomy.cache import cache_folder, kept
from sonogym.anatomy.canal_search import canal_probes
from sonogym.anatomy.placing import skin_pose
from sonogym.anatomy.plane_specs import PlaneSpec, Vector, families, find_spec
from sonogym.anatomy.surface import BORDER, Skin
from sonogym.anatomy.windows import FACE, coupled, openness
from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose, grids

LEVELS = ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")
VERSION = "3"  # raise it with every change of how planes are found: what is kept of a patient is keyed by it
LEAST_COUPLED = 0.6  # share of the face on the skin below which a plane does not count as reachable (design)
MOST_MISS = 5e-3  # m that the target may lie beside the image plane (design: the tolerance of Navigation)
_UP = torch.tensor([0.0, 0.0, 1.0])
_DEPTH_PRICE = 2.0  # of a metre further away, in shares of an open window (design: 5 cm against 10 %)
_TURN_PRICE = 0.1  # of leaving the usual approach: another has to be clearly better
_MISS_PRICE = 40.0  # of a metre beside the image plane
_ASIDE_PRICE = 4.0  # of a metre from the image's middle, in the wide search: 1 cm against 4 %
_ON_SKIN = 1e-3  # m


@dataclass(frozen=True, kw_only=True)
class PlaneView:
    """A plane of one patient. ``pose`` is patient_from_probe on the skin; ``target`` [m] what it shows.

    ``window`` is the share of the target seen past bone, gas and lung (1 where nothing blocks, NaN without labels),
    ``coupled`` that of the pressed face on the skin, ``depth`` [m] of the target below the skin, ``miss`` [m] its
    distance from the image plane. ``imaged``: the probe stands on skin inside the scan; ``usable``: the field of view
    did not cut that skin.
    """

    name: str
    pose: Pose
    target: Float[Tensor, "3"]
    window: float
    coupled: float
    depth: float
    miss: float
    imaged: bool
    usable: bool

    @property
    def obstacle(self) -> str:
        """Why the plane does not count as reachable; empty where it does."""
        least = find_spec(self.name).open
        reasons = {
            "the scan ends there": not self.imaged,
            "the scan cut the skin there": not self.usable,
            f"face {100 * self.coupled:.0f} % on the skin": self.coupled < LEAST_COUPLED,
            f"target {1e3 * self.miss:.0f} mm beside the image": self.miss > MOST_MISS,
            f"target {1e3 * self.depth:.0f} mm deep": self.depth > FACE.depth,
            f"window {100 * self.window:.0f} % open, needs {100 * least:.0f}": self.window < least,
        }
        return "; ".join(reason for reason, holds in reasons.items() if holds)

    @property
    def reachable(self) -> bool:
        """Whether a probe can stand there and see the target."""
        return not self.obstacle


def plane_pose(body: Body, plane: str) -> Pose:
    """``patient_from_probe`` of a standard plane: origin on the skin, z into the body along the skin's normal,
    the named structure in the image plane.

    Spine planes are reached from the back, transverse with x to the patient's left, sagittal with x towards the head.
    Raises :class:`UnknownNameError` for an unknown plane, or one whose landmark this patient lacks, and
    :class:`InvalidInputError` where the probe would stand on a cut of the scan.
    """
    view = plane_view(body, plane)
    if not view.usable:
        raise InvalidInputError(
            f"plane {plane!r} of patient {body.name!r} needs skin that the scan's field of view cut; pick another plane"
        )
    return view.pose


def plane_view(body: Body, plane: str) -> PlaneView:
    """One plane of a patient with its scores; raises as :func:`plane_pose` does for unknown names."""
    spec = find_spec(plane)
    for name in spec.landmarks:
        body.landmark(name)
    views = _search(body, [spec]) if body.tissues is None else plane_views(body, spec.family)
    if plane not in views:
        raise InvalidInputError(f"plane {plane!r} of patient {body.name!r}: no ray from its target meets the skin")
    return views[plane]


def plane_views(body: Body, family: str | None = None) -> Mapping[str, PlaneView]:
    """Every plane whose landmarks this patient has, with its scores; of one ``family`` or of all.

    With labels the approach with the best acoustic window is chosen, and the result is kept in the cache folder.
    """
    if family is None:
        return {name: view for each in families() for name, view in plane_views(body, each).items()}
    specs = [spec for spec in families()[family] if all(name in body.landmarks for name in spec.landmarks)]
    if body.tissues is None:
        return _search(body, specs)
    places = {name: body.landmarks[name].tolist() for name in sorted(body.landmarks)}
    key = content_digest(body.digest, places, [repr(spec) for spec in specs], VERSION)
    path = cache_folder() / "planes" / f"{key}.safetensors"
    return kept(path, read=_unpacked, make=lambda: _search(body, specs), pack=_packed)


def reachable_planes(body: Body) -> list[str]:
    """Names of the planes whose landmarks and skin this patient has, however good the view."""
    return [name for name, view in plane_views(body).items() if view.usable]


def spine_axis(body: Body, level: str) -> Float[Tensor, "3"]:
    """Unit tangent of the spine (towards the head) at a vertebra, from its neighbours' centres."""
    body.landmark(f"vertebra_{level}")
    at = LEVELS.index(level)
    near = [body.landmarks.get(f"vertebra_{name}") for name in LEVELS[max(at - 1, 0) : at + 2]]
    known = [point for point in near if point is not None]
    if len(known) < 2:
        return _UP
    axis = (known[0] - known[-1]).float()
    return axis / axis.norm()


def _search(body: Body, specs: Sequence[PlaneSpec]) -> dict[str, PlaneView]:
    """The best approach of each plane for which there is one."""
    try:
        return _search_together(body, specs) if specs else {}
    except InvalidInputError:  # the target of some plane lies outside the body
        if len(specs) == 1:
            return {}
        half = len(specs) // 2
        return _search(body, specs[:half]) | _search(body, specs[half:])


def _search_together(body: Body, specs: Sequence[PlaneSpec]) -> dict[str, PlaneView]:
    """All approaches of all planes as one batch; raises :class:`InvalidInputError` where one has no skin pose."""
    tried = [_approaches(body, spec) for spec in specs]
    target, middle, outward, lateral = (torch.cat(part) for part in zip(*tried, strict=True))
    pose = skin_pose(body.skin, middle, outward, lateral)
    counts = [len(each[0]) for each in tried]
    starts = [sum(counts[:i]) for i in range(len(counts))]
    rows = [slice(start, start + count) for start, count in zip(starts, counts, strict=True)]
    views = [_best(body, spec, pose[row], target[row]) for spec, row in zip(specs, rows, strict=True)]
    return {view.name: _widened(body, spec, view) for spec, view in zip(specs, views, strict=True)}


def _widened(body: Body, spec: PlaneSpec, view: PlaneView) -> PlaneView:
    """``view``, or where its window is shut the best of all probes that show some place of the canal."""
    if not spec.canal or body.tissues is None or view.window >= spec.open:
        return view
    axis = spine_axis(body, spec.landmarks[0].removeprefix("vertebra_"))
    forward = _along((0.0, 1.0, 0.0), axis, _column_turn(body, spec.turns_with, axis))
    forward = forward / forward.norm()
    frame = torch.stack((torch.linalg.cross(forward, axis), forward, axis))
    probes, targets = canal_probes(body, body.tissues, spec.landmarks, frame, math.copysign(1.0, spec.offset[0]))
    usual = view.pose
    pose = Pose(
        torch.cat((usual.quaternion[None], probes.quaternion)), torch.cat((usual.translation[None], probes.translation))
    )
    return _best(body, spec, pose, torch.cat((view.target[None], targets)), _ASIDE_PRICE)


def _approaches(body: Body, spec: PlaneSpec) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Target, middle of the image [m], direction to the probe and lateral axis (approaches, 3) of a plane."""
    axis = _UP if spec.spine is None else spine_axis(body, spec.spine)
    turn = _column_turn(body, spec.turns_with, axis)
    centre = torch.stack([body.landmark(name).float() for name in spec.landmarks]).mean(0)
    centre = centre + _along(spec.offset, axis, turn)
    target = torch.stack([centre + shift * axis for _, shift, _ in spec.approaches])
    middle = torch.stack([centre + (shift + slide) * axis for _, shift, slide in spec.approaches])
    outward = torch.stack([_along(direction, axis, turn) for direction, _, _ in spec.approaches])
    return target, middle, outward, _along(spec.lateral, axis, turn).expand(len(target), 3)


def _along(vector: Vector, axis: Float[Tensor, "3"], turn: float = 0.0) -> Float[Tensor, "3"]:
    """``vector`` of a frame whose z is ``axis``, its x and y as close to the patient's, ``turn`` [rad] about it, as
    that allows."""
    x, y = vector[0], vector[1]
    if turn:
        x, y = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
    flat = torch.tensor([x, y, 0.0])
    return flat - (axis @ flat) * axis + vector[2] * axis


def _column_turn(body: Body, levels: Sequence[str], axis: Float[Tensor, "3"]) -> float:
    """Angle [rad] about ``axis`` by which the spinous processes of ``levels`` turn from straight behind."""
    pairs = [(body.landmarks.get(f"spinous_{level}"), body.landmarks.get(f"vertebra_{level}")) for level in levels]
    behind = [(tip - centre).float() for tip, centre in pairs if tip is not None and centre is not None]
    if not behind:
        return 0.0
    mean = torch.stack(behind).mean(0)
    flat = mean - (mean @ axis) * axis
    return math.atan2(float(flat[0]), float(-flat[1]))


def _best(
    body: Body, spec: PlaneSpec, pose: Pose, target: Float[Tensor, "approaches 3"], aside_price: float = 0.0
) -> PlaneView:
    seen = pose.inverse().apply(target)
    touching, miss, depth = coupled(body.skin, pose), seen[:, 1].abs(), seen[:, 2]
    window = torch.full_like(depth, torch.nan if spec.blocks else 1.0)
    if body.tissues is not None:
        window = openness(body.tissues, body.skin, pose, target, spec.window, spec.blocks)
    imaged, usable = _imaged(body.skin, pose.translation), body.skin.usable(pose.translation)
    usual = torch.arange(len(depth)) == 0
    value = window.nan_to_num(nan=0.0) + touching - _DEPTH_PRICE * depth - _MISS_PRICE * miss + _TURN_PRICE * usual
    value = value - aside_price * seen[:, 0].abs() - 10.0 * ~(imaged & usable)
    at = int(value.argmax()) if body.tissues is not None else 0
    return PlaneView(
        name=spec.name,
        pose=pose[at],
        target=target[at],
        window=float(window[at]),
        coupled=float(touching[at]),
        depth=float(depth[at]),
        miss=float(miss[at]),
        imaged=bool(imaged[at]),
        usable=bool(usable[at]),
    )


def _imaged(skin: Skin, points: Float[Tensor, "points 3"]) -> Bool[Tensor, " points"]:
    """Whether points lie on the skin and no closer to the border of its grid than where the scan ends."""
    voxel = grids.affine(skin.distance.voxel_from_patient.float(), points)
    top = torch.tensor(skin.distance.voxels.shape[1:]) - 1
    within = ((voxel >= BORDER - 1) & (voxel <= top - BORDER + 1)).all(-1)
    return within & (skin.at(points).abs() < _ON_SKIN)


_SCORES = ("window", "coupled", "depth", "miss", "imaged", "usable")


def _packed(views: Mapping[str, PlaneView]) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not views:
        return {}, {"names": "[]"}
    tensors = {
        "quaternion": torch.stack([view.pose.quaternion for view in views.values()]),
        "translation": torch.stack([view.pose.translation for view in views.values()]),
        "target": torch.stack([view.target for view in views.values()]),
        "scores": torch.tensor([[float(getattr(view, name)) for name in _SCORES] for view in views.values()]),
    }
    return tensors, {"names": json.dumps(list(views))}


def _unpacked(tensors: Mapping[str, Tensor], text: Mapping[str, str]) -> dict[str, PlaneView]:
    views = {}
    for at, name in enumerate(json.loads(text["names"])):
        scores = dict(zip(_SCORES, tensors["scores"][at].tolist(), strict=True))
        known = {name: bool(scores.pop(name)) for name in ("imaged", "usable")}
        pose = Pose(tensors["quaternion"][at], tensors["translation"][at])
        views[name] = PlaneView(name=name, pose=pose, target=tensors["target"][at], **known, **scores)
    return views
