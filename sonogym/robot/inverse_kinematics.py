"""Inverse kinematics by damped least squares: one step for control, and a search with many starts for a goal pose."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sonogym.errors import InvalidInputError, require_between
from sonogym.geometry import Pose, so3
from sonogym.robot.arm import Arm
from sonogym.robot.chain import Frames
from sonogym.robot.kernel_arm import ON_LIMIT, POSE, step_arms

_SETTLING, _SETTLING_PERIOD = 60, 0.25  # steps, s: most of the way to where the posture comes to rest (design)
_ITERATION_REACH = 0.5  # rad: longest joint step of one iteration of the search (linearisation holds about so far)


@dataclass(frozen=True, kw_only=True)
class InverseKinematics:
    """Damped least squares; every value here is `design`.

    dq = z + J^T (J J^T + lambda^2 I)^-1 (e - J z), lambda^2 = damping^2 + |e|^2 / 2 (Sugihara 2011), e the weighted
    pose error and z the pull to the home posture, which J's null space passes on. Angles count as ``rotation_length``
    [m] a radian; ``damping`` [m] bounds the step at a singularity; ``posture_gain`` [1/s] is the rate of z, which takes
    at most ``posture_share`` of a joint's speed. A goal is reached within ``position_tolerance`` [m] and
    ``angle_tolerance`` [rad]; the search makes ``iterations`` from each of ``starts`` postures until one reaches it.
    """

    rotation_length: float = 0.2
    damping: float = 3e-3
    posture_gain: float = 1.0
    posture_share: float = 0.2
    position_tolerance: float = 5e-5
    angle_tolerance: float = math.radians(0.05)
    iterations: int = 40
    starts: int = 16

    def __post_init__(self) -> None:
        require_between("rotation_length", self.rotation_length, 0.01, 10.0, "m")
        require_between("damping", self.damping, 1e-3, 1.0, "m")
        require_between("posture_gain", self.posture_gain, 0.0, 100.0, "1/s")
        require_between("posture_share", self.posture_share, 0.0, 1.0)
        require_between("position_tolerance", self.position_tolerance, 1e-5, 0.1, "m", "float32 ends near 1e-6 m")
        require_between("angle_tolerance", self.angle_tolerance, 1e-4, 1.0, "rad", "float32 ends near 1e-6 rad")
        require_between("iterations", self.iterations, 1, 1000)
        require_between("starts", self.starts, 1, 1000)


@dataclass(frozen=True)
class Solution:
    """The best posture [rad] found for each goal, what its pose lacks to the goal [m, rad], and whether it reached."""

    joint_position: Float[Tensor, "envs joints"]
    position_error: Float[Tensor, " envs"]
    angle_error: Float[Tensor, " envs"]
    reached: Bool[Tensor, " envs"]


def pose_error(tip: Pose, goal: Pose) -> Float[Tensor, "*batch 6"]:
    """What is left from ``tip`` to ``goal`` in base axes: linear [m], rotation vector [rad] (SO(3) logarithm)."""
    turn = so3.log(so3.multiply(goal.quaternion, so3.conjugate(tip.quaternion)))
    return torch.cat((goal.translation - tip.translation, turn), dim=-1)


def move(
    arm: Arm,
    joint_position: Float[Tensor, "envs joints"],
    twist: Float[Tensor, "envs 6"],
    duration: float,
    config: InverseKinematics,
) -> Float[Tensor, "envs joints"]:
    """Postures after ``duration`` [s] of a tool twist in base axes [m/s, rad/s], within position and speed limits.

    Where a joint would be too fast all joints slow down alike: the tool keeps its path and comes later.
    """
    if _compiled(arm, joint_position, twist):
        return _fused(arm, joint_position, twist * duration, duration, config)[0]
    return step_reference(arm, joint_position, twist * duration, duration, config)


def follow(
    arm: Arm,
    joint_position: Float[Tensor, "envs joints"],
    base_from_goal: Pose,
    duration: float,
    config: InverseKinematics,
) -> Float[Tensor, "envs joints"]:
    """Postures after ``duration`` [s] on the way to a goal pose of the tool, within position and speed limits."""
    return follow_to(arm, joint_position, base_from_goal, duration, config)[0]


def follow_to(
    arm: Arm,
    joint_position: Float[Tensor, "envs joints"],
    base_from_goal: Pose,
    duration: float,
    config: InverseKinematics,
) -> tuple[Float[Tensor, "envs joints"], Pose]:
    """:func:`follow`, and the pose of the tool there."""
    if _compiled(arm, joint_position, base_from_goal.translation):
        wanted = torch.cat((base_from_goal.quaternion, base_from_goal.translation), dim=-1)
        return _fused(arm, joint_position, wanted, duration, config)
    after = step_reference(arm, joint_position, base_from_goal, duration, config)
    return after, arm.base_from_tool(after)


def settled(
    arm: Arm, joint_position: Float[Tensor, "envs joints"], base_from_tool: Pose, config: InverseKinematics
) -> Float[Tensor, "envs joints"]:
    """Postures that hold the pose of the tool and that the null space has brought as close to home as it may."""
    for _ in range(_SETTLING):
        joint_position = follow(arm, joint_position, base_from_tool, _SETTLING_PERIOD, config)
    return joint_position


def solve(
    arm: Arm, joint_position: Float[Tensor, "envs joints"], base_from_goal: Pose, config: InverseKinematics
) -> Solution:
    """Postures within the limits whose tool is at the goal, searched from ``joint_position`` and then from others.

    The other starts are the home posture and a low-discrepancy sequence: no random number is drawn. A goal out of reach
    is flagged for its environment. Raises :class:`InvalidInputError` for a start outside the limits or a goal that is
    not finite. Not for the step loop: it waits for the device at every iteration.
    """
    arm.require_posture(joint_position)
    finite = base_from_goal.quaternion.isfinite().all(-1) & base_from_goal.translation.isfinite().all(-1)
    if not bool(finite.all()):
        raise InvalidInputError(
            f"goal poses must be finite, those of environments {(~finite).nonzero()[:, 0].tolist()} are not"
        )
    best = _descend(arm, joint_position, base_from_goal, config)
    for start in _starts(arm, config.starts - 1):
        left = (~best.reached).nonzero()[:, 0]
        if len(left) == 0:
            break
        goal = base_from_goal[left]
        best = _better(best, left, _descend(arm, start.expand(len(left), -1), goal, config), config)
    return best


def reachability_margin(
    arm: Arm, joint_position: Float[Tensor, "envs joints"], config: InverseKinematics
) -> tuple[Float[Tensor, " envs"], Float[Tensor, " envs"]]:
    """How far postures are from where the arm can no longer follow: joint limits and singularities.

    First the least distance of a joint to its limit over half its range, in [0, 1]; then the smallest singular value
    [m] of the Jacobian with angles weighted by ``rotation_length``: how far the tool moves in its worst direction per
    radian of all joints.
    """
    chain = arm.chain
    half = 0.5 * (chain.upper - chain.lower)
    room = torch.minimum(joint_position - chain.lower, chain.upper - joint_position)
    joint = torch.where(half.isfinite(), room / half, torch.ones_like(room)).amin(-1)
    J = chain.jacobian(arm.frames(joint_position)) * _weights(config, joint_position)[:, None]
    return joint, torch.linalg.svdvals(J)[:, 5]


def step_reference(
    arm: Arm,
    joint_position: Float[Tensor, "envs joints"],
    wanted: Pose | Float[Tensor, "envs 6"],
    duration: float,
    config: InverseKinematics,
) -> Float[Tensor, "envs joints"]:
    """One control step, defined: speed limits bound it, the posture pulls in the null space.

    ``wanted`` is a pose or what is left to go [m, rad] in base axes. The compiled step equals it.
    """
    frames = arm.frames(joint_position)
    error = pose_error(frames.tip, wanted) if isinstance(wanted, Pose) else wanted
    reach = arm.chain.speed * duration
    pull = config.posture_gain * duration * (arm.home - joint_position)
    pull = pull.clamp(-config.posture_share * reach, config.posture_share * reach)
    return _bounded(arm, joint_position, _least_squares(arm, frames, joint_position, error, pull, config), reach)


def _compiled(arm: Arm, *inputs: Tensor) -> bool:
    """Whether the compiled step serves: on a CPU, without gradients, for joints that all move by themselves."""
    return arm.chain.coupling is None and all(x.device.type == "cpu" and not x.requires_grad for x in inputs)


def _fused(
    arm: Arm, q: Tensor, wanted: Tensor, duration: float, config: InverseKinematics
) -> tuple[Float[Tensor, "envs joints"], Pose]:
    """The compiled step, in double precision whatever comes in: one compilation, and no accuracy lost."""
    out, reached = torch.empty(q.shape, dtype=torch.float64), torch.empty(len(q), POSE, dtype=torch.float64)
    step_arms(
        *arm.arrays,
        (config.rotation_length, config.damping, config.posture_gain, config.posture_share),
        duration,
        q.double().contiguous().numpy(),
        wanted.double().contiguous().numpy(),
        out.numpy(),
        reached.numpy(),
    )
    reached = reached.to(q.dtype)
    return out.to(q.dtype), Pose(reached[:, :4], reached[:, 4:])


def _least_squares(
    arm: Arm, frames: Frames, q: Tensor, error: Tensor, pull: Tensor | None, config: InverseKinematics
) -> Float[Tensor, "envs joints"]:
    """dq = z + J^T (J J^T + lambda^2 I)^-1 (e - J z).

    A joint on its limit that descent of |e|^2 would push outward takes no part (projected Newton, Bertsekas 1982).
    """
    weights = _weights(config, q)
    J, e = arm.chain.jacobian(frames) * weights[:, None], error * weights
    descent = (J.mT @ e[..., None])[..., 0]
    blocked = (q >= arm.chain.upper - ON_LIMIT) & (descent > 0) | (q <= arm.chain.lower + ON_LIMIT) & (descent < 0)
    J = J * ~blocked[:, None]
    damping = config.damping**2 + 0.5 * (e * e).sum(-1)
    left = e[..., None]
    if pull is not None:
        pull = pull * ~blocked
        left = left - J @ pull[..., None]
    factor = torch.linalg.cholesky_ex(J @ J.mT + torch.diag_embed(damping[:, None].expand(-1, 6)))[0]
    step = (J.mT @ torch.cholesky_solve(left, factor))[..., 0]
    return step if pull is None else step + pull


def _bounded(arm: Arm, q: Tensor, step: Tensor, reach: Tensor) -> Float[Tensor, "envs joints"]:
    """Posture after the step, shortened as a whole where a joint would exceed ``reach``, then within its limits."""
    excess = (step.abs() / reach).amax(-1, keepdim=True).clamp_min(1.0)
    return torch.minimum(torch.maximum(q + step / excess, arm.chain.lower), arm.chain.upper)


def _descend(arm: Arm, q: Tensor, goal: Pose, config: InverseKinematics) -> Solution:
    """At most ``iterations`` steps from one start each, without posture; who is there stays."""
    reach = torch.full_like(arm.chain.speed, _ITERATION_REACH)
    for _ in range(config.iterations):
        frames = arm.frames(q)
        error = pose_error(frames.tip, goal)
        done = _within(error, config)
        if bool(done.all()):
            break
        q = torch.where(done[:, None], q, _bounded(arm, q, _least_squares(arm, frames, q, error, None, config), reach))
    error = pose_error(arm.base_from_tool(q), goal)
    return Solution(q, error[:, :3].norm(dim=-1), error[:, 3:].norm(dim=-1), _within(error, config))


def _within(error: Tensor, config: InverseKinematics) -> Bool[Tensor, " envs"]:
    position, angle = error[:, :3].norm(dim=-1), error[:, 3:].norm(dim=-1)
    return (position <= config.position_tolerance) & (angle <= config.angle_tolerance)


def _better(best: Solution, left: Tensor, found: Solution, config: InverseKinematics) -> Solution:
    """``best`` with its entries ``left`` replaced where ``found`` is closer."""

    def cost(solution: Solution) -> Tensor:
        return solution.position_error**2 + (config.rotation_length * solution.angle_error) ** 2

    wins = found.reached | (cost(found) < cost(best)[left])
    merged = {}
    for name, old in vars(best).items():
        merged[name] = old.clone()
        merged[name][left[wins]] = getattr(found, name)[wins]
    return Solution(**merged)


def _starts(arm: Arm, count: int) -> Float[Tensor, "count joints"]:
    """Home, then Roberts' R sequence over the joint ranges (a turn where a joint has none)."""
    joints = len(arm.home)
    phi = 2.0
    for _ in range(60):
        phi = (1.0 + phi) ** (1.0 / (joints + 1))  # phi^(d + 1) = phi + 1
    ratio = torch.tensor([phi ** -(joint + 1) for joint in range(joints)], dtype=torch.float64)
    unit = torch.frac(0.5 + torch.arange(1, max(count, 1))[:, None] * ratio).to(arm.home)
    lower, upper = arm.chain.lower.clamp_min(-math.pi), arm.chain.upper.clamp_max(math.pi)
    return torch.cat((arm.home[None], lower + unit * (upper - lower)))[:count]


def _weights(config: InverseKinematics, like: Tensor) -> Float[Tensor, " 6"]:
    return torch.tensor([1.0] * 3 + [config.rotation_length] * 3, dtype=like.dtype, device=like.device)
