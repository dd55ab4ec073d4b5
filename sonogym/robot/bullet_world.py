"""One PyBullet world: an arm with its tool, a patient on a bed, and motors that move the arm."""

from __future__ import annotations

import math
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sonogym.anatomy.surface import Skin
from sonogym.errors import InvalidInputError, MissingFileError, require_between
from sonogym.geometry import Pose
from sonogym.robot.arm import Arm
from sonogym.robot.bullet_meshes import skin_mesh, write_obj
from sonogym.robot.bullet_urdf import HEAD, write_arm
from sonogym.ultrasound.transducer import Transducer

BED_SIZE = (0.62, 1.9, 0.08)  # m across, along (head to feet) and thick (design)
_GRAVITY = -9.81
_SKIN_COLOUR = (0.86, 0.68, 0.58, 1.0)
_BED_COLOUR = (0.36, 0.53, 0.60, 1.0)
_STAND_COLOUR = (0.55, 0.57, 0.60, 1.0)
_FLOOR_COLOUR = (0.78, 0.79, 0.80, 1.0)
_FLOOR = -0.75  # m below the arm's base (design)


@dataclass(frozen=True, kw_only=True)
class BulletConfig:
    """``substep`` [s] of the physics; the motors' ``position_gain`` (share of an error taken back in a substep).

    ``touch`` [m] is how deep links must overlap to count as touching: Bullet pads hulls by about 1 mm.
    """

    substep: float = 1.0 / 240.0
    position_gain: float = 0.5
    touch: float = 1e-3

    def __post_init__(self) -> None:
        require_between("substep", self.substep, 1e-4, 0.02, "s", "a rate in Hz?")
        require_between("position_gain", self.position_gain, 0.01, 1.0)
        require_between("touch", self.touch, 0.0, 0.05, "m", "millimetres?")


@dataclass(frozen=True)
class Moved:
    """Joints [rad, rad/s] and motors' torques [N m] at the end of a move, and the pairs that touched during it."""

    position: np.ndarray
    velocity: np.ndarray
    torque: np.ndarray
    touched: tuple[str, ...]


