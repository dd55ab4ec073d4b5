"""Navigation: find a standard plane on a patient's skin from the ultrasound image."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonogym.anatomy.library import resolve_patients
from sonogym.anatomy.stack import clearance_stack
from sonogym.config import override
from sonogym.errors import require_between, unknown_name
from sonogym.geometry import Pose
from sonogym.random import Streams
from sonogym.robot.surface_motion import SurfaceMotion, displacement, errors
from sonogym.sim.randomization import Randomization
from sonogym.sim.simulator import Simulator
from sonogym.sim.state import SimParams, SimState
from sonogym.ultrasound.bake import load_acoustics
from sonogym.ultrasound.frame import Frame, RenderConfig
from sonogym.ultrasound.renderer import Renderer

from .observations import Goal, Image, Privileged, ProbePose, View, choose, observation_space
from .rewards import bounded, tolerance
from .single_env import SonogymEnv
from .standard_planes import find_goals, start_region
from .vector_env import SonogymVectorEnv

ACTION_MODES = ("surface",)
# way to the goal in the probe frame, errors, height over the goal in the patient
PRIVILEGED = ("lateral", "elevation", "yaw", "position_error", "angle_error", "height")
_APPROACH_LIMIT = 1.0  # far above what the speed limits allow in a step: a bound, not a clip


@dataclass(frozen=True, kw_only=True)
class NavigationReward:
    """Weights of D = position |dp| [1/m] + angle |angle| [1/rad], whose drop is rewarded, and of the other terms.

    ``precision`` rewards the rise of a bump over the goal that is a success tolerance wide (a potential, too);
    ``success`` is paid once, ``time`` is the price of a step.
    """

    position: float = 20.0
    angle: float = 1.0
    precision: float = 0.5
    success: float = 1.0
    time: float = 0.004

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require_between(f"reward.{name}", value, 0.0, 100.0)


@dataclass(frozen=True, kw_only=True)
class NavigationConfig:
    """Options of the task. Lengths [m], angles [rad], speeds [m/s] and [rad/s], rates [Hz].

    ``patient_count`` keeps the first of ``patients``; ``depth`` None is the probe's own; ``pitch`` is the voxel size
    patients are rendered at; ``horizon`` steps end an episode. Success is an error of at most ``success_distance``
    and ``success_angle`` held for ``hold_steps`` steps.
    """

    patients: str = "procedural:train"
    patient_count: int = 16
    plane: str = "transverse_L4"
    probe: str = "C5-2v"
    lines: int = 64
    samples: int = 64
    depth: float | None = None
    pitch: float = 2e-3
    observation: tuple[str, ...] = ("image", "probe_pose")
    image_stack: int = 1
    action_mode: str = "surface"
    control_rate: float = 10.0
    max_linear_speed: float = 0.03
    max_angular_speed: float = math.radians(30.0)
    horizon: int = 150
    success_distance: float = 5e-3
    success_angle: float = math.radians(5.0)
    hold_steps: int = 3
    reward: NavigationReward = field(default_factory=NavigationReward)
    randomization: Randomization = field(default_factory=Randomization)

    def __post_init__(self) -> None:
        if self.action_mode not in ACTION_MODES:
            raise unknown_name("action mode", self.action_mode, ACTION_MODES)
        require_between("patient_count", self.patient_count, 1, 100_000)
        require_between("image_stack", self.image_stack, 1, 16)
        require_between("control_rate", self.control_rate, 1.0, 1000.0, "Hz")
        require_between("max_linear_speed", self.max_linear_speed, 1e-4, 0.2, "m/s", "mm/s?")
        require_between("max_angular_speed", self.max_angular_speed, 1e-3, math.pi, "rad/s", "deg/s?")
        require_between("horizon", self.horizon, 1, 100_000, "steps")
        require_between("success_distance", self.success_distance, 1e-4, 0.1, "m", "millimetres?")
        require_between("success_angle", self.success_angle, 1e-3, math.pi, "rad", "degrees?")
        require_between("hold_steps", self.hold_steps, 1, 1000, "steps")


RECIPES: Mapping[str, Mapping[str, Any]] = {
    "published": {
        "patient_count": 1,
        "probe": "flat75",
        "lines": 150,
        "samples": 200,
        "depth": 0.10,
        "control_rate": 60.0,
        "horizon": 600,
        "reward.precision": 0.0,
    },
    "randomized": {"randomization": Randomization.wide()},
}


def navigation_config(recipe: str | None = None, **options: Any) -> NavigationConfig:
    """The defaults, changed by a recipe, changed by (dotted) options.

    ``recipe="published"`` is like for like with the published task: one patient, a flat 75 x 100 mm image at .5 mm,
    60 Hz for 10 s, three degrees of freedom, no force. ``recipe="randomized"`` draws all that can be drawn of scanner
    and tissue.
    """
    if recipe is not None and recipe not in RECIPES:
        raise unknown_name("recipe", recipe, RECIPES)
    return override(NavigationConfig(), {**RECIPES.get(recipe or "", {}), **options})


@dataclass(frozen=True, kw_only=True)
class NavigationState:
    """``position_error`` [m] and ``angle_error`` [rad] to the goal; ``held`` counts the steps within tolerance.

    ``privileged`` holds what :data:`PRIVILEGED` names, in SI units.
    """

    sim: SimState
    goal: Pose
    position_error: Float[Tensor, " envs"]
    angle_error: Float[Tensor, " envs"]
    privileged: Float[Tensor, "envs 6"]
    held: Int[Tensor, " envs"]


class Navigation:
    """The task over a renderer's patients; see :class:`sonogym.envs.task.Task`."""

    def __init__(self, config: NavigationConfig, renderer: Renderer) -> None:
        self.config = config
        motion = SurfaceMotion(
            skin=renderer.skin,
            press=renderer.transducer.press,
            clearance=clearance_stack([body.skin for body in renderer.bodies], str(renderer.skin.flat.device)),
        )
        self.simulator = Simulator(renderer=renderer, motion=motion, control_period=1.0 / config.control_rate)
        self.goals = find_goals(renderer.bodies, config.plane, motion)
        self.region = start_region(renderer.bodies, config.plane, self.goals, motion)
        self.horizon, self.control_rate = config.horizon, config.control_rate
        self.image_stack = config.image_stack
        self.terms = choose(
            config.observation,
            {
                "image": Image(samples=config.samples, lines=config.lines, stack=config.image_stack),
                "probe_pose": ProbePose(),
                "goal": Goal(),
                "privileged": Privileged(len(PRIVILEGED)),
            },
        )
        self.needs_frame = "image" in self.terms
        self.observation_space = observation_space(self.terms)
        self.action_space: spaces.Box = spaces.Box(-1.0, 1.0, (3,), np.float32)
        linear, angular = config.max_linear_speed, config.max_angular_speed
        self._speeds = torch.tensor([linear, linear, angular])

    def sample(self, streams: Streams) -> SimParams:
        """A patient, a start pose independent of where the goal is, and scanner settings."""
        return self.config.randomization.draw(streams, self.region)

    def begin(self, sim: SimState) -> NavigationState:
        """The first state."""
        return self._judge(sim, self.goals.pose[sim.anatomy_index], torch.zeros_like(sim.step_count))

    def command(self, action: Float[Tensor, "envs 3"]) -> Float[Tensor, "envs 3"]:
        """Lateral, elevation speed [m/s] and yaw rate [rad/s]."""
        return action * self._speeds

    def advance(self, before: NavigationState, sim: SimState) -> NavigationState:
        """The state after a step."""
        return self._judge(sim, before.goal, before.held)

    def _judge(self, sim: SimState, goal: Pose, held: Int[Tensor, " envs"]) -> NavigationState:
        probe_from_goal = sim.patient_from_probe.inverse() @ goal
        distance, angle = errors(probe_from_goal)
        offset = sim.patient_from_probe.translation[:, 2] - goal.translation[:, 2]
        known = torch.stack((distance, angle, offset), dim=-1)
        near = self._within(distance, angle, 1.0)
        held = torch.where(near & (sim.step_count > 0), held + 1, torch.zeros_like(held))
        return NavigationState(
            sim=sim,
            goal=goal,
            position_error=distance,
            angle_error=angle,
            privileged=torch.cat((displacement(probe_from_goal), known), dim=-1),
            held=held,
        )

    def _within(self, distance: Tensor, angle: Tensor, factor: float) -> Bool[Tensor, " envs"]:
        return (distance <= factor * self.config.success_distance) & (angle <= factor * self.config.success_angle)

    def observe(self, state: NavigationState, frame: Frame | None) -> dict[str, Tensor]:
        """The configured terms."""
        view = View(
            start=state.sim.params.start,
            patient_from_probe=state.sim.patient_from_probe,
            patient_from_goal=state.goal,
            privileged=state.privileged,
            frame=frame,
        )
        return {name: term.read(view) for name, term in self.terms.items()}

    def reward(self, before: NavigationState, after: NavigationState) -> dict[str, Float[Tensor, " envs"]]:
        """The drop of D, the rise of the bump over the goal, the bonus of success, the price of time."""
        weights = self.config.reward
        drop = weights.position * (before.position_error - after.position_error)
        drop = drop + weights.angle * (before.angle_error - after.angle_error)
        return {
            "approach": bounded(drop, _APPROACH_LIMIT),
            "precision": weights.precision * (self._bump(after) - self._bump(before)),
            "success": weights.success * self.terminated(after),
            "time": torch.full_like(drop, -weights.time),
        }

    def _bump(self, state: NavigationState) -> Float[Tensor, " envs"]:
        far, turned = self.config.success_distance, self.config.success_angle
        return tolerance(state.position_error, 0.0, 3.0 * far) * tolerance(state.angle_error, 0.0, 3.0 * turned)

    def cost(self, before: NavigationState, after: NavigationState) -> dict[str, Float[Tensor, " envs"]]:
        """1 for every step that ran into the border of the workspace."""
        return {"workspace": after.sim.held_back.float()}

    def terminated(self, state: NavigationState) -> Bool[Tensor, " envs"]:
        """Success: within tolerance for ``hold_steps`` steps."""
        return state.held >= self.config.hold_steps

    def measure(self, state: NavigationState) -> Mapping[str, Tensor]:
        """Errors, success at once and at twice the tolerance, level, patient, path [m], steps, privileged group."""
        sim = state.sim
        level = self.goals.level(sim.patient_from_probe.translation, sim.anatomy_index)
        goal_level = self.goals.level(state.goal.translation, sim.anatomy_index)
        return {
            "position_error": state.position_error,
            "angle_error": state.angle_error,
            "success": self.terminated(state),
            "success_10": self._within(state.position_error, state.angle_error, 2.0),
            "level_hit": level == goal_level,
            "patient": sim.anatomy_index,
            "path": sim.path,
            "steps": sim.step_count,
            "privileged": state.privileged,
        }


