"""URDF files: the links and joints of a robot as a tree, read with the standard library's XML parser."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sonogym.errors import InvalidInputError, MissingFileError, unknown_name

Vector = tuple[float, float, float]
MOVING = ("revolute", "continuous", "prismatic")
KINDS = (*MOVING, "fixed", "floating", "planar")
_PRIMITIVES = {"box": 3, "cylinder": 2, "sphere": 1}  # shape -> how many numbers say its size
_SIZE_KEYS = {"box": ("size",), "cylinder": ("radius", "length"), "sphere": ("radius",)}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A collision shape of a link: a mesh file with its scale, or a ``box``, ``cylinder`` or ``sphere`` with its size.

    ``xyz`` [m] and ``rpy`` [rad] place it in the link.
    """

    kind: str
    xyz: Vector
    rpy: Vector
    size: tuple[float, ...]
    mesh: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Mimic:
    """A joint that goes with another: its position is ``multiplier`` times that of ``joint`` plus ``offset``."""

    joint: str
    multiplier: float
    offset: float


@dataclass(frozen=True, kw_only=True)
class Joint:
    """One joint: ``xyz`` [m] and ``rpy`` [rad] place the child's frame at rest, unit ``axis`` lies in that frame.

    ``lower``, ``upper`` [rad or m] are the tighter of the limit and the safety controller's soft limit, infinite for a
    continuous joint; ``speed`` [rad/s or m/s]; ``effort`` [N m or N], infinite where none is given; ``mimic`` None for
    a joint that moves by itself.
    """

    name: str
    kind: str
    parent: str
    child: str
    xyz: Vector
    rpy: Vector
    axis: Vector
    lower: float
    upper: float
    speed: float
    effort: float
    mimic: Mimic | None = None


@dataclass(frozen=True, kw_only=True)
class Urdf:
    """Links with their collision shapes and the joint that leads to each link but the root."""

    path: Path
    shapes: Mapping[str, tuple[Shape, ...]]
    joint_to: Mapping[str, Joint]

    def chain(self, base: str, tip: str) -> tuple[Joint, ...]:
        """Joints from link ``base`` to link ``tip``; raises for an unknown link or a tip not on ``base``."""
        for link in (base, tip):
            if link not in self.shapes:
                raise unknown_name(f"link of {self.path.name}", link, self.shapes)
        joints: list[Joint] = []
        link = tip
        while link != base:
            if link not in self.joint_to:
                raise InvalidInputError(
                    f"{self.path}: link {tip!r} does not hang on {base!r} but on {link!r}; name a base above the tip"
                )
            joints.append(self.joint_to[link])
            link = joints[-1].parent
        return tuple(reversed(joints))


def read_urdf(path: Path) -> Urdf:
    """The robot in a URDF file.

    Raises :class:`MissingFileError` for a file or mesh that is not there, :class:`InvalidInputError` for XML that is no
    URDF, a joint without what it needs, a loop, or a link reached by two joints.
    """
    root = _root(path)
    links = _unique([_name(element, "link", path) for element in root.findall("link")], "link", path)
    joints = [_joint(element, path) for element in root.findall("joint")]
    _unique([joint.name for joint in joints], "joint", path)
    for joint in joints:
        for link in (joint.parent, joint.child):
            if link not in links:
                raise unknown_name(f"link (joint {joint.name!r} of {path.name})", link, links)
    _refuse_loops(joints, path)
    _check_mimics(joints, path)
    elements = zip(links, root.findall("link"), strict=True)
    shapes = {link: tuple(_shape(c, link, path) for c in element.findall("collision")) for link, element in elements}
    return Urdf(path=path, shapes=shapes, joint_to={joint.child: joint for joint in joints})


def _root(path: Path) -> ElementTree.Element:
    if not path.is_file():
        raise MissingFileError(f"no URDF file {path}")
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError, ValueError) as error:
        raise InvalidInputError(f"{path} is not XML: {error}") from error
    if root.tag != "robot":
        raise InvalidInputError(
            f"{path} is no URDF: its root is <{root.tag}>, not <robot> (xacro must be expanded first)"
        )
    return root


