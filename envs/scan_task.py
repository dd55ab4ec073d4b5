"""What all tasks of a probe on a patient share: options, simulator, actions, observations, costs."""

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
from jaxtyping import Bool, Float
from torch import Tensor

from sonogym.anatomy.library import resolve_patients
from sonogym.anatomy.stack import clearance_stack
from sonogym.errors import InvalidInputError, require_between, unknown_name
from sonogym.geometry import Pose, so3
from sonogym.random import Streams
from sonogym.robot.admittance import StopReason
from sonogym.robot.surface_motion import SurfaceMotion, displacement
from sonogym.sim.force_control import deeper_for
from sonogym.sim.limits import load_limits
from sonogym.sim.probe_motion import MODES
from sonogym.sim.randomization import Randomization
from sonogym.sim.simulator import Simulator
from sonogym.sim.start_region import StartRegion
from sonogym.sim.state import SAFETY_TERMS, SimParams, SimState
from sonogym.ultrasound.bake import load_acoustics
from sonogym.ultrasound.frame import Frame, RenderConfig
from sonogym.ultrasound.renderer import Renderer

from .observations import Force, Goal, Image, Joints, Privileged, ProbePose, Term, View, choose, observation_space
from .rigging import ROBOTS, make_rig

COUPLED = 0.5  # share of the face that must couple where a task asks for contact (design)
ROBOTIC: Mapping[str, Any] = {
    "robot": "kinematic",
    "contact": True,
    "observation": ("image", "probe_pose", "force"),
}


@dataclass(frozen=True, kw_only=True)
class ScanConfig:
    """Options of every task. Lengths [m], angles [rad], speeds [m/s] and [rad/s], rates [Hz].

    ``patient_count`` keeps the first of ``patients``; ``depth`` None is the probe's own; ``pitch`` is the voxel size
    patients are rendered at; ``horizon`` steps end an episode. ``action_mode`` is one of
    :data:`~sonogym.sim.probe_motion.MODES`. ``robot`` (None, "kinematic", "bullet") carries the probe with the ``arm``
    of that name or file; with ``contact`` the face feels the tissue, and all modes but ``twist`` keep the force at the
    set-point; either brings the ``limits`` of that name or file.
    """

    patients: str = "procedural:train"
    patient_count: int = 16
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
    robot: str | None = None
    arm: str = "kuka_iiwa"
    contact: bool = False
    limits: str = "default"
    randomization: Randomization = field(default_factory=Randomization)

    def __post_init__(self) -> None:
        if self.action_mode not in MODES:
            raise unknown_name("action mode", self.action_mode, MODES)
        if self.robot is not None and self.robot not in ROBOTS:
            raise unknown_name("robot", self.robot, ROBOTS)
        require_between("patient_count", self.patient_count, 1, 100_000)
        require_between("image_stack", self.image_stack, 1, 16)
        require_between("control_rate", self.control_rate, 1.0, 1000.0, "Hz")
        require_between("max_linear_speed", self.max_linear_speed, 1e-4, 0.2, "m/s", "mm/s?")
        require_between("max_angular_speed", self.max_angular_speed, 1e-3, math.pi, "rad/s", "deg/s?")
        require_between("horizon", self.horizon, 1, 100_000, "steps")
        self._check_force()

    def _check_force(self) -> None:
        """A set-point must lie below what stops the robot, anywhere on the body."""
        for name in ("force", "joints"):
            needs = {"force": self.contact, "joints": self.robot is not None}[name]
            if name in self.observation and not needs:
                option = "contact=True" if name == "force" else "robot='kinematic'"
                raise InvalidInputError(f"the observation term {name!r} needs {option}")
        if self.contact:
            limits = load_limits(self.limits)
            highest = limits.force_stop * min(limits.regions)
            if self.randomization.set_point[1] >= highest:
                raise InvalidInputError(
                    f"randomization.set_point must lie below the force that stops the robot, {highest:g} N (limits "
                    f"{self.limits!r}, most sensitive region), got up to {self.randomization.set_point[1]:g} N"
                )


