"""Equal bytes whatever the threads and the batch (V30), the fused path and its scan lines against the reference (V31).

Both for every setting of the renderer that the fused path has: a new field of RenderConfig or RenderParams needs a
case here.
"""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from laboratory import random_params, scattered_poses

from sonogym.anatomy import phantoms
from sonogym.anatomy.tissues import TISSUE_COUNT, Tissue
from sonogym.geometry import Pose
from sonogym.ultrasound.bake import bake
from sonogym.ultrasound.frame import RenderConfig, RenderParams
from sonogym.ultrasound.lines import trace_lines
from sonogym.ultrasound.render_threads import render_threads, set_render_threads
from sonogym.ultrasound.renderer import Renderer
from sonogym.ultrasound.tracer import Tracer

ENVS, COMPARED = 17, 3
VIEW = {"lines": 48, "samples": 64, "depth": 0.09}
NARROW = {"depth": 0.04}
BARE = dict.fromkeys(("contact", "walls", "texture", "penumbra", "noise"), False)
LATE = dict.fromkeys(("refraction", "reverberation", "ring_down", "comet_tails", "downshift"), True)
VARIED = (
    "gain", "tgc", "dynamic_range", "scatter_offset", "attenuation_factor", "clutter", "scatterers", "variant",
    "breathing", "venous_pressure", "gel", "stiffness",
)  # fmt: skip
CASES = {
    "as it comes": ("C5-2v", {}, ()),
    "five planes": ("C5-2v", {"planes": 5}, ()),
    "three planes": ("L11-5v", {"planes": 3, **NARROW}, ()),
    **{f"no {name}": ("L11-5v", {name: False, **NARROW}, ()) for name in BARE},
    "bare": ("P4-2v", BARE, ()),
    "flat": ("flat75", {}, ()),
    "fine": ("L12-3v", NARROW, ()),
    "radial": ("radial360", {"depth": 0.03}, ()),
    "odd counts": ("C5-2v", {"lines": 37, "samples": 51}, ()),
    "probe's own depth": ("L11-5v", {"depth": None}, ()),
    "sparse": ("C5-2v", {"scatterers": 2.0}, ()),
    "sparse behind gas": ("C5-2v", {"scatterers": 2.0, "ring_down": True}, ()),
    "coarse lattice": ("C5-2v", {"lattice": 3e-3}, ()),
    "steered": ("L11-5v", {"steering": 0.2, **NARROW}, ()),
    "frequencies": ("C5-2v", {"frequency_factors": (1.0, 0.8, 1.3)}, ("variant",)),
    "focuses": ("C5-2v", {"focus_factors": (0.7, 1.0, 1.5)}, ("variant",)),
    **{name: ("C5-2v", {}, (name,)) for name in VARIED if name != "variant"},
    **{name: ("C5-2v", {name: True}, ()) for name in LATE},
    "late and bent paths of three planes": ("C5-2v", {**LATE, "planes": 3}, ("clutter",)),
    "outputs": ("C5-2v", {"outputs": ("iq", "labels", "transmission", "image"), "image_size": (40, 30)}, ()),
    "all": ("C5-2v", {**LATE, "planes": 3, "frequency_factors": (1.0, 1.2), "focus_factors": (1.0, 0.8)}, VARIED),
}
LOOSE = {  # functions of sums, powers or distances, which round otherwise than in torch
    "indentation", "column", "slopes", "coupling", "scale", "crowding", "tissue", "haze",
}  # fmt: skip
NOT_IN_THE_KERNEL = {"pitch", "backend", "sampling", "speckle"}


@functools.cache
def bodies():
    size = (0.10, 0.08, 0.04)
    layered = (Tissue.SKIN, Tissue.SUBCUTANEOUS_FAT, Tissue.VEIN, Tissue.MUSCLE, Tissue.LIVER)
    return [
        bake(phantoms.layers((0.002, 0.006, 0.01, 0.02), layered, 2e-3, size), 2e-3),
        bake(phantoms.plate(0.04, 0.004, 0.02, spacing=2e-3, size=size), 2e-3),
        bake(phantoms.plate(0.03, 0.01, 0.02, content=Tissue.AIR, spacing=2e-3, size=size), 2e-3),
    ]


def poses(probe, envs):
    inside = Pose.exp(torch.tensor([0.0, 0.0, 0.03 if probe == "radial360" else 0.0, 0.0, 0.0, 0.0]))
    return scattered_poses(envs) @ Pose(inside.quaternion.expand(envs, 4), inside.translation.expand(envs, 3))