class BulletWorld:
    """An arm beside a patient on a bed, in the frame of the arm's base.

    The head of the tool and the skin do not collide: soft tissue is not Bullet's (see
    :mod:`sonogym.robot.contact_force`), its force comes in as a wrench. All other links collide with skin and bed, and
    with one another unless they touch in the home posture.
    Raises :class:`MissingFileError` where pybullet is not installed.
    """

    def __init__(
        self,
        arm: Arm,
        skin: Skin,
        base_from_patient: Pose,
        bed_height: float,
        transducer: Transducer | None,
        config: BulletConfig | None = None,
    ) -> None:
        self.config = config or BulletConfig()
        self.arm, self.bullet = arm, require_bullet()
        _require_torques(arm)
        self.client = self.bullet.connect(self.bullet.DIRECT)
        self._finalizer = weakref.finalize(self, _disconnect, self.bullet, self.client)
        with tempfile.TemporaryDirectory(prefix="sonogym-bullet-") as name:
            folder = Path(name)
            self.robot = self._load_arm(write_arm(arm, transducer, folder))
            self.patient = self._load_patient(skin, base_from_patient, folder)
        centre, size = _bed(base_from_patient, bed_height)
        self.bed = self._box(centre, size, _BED_COLOUR, solid=True)
        self._furnish(base_from_patient, bed_height)
        self._find_joints()
        self._separate()
        self._rest = self.bullet.saveState(physicsClientId=self.client)

    def place(self, position: Sequence[float], velocity: Sequence[float] | None = None) -> None:
        """Set the arm's joints [rad, rad/s]; nothing of what happened before is left."""
        self.bullet.restoreState(self._rest, physicsClientId=self.client)
        speeds = [0.0] * len(self.joints) if velocity is None else velocity
        for joint, angle, speed in zip(self.joints, position, speeds, strict=True):
            self.bullet.resetJointState(self.robot, joint, angle, speed, physicsClientId=self.client)

    def touching(self) -> tuple[str, ...]:
        """What of the arm touches now, as ``link with bed|patient|link``."""
        self.bullet.performCollisionDetection(physicsClientId=self.client)
        return tuple(sorted(self._touched()))

    def move(
        self, target: Sequence[float], period: float, wrench: Sequence[float] | None, point: Sequence[float]
    ) -> Moved:
        """Drive the joints to ``target`` [rad] over ``period`` [s], along a straight line as far as torques allow.

        ``wrench`` [N, N m] acts on the head at ``point`` [m], all in the axes of the base.
        """
        steps = max(round(period / self.config.substep), 1)
        states = self.bullet.getJointStates(self.robot, self.joints, physicsClientId=self.client)
        start = np.array([state[0] for state in states])
        way = (np.asarray(target) - start) / steps
        self.bullet.setPhysicsEngineParameter(fixedTimeStep=period / steps, physicsClientId=self.client)
        touched: set[str] = set()
        for step in range(steps):
            self._drive(start + step * way, way * (steps / period))  # where it should be now, and how fast from here
            self._load(wrench, point)
            self.bullet.stepSimulation(physicsClientId=self.client)
            touched |= self._touched()
        states = self.bullet.getJointStates(self.robot, self.joints, physicsClientId=self.client)
        position, velocity, torque = (np.array([state[at] for state in states]) for at in (0, 1, 3))
        return Moved(position, velocity, torque, tuple(sorted(touched)))

    def close(self) -> None:
        """Give the world's memory back; it cannot be used afterwards."""
        self._finalizer()

    def _drive(self, position: np.ndarray, velocity: np.ndarray) -> None:
        count = len(self.joints)
        self.bullet.setJointMotorControlArray(
            self.robot,
            self.joints,
            self.bullet.POSITION_CONTROL,
            targetPositions=position.tolist(),
            targetVelocities=velocity.tolist(),
            forces=self.torques,
            positionGains=[self.config.position_gain] * count,
            velocityGains=[1.0] * count,
            physicsClientId=self.client,
        )

    def _load(self, wrench: Sequence[float] | None, point: Sequence[float]) -> None:
        if wrench is None:
            return
        world = self.bullet.WORLD_FRAME
        self.bullet.applyExternalForce(self.robot, self.head, wrench[:3], point, world, physicsClientId=self.client)
        self.bullet.applyExternalTorque(self.robot, self.head, wrench[3:], world, physicsClientId=self.client)

    def _touched(self) -> set[str]:
        """Pairs with a link of the arm that push one another or overlap by more than ``touch``."""
        names = set()
        for point in self.bullet.getContactPoints(bodyA=self.robot, physicsClientId=self.client):
            if point[8] < -self.config.touch or point[9] > 0.0:  # distance [m], normal force [N]
                one, other = point[3], point[4]
                partner = {self.patient: "patient", self.bed: "bed"}.get(point[2]) or self.links.get(other, "itself")
                names.add(f"{self.links[one]} with {partner}")
        return names

    def _load_arm(self, path: Path) -> int:
        bullet = self.bullet
        flags = bullet.URDF_USE_SELF_COLLISION | bullet.URDF_USE_SELF_COLLISION_EXCLUDE_PARENT
        robot = bullet.loadURDF(str(path), useFixedBase=True, flags=flags, physicsClientId=self.client)
        bullet.setGravity(0.0, 0.0, _GRAVITY, physicsClientId=self.client)
        bullet.setPhysicsEngineParameter(deterministicOverlappingPairs=1, physicsClientId=self.client)
        return robot

    def _load_patient(self, skin: Skin, base_from_patient: Pose, folder: Path) -> int:
        path = folder / "skin.obj"
        write_obj(path, *skin_mesh(skin))
        bullet, client = self.bullet, self.client
        collision = bullet.createCollisionShape(
            bullet.GEOM_MESH, fileName=str(path), flags=bullet.GEOM_FORCE_CONCAVE_TRIMESH, physicsClientId=client
        )
        visual = bullet.createVisualShape(
            bullet.GEOM_MESH,
            fileName=str(path),
            rgbaColor=_SKIN_COLOUR,
            specularColor=[0.1] * 3,
            physicsClientId=client,
        )
        w, x, y, z = base_from_patient.quaternion.tolist()
        return bullet.createMultiBody(
            0.0, collision, visual, base_from_patient.translation.tolist(), [x, y, z, w], physicsClientId=client
        )

    def _box(self, centre: Sequence[float], size: Sequence[float], colour: Sequence[float], solid: bool) -> int:
        bullet, client = self.bullet, self.client
        half = [0.5 * length for length in size]
        visual = bullet.createVisualShape(
            bullet.GEOM_BOX, halfExtents=half, rgbaColor=colour, specularColor=[0.1] * 3, physicsClientId=client
        )
        shape = bullet.createCollisionShape(bullet.GEOM_BOX, halfExtents=half, physicsClientId=client) if solid else -1
        return bullet.createMultiBody(0.0, shape, visual, centre, physicsClientId=client)

    def _furnish(self, base_from_patient: Pose, bed_height: float) -> None:
        """What is only looked at: the floor, the arm's stand and the bed's legs."""
        (x, y, _), size = _bed(base_from_patient, bed_height)
        self._box((0.4, 0.0, _FLOOR - 0.01), (4.0, 4.0, 0.02), _FLOOR_COLOUR, solid=False)
        self._box((0.0, 0.0, 0.5 * _FLOOR), (0.26, 0.26, -_FLOOR), _STAND_COLOUR, solid=False)
        top, turned = bed_height - BED_SIZE[2], size[0] > size[1]
        leg = (0.08, 0.5 * BED_SIZE[0]) if turned else (0.5 * BED_SIZE[0], 0.08)
        for along in (-0.35 * BED_SIZE[1], 0.35 * BED_SIZE[1]):
            centre = (x + along * turned, y + along * (not turned), 0.5 * (top + _FLOOR))
            self._box(centre, (*leg, top - _FLOOR), _STAND_COLOUR, solid=False)

    def _find_joints(self) -> None:
        """Bullet's numbers of the joints, of the head and of every link."""
        count = self.bullet.getNumJoints(self.robot, physicsClientId=self.client)
        infos = [self.bullet.getJointInfo(self.robot, at, physicsClientId=self.client) for at in range(count)]
        number = {info[1].decode(): info[0] for info in infos}
        base = self.bullet.getBodyInfo(self.robot, physicsClientId=self.client)[0].decode()
        self.links = {-1: base} | {info[0]: info[12].decode() for info in infos}
        self.joints = [number[name] for name in self.arm.chain.joint_names]
        self.head = next(at for at, name in self.links.items() if name == HEAD)
        self.torques = self.arm.chain.torque.tolist()
        moving = {info[0] for info in infos if info[2] != self.bullet.JOINT_FIXED} - set(self.joints)
        for joint in moving:  # a joint beside the chain: held where it is
            self.bullet.setJointMotorControl2(
                self.robot, joint, self.bullet.POSITION_CONTROL, 0.0, force=1e3, physicsClientId=self.client
            )

    def _separate(self) -> None:
        """Pairs that never collide: the head and the skin, the base and the bed, links that touch at home."""
        client = self.client
        self.bullet.setCollisionFilterPair(self.robot, self.patient, self.head, -1, 0, physicsClientId=client)
        self.bullet.setCollisionFilterPair(self.robot, self.bed, -1, -1, 0, physicsClientId=client)
        for joint, angle in zip(self.joints, self.arm.home.tolist(), strict=True):
            self.bullet.resetJointState(self.robot, joint, angle, physicsClientId=client)
        self.bullet.performCollisionDetection(physicsClientId=client)
        for point in self.bullet.getContactPoints(self.robot, self.robot, physicsClientId=client):
            self.bullet.setCollisionFilterPair(self.robot, self.robot, point[3], point[4], 0, physicsClientId=client)


