"""What procedural patients cost: `python benchmarks/population_speed.py` writes benchmarks/population_speed.json.

Seconds and megabytes a patient, two processes against one, and one vector environment over many different patients.
What is in the cache already is not made again; set SONOGYM_CACHE to start from nothing. The CPU times hold on a busy
machine, wall times are as loaded as it was.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

OUT = Path(__file__).parent / "population_speed.json"


def one_patient(spacing: float, seeds: range) -> dict[str, float]:
    """CPU seconds to make a patient (median, worst) once compiled, and the megabytes of its file (median, largest)."""
    from sonogym.anatomy.cache import cache_folder
    from sonogym.anatomy.patients import VERSION, load_procedural, make_procedural

    make_procedural(seeds[0], spacing)
    seconds = []
    for seed in seeds:
        start = time.process_time()
        make_procedural(seed, spacing)
        seconds.append(time.process_time() - start)
    load_procedural(seeds[0], spacing, "one")
    files = (cache_folder() / "patients").glob(f"*-{round(1e6 * spacing)}um-v{VERSION}.*")
    sizes = [path.stat().st_size / 1e6 for path in files]
    return {
        "seconds": statistics.median(seconds), "worst": max(seconds),
        "megabytes": statistics.median(sizes), "largest": max(sizes), "files": len(sizes),
    }  # fmt: skip


def two_processes(spacing: float, count: int) -> dict[str, float]:
    """Wall and CPU time of one process over those of two, each twice in turn, other patients every time."""
    from sonogym.ultrasound.bake import bake_missing

    wall, cpu = {1: 0.0, 2: 0.0}, {1: 0.0, 2: 0.0}
    for turn, workers in enumerate((1, 2, 2, 1)):
        names = [f"procedural:val/{turn * count + i}" for i in range(count)]
        start, used = time.monotonic(), _used_by_children()
        bake_missing(names, spacing, workers)
        wall[workers] += time.monotonic() - start
        cpu[workers] += _used_by_children() - used
    return {"wall": wall[1] / wall[2], "cpu": cpu[1] / cpu[2]}


def _used_by_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def many_in_one(spacing: float, count: int) -> dict[str, float]:
    """One navigation environment over ``count`` patients: seconds from a warm cache, megabytes, a step."""
    import gymnasium

    import sonogym  # noqa: F401 (registers the environments)
    from sonogym.ultrasound.bake import bake_missing

    bake_missing([f"procedural:train/{i}" for i in range(count)], spacing, os.cpu_count() or 1)
    (before, from_files), start = _resident(), time.process_time()
    env = gymnasium.make_vec(
        "sonogym/Navigation-v0", num_envs=count, vectorization_mode="vector_entry_point",
        patient_count=count, pitch=spacing,
    )  # fmt: skip
    env.reset(seed=0)
    built = time.process_time() - start
    renderer = env.unwrapped.task.simulator.renderer
    held = sum(stack.flat.nbytes for stack in (renderer.voxels, renderer.skin, renderer.bone))
    actions = torch.zeros(env.action_space.shape)
    start = time.process_time()
    env.step(actions.numpy())
    step = time.process_time() - start
    after, pages = _resident()
    return {
        "patients": count, "pitch_mm": 1e3 * spacing, "seconds": built, "step": step,
        "held_megabytes": held / 1e6 / count, "resident_megabytes": (after - before) / 1e6 / count,
        "file_megabytes": (pages - from_files) / 1e6 / count,
    }  # fmt: skip


def _resident() -> tuple[float, float]:
    """Bytes of this process in memory, and those of them that are pages of files."""
    _, all_, shared, *_ = Path("/proc/self/statm").read_text().split()
    return float(all_) * resource.getpagesize(), float(shared) * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spacing", type=float, default=1.5, help="mm, of a patient that is made")
    parser.add_argument("--pitch", type=float, default=2.0, help="mm, of those in the environment")
    parser.add_argument("--patients", type=int, default=64)
    parser.add_argument("--fine", type=int, default=4, help="how many at --spacing in one environment")
    parser.add_argument("--parts", nargs="+", default=["one", "processes", "many", "fine"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    spacing, pitch = 1e-3 * options.spacing, 1e-3 * options.pitch
    parts: dict[str, Callable[[], Any]] = {
        "one": lambda: one_patient(spacing, range(200, 206)),
        "processes": lambda: two_processes(2.5e-3, 3),
        "many": lambda: many_in_one(pitch, options.patients),
        "fine": lambda: many_in_one(spacing, options.fine),
    }
    content = json.loads(OUT.read_text()) if OUT.exists() else {}
    limits = (
        f"--spacing {options.spacing:g} --pitch {options.pitch:g} --patients {options.patients} --fine {options.fine}"
    )
    content["command"] = f"python benchmarks/population_speed.py {limits}"
    for name in options.parts:
        content[name] = {**parts[name](), "load": round(os.getloadavg()[0], 1)}
        OUT.write_text(json.dumps(content, indent=1) + "\n")
        print(name, content[name], flush=True)


if __name__ == "__main__":
    main()