class ScanTask:
    """The parts that tasks have in common; see :class:`sonogym.envs.task.Task`."""

    simulator: Simulator
    region: StartRegion

    def __init__(self, config: ScanConfig, renderer: Renderer) -> None:
        self._options, self._renderer = config, renderer
        self.motion = SurfaceMotion(
            skin=renderer.skin,
            press=renderer.transducer.press,
            clearance=clearance_stack([body.skin for body in renderer.bodies], str(renderer.skin.flat.device)),
        )
        self.horizon, self.control_rate = config.horizon, config.control_rate
        self.image_stack = config.image_stack
        axes = MODES[config.action_mode].axes
        turns = torch.tensor([axis in ("yaw", "pitch", "roll") for axis in axes])
        self.action_space: spaces.Box = spaces.Box(-1.0, 1.0, (len(axes),), np.float32)
        self.action_speeds = torch.where(turns, config.max_angular_speed, config.max_linear_speed)

    def _assemble(
        self, region: StartRegion, privileged: int, more: Mapping[str, Term] | None = None, visits: Pose | None = None
    ) -> None:
        """Simulator and observation, once the start region is known; ``privileged`` is the size of that group.

        ``visits`` (patients, poses) are those besides the starts that an arm should hold with ease.
        """
        config = self._options
        self.region = region
        self.simulator = Simulator(
            renderer=self._renderer,
            motion=self.motion,
            control_period=1.0 / config.control_rate,
            mode=config.action_mode,
            command_latency=config.randomization.command_latency[1],
            rig=make_rig(config, self._renderer, region, visits),
        )
        rig = self.simulator.rig
        chain = None if rig is None or rig.stand is None else rig.stand.robot.arm.chain
        known: dict[str, Term] = {
            "image": Image(samples=config.samples, lines=config.lines, stack=config.image_stack),
            "probe_pose": ProbePose(),
            "goal": Goal(),
            "privileged": Privileged(privileged),
            "force": Force(),
            "joints": Joints(chain),
            **(more or {}),
        }
        self.terms = choose(config.observation, known)
        self.needs_frame = "image" in self.terms
        self.observation_space = observation_space(self.terms)

    def sample(self, streams: Streams) -> SimParams:
        """A patient, a start pose independent of where the goal is, and what else an episode draws."""
        return self._options.randomization.draw(streams, self.region, self._options.contact)

    def command(self, action: Float[Tensor, "envs axes"]) -> Float[Tensor, "envs axes"]:
        """Speeds [m/s, rad/s] of the action mode's axes."""
        return action * self.action_speeds

    def way(self, probe_from_goal: Pose, sim: SimState) -> Float[Tensor, "envs axes"]:
        """What is left along the axes of an action [m, rad] to a goal seen from the probe.

        Along the probe's own axis that is the way to the set-point where the face feels the tissue.
        """
        if self.simulator.mode == "surface":
            return displacement(probe_from_goal)
        turn = so3.log(probe_from_goal.quaternion)
        if self.simulator.mode == "surface_tilt":
            return torch.cat((probe_from_goal.translation[:, :2], turn[:, [2, 1, 0]]), dim=-1)
        ahead = probe_from_goal.translation[:, 2:]
        if sim.touch is not None and sim.params.control is not None:
            ahead = deeper_for(sim.touch, sim.params.control.set_point)[:, None]
        return torch.cat((probe_from_goal.translation[:, :2], ahead, turn), dim=-1)

    def see(
        self, sim: SimState, goal: Pose, privileged: Tensor, frame: Frame | None, **more: Tensor
    ) -> dict[str, Tensor]:
        """The configured terms."""
        view = View(sim=sim, patient_from_goal=goal, privileged=privileged, frame=frame, more=more)
        return {name: term.read(view) for name, term in self.terms.items()}

    def stopped(self, sim: SimState) -> Bool[Tensor, " envs"]:
        """Whether a limit has stopped the robot."""
        return torch.zeros_like(sim.held_back) if sim.safety is None else sim.safety.stop != StopReason.NONE

    def in_contact(self, sim: SimState) -> Bool[Tensor, " envs"]:
        """Whether enough of the face couples."""
        return torch.ones_like(sim.held_back) if sim.touch is None else sim.touch.coupled >= COUPLED

    def safety_cost(self, sim: SimState) -> dict[str, Float[Tensor, " envs"]]:
        """1 for every step that breaks a limit, by its name."""
        if sim.safety is None:
            return {"workspace": sim.held_back.float()}
        exceeded = sim.safety.exceeded.float().unbind(-1)
        return dict(zip(SAFETY_TERMS[1:], exceeded[1:], strict=True))

    def safety_measures(self, sim: SimState) -> dict[str, Tensor]:
        """Force [N], indentation [m], coupled share, set-point [N], stop, region, and time over each limit [s]."""
        if sim.safety is None:
            return {}
        known: dict[str, Tensor] = {"stop": sim.safety.stop, "region": sim.safety.region}
        known |= {
            f"time_over/{name}": value for name, value in zip(SAFETY_TERMS, sim.safety.over.unbind(-1), strict=True)
        }
        if sim.touch is not None and sim.params.control is not None:
            known |= {"force": sim.touch.force, "indentation": sim.touch.indentation, "coupled": sim.touch.coupled}
            known |= {"set_point": sim.params.control.set_point}
        return known


def render_config(config: ScanConfig) -> RenderConfig:
    """What the renderer is asked for."""
    return RenderConfig(
        lines=config.lines,
        samples=config.samples,
        depth=config.depth,
        pitch=config.pitch,
        frequency_factors=config.randomization.frequency_factors,
        focus_factors=config.randomization.focus_factors,
    )


def load_renderer(config: ScanConfig) -> Renderer:
    """The renderer of a task's patients, one in memory for all environments of this process that ask for the same."""
    names = tuple(resolve_patients(config.patients, config.patient_count))
    return _renderer(names, config.probe, render_config(config))


@functools.lru_cache(maxsize=4)
def _renderer(names: tuple[str, ...], probe: str, render: RenderConfig) -> Renderer:
    return Renderer(_patients(names, render.pitch), probe, render)


@functools.lru_cache(maxsize=2)
def _patients(names: tuple[str, ...], pitch: float) -> Any:
    return load_acoustics(names, pitch, progress=sys.stderr.isatty())
