"""What the physics tests share: phantoms rendered with single effects off, and statistics of their envelopes."""

from dataclasses import replace

import numpy as np
import torch

from sonogym.anatomy.phantoms import phantom_pose
from sonogym.geometry import Pose
from sonogym.ultrasound.frame import RenderConfig, RenderParams
from sonogym.ultrasound.renderer import Renderer
from sonogym.ultrasound.transducer import SPEED_OF_SOUND, load_probe

BARE = {"contact": False, "walls": False, "texture": False, "penumbra": False, "noise": False}
PITCH = 1e-3
BACKENDS = ("numba", "reference")


def probe_at(megahertz, name="flat75"):
    """A preset driven at another frequency."""
    return replace(load_probe(name), center_frequency=1e6 * megahertz)


def render(anatomy, probe="flat75", seeds=1, pose=None, backend="numba", params=None, **config):
    """``seeds`` frames of one place that differ in scatterers and noise only; every effect off unless asked for.

    ``params`` are render parameters beside the seeds.
    """
    settings = {**BARE, "pitch": PITCH, "outputs": ("envelope",), **config}
    renderer = Renderer([anatomy], probe, RenderConfig(backend=backend, **settings))
    pose = phantom_pose() if pose is None else pose
    words = torch.arange(seeds) + 1
    drawn = replace(RenderParams.default(seeds), speckle_seed=words, noise_seed=words, **(params or {}))
    placed = type(pose)(pose.quaternion.expand(seeds, 4), pose.translation.expand(seeds, 3))
    return renderer.render(placed, torch.zeros(seeds, dtype=torch.long), drawn)


def scattered_poses(envs, seed=3):
    """Poses pressed into a flat skin, each a little off and turned."""
    generator = torch.Generator().manual_seed(seed)
    base = phantom_pose(press=0.006).unsqueeze(0)
    scale = torch.tensor([0.01, 0.005, 0.003, 0.1, 0.1, 0.5])
    return Pose(base.quaternion.expand(envs, 4), base.translation.expand(envs, 3)) @ Pose.exp(
        torch.randn(envs, 6, generator=generator) * scale
    )


def random_params(envs, seed=5):
    """The defaults with seeds of their own."""
    words = torch.randint(0, 2**62, (2, envs), generator=torch.Generator().manual_seed(seed))
    return replace(RenderParams.default(envs), speckle_seed=words[0], noise_seed=words[1])


def envelope(*args, **kwargs):
    """Envelope (seeds, samples, lines) as float64, and the depth of its rows [m]."""
    frame = render(*args, **kwargs)
    return frame.envelope.double().numpy(), frame.depth.double().numpy()


def rows_between(depth, low, high):
    """Rows whose apparent depth [m] lies in [low, high]."""
    return (depth >= low) & (depth <= high)


def level(values):
    """Mean of the log envelope [dB]: every cell counts the same, however strong."""
    return 20.0 * np.log10(np.maximum(values, 1e-30)).mean()


def flattened(values):
    """Envelope divided by the RMS of its depth: attenuation and focus leave speckle statistics alone."""
    return values / np.sqrt((values**2).mean(axis=(0, 2), keepdims=True))


def peak(profile, step):
    """Height, place [m] and full width at half maximum [m] of the Gaussian through the three highest samples."""
    k = int(np.argmax(profile))
    below, at, above = np.log(profile[k - 1 : k + 2])
    curvature = below - 2 * at + above
    shift = 0.5 * (below - above) / curvature
    return np.exp(at - 0.25 * (below - above) * shift), (k + shift) * step, 2.3548 * step / np.sqrt(-curvature)


def reflection(first, second):
    """|R| at normal incidence of two (c, rho)."""
    z1, z2 = first[0] * first[1], second[0] * second[1]
    return abs(z2 - z1) / (z2 + z1)


def apparent(distance, speed):
    """Where a scanner that assumes 1540 m/s shows ``distance`` [m] of a medium."""
    return distance * SPEED_OF_SOUND / speed


def gcnr(first, second, bins=256):
    """Generalised contrast-to-noise ratio (Rodriguez-Molares 2020): 1 - overlap of the two histograms."""
    edges = np.linspace(min(first.min(), second.min()), max(first.max(), second.max()) + 1e-9, bins + 1)
    shares = [np.histogram(values, edges)[0] / values.size for values in (first, second)]
    return 1.0 - np.minimum(*shares).sum()
