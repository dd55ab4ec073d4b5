"""How far force control leaves 5 N where it is wrong about the tissue: `python benchmarks/force_robustness.py`.

The sweep of force_sweep.py with the short side of the face along it (ribs one by one), procedural patients, breathing
on, and one thing wrong at a time, then all. `model` is the stiffness that the controller takes the tissue for, over the
true one: its gain and its feed-forward are wrong by as much. Writes docs/force_robustness.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from force_sweep import SET_POINT, bench, swept
from matplotlib import pyplot as plt

from sonogym.anatomy.library import resolve_patients
from sonogym.robot.contact import ContactFactors
from sonogym.sim.force_control import Control
from sonogym.sim.state import SAFETY_TERMS, SimState
from sonogym.ultrasound.frame import RenderConfig
from sonogym.ultrasound.renderer import Renderer

NOMINAL = {"stiffness": 1.0, "model": 1.0, "friction": 0.1, "latency": 0.02, "noise": 0.0, "bias": 0.0}
ROUGH = {"friction": 0.3, "latency": 0.05, "noise": 0.3}
CASES: dict[str, dict[str, float]] = {
    "nominal": {},
    **{f"tissue x {factor:g}": {"stiffness": factor} for factor in (0.5, 2.0)},
    **{f"model x {factor:g}": {"model": factor} for factor in (0.5, 0.7, 1.4, 2.0)},
    "friction .3": {"friction": 0.3},
    "50 ms late": {"latency": 0.05},
    "noise .3 N": {"noise": 0.3},
    "bias .3 N": {"bias": 0.3},
    **{f"model x {factor:g}, friction, late, noise": {"model": factor, **ROUGH} for factor in (0.5, 0.7, 1.4, 2.0)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", default="procedural:test/0-5")
    parser.add_argument("--plane", default="kidney_right_short")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "force_robustness.png")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = resolve_patients(options.patients)
    renderer = Renderer(names, "C5-2v", RenderConfig(pitch=2e-3))
    drawn = {key: torch.tensor([{**NOMINAL, **case}[key] for case in CASES.values()]) for key in NOMINAL}
    value = {key: column.repeat_interleave(len(names)) for key, column in drawn.items()}
    control = Control(
        set_point=torch.full_like(value["model"], SET_POINT),
        **{key: value[key] for key in ("latency", "noise", "bias", "model")},
    )
    factors = ContactFactors(stiffness=value["stiffness"], friction=value["friction"])
    states = swept(bench(renderer, ROUGH["latency"]), renderer, options.plane, "short", control, factors)
    report(states, len(names), options.out)


def report(states: list[SimState], patients: int, out: Path) -> None:
    """A row a case over all its patients, and the spread of the force as a figure."""
    force = torch.stack([state.touch.force for state in states]).unflatten(1, (len(CASES), patients))
    over = states[-1].safety.over.unflatten(0, (len(CASES), patients))
    print("| wrong | mean N | 95 % within N | range N | rms error N | within .5 N | 3-8 N | seconds of cost |")
    print("|---|---|---|---|---|---|---|---|")
    for at, name in enumerate(CASES):
        one = force[:, at].flatten()
        low, high = one.quantile(torch.tensor([0.025, 0.975])).tolist()
        error = one - SET_POINT
        cost = float(over[at][:, SAFETY_TERMS.index("force") :].sum())
        print(
            f"| {name} | {one.mean():.2f} | {low:.2f}-{high:.2f} | {one.min():.2f}-{one.max():.2f} | "
            f"{error.square().mean().sqrt():.2f} | {(error.abs() <= 0.5).float().mean():.3f} | "
            f"{((one >= 3.0) & (one <= 8.0)).float().mean():.3f} | {cost:.1f} |"
        )
    figure, axis = plt.subplots(figsize=(9, 5), constrained_layout=True)
    axis.axvspan(SET_POINT - 0.5, SET_POINT + 0.5, color="0.88")
    axis.boxplot([force[:, at].flatten().numpy() for at in range(len(CASES))], orientation="horizontal", whis=(0, 100))
    axis.set_yticks(range(1, len(CASES) + 1), CASES)
    axis.invert_yaxis()
    axis.set_xlabel("force [N], 200 mm across the ribs, all patients")
    figure.savefig(out, dpi=70)


if __name__ == "__main__":
    main()
