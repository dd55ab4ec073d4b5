"""Arms: a chain with limits, a tool on its flange, a home posture and capsules, from a preset or the user's file."""

from __future__ import annotations

import functools
import importlib.util
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.errors import InvalidInputError, MissingFileError, unknown_name
from sonogym.geometry import Pose, so3
from sonogym.resources import read_toml
from sonogym.robot.capsules import Capsules, link_capsules
from sonogym.robot.chain import Chain, Frames, chain_from_joints, rotation_from_rpy
from sonogym.robot.urdf import Urdf, read_urdf

_ARM_KEYS = (
    "name", "package", "urdf", "base", "flange", "flange_offset_mm", "flange_rotation_deg", "joints", "speed_deg_s",
    "torque_nm", "home_deg", "scan_at_mm", "lean_deg",
)  # fmt: skip
_OPTIONAL = (
    "package", "flange_offset_mm", "flange_rotation_deg", "speed_deg_s", "torque_nm", "scan_at_mm", "lean_deg",
)  # fmt: skip
_TOOL_KEYS = (
    "name", "translation_mm", "rotation_deg", "capsule_start_mm", "capsule_end_mm", "capsule_radius_mm", "mass_kg",
    "cylinders_mm",
)  # fmt: skip
_INSIDE = 1e-5  # rad: rounding of a float32 posture on its limit


@dataclass(frozen=True, kw_only=True)
class Tool:
    """What hangs on the flange: ``mass`` [kg] and coaxial ``cylinders`` along its z, each from, to and radius [m]."""

    name: str
    mass: float
    cylinders: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """An arm whose chain ends in its tool. The base frame is the frame of the URDF's base link.

    ``model`` is the file's robot and ``flange`` the link that carries the ``tool``; ``flange_from_tool`` is the stated
    offset of the tool's frame; ``home`` [rad] the posture to fall back to; ``capsules`` enclose the links (float64 fit
    of their collision shapes) and the tool. ``scan_at`` [m] is where in the base a scan is reached best (the file's,
    else the tool's place at home); skin scanned off the flat should ``lean`` [rad] towards the base by so much.
    """

    name: str
    model: Urdf
    flange: str
    tool: Tool
    chain: Chain
    flange_from_tool: Pose
    home: Float[Tensor, " joints"]
    capsules: Capsules
    scan_at: Float[Tensor, " 3"]
    lean: float = 0.0

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Arm:
        """The same arm on another device or in another precision."""
        tool = Pose(
            self.flange_from_tool.quaternion.to(device, dtype), self.flange_from_tool.translation.to(device, dtype)
        )
        return replace(
            self,
            chain=self.chain.to(device, dtype),
            flange_from_tool=tool,
            home=self.home.to(device, dtype),
            capsules=self.capsules.to(device, dtype),
            scan_at=self.scan_at.to(device, dtype),
        )

    @functools.cached_property
    def arrays(self) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
        """Model, limits and home of :func:`sonogym.robot.kernel_arm.step_arms`, in double precision."""
        chain = self.chain
        parts = (
            chain.motion, chain.axis, torch.cat((chain.tip_rotation, chain.tip_offset[:, None]), dim=1),
            torch.stack((chain.lower, chain.upper, chain.speed)), self.home,
        )  # fmt: skip
        motion, axis, tip, limits, home = (part.to("cpu", torch.float64).contiguous().numpy() for part in parts)
        return (motion, axis, np.array(chain.turns), tip), limits, home

    def frames(self, joint_position: Float[Tensor, "*batch joints"]) -> Frames:
        """Frames of the links and, last, of the tool, in the base."""
        return self.chain.frames(joint_position)

    def base_from_tool(self, joint_position: Float[Tensor, "*batch joints"]) -> Pose:
        """Pose of the tool."""
        return self.frames(joint_position).tip

    def require_posture(self, joint_position: Float[Tensor, "*batch joints"]) -> None:
        """Raise :class:`InvalidInputError` unless every posture [rad] is finite and within the position limits."""
        lower, upper = self.chain.lower - _INSIDE, self.chain.upper + _INSIDE
        good = (joint_position >= lower) & (joint_position <= upper)
        if not bool(good.all()):
            *at, joint = (~good).nonzero()[0].tolist()
            raise InvalidInputError(
                f"{self.chain.joint_names[joint]} must be in [{float(lower[joint]):.4g}, {float(upper[joint]):.4g}] "
                f"rad, got {float(joint_position[(*at, joint)]):.6g} (degrees?)"
            )


