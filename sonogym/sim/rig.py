"""What carries the probe and what it touches: arm, tissue, force control and limits around a commanded pose."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonogym.anatomy.breathing import displacement
from sonogym.anatomy.stack import VolumeStack
from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose, so3
from sonogym.random import Streams
from sonogym.robot.admittance import Admittance, AdmittanceState, StopReason
from sonogym.robot.contact import Contact, ContactReading
from sonogym.robot.robot import Robot, RobotState
from sonogym.sim.force_control import Felt, deeper_for, felt, regulate
from sonogym.sim.probe_motion import Moved, axis_of
from sonogym.sim.safety import Safety
from sonogym.sim.state import SafetyState, SimParams, SimState

Breath = tuple[Float[Tensor, " envs"], Float[Tensor, " envs"]]  # amplitude before and after a step
CONTROL_RATE = 50.0  # Hz, at least, of the force control (design)
_SETTLING = 3  # readings until a start presses with its set-point
_SENSOR = 0x5E450  # key of the streams that the force sensor's noise is drawn from


def force_control(control_period: float, latency: float, force_limit: float) -> Admittance:
    """The admittance of scans: quick, without steady error, stable with 50 ms of latency (docs/safety.md)."""
    samples = math.ceil(CONTROL_RATE * control_period)
    return Admittance(
        period=control_period / samples, bandwidth=40.0, reset_time=0.3, approach=0.025, latency=latency,
        force_limit=force_limit, speed_limit=0.5,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Stand:
    """A robot beside the patients, who lie at ``base_from_patient`` (patients,)."""

    robot: Robot
    base_from_patient: Pose

    def to_base(self, pose: Pose, anatomy_index: Int[Tensor, " envs"]) -> Pose:
        """Poses in the patients seen from the base."""
        return self.base_from_patient[anatomy_index] @ pose

    def to_patient(self, pose: Pose, anatomy_index: Int[Tensor, " envs"]) -> Pose:
        """Poses seen from the base in the patients."""
        return self.patient_from_base[anatomy_index] @ pose

    @functools.cached_property
    def patient_from_base(self) -> Pose:
        """The other way round."""
        return self.base_from_patient.inverse()


@dataclass(frozen=True, kw_only=True)
class Rig:
    """Parts around the probe; what is None is absent.

    ``stand`` carries it; ``contact`` is what its face feels, ``admittance`` presses it to a set-point; ``safety``
    judges; ``breathing`` holds the fields of the patients' breath.
    """

    safety: Safety
    stand: Stand | None = None
    contact: Contact | None = None
    admittance: Admittance | None = None
    breathing: VolumeStack | None = None

    def start(self, state: SimState, breath: Float[Tensor, " envs"] | None) -> SimState:
        """``state`` with arms at the start poses and faces pressed with the set-point.

        Raises :class:`InvalidInputError` for a start out of the arm's reach or a set-point beyond the force limit.
        """
        params, index = state.params, state.anatomy_index
        pose = self._settle(params, breath)
        touch = self._feel(pose, params, breath)
        robot = None if self.stand is None else self.stand.robot.start(self.stand.to_base(pose, index), index)
        reached = self.stand.to_patient(robot.base_from_probe, index) if self.stand and robot else pose
        return dataclasses.replace(
            state,
            patient_from_probe=reached,
            wanted=pose,
            touch=touch,
            sink=torch.zeros_like(state.path),
            reading=None if touch is None else touch.force + self._sensor_error(state, 1)[:, 0],
            press=self._press(params, touch, ((pose.translation - params.start.translation) * axis_of(pose)).sum(-1)),
            robot=robot,
            safety=SafetyState.fresh(len(index)),
        )

    def step(self, before: SimState, after: SimState, moved: Moved, period: float, breath: Breath | None) -> SimState:
        """``after`` completed: where the probe really came to, what it feels, and which limits that breaks."""
        assert before.safety is not None
        assert before.wanted is not None
        running = before.safety.stop == StopReason.NONE
        skin = self._skin_motion(before, breath)
        error = self._sensor_error(before, self._samples(period))
        press, wanted = self._regulate(before, moved, period, error, skin, None if breath is None else breath[0])
        wanted = wanted.where(running, before.wanted)
        robot, pose = self._carry(before, wanted, period)
        way = pose.translation - before.patient_from_probe.translation
        velocity = so3.rotate(so3.conjugate(pose.quaternion), (way if skin is None else way - skin) / period)
        touch = self._feel(pose, before.params, None if breath is None else breath[1], velocity)
        after = dataclasses.replace(
            after,
            patient_from_probe=pose,
            path=before.path + way.norm(dim=-1),
            held_back=moved.held_back & running,
            wanted=wanted if robot is None else pose.where(robot.blocked, wanted),
            touch=touch,
            sink=velocity[:, 2],
            reading=None if touch is None else touch.force + error[:, -1],
            press=press,
            robot=robot,
        )
        speed = way.norm(dim=-1) / period
        return dataclasses.replace(after, safety=self.safety.judge(before.safety, after, period, speed))

    def _settle(self, params: SimParams, breath: Tensor | None) -> Pose:
        """The start, pressed in until the face feels the set-point."""
        pose = params.start
        if self.contact is None:
            return pose
        if params.control is None:
            raise InvalidInputError("a face in contact needs a set-point: draw the parameters with contact")
        for _ in range(_SETTLING):
            touch = self._feel(pose, params, breath)
            if touch is not None:
                deeper = deeper_for(touch, params.control.set_point)
                pose = Pose(pose.quaternion, pose.translation + deeper[:, None] * axis_of(pose))
        return pose

    def _press(self, params: SimParams, touch: ContactReading | None, depth: Tensor) -> AdmittanceState | None:
        """The force control at rest, pressing by ``depth`` [m] more than the motion does."""
        control = params.control
        if self.admittance is None or touch is None or control is None:
            return None
        state = self.admittance.start(control.set_point, touch.force + control.bias, control.latency)
        return dataclasses.replace(state, travel=depth)

    def _regulate(
        self,
        before: SimState,
        moved: Moved,
        period: float,
        error: Float[Tensor, "envs samples"],
        skin: Tensor | None,
        breath: Tensor | None,
    ) -> tuple[AdmittanceState | None, Pose]:
        """The force control's next state, and the commanded pose at the press that it asks for."""
        if self.admittance is None or before.press is None or before.touch is None:
            return None, moved.pose
        inward = moved.inward
        rise = None if skin is None else -(skin * inward).sum(-1) / period
        tissue = self._tissue(before.touch, before)
        touch = self._feel(moved.pose, before.params, breath)
        ahead = tissue if touch is None else felt(touch, None, tissue.loss)
        model = None if before.params.control is None else before.params.control.model
        press = regulate(self.admittance, before.press, tissue, ahead, rise, error, model)
        deeper = (press.travel - before.press.travel)[:, None] * inward
        return press, Pose(moved.pose.quaternion, moved.pose.translation + deeper)

    def _tissue(self, touch: ContactReading, before: SimState) -> Felt:
        """The tissue at the face as it is at rest."""
        loss = None if before.params.contact is None else before.params.contact.loss
        return felt(touch, before.sink, loss)

    def _sensor_error(self, before: SimState, samples: int) -> Float[Tensor, "envs samples"]:
        """Bias and white noise [N] of the force readings of one step."""
        control, step = before.params.control, before.step_count
        if control is None:
            return torch.zeros(len(step), samples)
        if not bool(control.noise.any()):
            return control.bias[:, None].expand(-1, samples)
        streams = Streams(_SENSOR, before.params.image.noise_seed, torch.zeros_like(step), step)
        return control.bias[:, None] + control.noise[:, None] * streams.normal("force", 0.0, 1.0, samples)

    def _samples(self, period: float) -> int:
        """Periods of the force control in a step."""
        return 1 if self.admittance is None else round(period / self.admittance.period)

    def _carry(self, before: SimState, wanted: Pose, period: float) -> tuple[RobotState | None, Pose]:
        """The robot's next state and where its probe is; without a robot the probe is where it should be."""
        if self.stand is None or before.robot is None:
            return None, wanted
        robot, index = self.stand.robot, before.anatomy_index
        wrench = None
        if robot.feels_wrench and before.touch is not None:
            wrench = _wrench(before.touch, before.robot.base_from_probe.quaternion)
        after = robot.move(before.robot, self.stand.to_base(wanted, index), period, wrench)
        return after, self.stand.to_patient(after.base_from_probe, index)

    def _feel(
        self, pose: Pose, params: SimParams, breath: Tensor | None, velocity: Tensor | None = None
    ) -> ContactReading | None:
        """What the face feels where the tissue is now: the probe is set back into the patient at rest."""
        if self.contact is None:
            return None
        shift = self._shift(pose, params.anatomy_index, breath)
        at_rest = pose if shift is None else Pose(pose.quaternion, pose.translation - shift)
        return self.contact.read(at_rest, params.anatomy_index, velocity, params.contact)

    def _skin_motion(self, before: SimState, breath: Breath | None) -> Float[Tensor, "envs 3"] | None:
        """How the tissue at the probe moves during a step [m]."""
        if breath is None:
            return None
        return self._shift(before.patient_from_probe, before.anatomy_index, breath[1] - breath[0])

    def _shift(self, pose: Pose, index: Int[Tensor, " envs"], breath: Tensor | None) -> Float[Tensor, "envs 3"] | None:
        """Where the breath has carried the tissue at the probe [m]."""
        if breath is None or self.breathing is None:
            return None
        return breath[:, None] * displacement(self.breathing, pose.translation, index)


def _wrench(touch: ContactReading, turn: Float[Tensor, "envs 4"]) -> Float[Tensor, "envs 6"]:
    """Force [N] and torque [N m] of the tissue on the probe at the centre of its face, turned from its axes."""
    force = torch.cat((touch.friction, -touch.force[:, None]), dim=-1)
    lever = torch.cat((touch.centre_of_pressure, torch.zeros_like(force[:, :1])), dim=-1)
    return torch.cat((so3.rotate(turn, force), so3.rotate(turn, torch.linalg.cross(lever, force))), dim=-1)