def _unique(names: list[str], kind: str, path: Path) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInputError(f"{path}: {kind} {twice[0]!r} is given twice")
    if not names:
        raise InvalidInputError(f"{path} has no {kind}")
    return names


def _refuse_loops(joints: Sequence[Joint], path: Path) -> None:
    joint_to: dict[str, Joint] = {}
    for joint in joints:
        if joint.child in joint_to:
            raise InvalidInputError(
                f"{path}: link {joint.child!r} is the child of joints {joint_to[joint.child].name!r} and "
                f"{joint.name!r}: closed loops are not supported, cut one joint"
            )
        joint_to[joint.child] = joint
    for joint in joints:
        seen, link = {joint.child}, joint.parent
        while link in joint_to and link not in seen:
            seen.add(link)
            link = joint_to[link].parent
        if link in seen:
            raise InvalidInputError(f"{path}: joints form a loop through link {link!r}; a robot is a tree")


def _check_mimics(joints: Sequence[Joint], path: Path) -> None:
    """A leader must exist and move by itself."""
    known = {joint.name: joint for joint in joints}
    for joint in joints:
        if joint.mimic is None:
            continue
        if joint.mimic.joint not in known:
            raise unknown_name(f"joint (that {joint.name!r} of {path.name} mimics)", joint.mimic.joint, known)
        leader = known[joint.mimic.joint]
        if leader.mimic is not None or leader.kind not in MOVING or leader is joint:
            raise InvalidInputError(
                f"{path}: joint {joint.name!r} mimics {leader.name!r}, which must be another joint that moves by itself"
            )


def _joint(element: ElementTree.Element, path: Path) -> Joint:
    name = _name(element, "joint", path)
    where = f"{path}: joint {name!r}"
    kind = element.get("type", "")
    if kind not in KINDS:
        raise unknown_name(f"joint type ({where})", kind, KINDS)
    xyz, rpy = _origin(element, where)
    lower, upper, speed, effort = _limits(element, kind, where)
    return Joint(
        name=name,
        kind=kind,
        parent=_linked(element, "parent", where),
        child=_linked(element, "child", where),
        xyz=xyz,
        rpy=rpy,
        axis=_axis(element, where) if kind in MOVING else (1.0, 0.0, 0.0),
        lower=lower,
        upper=upper,
        speed=speed,
        effort=effort,
        mimic=_mimic(element, where) if kind in MOVING else None,
    )


def _mimic(element: ElementTree.Element, where: str) -> Mimic | None:
    tag = element.find("mimic")
    if tag is None:
        return None
    (multiplier,), (offset,) = (
        _numbers(tag, key, 1, f"{where}: <mimic>", default) for key, default in (("multiplier", "1"), ("offset", "0"))
    )
    if not tag.get("joint") or multiplier == 0.0 or not math.isfinite(multiplier + offset):
        raise InvalidInputError(
            f"{where}: <mimic> needs joint=, a multiplier other than 0 and a finite offset, got {tag.attrib}"
        )
    return Mimic(joint=tag.attrib["joint"], multiplier=multiplier, offset=offset)


def _limits(element: ElementTree.Element, kind: str, where: str) -> tuple[float, float, float, float]:
    """Lower, upper, speed and effort; a safety controller's soft limits count where they are tighter."""
    if kind not in MOVING:
        return 0.0, 0.0, 0.0, 0.0
    limit = element.find("limit")
    if limit is None:
        if kind == "continuous":
            return -math.inf, math.inf, math.inf, math.inf
        raise InvalidInputError(f"{where} is {kind} and has no <limit lower= upper= velocity=>")
    (speed,), (effort,) = _numbers(limit, "velocity", 1, where, "inf"), _numbers(limit, "effort", 1, where, "inf")
    if not speed > 0.0 or not effort >= 0.0:
        raise InvalidInputError(f"{where} needs velocity > 0 and effort >= 0, got {speed:g} and {effort:g}")
    if kind == "continuous":
        return -math.inf, math.inf, speed, effort
    (lower,), (upper,) = _numbers(limit, "lower", 1, where, "0"), _numbers(limit, "upper", 1, where, "0")
    soft = element.find("safety_controller")
    if soft is not None:
        lower = max(lower, *_numbers(soft, "soft_lower_limit", 1, where, str(lower)))
        upper = min(upper, *_numbers(soft, "soft_upper_limit", 1, where, str(upper)))
    if not lower < upper:
        raise InvalidInputError(f"{where} needs lower < upper, got {lower:g} and {upper:g}")
    return lower, upper, speed, effort


