"""Six-degree-of-freedom pose recovery from a sweep of five frames, over random starts 2 mm and 2 degrees off.

`python benchmarks/pose_recovery.py [--starts 6] [--out benchmarks/pose_recovery.json]`
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from differentiable import organs

from sonogym.anatomy.phantoms import phantom_pose
from sonogym.geometry import Pose
from sonogym.ultrasound.acquisition import Sweep
from sonogym.ultrasound.frame import RenderConfig
from sonogym.ultrasound.registration import STEPS, register, shown, swept
from sonogym.ultrasound.renderer import Renderer

TILT = math.radians(8.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    config = RenderConfig(
        lines=32, samples=48, depth=0.08, outputs=("decibels",), sampling="trilinear", speckle=False, pitch=1.5e-3
    )
    renderer = Renderer([organs()], "C5-2v", config)
    sweep = Sweep(planes=5, tilt=TILT).poses(Pose.identity())
    truth = phantom_pose(press=0.004) @ Pose.exp(torch.tensor([1.3e-3, 7e-4, 4e-4, 0.03, -0.02, 0.04]))
    with torch.no_grad():
        images = shown(renderer, swept(truth.unsqueeze(0), sweep))
    generator, rows = torch.Generator().manual_seed(0), []
    for _ in range(options.starts):
        direction = torch.nn.functional.normalize(torch.randn(2, 3, generator=generator), dim=1)
        start = truth @ Pose.exp(torch.cat((2e-3 * direction[0], math.radians(2.0) * direction[1])))
        began = time.thread_time()
        left = (truth.inverse() @ register(renderer, images, start, sweep)).log()
        rows.append(
            {
                "left_mm": round(1e3 * float(left[:3].norm()), 3),
                "left_deg": round(math.degrees(float(left[3:].norm())), 3),
                "cpu_s": round(time.thread_time() - began, 1),
            }
        )
        print(rows[-1], flush=True)
    content = {
        "command": f"python benchmarks/pose_recovery.py --starts {options.starts}",
        "steps": len(STEPS),
        "frames": len(sweep.translation),
        "starts": rows,
    }
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
