"""What a scene or a film shows: a patient on the bed, an arm with dynamics, and a renderer of what its probe sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from sonogym.anatomy.library import load_patient
from sonogym.anatomy.planes import plane_pose
from sonogym.cli.picture import picture_size
from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose, so3
from sonogym.robot.arm import load_arm
from sonogym.robot.bullet import BulletArm
from sonogym.robot.bullet_world import require_bullet
from sonogym.robot.camera import Camera, photograph
from sonogym.robot.inverse_kinematics import InverseKinematics
from sonogym.robot.placement import lay_in_reach
from sonogym.robot.robot import KinematicArm, RobotState
from sonogym.robot.scene import Fan, draw_fan
from sonogym.robot.surface_motion import SurfaceMotion
from sonogym.ultrasound.frame import Frame, RenderConfig
from sonogym.ultrasound.renderer import Renderer
from sonogym.ultrasound.transducer import load_probe

_LINES, _SAMPLES, _HEIGHT = 256, 512, 480  # of the image drawn into the scene (design)
_PITCH = 1e-3  # m


@dataclass(frozen=True)
class Stage:
    """One patient, one arm with its probe at ``patient_from_probe`` (1,), and the renderer of what the probe sees."""

    renderer: Renderer
    motion: SurfaceMotion
    robot: BulletArm
    base_from_patient: Pose
    patient_from_probe: Pose
    index: Int[Tensor, " 1"]

    @property
    def base_from_probe(self) -> Pose:
        """Where the arm is to hold the probe (1,)."""
        return self.base_from_patient @ self.patient_from_probe

    def fan(self, frame: Frame) -> Fan:
        """A frame of the renderer as it is drawn."""
        assert frame.image is not None
        assert frame.extent is not None
        assert self.renderer.converter is not None
        return Fan(frame.image[0, 0].numpy(), self.renderer.converter.inside.numpy(), frame.extent)

    def picture(self, state: RobotState, fan: Fan, camera: Camera) -> np.ndarray:
        """(height, width, 3) uint8 of the scene with the image in it."""
        world = self.robot.world(0)
        world.place(state.joint_position[0].tolist())
        return draw_fan(photograph(world, camera), state.base_from_probe[0], fan, world.patient).reduced()


def set_stage(patient: str, plane: str, robot: str, probe: str, sweep: float = 0.0) -> Stage:
    """Everything in its place, the probe half a ``sweep`` [m] before the plane, across it.

    Raises the errors of what is named wrongly before anything is computed, and :class:`InvalidInputError` for a sweep
    that would leave the imaged skin or the arm's reach.
    """
    require_bullet()
    transducer, arm = load_probe(probe), load_arm(robot)
    anatomy = load_patient(patient)
    goal = plane_pose(anatomy, plane).unsqueeze(0)
    size = picture_size(transducer, transducer.depth, _HEIGHT)
    config = RenderConfig(lines=_LINES, samples=_SAMPLES, pitch=_PITCH, outputs=("image",), image_size=size)
    renderer = Renderer([anatomy], transducer, config)
    motion = SurfaceMotion(skin=renderer.skin, press=transducer.press)
    ends = _ends(motion, goal, sweep)
    placement = lay_in_reach(renderer.skin, ends[None], arm, InverseKinematics())
    base_from_patient = placement.base_from_patient
    planner = KinematicArm.among(arm, base_from_patient @ ends)
    if not bool(planner.reaches(base_from_patient @ ends).all()):
        raise InvalidInputError(
            f"a sweep of {1e3 * sweep:g} mm about {plane!r} is out of reach of {arm.name!r}: make it shorter"
        )
    carried = BulletArm(planner=planner, skins=[anatomy.skin], placement=placement, transducer=transducer)
    return Stage(renderer, motion, carried, base_from_patient, ends[:1], torch.zeros(1, dtype=torch.long))


def _ends(motion: SurfaceMotion, goal: Pose, sweep: float) -> Pose:
    """Poses (3,) on the skin at the beginning, the end and the middle of a sweep along the goal's elevation axis."""
    x, y, _ = so3.to_matrix(goal.quaternion[0]).unbind(-1)
    shift = torch.tensor([-0.5, 0.5, 0.0])[:, None] * sweep
    index = torch.zeros(3, dtype=torch.long)
    ends, inside = motion.place(goal.translation + shift * y, x.expand(3, 3), index, rounds=6)
    if not bool(inside.all()):
        raise InvalidInputError(f"a sweep of {1e3 * sweep:g} mm leaves the imaged skin: make it shorter")
    return ends
