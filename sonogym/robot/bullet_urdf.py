"""The URDF that PyBullet loads: the arm's own up to its flange, with the tool in place of what hung there."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from sonogym.errors import MissingFileError
from sonogym.geometry import Pose, so3
from sonogym.robot.arm import Arm, Tool
from sonogym.robot.bullet_meshes import head_mesh, write_obj
from sonogym.robot.urdf import Urdf, mesh_file
from sonogym.ultrasound.transducer import Transducer

HOLDER, HEAD = "sonogym_holder", "sonogym_head"  # links of the tool; the head's frame is the tool's
_COLOURS = ("0.22 0.24 0.27 1", "0.93 0.93 0.90 1", "0.70 0.72 0.75 1", "0.80 0.82 0.85 1")
_HEAD_COLOUR = "0.13 0.32 0.52 1"
_HEAD_MASS = 0.1  # kg of the tool's mass (design)


def write_arm(arm: Arm, transducer: Transducer | None, folder: Path) -> Path:
    """Write arm, holder and head to ``folder``; ``transducer`` None leaves the head without a shape.

    Joint limits, speeds and torques are those of the arm; meshes stay where they are, and those that are only looked at
    are left out where their file is not there.
    """
    tree = ElementTree.parse(arm.model.path)
    root = tree.getroot()
    _drop_below(root, arm.model, arm.flange)
    for mesh in root.iter("mesh"):
        mesh.set("filename", _found(mesh.get("filename", ""), arm.model.path))
    for link in root.findall("link"):
        for visual in link.findall("visual"):
            if any(not mesh.get("filename") for mesh in visual.iter("mesh")):
                link.remove(visual)
    _set_limits(root, arm)
    last_from_tool = Pose(so3.from_rotation(arm.chain.tip_rotation), arm.chain.tip_offset)
    _add_link(root, HOLDER, arm.tool.mass - _HEAD_MASS, _cylinders(arm.tool))
    _add_joint(root, _last_link(arm), HOLDER, last_from_tool @ arm.flange_from_tool.inverse())
    shapes = [] if transducer is None else [_head(transducer, folder)]
    _add_link(root, HEAD, _HEAD_MASS, shapes)
    _add_joint(root, HOLDER, HEAD, arm.flange_from_tool)
    path = folder / f"{arm.name}.urdf"
    tree.write(path, encoding="unicode")
    return path


def _found(name: str, urdf: Path) -> str:
    try:
        return str(mesh_file(name, urdf, str(urdf)))
    except MissingFileError:
        return ""


def _drop_below(root: ElementTree.Element, model: Urdf, flange: str) -> None:
    """Remove every link that hangs on ``flange`` and the joints that lead to it."""
    dropped = {flange}
    for _ in model.joint_to:
        dropped |= {joint.child for joint in model.joint_to.values() if joint.parent in dropped}
    dropped.remove(flange)
    for link in root.findall("link"):
        if link.get("name") in dropped:
            root.remove(link)
    for joint in root.findall("joint"):
        child = joint.find("child")
        if child is not None and child.get("link") in dropped:
            root.remove(joint)


def _set_limits(root: ElementTree.Element, arm: Arm) -> None:
    chain = arm.chain
    rows = zip(chain.lower.tolist(), chain.upper.tolist(), chain.speed.tolist(), chain.torque.tolist(), strict=True)
    limits = dict(zip(chain.joint_names, rows, strict=True))
    for joint in root.findall("joint"):
        limit = joint.find("limit")
        if joint.get("name") in limits and limit is not None:
            values = limits[joint.attrib["name"]]
            for key, value in zip(("lower", "upper", "velocity", "effort"), values, strict=True):
                if math.isfinite(value):
                    limit.set(key, repr(value))


def _last_link(arm: Arm) -> str:
    """The link that the arm's last joint moves, whose frame is the chain's last."""
    last = arm.chain.joint_names[-1]
    return next(joint.child for joint in arm.model.joint_to.values() if joint.name == last)


def _cylinders(tool: Tool) -> list[ElementTree.Element]:
    shapes = []
    for at, (start, end, radius) in enumerate(tool.cylinders):
        geometry = ElementTree.Element("geometry")
        ElementTree.SubElement(geometry, "cylinder", radius=repr(radius), length=repr(end - start))
        shapes.append(_shape(geometry, f"0 0 {0.5 * (start + end)!r}", _COLOURS[at % len(_COLOURS)]))
    return shapes


def _head(transducer: Transducer, folder: Path) -> ElementTree.Element:
    path = folder / "head.obj"
    write_obj(path, *head_mesh(transducer))
    geometry = ElementTree.Element("geometry")
    ElementTree.SubElement(geometry, "mesh", filename=str(path))
    return _shape(geometry, "0 0 0", _HEAD_COLOUR)


def _shape(geometry: ElementTree.Element, xyz: str, colour: str) -> ElementTree.Element:
    """A holder of one ``visual`` and one ``collision`` with the same geometry."""
    both = ElementTree.Element("both")
    for kind in ("visual", "collision"):
        element = ElementTree.SubElement(both, kind)
        ElementTree.SubElement(element, "origin", xyz=xyz, rpy="0 0 0")
        element.append(geometry)
        if kind == "visual":
            material = ElementTree.SubElement(element, "material", name=f"sonogym {colour}")
            ElementTree.SubElement(material, "color", rgba=colour)
    return both


def _add_link(root: ElementTree.Element, name: str, mass: float, shapes: list[ElementTree.Element]) -> None:
    """A link whose inertia is that of a ball of 50 mm radius with its mass (design: small beside the arm's)."""
    link = ElementTree.SubElement(root, "link", name=name)
    inertial = ElementTree.SubElement(link, "inertial")
    mass = max(mass, 1e-3)
    ElementTree.SubElement(inertial, "mass", value=repr(mass))
    moment = repr(0.4 * mass * 0.05**2)
    ElementTree.SubElement(inertial, "inertia", ixx=moment, iyy=moment, izz=moment, ixy="0", ixz="0", iyz="0")
    for shape in shapes:
        link.extend(shape)


def _add_joint(root: ElementTree.Element, parent: str, child: str, pose: Pose) -> None:
    joint = ElementTree.SubElement(root, "joint", name=f"{child}_mount", type="fixed")
    ElementTree.SubElement(joint, "parent", link=parent)
    ElementTree.SubElement(joint, "child", link=child)
    xyz = " ".join(repr(float(value)) for value in pose.translation)
    rpy = " ".join(repr(float(value)) for value in _rpy(so3.to_matrix(pose.quaternion.double()).numpy()))
    ElementTree.SubElement(joint, "origin", xyz=xyz, rpy=rpy)


def _rpy(rotation: np.ndarray) -> tuple[float, float, float]:
    """Fixed-axis angles [rad] of R = Rz(yaw) Ry(pitch) Rx(roll)."""
    pitch = math.atan2(-rotation[2, 0], math.hypot(rotation[0, 0], rotation[1, 0]))
    if abs(math.cos(pitch)) < 1e-9:
        return math.atan2(-rotation[1, 2], rotation[1, 1]), pitch, 0.0
    return math.atan2(rotation[2, 1], rotation[2, 2]), pitch, math.atan2(rotation[1, 0], rotation[0, 0])
