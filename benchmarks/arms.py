"""Kinematics of 256 arms at once beside PyBullet's, one arm after another, and a control step of both robots of a scan
(kinematic, and with PyBullet's dynamics), written to benchmarks/arms.json and arms.md.

Run: python benchmarks/arms.py [--quick]. Times are processor time of the one thread: a busy machine changes little.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sonogym.anatomy.phantoms import flat_skin, phantom_pose
from sonogym.anatomy.stack import VolumeStack
from sonogym.cli.benchmark import machine
from sonogym.cli.tables import write_json
from sonogym.geometry import Pose
from sonogym.robot.arm import Arm, load_arm
from sonogym.robot.bullet import BulletArm
from sonogym.robot.inverse_kinematics import InverseKinematics, follow, move
from sonogym.robot.placement import lay
from sonogym.robot.robot import KinematicArm
from sonogym.ultrasound.transducer import load_probe

HERE = Path(__file__).parent
BATCH, ROBOTS = 256, 16
COLUMNS = ("name", "size", "batch", "threads", "ms", "per_second", "spread", "baseline", "baseline_per_second", "ratio")
URDF = {"kuka_iiwa": "kuka_iiwa/model.urdf", "franka_panda": "franka_panda/panda.urdf"}
LINK = {"kuka_iiwa": 6, "franka_panda": 7}


def cpu_seconds(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """First decile of the processor seconds of ``run`` (what others took counts little), and (median - it) / it."""
    for _ in range(3):
        run()
    seconds = []
    for _ in range(repeats):
        start = time.thread_time()
        run()
        seconds.append(time.thread_time() - start)
    seconds.sort()
    return seconds[repeats // 10], seconds[repeats // 2] / seconds[repeats // 10] - 1.0


class Bullet:
    """The same arm in PyBullet, one posture after another."""

    def __init__(self, name: str, arm: Arm, postures: torch.Tensor) -> None:
        import pybullet
        import pybullet_data

        self.pybullet, self.link, self.postures = pybullet, LINK[name], postures.tolist()
        self.client = pybullet.connect(pybullet.DIRECT)
        path = f"{pybullet_data.getDataPath()}/{URDF[name]}"
        self.body = pybullet.loadURDF(path, useFixedBase=True, physicsClientId=self.client)
        self.targets = arm.base_from_tool(postures).translation.tolist()

    def forward(self) -> None:
        """Set a posture and read its flange, for all."""
        for posture in self.postures:
            self._set(posture)
            self.pybullet.getLinkState(self.body, self.link, computeForwardKinematics=True, physicsClientId=self.client)

    def inverse(self) -> None:
        """Set a posture and take PyBullet's default solution for a target position, for all."""
        for posture, target in zip(self.postures, self.targets, strict=True):
            self._set(posture)
            self.pybullet.calculateInverseKinematics(
                self.body, self.link, target, [0.0, 1.0, 0.0, 0.0], physicsClientId=self.client
            )

    def _set(self, posture: list[float]) -> None:
        for joint, value in enumerate(posture):
            self.pybullet.resetJointState(self.body, joint, value, physicsClientId=self.client)


def rows(name: str, repeats: int) -> list[dict[str, Any]]:
    arm, config = load_arm(name, tool="probe"), InverseKinematics()
    unit = torch.rand(2, BATCH, 7, generator=torch.Generator().manual_seed(0))
    start, other = arm.chain.lower + unit * (arm.chain.upper - arm.chain.lower)
    goal, twist = arm.base_from_tool(other), torch.full((BATCH, 6), 0.01)
    bullet = Bullet(name, arm, start)
    forward, inverse = (BATCH / cpu_seconds(run, max(repeats // 5, 10))[0] for run in (bullet.forward, bullet.inverse))
    parts = (
        ("forward kinematics", lambda: arm.frames(start), "PyBullet set + getLinkState", forward),
        (
            "twist step",
            lambda: move(arm, start, twist, 0.1, config),
            "PyBullet set + calculateInverseKinematics",
            inverse,
        ),
        (
            "pose step",
            lambda: follow(arm, start, goal, 0.1, config),
            "PyBullet set + calculateInverseKinematics",
            inverse,
        ),
    )
    return [_row(f"{name}: {what}", *cpu_seconds(run, repeats), text, base) for what, run, text, base in parts]


def robots(name: str, repeats: int) -> list[dict[str, Any]]:
    """A control step of .1 s of 16 arms on a flat phantom: kinematic, and with dynamics (24 substeps each)."""
    arm, slab = load_arm(name, tool="probe"), flat_skin((0.25, 0.08, 0.25))
    start = phantom_pose().unsqueeze(0).unsqueeze(0)
    placement = lay(VolumeStack.from_volumes([slab.distance]), start, arm)
    goal = placement.base_from_patient @ start[0]
    goal = Pose(goal.quaternion.expand(ROBOTS, 4), goal.translation.expand(ROBOTS, 3))
    index = torch.zeros(ROBOTS, dtype=torch.long)
    kinematic = KinematicArm.among(arm, goal[:1])
    bullet = BulletArm(planner=kinematic, skins=[slab], placement=placement, transducer=load_probe("C5-2v"))
    onwards = Pose(goal.quaternion, goal.translation + torch.tensor([2e-3, 0.0, 0.0]))
    states = [robot.start(goal, index) for robot in (kinematic, bullet)]
    fast, spread = cpu_seconds(lambda: kinematic.move(states[0], onwards, 0.1), repeats)
    slow, slow_spread = cpu_seconds(lambda: bullet.move(states[1], onwards, 0.1), max(repeats // 5, 10))
    text = "BulletArm, the same step"
    return [
        _row(f"{name}: step of KinematicArm", fast, spread, text, ROBOTS / slow, ROBOTS),
        _row(f"{name}: step of BulletArm", slow, slow_spread, text, ROBOTS / slow, ROBOTS),
    ]


def _row(name: str, seconds: float, spread: float, baseline: str, base: float, batch: int = BATCH) -> dict[str, Any]:
    rate = batch / seconds
    values = (name, "7 joints", batch, 1, 1e3 * seconds, rate, spread, baseline, base, rate / base)
    return dict(zip(COLUMNS, values, strict=True))


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    torch.set_num_threads(1)
    repeats = 50 if "--quick" in sys.argv[1:] else 300
    table = [row for name in URDF for row in rows(name, repeats) + robots(name, repeats)]
    write_json(HERE / "arms.json", {"machine": machine(), "command": "python benchmarks/arms.py", "rows": table})
    lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    lines += [" | ".join(_cell(row[column]) for column in COLUMNS) for row in table]
    head = [
        "# Kinematics of arms",
        "",
        f"`python benchmarks/arms.py` on {machine()}.",
        "`ms` is per call for the whole batch, processor time of one thread; `ratio` = arms a second over PyBullet's,",
        "which takes one arm at a time. A pose step takes the error to a goal and moves; a twist step only moves.",
        "The robots' steps are of .1 s, PyBullet's in 24 substeps of dynamics and collision, one arm after another.",
        "",
    ]
    (HERE / "arms.md").write_text("\n".join(head + [f"| {line} |" for line in lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