def _axis(element: ElementTree.Element, where: str) -> Vector:
    tag = element.find("axis")
    x, y, z = (1.0, 0.0, 0.0) if tag is None else _numbers(tag, "xyz", 3, where, "1 0 0")
    length = math.sqrt(x * x + y * y + z * z)
    if length < 1e-9:
        raise InvalidInputError(f"{where} moves about an axis of zero length")
    return x / length, y / length, z / length


def _shape(element: ElementTree.Element, link: str, path: Path) -> Shape:
    where = f"{path}: collision of link {link!r}"
    xyz, rpy = _origin(element, where)
    geometry = element.find("geometry")
    inner = None if geometry is None else next(iter(geometry), None)
    if inner is None or inner.tag not in (*_PRIMITIVES, "mesh"):
        raise InvalidInputError(f"{where} has no mesh, {', '.join(_PRIMITIVES)} in its <geometry>")
    if inner.tag == "mesh":
        scale = _numbers(inner, "scale", 3, where, "1 1 1")
        return Shape(kind="mesh", xyz=xyz, rpy=rpy, size=scale, mesh=mesh_file(inner.get("filename", ""), path, where))
    count = _PRIMITIVES[inner.tag]
    keys = _SIZE_KEYS[inner.tag]
    size = tuple(value for key in keys for value in _numbers(inner, key, count // len(keys), where))
    return Shape(kind=inner.tag, xyz=xyz, rpy=rpy, size=size)


def mesh_file(name: str, path: Path, where: str) -> Path:
    """A mesh by ``package://``, ``file://`` or plain name, looked for beside the URDF and in the folders above."""
    if name.startswith("file://"):
        folders, rest = [Path("/")], name.removeprefix("file://").lstrip("/")
    else:
        folders, rest = list(path.resolve().parents), name.removeprefix("package://")
    for folder in folders:
        if rest and (folder / rest).is_file():
            return folder / rest
    raise MissingFileError(f"{where} names a mesh {name!r} that is neither beside the URDF nor in a folder above it")


def _origin(element: ElementTree.Element, where: str) -> tuple[Vector, Vector]:
    tag = element.find("origin")
    if tag is None:
        return (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)
    x, y, z = _numbers(tag, "xyz", 3, where, "0 0 0")
    roll, pitch, yaw = _numbers(tag, "rpy", 3, where, "0 0 0")
    return (x, y, z), (roll, pitch, yaw)


def _name(element: ElementTree.Element, kind: str, path: Path) -> str:
    name = element.get("name", "")
    if not name:
        raise InvalidInputError(f"{path}: a {kind} has no name")
    return name


def _linked(element: ElementTree.Element, tag: str, where: str) -> str:
    child = element.find(tag)
    name = "" if child is None else child.get("link", "")
    if not name:
        raise InvalidInputError(f"{where} names no {tag} link")
    return name


def _numbers(
    element: ElementTree.Element, key: str, count: int, where: str, default: str | None = None
) -> tuple[float, ...]:
    text = element.get(key, default)
    try:
        values = tuple(float(word) for word in (text or "").split())
    except ValueError:
        values = ()
    if len(values) != count or any(math.isnan(value) for value in values):
        raise InvalidInputError(f"{where}: {key} must be {count} number{'s' * (count > 1)}, got {text!r}")
    return values
