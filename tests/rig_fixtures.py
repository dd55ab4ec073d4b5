"""Arms and contact on the torso of skin_phantom, with a flat bone below the back, fast enough for many steps."""

import dataclasses
import functools

import torch
from skin_phantom import PaintingRenderer, torso

from sonogym.anatomy.stack import VolumeStack
from sonogym.anatomy.volume import Volume
from sonogym.envs.navigation import Navigation, navigation_config
from sonogym.envs.vector_env import SonogymVectorEnv

BODY = torso()


class BonyRenderer(PaintingRenderer):
    """The painting renderer with a ``bone``: columns of the given depth [m] under the back's top line."""

    def __init__(self, bodies, bone_depth=0.045, **options):
        super().__init__(bodies, **options)
        self.bone = VolumeStack.from_volumes([bone_below(body, bone_depth) for body in bodies])


def bone_below(body, depth):
    """Distance to the half-space y > back + depth: the probe on the back (y < 0) meets it after ``depth``."""
    distance = body.skin.distance
    grid = torch.stack(torch.meshgrid(*[torch.arange(n) for n in distance.voxels.shape[1:]], indexing="ij"), -1)
    y = grid[..., 1] * distance.patient_from_voxel[1, 1] + distance.patient_from_voxel[1, 3]
    back = -0.10
    return Volume((back + depth - y).float()[None], distance.patient_from_voxel)


@functools.cache
def bony_renderer(bone_depth=0.045):
    return BonyRenderer((BODY,), bone_depth)


def make(num_envs, bone_depth=0.045, autoreset_mode="disabled", **options):
    options = {"recipe": "robotic", "lines": 16, "samples": 16, "observation": ("probe_pose", "force"), **options}
    task = Navigation(navigation_config(**options), bony_renderer(bone_depth))
    return SonogymVectorEnv(task, num_envs, autoreset_mode=autoreset_mode)


def with_limits(env, **limits):
    """The environment's limits changed in place of the file's."""
    simulator = env.task.simulator
    safety = dataclasses.replace(
        simulator.rig.safety, limits=dataclasses.replace(simulator.rig.safety.limits, **limits)
    )
    env.task.simulator = dataclasses.replace(simulator, rig=dataclasses.replace(simulator.rig, safety=safety))
    return env


def ribs_below(body, spacing=0.025, under=0.020, radius=0.006, plane=0.045):
    """Distance to ribs across a leaning back, ``spacing`` [m] apart and ``under`` the skin, and to a plane below."""
    distance = body.skin.distance
    matrix = distance.patient_from_voxel
    axes = [torch.arange(n) * matrix[i, i] + matrix[i, 3] for i, n in enumerate(distance.voxels.shape[1:])]
    _, _, z = torch.meshgrid(*axes, indexing="ij")
    deep = -distance.voxels[0].double()
    along = torch.remainder(z + 0.5 * spacing, spacing) - 0.5 * spacing
    ribs = torch.hypot(along, deep - under - radius) - radius
    return Volume(torch.minimum(ribs, plane - deep).float()[None], matrix)


def swaying_back(body, reach):
    """A breath that lifts all of the body by ``reach`` [m] towards the probe on its back."""
    distance = body.skin.distance
    shape = distance.voxels.shape[1:]
    return Volume(
        torch.tensor([0.0, -reach, 0.0])[:, None, None, None].expand(3, *shape).clone(), distance.patient_from_voxel
    )
