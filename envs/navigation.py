"""Navigation: find a standard plane on a patient's skin from the ultrasound image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonogym.config import override
from sonogym.errors import require_between, unknown_name
from sonogym.geometry import Pose
from sonogym.robot.surface_motion import errors
from sonogym.sim.randomization import Randomization
from sonogym.sim.state import SimState
from sonogym.ultrasound.frame import Frame
from sonogym.ultrasound.renderer import Renderer

from .entry_points import entry_points
from .rewards import bounded, tolerance
from .scan_task import ROBOTIC, ScanConfig, ScanTask, load_renderer
from .standard_planes import find_goals, start_region

# of the privileged group, after what is left of the way along each axis of an action; the height is over the goal
PRIVILEGED = ("position_error", "angle_error", "height")
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
class NavigationConfig(ScanConfig):
    """Options of the task beside those of :class:`ScanConfig`.

    Success is an error of at most ``success_distance`` [m] and ``success_angle`` [rad] to ``plane`` held for
    ``hold_steps`` steps.
    """

    plane: str = "transverse_L4"
    success_distance: float = 5e-3
    success_angle: float = math.radians(5.0)
    hold_steps: int = 3
    reward: NavigationReward = field(default_factory=NavigationReward)

    def __post_init__(self) -> None:
        super().__post_init__()
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
    "robotic": ROBOTIC,
}


def navigation_config(recipe: str | None = None, **options: Any) -> NavigationConfig:
    """The defaults, changed by a recipe, changed by (dotted) options.

    ``recipe="published"`` is like for like with the published task: one patient, a flat 75 x 100 mm image at .5 mm,
    60 Hz for 10 s, three degrees of freedom, no force. ``recipe="randomized"`` draws all that can be drawn of scanner
    and tissue. ``recipe="robotic"`` has an arm, contact and the force in view.
    """
    if recipe is not None and recipe not in RECIPES:
        raise unknown_name("recipe", recipe, RECIPES)
    return override(NavigationConfig(), {**RECIPES.get(recipe or "", {}), **options})


@dataclass(frozen=True, kw_only=True)
class NavigationState:
    """``position_error`` [m] and ``angle_error`` [rad] to the goal; ``held`` counts the steps within tolerance.

    ``privileged`` holds what is left along each axis of an action and what :data:`PRIVILEGED` names, in SI units.
    """

    sim: SimState
    goal: Pose
    position_error: Float[Tensor, " envs"]
    angle_error: Float[Tensor, " envs"]
    privileged: Float[Tensor, "envs measures"]
    held: Int[Tensor, " envs"]


class Navigation(ScanTask):
    """The task over a renderer's patients; see :class:`sonogym.envs.task.Task`.

    Where the face feels the tissue, how deep it is pressed in is the force control's business: errors then leave out
    the way along the goal's axis, and success needs contact.
    """

    def __init__(self, config: NavigationConfig, renderer: Renderer) -> None:
        super().__init__(config, renderer)
        self.config = config
        self.goals = find_goals(renderer.bodies, config.plane, self.motion)
        region = start_region(renderer.bodies, config.plane, self.goals, self.motion)
        self._assemble(region, len(self.action_speeds) + len(PRIVILEGED))

    def begin(self, sim: SimState) -> NavigationState:
        """The first state."""
        return self._judge(sim, self.goals.pose[sim.anatomy_index], torch.zeros_like(sim.step_count))

    def advance(self, before: NavigationState, sim: SimState) -> NavigationState:
        """The state after a step."""
        return self._judge(sim, before.goal, before.held)

    def _judge(self, sim: SimState, goal: Pose, held: Int[Tensor, " envs"]) -> NavigationState:
        probe_from_goal = sim.patient_from_probe.inverse() @ self.simulator.carry(sim, goal)
        distance, angle = self._errors(probe_from_goal, sim)
        offset = sim.patient_from_probe.translation[:, 2] - goal.translation[:, 2]
        known = torch.stack((distance, angle, offset), dim=-1)
        near = self._within(distance, angle, 1.0) & self.in_contact(sim)
        held = torch.where(near & (sim.step_count > 0), held + 1, torch.zeros_like(held))
        return NavigationState(
            sim=sim,
            goal=goal,
            position_error=distance,
            angle_error=angle,
            privileged=torch.cat((self.way(probe_from_goal, sim), known), dim=-1),
            held=held,
        )

    def _errors(self, probe_from_goal: Pose, sim: SimState) -> tuple[Float[Tensor, " envs"], Float[Tensor, " envs"]]:
        """Distance [m], and angle [rad]; in contact the part of the distance along the goal's axis does not count."""
        distance, angle = errors(probe_from_goal)
        if sim.touch is not None:
            distance = probe_from_goal.inverse().translation[:, :2].norm(dim=-1)
        return distance, angle

    def _within(self, distance: Tensor, angle: Tensor, factor: float) -> Bool[Tensor, " envs"]:
        return (distance <= factor * self.config.success_distance) & (angle <= factor * self.config.success_angle)

    def observe(self, state: NavigationState, frame: Frame | None) -> dict[str, Tensor]:
        """The configured terms."""
        return self.see(state.sim, self.simulator.carry(state.sim, state.goal), state.privileged, frame)

    def reward(self, before: NavigationState, after: NavigationState) -> dict[str, Float[Tensor, " envs"]]:
        """The drop of D, the rise of the bump over the goal, the bonus of success, the price of time."""
        weights = self.config.reward
        drop = weights.position * (before.position_error - after.position_error)
        drop = drop + weights.angle * (before.angle_error - after.angle_error)
        return {
            "approach": bounded(drop, _APPROACH_LIMIT),
            "precision": weights.precision * (self._bump(after) - self._bump(before)),
            "success": weights.success * self.succeeded(after),
            "time": torch.full_like(drop, -weights.time),
        }

    def _bump(self, state: NavigationState) -> Float[Tensor, " envs"]:
        far, turned = self.config.success_distance, self.config.success_angle
        return tolerance(state.position_error, 0.0, 3.0 * far) * tolerance(state.angle_error, 0.0, 3.0 * turned)

    def cost(self, before: NavigationState, after: NavigationState) -> dict[str, Float[Tensor, " envs"]]:
        """1 for every step that ran into the border of the workspace or broke another limit, each by its name."""
        return self.safety_cost(after.sim)

    def succeeded(self, state: NavigationState) -> Bool[Tensor, " envs"]:
        """Within tolerance for ``hold_steps`` steps."""
        return state.held >= self.config.hold_steps

    def terminated(self, state: NavigationState) -> Bool[Tensor, " envs"]:
        """Success, or a limit that stopped the robot."""
        return self.succeeded(state) | self.stopped(state.sim)

    def measure(self, state: NavigationState) -> Mapping[str, Tensor]:
        """Errors, success at once and at twice the tolerance, level, patient, path [m], steps, privileged group."""
        sim = state.sim
        level = self.goals.level(sim.patient_from_probe.translation, sim.anatomy_index)
        goal_level = self.goals.level(state.goal.translation, sim.anatomy_index)
        return {
            "position_error": state.position_error,
            "angle_error": state.angle_error,
            "success": self.succeeded(state),
            "success_10": self._within(state.position_error, state.angle_error, 2.0),
            "level_hit": level == goal_level,
            "patient": sim.anatomy_index,
            "path": sim.path,
            "steps": sim.step_count,
            "privileged": state.privileged,
            **self.safety_measures(sim),
        }


make_task, make_env, make_vector_env = entry_points(
    navigation_config, lambda config: Navigation(config, load_renderer(config))
)
