"""Kinematics of 256 arms at once beside PyBullet's, one arm after another, written to benchmarks/arms.json and arms.md.

Run: python benchmarks/arms.py [--quick]. Times are processor time of the one thread: a busy machine changes little.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sonogym.cli.benchmark import machine
from sonogym.cli.tables import write_json
from sonogym.robot.arm import Arm, load_arm
from sonogym.robot.inverse_kinematics import InverseKinematics, follow, move

HERE = Path(__file__).parent
BATCH = 256
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


def _row(name: str, seconds: float, spread: float, baseline: str, base: float) -> dict[str, Any]:
    rate = BATCH / seconds
    values = (name, "7 joints", BATCH, 1, 1e3 * seconds, rate, spread, baseline, base, rate / base)
    return dict(zip(COLUMNS, values, strict=True))


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    torch.set_num_threads(1)
    repeats = 50 if "--quick" in sys.argv[1:] else 300
    table = [row for name in URDF for row in rows(name, repeats)]
    write_json(HERE / "arms.json", {"machine": machine(), "command": "python benchmarks/arms.py", "rows": table})
    lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    lines += [" | ".join(_cell(row[column]) for column in COLUMNS) for row in table]
    head = [
        "# Kinematics of arms",
        "",
        f"`python benchmarks/arms.py` on {machine()}.",
        "`ms` is per call for the whole batch, processor time of one thread; `ratio` = arms a second over PyBullet's,",
        "which takes one arm at a time. A pose step takes the error to a goal and moves; a twist step only moves.",
        "",
    ]
    (HERE / "arms.md").write_text("\n".join(head + [f"| {line} |" for line in lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