def params(varied, variants, envs=ENVS):
    """Seeds, and the fields named, drawn for each environment."""
    generator = torch.Generator().manual_seed(7)

    def draw(low, high, *shape):
        return low + (high - low) * torch.rand(envs, *shape, generator=generator)

    drawn = {
        "gain": draw(-6.0, 6.0),
        "tgc": draw(0.4, 0.8),
        "dynamic_range": draw(45.0, 80.0),
        "scatter_offset": draw(-3.0, 3.0, TISSUE_COUNT),
        "attenuation_factor": draw(0.7, 1.3, TISSUE_COUNT),
        "clutter": draw(-40.0, 0.0),
        "variant": torch.randint(0, variants, (envs,), generator=generator),
        "breathing": draw(0.2, 1.5),
        "venous_pressure": draw(5.0, 50.0),
        "gel": draw(5e-4, 4e-3),
        "stiffness": draw(4.0, 16.0),
        "scatterers": draw(0.2, 6.0),
    }
    return dataclasses.replace(random_params(envs), **{name: drawn[name] for name in varied})


@functools.cache
def renderer(case, backend):
    probe, settings, _ = CASES[case]
    return Renderer(bodies(), probe, RenderConfig(backend=backend, **{**VIEW, **settings}))


def frame(case, backend, rows):
    """The environments ``rows`` of the case, as a batch of their own."""
    chosen, rows = renderer(case, backend), torch.as_tensor(rows)
    given = params(CASES[case][2], len(chosen.variants))[rows]
    return chosen.render(poses(CASES[case][0], ENVS)[rows], rows % len(bodies()), given)


def contents(frame):
    return {name: value for name, value in vars(frame).items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("case", CASES)
def test_bytes_do_not_depend_on_threads_and_batch(case):
    """V30: 1 and 2 threads; batches of 17, 3 and 1."""
    before = render_threads()
    try:
        set_render_threads(1)
        whole = contents(frame(case, "numba", range(ENVS)))
        parts = [range(5, 8), (0,), (16,)]
        found = [(part, contents(frame(case, "numba", part))) for part in parts]
        set_render_threads(2)
        found.append((range(ENVS), contents(frame(case, "numba", range(ENVS)))))
    finally:
        set_render_threads(before)
    for rows, seen in found:
        for name in set(seen) - {"depth", "line_position"}:
            assert torch.equal(seen[name], whole[name][list(rows)]), (name, rows)


@pytest.mark.parametrize("case", [*CASES, "left-handed"])
def test_compiled_lines_equal_those_of_torch(case):
    """Every field: rays bit for bit where nobody breathes, what is read and summed to the rounding of float32."""
    probe, _, varied = CASES.get(case, CASES["all"])
    chosen, rows = renderer(case if case in CASES else "all", "numba"), torch.arange(COMPARED)
    given, where = params(varied, 1)[rows], poses(probe, ENVS)[rows]
    breathing = None if given.breathing is None else chosen.breathing
    index, voxels = rows % len(bodies()), chosen.voxels
    if case == "left-handed":
        mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
        voxels = dataclasses.replace(voxels, voxel_from_patient=mirror @ voxels.voxel_from_patient)
    beam = (chosen.variants[0], chosen._scanlines, chosen._tables[0], voxels, chosen._body)
    lines = trace_lines(where, index, given, *beam, breathing)
    tracing = Tracer(*beam).begin(where, index, given, breathing)
    tracing.fill(0, 1)
    tracing.fill(1, COMPARED)
    for name, found in tracing.batch._asdict().items():
        wanted = getattr(lines, name).numpy()
        rounding = 2e-5 if name in LOOSE else 0.0 if breathing is None else 1e-6
        limit = rounding * np.abs(wanted).max(initial=0.0)
        assert np.abs(found.astype(float) - wanted).max(initial=0.0) <= limit, name


@pytest.mark.parametrize("case", CASES)
def test_fused_path_equals_the_reference(case):
    """V31: within one grey level on >= 99.9 % of pixels, on frames that show something."""
    fused, reference = (frame(case, backend, range(COMPARED)).beam.int() for backend in ("numba", "reference"))
    difference = (fused - reference).abs()
    assert float((difference <= 1).float().mean()) >= 0.999, int(difference.max())
    assert float(fused.float().std()) > 15


def test_every_setting_of_the_fused_path_has_a_case():
    settings = {name for _, given, _ in CASES.values() for name in given} | set(VIEW)
    assert settings | NOT_IN_THE_KERNEL >= {field.name for field in dataclasses.fields(RenderConfig)}
    assert {*VARIED, "speckle_seed", "noise_seed"} == {field.name for field in dataclasses.fields(RenderParams)}


SEEN = [name for name in CASES if name not in ("as it comes", "outputs") and (CASES[name][1] or CASES[name][2])]


@pytest.mark.parametrize("case", SEEN)
def test_what_a_case_sets_is_seen(case):
    """No case is idle."""
    probe, settings, _ = CASES[case]
    counts = {name: settings[name] for name in ("depth", "lines", "samples") if settings.get(name)}
    plain = Renderer(bodies(), probe, RenderConfig(backend="numba", **{**VIEW, **counts}))
    rows = torch.arange(COMPARED)
    without = plain.render(poses(probe, ENVS)[rows], rows, params((), 1)[rows]).beam
    same = torch.equal(frame(case, "numba", rows).beam, without)
    assert same == (settings == counts and not CASES[case][2])
