"""The CT modulates the echogenicity within a tissue, and only that."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sonogym.anatomy.phantoms import homogeneous, layers
from sonogym.anatomy.tissues import Tissue
from sonogym.anatomy.volume import Volume
from sonogym.ultrasound import voxel_word
from sonogym.ultrasound.bake import bake
from sonogym.ultrasound.texture import density_map, texture_gain

SIZE = (0.04, 0.03, 0.02)


def with_ct(anatomy, hu):
    return replace(anatomy, ct=Volume(torch.from_numpy(hu.astype(np.int16))[None], anatomy.ct.patient_from_voxel))


def amplitude(anatomy):
    voxels = bake(anatomy, 1e-3).voxels.voxels
    word = voxel_word.words(voxels.movedim(0, -1).reshape(-1, 4).contiguous())
    return texture_gain()[voxel_word.texture(word).numpy()].reshape(voxels.shape[1:])


def test_denser_part_of_a_tissue_scatters_more_by_two_per_mille_a_hounsfield_unit():
    """q = 10^(s/20) (1 + g HU'), HU' from the median of the tissue in its own scan."""
    plain = homogeneous(spacing=1e-3, size=SIZE)
    hu = np.full(plain.ct.voxels.shape[1:], 190.0)
    hu[: hu.shape[0] // 3] += 100.0
    ratio = amplitude(with_ct(plain, hu)) / amplitude(with_ct(plain, 0.0 * hu))
    middle = ratio.shape[1] // 2
    assert np.median(ratio[6, 8:]) == pytest.approx(1.2, rel=0.03)
    assert np.median(ratio[-6, 8:]) == pytest.approx(1.0, rel=0.03)
    assert ratio[:, middle].min() > 0.97


def test_neighbouring_tissue_and_noise_leave_no_trace():
    two = layers((0.012,), (Tissue.LIVER, Tissue.CORTICAL_BONE), spacing=1e-3, size=SIZE)
    labels = two.labels.voxels[0].numpy()
    noise = np.random.default_rng(0).normal(0.0, 12.0, labels.shape)
    hu = np.where(labels == Tissue.CORTICAL_BONE, 1200.0, 50.0) + noise
    density = density_map(hu, labels, (1e-3, 1e-3, 1e-3))
    assert np.abs(density[labels == Tissue.LIVER]).max() < 6.0
    assert np.abs(density).max() <= 150.0
