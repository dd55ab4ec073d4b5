"""What a scene or a film shows: a patient on the bed, an arm with dynamics, and a renderer of what its probe sees."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from sonogym.anatomy.library import load_patient
from sonogym.anatomy.planes import plane_pose
from sonogym.cli.picture import picture_size
from sonogym.geometry import Pose
from sonogym.robot.arm import load_arm
from sonogym.robot.bullet import BulletArm
from sonogym.robot.bullet_world import require_bullet
from sonogym.robot.camera import Camera, photograph
from sonogym.robot.placement import lay
from sonogym.robot.robot import KinematicArm, RobotState
from sonogym.robot.scene import Fan, draw_fan
from sonogym.ultrasound.frame import RenderConfig, RenderParams
from sonogym.ultrasound.renderer import Renderer
from sonogym.ultrasound.transducer import load_probe

_LINES, _SAMPLES, _HEIGHT = 256, 512, 480  # of the image drawn into the scene (design)
_PITCH = 1e-3  # m


@dataclass(frozen=True)
class Stage:
    """One patient, one arm over a standard plane, and the renderer of its probe."""

    renderer: Renderer
    robot: BulletArm
    base_from_patient: Pose
    base_from_goal: Pose
    index: Int[Tensor, " 1"]

    def image(self, state: RobotState, seed: int) -> Fan:
        """What the probe sees where the arm holds it."""
        word = torch.tensor([seed])
        params = replace(RenderParams.default(1), speckle_seed=word, noise_seed=word)
        frame = self.renderer.render(self.base_from_patient.inverse() @ state.base_from_probe, self.index, params)
        assert frame.image is not None
        assert frame.extent is not None
        assert self.renderer.converter is not None
        return Fan(frame.image[0, 0].numpy(), self.renderer.converter.inside.numpy(), frame.extent)

    def picture(self, state: RobotState, fan: Fan, camera: Camera) -> np.ndarray:
        """(height, width, 3) uint8 of the scene with the image in it."""
        world = self.robot.world(0)
        world.place(state.joint_position[0].tolist())
        return draw_fan(photograph(world, camera), state.base_from_probe[0], fan, world.patient).reduced()


def set_stage(patient: str, plane: str, robot: str, probe: str) -> Stage:
    """Everything in its place; raises the errors of whatever is named wrongly, before anything is computed."""
    require_bullet()
    transducer, arm = load_probe(probe), load_arm(robot)
    anatomy = load_patient(patient)
    pressed = Pose(torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, transducer.press]))
    goal = (plane_pose(anatomy, plane) @ pressed).unsqueeze(0)
    size = picture_size(transducer, transducer.depth, _HEIGHT)
    config = RenderConfig(lines=_LINES, samples=_SAMPLES, pitch=_PITCH, outputs=("image",), image_size=size)
    renderer = Renderer([anatomy], transducer, config)
    placement = lay(renderer.skin, goal[:, None], arm)
    base_from_goal = placement.base_from_patient @ goal
    planner = KinematicArm.among(arm, base_from_goal)
    carried = BulletArm(planner=planner, skins=[anatomy.skin], placement=placement, transducer=transducer)
    return Stage(renderer, carried, placement.base_from_patient, base_from_goal, torch.zeros(1, dtype=torch.long))
