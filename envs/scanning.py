"""Scanning: sweep an organ or vessel of a breathing patient with a steady force, until all that can be seen was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sonogym.anatomy.breathing import displacement
from sonogym.config import override
from sonogym.errors import InvalidInputError, require_between, unknown_name
from sonogym.geometry import Pose
from sonogym.sim.randomization import Randomization
from sonogym.sim.sight import Sight, newly_seen
from sonogym.sim.state import SimState
from sonogym.ultrasound.frame import Frame
from sonogym.ultrasound.renderer import Renderer

from .entry_points import entry_points
from .observations import Swept, swept_cells
from .rewards import tolerance
from .scan_targets import SPACING, sweep_poses, target_points, target_spec
from .scan_task import ScanConfig, ScanTask, load_renderer
from .standard_planes import find_goals, start_region

# of the privileged group, after what is left of the way to the next pose of the sweep
PRIVILEGED = ("covered", "force_error")
_PASSED = 4e-3  # m: so close the probe has come by a pose


@dataclass(frozen=True, kw_only=True)
class ScanningReward:
    """``coverage`` is paid for the whole target, a share for a share; ``success`` once. Prices of a step: ``force``
    where the force leaves its band, ``contact`` where less than half of the face couples, ``time`` always.
    """

    coverage: float = 5.0
    success: float = 1.0
    force: float = 0.05
    contact: float = 0.05
    time: float = 0.005

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require_between(f"reward.{name}", value, 0.0, 100.0)


@dataclass(frozen=True, kw_only=True)
class ScanningConfig(ScanConfig):
    """Options of the task beside those of :class:`ScanConfig`; contact is always on.

    ``target`` is the organ or vessel, ``force_band`` [N] what the force is to stay within. An episode succeeds when
    ``success_share`` of those points of the target were seen that a full sweep of the patient at rest shows.
    """

    observation: tuple[str, ...] = ("image", "probe_pose", "force", "swept")
    robot: str | None = "kinematic"
    contact: bool = True
    horizon: int = 300
    target: str = "kidney_right"
    force_band: tuple[float, float] = (3.0, 8.0)
    success_share: float = 0.9
    randomization: Randomization = field(
        default_factory=lambda: Randomization(breathing=(0.6, 1.2), breathing_period=(3.5, 6.0))
    )
    reward: ScanningReward = field(default_factory=ScanningReward)

    def __post_init__(self) -> None:
        if not self.contact:
            raise InvalidInputError("scanning is about force: contact must be True, got False")
        super().__post_init__()
        target_spec(self.target)
        require_between("force_band (low)", self.force_band[0], 0.0, 100.0, "N")
        require_between("force_band (high)", self.force_band[1], self.force_band[0], 100.0, "N")
        require_between("success_share", self.success_share, 0.01, 1.0, "", "a share of the visible target")


RECIPES: Mapping[str, Mapping[str, Any]] = {"randomized": {"randomization": Randomization.wide()}}


def scanning_config(recipe: str | None = None, **options: Any) -> ScanningConfig:
    """The defaults, changed by a recipe (``randomized``), changed by (dotted) options."""
    if recipe is not None and recipe not in RECIPES:
        raise unknown_name("recipe", recipe, RECIPES)
    return override(ScanningConfig(), {**RECIPES.get(recipe or "", {}), **options})


@dataclass(frozen=True, kw_only=True)
class ScanningState:
    """``covered`` are the points of the target seen so far, ``share`` how much of the visible target they are.

    Sums over the steps: ``squared`` [N^2] of the force's error, ``steady`` of the steps within the force band,
    ``clear`` of the share of the target in the image that nothing hides, times the coupled share of the face, over the
    ``shown`` steps in which the target was in the image. ``swept`` are the cells of the skin that were scanned,
    ``passed`` the poses of the sweep that the probe came by.
    """

    sim: SimState
    goal: Pose
    covered: Bool[Tensor, "envs points"]
    share: Float[Tensor, " envs"]
    privileged: Float[Tensor, "envs measures"]
    swept: Float[Tensor, "envs cells"]
    passed: Bool[Tensor, "envs poses"]
    squared: Float[Tensor, " envs"]
    steady: Float[Tensor, " envs"]
    clear: Float[Tensor, " envs"]
    shown: Float[Tensor, " envs"]


class Scanning(ScanTask):
    """The task over a renderer's patients; see :class:`sonogym.envs.task.Task`."""

    def __init__(self, config: ScanningConfig, renderer: Renderer) -> None:
        super().__init__(config, renderer)
        self.config = config
        spec = target_spec(config.target)
        self.points = target_points(renderer.bodies, config.target)
        goals = find_goals(renderer.bodies, spec.plane, self.motion)
        region = start_region(renderer.bodies, spec.plane, goals, self.motion)
        self.poses = sweep_poses(self.motion, goals.pose, spec.reach)
        self._assemble(region, len(self.action_speeds) + len(PRIVILEGED), {"swept": Swept()}, self.poses)
        self.sight = Sight(voxels=renderer.voxels, transducer=renderer.transducer, depth=renderer.depth)
        self.views = self._views()
        self.visible = self.views.any(1)
        self._require_visible(renderer)

    def _views(self) -> Bool[Tensor, "patients poses points"]:
        """What lies of the target at rest in the slice about each pose of the sweep, and in sight of it."""
        patients, poses = self.poses.translation.shape[:2]
        index = torch.arange(patients).repeat_interleave(poses)
        flat = Pose(self.poses.quaternion.flatten(0, 1), self.poses.translation.flatten(0, 1))
        return self.sight(flat, index, self.points[index], SPACING)[1].unflatten(0, (patients, poses))

    def _require_visible(self, renderer: Renderer) -> None:
        seen = self.visible.any(1).tolist()
        hidden = [body.name for body, any_seen in zip(renderer.bodies, seen, strict=True) if not any_seen]
        if hidden:
            raise InvalidInputError(
                f"no sweep shows any of {self.config.target!r} in {', '.join(hidden)}: take another target or leave "
                "these patients out"
            )

    def begin(self, sim: SimState) -> ScanningState:
        """The first state; what the first image shows counts."""
        none = torch.zeros_like(sim.path)
        covered, passed = (torch.zeros(len(none), count, dtype=torch.bool) for count in self.views.shape[:0:-1])
        swept = torch.zeros(len(none), Swept.CELLS**2)
        return self._judge(sim, covered, passed, swept, (none, none, none, none))

    def advance(self, before: ScanningState, sim: SimState) -> ScanningState:
        """The state after a step."""
        sums = (before.squared, before.steady, before.clear, before.shown)
        return self._judge(sim, before.covered, before.passed, before.swept, sums)

    def _judge(
        self, sim: SimState, covered: Tensor, passed: Tensor, swept: Tensor, sums: tuple[Tensor, ...]
    ) -> ScanningState:
        index, contact = sim.anatomy_index, self.in_contact(sim)
        inside, clear = self.sight(sim.patient_from_probe, index, self._points_now(sim))
        covered = covered | (clear & contact[:, None])
        visible = self.visible[index]
        share = (covered & visible).float().sum(-1) / visible.sum(-1)
        passed = passed | (self._way_to_poses(sim) < _PASSED)
        goal = self._next_pose(index, covered, passed)
        probe_from_goal = sim.patient_from_probe.inverse() @ self.simulator.carry(sim, goal)
        error = self._force_error(sim)
        return ScanningState(
            sim=sim,
            goal=goal,
            covered=covered,
            share=share,
            privileged=torch.cat((self.way(probe_from_goal, sim), torch.stack((share, error), dim=-1)), dim=-1),
            swept=torch.maximum(swept, swept_cells(sim) * contact[:, None]),
            passed=passed,
            **self._sums(sim, sums, error, inside.sum(-1), clear.sum(-1)),
        )

    def _sums(self, sim: SimState, sums: tuple[Tensor, ...], error: Tensor, inside: Tensor, clear: Tensor) -> Any:
        assert sim.touch is not None  # contact is always on
        squared, steady, quality, shown = sums
        low, high = self.config.force_band
        force, seen = sim.touch.force, inside > 0
        return {
            "squared": squared + error.square(),
            "steady": steady + ((force >= low) & (force <= high)),
            "clear": quality + torch.where(seen, sim.touch.coupled * clear / inside.clamp_min(1), 0.0),
            "shown": shown + seen,
        }

    def _points_now(self, sim: SimState) -> Float[Tensor, "envs points 3"]:
        """Where breathing has carried the target's points: x = X + a u(X)."""
        rest, breath = self.points[sim.anatomy_index], self.simulator.breath(sim)
        if breath is None:
            return rest
        return rest + breath[:, None, None] * displacement(self._renderer.breathing, rest, sim.anatomy_index)

    def _way_to_poses(self, sim: SimState) -> Float[Tensor, "envs poses"]:
        """How far [m] the probe stands from each pose of the sweep, along the skin at rest."""
        at_rest = sim.patient_from_probe if sim.wanted is None else sim.wanted
        away = self.poses.translation[sim.anatomy_index] - at_rest.translation[:, None]
        ahead = at_rest.apply(torch.tensor([0.0, 0.0, 1.0])) - at_rest.translation
        return (away - (away * ahead[:, None]).sum(-1, keepdim=True) * ahead[:, None]).norm(dim=-1)

    def _next_pose(
        self, index: Tensor, covered: Bool[Tensor, "envs points"], passed: Bool[Tensor, "envs poses"]
    ) -> Pose:
        """The first pose not yet passed that shows something not yet covered; once all are passed, the one that shows
        most of it.
        """
        gain = newly_seen(self.views, index, covered)
        order = torch.arange(gain.shape[1], 0, -1)
        value = torch.where(passed, gain, (gain > 0) * (order + self.points.shape[1]))
        return self.poses[index, value.argmax(-1)]

    def _force_error(self, sim: SimState) -> Float[Tensor, " envs"]:
        assert sim.touch is not None and sim.params.control is not None  # noqa: PT018 (contact is always on)
        return sim.touch.force - sim.params.control.set_point

    def observe(self, state: ScanningState, frame: Frame | None) -> dict[str, Tensor]:
        """The configured terms."""
        goal = self.simulator.carry(state.sim, state.goal)
        return self.see(state.sim, goal, state.privileged, frame, swept=state.swept)

    def reward(self, before: ScanningState, after: ScanningState) -> dict[str, Float[Tensor, " envs"]]:
        """What was newly seen, the bonus of success, and the prices of force, lost contact and time."""
        weights, (low, high) = self.config.reward, self.config.force_band
        assert after.sim.touch is not None  # contact is always on
        beyond = tolerance(after.sim.touch.force - 0.5 * (low + high), 0.5 * (high - low), 0.5 * (high - low))
        return {
            "coverage": weights.coverage * (after.share - before.share),
            "success": weights.success * (self.succeeded(after) & ~self.succeeded(before)),
            "force": -weights.force * (1.0 - beyond),
            "contact": -weights.contact * (~self.in_contact(after.sim)).float(),
            "time": torch.full_like(after.share, -weights.time),
        }

    def cost(self, before: ScanningState, after: ScanningState) -> dict[str, Float[Tensor, " envs"]]:
        """1 for every step that breaks a limit, by its name."""
        return self.safety_cost(after.sim)

    def succeeded(self, state: ScanningState) -> Bool[Tensor, " envs"]:
        """Enough of what can be seen was seen."""
        return state.share >= self.config.success_share

    def terminated(self, state: ScanningState) -> Bool[Tensor, " envs"]:
        """Success, or a limit that stopped the robot."""
        return self.succeeded(state) | self.stopped(state.sim)

    def measure(self, state: ScanningState) -> Mapping[str, Tensor]:
        """Success, patient, path [m], steps, privileged group, and under ``metric/`` what the sweep is worth.

        Covered share, RMS error [N] and share of time in its band of the force, image quality (see the state).
        """
        sim, steps = state.sim, (state.sim.step_count + 1).float()
        return {
            "success": self.succeeded(state),
            "patient": sim.anatomy_index,
            "path": sim.path,
            "steps": sim.step_count,
            "privileged": state.privileged,
            "metric/covered": state.share,
            "metric/force_rmse": (state.squared / steps).sqrt(),
            "metric/force_in_band": state.steady / steps,
            "metric/image_quality": state.clear / state.shown.clamp_min(1.0),
            **self.safety_measures(sim),
        }


make_task, make_env, make_vector_env = entry_points(
    scanning_config, lambda config: Scanning(config, load_renderer(config))
)