def require_bullet() -> Any:
    """The pybullet module; raises :class:`MissingFileError` with what to do where it is not installed."""
    try:
        import pybullet
    except ImportError as error:
        raise MissingFileError(
            "the PyBullet backend needs the package pybullet: pip install pybullet (its wheels end at Python 3.11; "
            "above, build it from source or use robot='kinematic'). Everything else works without it"
        ) from error
    return pybullet


def _require_torques(arm: Arm) -> None:
    for name, torque in zip(arm.chain.joint_names, arm.chain.torque.tolist(), strict=True):
        if not 0.0 < torque < math.inf:
            raise InvalidInputError(
                f"joint {name!r} of {arm.name!r} needs a torque limit for dynamics, got {torque:g}: "
                "give effort= in the URDF's <limit> or torque_nm in the arm's file"
            )


def _bed(base_from_patient: Pose, bed_height: float) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Centre and size of a bed that lies along the patient, under the origin but not under the arm's own base."""
    head = base_from_patient.apply(torch.tensor([0.0, 0.0, 1.0])) - base_from_patient.translation
    across, along, thick = BED_SIZE
    size = (along, across, thick) if abs(float(head[0])) > abs(float(head[1])) else BED_SIZE
    x, y, _ = base_from_patient.translation.tolist()
    return (max(x, 0.5 * size[0] + 0.2), y, bed_height - 0.5 * thick), size


def _disconnect(bullet: Any, client: int) -> None:
    if bullet.isConnected(client):
        bullet.disconnect(client)