def load_arm(
    name: str,
    tool: str = "probe",
    urdf: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Arm:
    """A preset by name or an arm from a ``.toml`` file, with a tool by name or from a ``.toml`` file.

    ``urdf`` replaces the preset's file. Raises :class:`UnknownNameError`, :class:`MissingFileError` (also where the
    package that holds the URDF is not installed: says how to install it) or :class:`InvalidInputError`.
    """
    chosen = None if urdf is None else str(Path(urdf).resolve())
    return _load(str(name), str(tool), chosen).to(device, dtype)


@functools.lru_cache(maxsize=16)
def _load(name: str, tool: str, urdf: str | None) -> Arm:
    table = _table(name, "robots", "arm", _ARM_KEYS)
    missing = [key for key in _ARM_KEYS if key not in table and key not in _OPTIONAL]
    if missing:
        raise InvalidInputError(f"arm file {name!r} lacks {', '.join(missing)}")
    model = read_urdf(_urdf_path(table, name) if urdf is None else Path(urdf))
    joints = model.chain(table["base"], table["flange"])
    chain, place = chain_from_joints(joints)
    _match_joints(table["joints"], chain, str(model.path))
    chain = _slowed(chain, table, name)
    flange = Pose(_turn(table, "flange_rotation_deg", name), _vector(table, "flange_offset_mm", name) * 1e-3)
    chain = chain.with_tip(flange)
    capsules = link_capsules(model, place)
    tool_table = _table(tool, "robots/tools", "tool", _TOOL_KEYS)
    flange_from_tool, capsules = _mount(tool_table, tool, chain, capsules)
    home = torch.deg2rad(_per_joint(table, "home_deg", chain, name))
    chain = chain.with_tip(flange_from_tool)
    at_home = chain.frames(home).tip.translation
    arm = Arm(
        name=table["name"],
        model=model,
        flange=table["flange"],
        tool=_tool(tool_table, tool),
        chain=chain,
        flange_from_tool=flange_from_tool,
        home=home,
        capsules=capsules,
        scan_at=_vector(table, "scan_at_mm", name) * 1e-3 if "scan_at_mm" in table else at_home,
        lean=math.radians(_number(table, "lean_deg", 0.0, name)),
    )
    arm.require_posture(home)
    return arm


def _mount(table: Mapping[str, Any], source: str, chain: Chain, capsules: Capsules) -> tuple[Pose, Capsules]:
    """The tool's place on the flange, and the capsules with its own, whose ends are given in the flange's frame."""
    flange_from_tool = Pose(_turn(table, "rotation_deg", source), _vector(table, "translation_mm", source) * 1e-3)
    if "capsule_radius_mm" not in table:
        return flange_from_tool, capsules
    radius = table["capsule_radius_mm"]
    if not _is_number(radius) or not 0.0 < radius < 500.0:
        raise InvalidInputError(f"capsule_radius_mm of {source!r} must be in (0, 500) mm, got {radius!r}")
    ends = [
        chain.tip_rotation @ (_vector(table, key, source) * 1e-3) + chain.tip_offset
        for key in ("capsule_start_mm", "capsule_end_mm")
    ]
    return flange_from_tool, capsules.joined(table["name"], len(chain.turns), ends[0], ends[1], radius * 1e-3)


def _tool(table: Mapping[str, Any], source: str) -> Tool:
    mass, cylinders = table.get("mass_kg", 0.0), table.get("cylinders_mm", [])
    if not _is_number(mass) or not 0.0 <= mass < 50.0:
        raise InvalidInputError(f"mass_kg of {source!r} must be in [0, 50) kg, got {mass!r}")
    parts = []
    for cylinder in cylinders if isinstance(cylinders, list) else [cylinders]:
        start, end, radius = (1e-3 * _list(cylinder, 3, "a cylinder of cylinders_mm", source)).tolist()
        if not 0.0 <= start < end < 1.0 or not 0.0 < radius < 0.5:
            raise InvalidInputError(f"cylinders_mm of {source!r} are [from, to, radius], from < to, got {cylinder}")
        parts.append((start, end, radius))
    return Tool(name=table["name"], mass=float(mass), cylinders=tuple(parts))


def _urdf_path(table: Mapping[str, Any], name: str) -> Path:
    """The preset's file: in a package found by name without importing it, or beside the user's TOML."""
    if "package" not in table:
        return (Path(name).parent if name.endswith(".toml") else Path()) / table["urdf"]
    spec = importlib.util.find_spec(table["package"])
    if spec is None or spec.origin is None:
        raise MissingFileError(
            f"arm {name!r} takes its URDF from the package {table['package']!r}, which is not installed: "
            "pip install pybullet (its wheels end at Python 3.11), or pass urdf=PATH of the robot's own file"
        )
    return Path(spec.origin).parent / table["urdf"]


def _table(name: str, folder: str, kind: str, keys: tuple[str, ...]) -> dict[str, Any]:
    table = _read_file(Path(name), kind) if name.endswith(".toml") else read_toml(folder, name, kind)
    for key in table:
        if key not in keys:
            raise unknown_name(f"key in {kind} file {name!r}", key, keys)
    return table


def _read_file(path: Path, kind: str) -> dict[str, Any]:
    if not path.is_file():
        raise MissingFileError(f"no {kind} file {path}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} is not a TOML file: {error}") from error


def _match_joints(names: list[str], chain: Chain, source: str) -> None:
    for name in names:
        if name not in chain.joint_names:
            raise unknown_name(f"moving joint of {source}", name, chain.joint_names)
    if tuple(names) != chain.joint_names:
        raise InvalidInputError(
            f"joints of the arm must be {', '.join(chain.joint_names)} ({source}), got {', '.join(names)}"
        )


def _slowed(chain: Chain, table: Mapping[str, Any], source: str) -> Chain:
    """The lower of the URDF's and the file's joint speeds and torques."""
    bounds: dict[str, Any] = {}
    for name, key, unit in (("speed", "speed_deg_s", math.pi / 180.0), ("torque", "torque_nm", 1.0)):
        if key in table:
            bound = unit * _per_joint(table, key, chain, source)
            if not bool((bound > 0).all()):
                raise InvalidInputError(f"{key} of {source!r} must be positive, got {table[key]}")
            bounds[name] = torch.minimum(getattr(chain, name), bound)
    return replace(chain, **bounds)


def _per_joint(table: Mapping[str, Any], key: str, chain: Chain, source: str) -> Float[Tensor, " joints"]:
    return _list(table[key], len(chain.joint_names), key, source)


def _turn(table: Mapping[str, Any], key: str, source: str) -> Float[Tensor, " 4"]:
    """Quaternion of fixed-axis angles [deg]."""
    roll, pitch, yaw = (math.radians(value) for value in _vector(table, key, source).tolist())
    return so3.from_matrix(rotation_from_rpy((roll, pitch, yaw)))


def _vector(table: Mapping[str, Any], key: str, source: str) -> Float[Tensor, " 3"]:
    return _list(table.get(key, [0.0, 0.0, 0.0]), 3, key, source)


def _list(values: Any, count: int, key: str, source: str) -> Float[Tensor, " count"]:
    if not isinstance(values, list) or len(values) != count or not all(_is_number(value) for value in values):
        raise InvalidInputError(f"{key} of {source!r} must be {count} numbers, got {values!r}")
    return torch.tensor(values, dtype=torch.float64)


def _number(table: Mapping[str, Any], key: str, default: float, source: str) -> float:
    value = table.get(key, default)
    if not _is_number(value):
        raise InvalidInputError(f"{key} of {source!r} must be a number, got {value!r}")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