@functools.lru_cache(maxsize=4)
def _renderer(names: tuple[str, ...], probe: str, render: RenderConfig) -> Renderer:
    """One renderer in memory for all environments of this process that ask for the same."""
    return Renderer(_patients(names, render.pitch), probe, render)


@functools.lru_cache(maxsize=2)
def _patients(names: tuple[str, ...], pitch: float) -> Any:
    return load_acoustics(names, pitch, progress=sys.stderr.isatty())


def make_task(recipe: str | None = None, **options: Any) -> Navigation:
    """The task with its patients loaded; options are those of :class:`NavigationConfig`."""
    return _task(navigation_config(recipe, **options))


@functools.lru_cache(maxsize=8)
def _task(config: NavigationConfig) -> Navigation:
    """Tasks hold no state, so the environments of a process share them."""
    names = tuple(resolve_patients(config.patients, config.patient_count))
    render = RenderConfig(
        lines=config.lines,
        samples=config.samples,
        depth=config.depth,
        pitch=config.pitch,
        frequency_factors=config.randomization.frequency_factors,
        focus_factors=config.randomization.focus_factors,
    )
    return Navigation(config, _renderer(names, config.probe, render))


def make_env(*, recipe: str | None = None, render_mode: str | None = None, **options: Any) -> SonogymEnv:
    """One environment; options are those of :class:`NavigationConfig`."""
    return SonogymEnv(make_task(recipe, **options), render_mode=render_mode)


def make_vector_env(
    num_envs: int = 1,
    *,
    recipe: str | None = None,
    array: str = "numpy",
    autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
    render_mode: str | None = None,
    **options: Any,
) -> SonogymVectorEnv:
    """``num_envs`` environments in one batch; options are those of :class:`NavigationConfig`."""
    task = make_task(recipe, **options)
    return SonogymVectorEnv(task, num_envs, array=array, autoreset_mode=autoreset_mode, render_mode=render_mode)
