"""What both arms reach of every named plane, at the bed that a task would choose: `python benchmarks/reach.py`.

For each plane that all patients have: the plane's own pose, and the lattice of starts that a task tries (5 x 3 places,
5 yaws up to 60 degrees), searched from the home posture. Writes benchmarks/reach.json and reach.md.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

from sonogym.anatomy.library import resolve_patients
from sonogym.anatomy.planes import reachable_planes
from sonogym.anatomy.stack import clearance_stack
from sonogym.cli.benchmark import machine
from sonogym.cli.tables import write_json
from sonogym.envs.rigging import starts_of
from sonogym.envs.standard_planes import find_goals, start_region
from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose
from sonogym.robot.arm import Arm, load_arm
from sonogym.robot.inverse_kinematics import InverseKinematics, solve
from sonogym.robot.placement import lay_in_reach
from sonogym.robot.surface_motion import SurfaceMotion
from sonogym.ultrasound.frame import RenderConfig
from sonogym.ultrasound.renderer import Renderer

HERE, ARMS, YAW = Path(__file__).parent, ("kuka_iiwa", "franka_panda"), math.radians(60.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", default="procedural:test/0-3")
    parser.add_argument("--planes", nargs="*", default=[], help="only these")
    options = parser.parse_args()
    torch.set_num_threads(1)
    renderer = Renderer(resolve_patients(options.patients), "C5-2v", RenderConfig(pitch=2e-3))
    motion = SurfaceMotion(
        skin=renderer.skin,
        press=renderer.transducer.press,
        clearance=clearance_stack([body.skin for body in renderer.bodies]),
    )
    common = set.intersection(*(set(reachable_planes(body)) for body in renderer.bodies))
    rows = []
    for plane in sorted(common & set(options.planes) if options.planes else common):
        rows += [row for name in ARMS if (row := _row(renderer, motion, plane, load_arm(name, tool="probe")))]
        print(rows[-len(ARMS) :], flush=True)
    write_json(HERE / "reach.json", {"machine": machine(), "patients": options.patients, "rows": rows})
    (HERE / "reach.md").write_text(_page(options.patients, rows))


def _row(renderer: Renderer, motion: SurfaceMotion, plane: str, arm: Arm) -> dict[str, object] | None:
    """Shares of the patients' goals and starts that ``arm`` reaches; None for a plane off the imaged skin."""
    try:
        goals = find_goals(renderer.bodies, plane, motion)
        starts = starts_of(start_region(renderer.bodies, plane, goals, motion), YAW)
    except InvalidInputError:
        return None
    ik = InverseKinematics()
    placement = lay_in_reach(renderer.skin, starts, arm, ik)
    goal = _reached(arm, placement.base_from_patient @ goals.pose, ik)
    start = _reached(arm, _flat(placement.base_from_patient.unsqueeze(1) @ starts), ik)
    return {"plane": plane, "arm": arm.name, "goals": float(goal.mean()), "starts": float(start.mean())}


def _reached(arm: Arm, base_from_probe: Pose, ik: InverseKinematics) -> torch.Tensor:
    return solve(arm, arm.home.expand(len(base_from_probe.translation), -1), base_from_probe, ik).reached.float()


def _flat(pose: Pose) -> Pose:
    return Pose(pose.quaternion.flatten(0, 1), pose.translation.flatten(0, 1))


def _page(patients: str, rows: list[dict[str, object]]) -> str:
    lines = [
        "# Reach of the arms",
        "",
        f"`python benchmarks/reach.py --patients {patients}` on {machine()}.",
        "Shares of the planes' own poses and of the starts (5 x 3 places, 5 yaws up to 60 degrees) in reach at the bed",
        "that `lay_in_reach` chose.",
        "",
        "| arm | planes | goals reached | starts reached | planes with all starts | worst planes |",
        "|---|---|---|---|---|---|",
    ]
    for arm in ARMS:
        own = [row for row in rows if row["arm"] == arm]
        goals, starts = (sum(row[key] for row in own) / len(own) for key in ("goals", "starts"))
        whole = sum(row["starts"] == 1.0 for row in own)
        worst = sorted((row for row in own if row["starts"] < 1.0), key=lambda row: row["starts"])[:4]
        named = ", ".join(f"{row['plane']} {row['starts']:.3f}" for row in worst) or "none"
        lines.append(f"| {arm} | {len(own)} | {goals:.3f} | {starts:.4f} | {whole} | {named} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
