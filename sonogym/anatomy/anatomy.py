"""One patient: CT, tissue labels, skin and landmarks on disk and in memory."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.anatomy.surface import Skin, skin_from_tensors, skin_tensors
from sonogym.anatomy.tissues import TISSUE_COUNT
from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError, unknown_name


@dataclass(frozen=True, kw_only=True)
class Body:
    """What placing a probe needs of a patient: skin and landmarks, RAS metres.

    ``landmarks``: name -> (3,) [m]: ``vertebra_<level>`` (body centre), ``spinous_<level>`` (tip), ``kidney_left``,
    ``kidney_right``, ``liver``, ``spleen``, ``gall_bladder``, ``lung_right``, ``aorta_<level>``. ``digest`` names the
    content: equal digests mean equal voxels. ``doubtful``: confidence (0 to 1) of landmarks that were estimated and are
    too uncertain to be among ``landmarks``.
    """

    name: str
    skin: Skin
    landmarks: Mapping[str, Float[Tensor, "3"]]
    digest: str
    doubtful: Mapping[str, float] = field(default_factory=dict)

    @property
    def tissues(self) -> Volume | None:
        """:class:`Tissue` ids (1, x, y, z) where the patient has labels."""
        return None

    def landmark(self, name: str) -> Float[Tensor, "3"]:
        """Position [m] of a landmark.

        Raises :class:`InvalidInputError` for a doubtful one, :class:`UnknownNameError` listing those of this patient.
        """
        if name in self.doubtful:
            raise InvalidInputError(
                f"landmark {name!r} of patient {self.name!r} is an estimate of confidence {self.doubtful[name]:.2f}, "
                f"too low to place a probe by; import it again with --landmark {name}=X,Y,Z in mm RAS"
            )
        if name not in self.landmarks:
            raise unknown_name(f"landmark of patient {self.name!r}", name, self.landmarks)
        return self.landmarks[name]


@dataclass(frozen=True, kw_only=True)
class Anatomy(Body):
    """A patient: ``ct`` int16 HU (1, x, y, z) and ``labels`` uint8 :class:`Tissue` ids on the same grid.

    ``facts`` holds what is known besides (sex, BMI, source, licence).
    """

    ct: Volume
    labels: Volume
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.ct.same_grid(self.labels):
            raise InvalidInputError(
                f"labels {tuple(self.labels.voxels.shape[1:])} and CT {tuple(self.ct.voxels.shape[1:])} are not on one "
                "grid: "
                "resample the labels to the CT"
            )
        shape, spacing = tuple(self.labels.voxels.shape[1:]), self.labels.spacing
        if min(shape) < 2:
            raise InvalidInputError(f"a patient needs at least 2 voxels along each axis, got {shape}")
        if not FINEST <= min(spacing) <= max(spacing) <= COARSEST:
            raise InvalidInputError(
                f"voxels of a patient must be in [{FINEST:g}, {COARSEST:g}] m, got {spacing} (millimetres?)"
            )
        highest = int(self.labels.voxels.max())
        if highest >= TISSUE_COUNT:
            raise InvalidInputError(f"labels hold tissue id {highest}; known are 0 .. {TISSUE_COUNT - 1}")

    @property
    def tissues(self) -> Volume:
        """The labels."""
        return self.labels


def content_digest(*parts: object) -> str:
    """Hex digest of tensors, and of anything JSON can write."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, Tensor):
            state.update(part.contiguous().numpy().tobytes())
        else:
            state.update(json.dumps(part, sort_keys=True).encode())
    return state.hexdigest()


FINEST, COARSEST = 5e-5, 0.02  # m: edges of a patient's voxels
FORMAT = "2"  # raise it where files of before can no longer be read


def anatomy_tensors(anatomy: Anatomy) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What :func:`sonogym.anatomy.cache.write_tensors` stores of an anatomy."""
    tensors = {
        "ct": anatomy.ct.voxels,
        "labels": anatomy.labels.voxels,
        "patient_from_voxel": anatomy.ct.patient_from_voxel.double(),
        **skin_tensors(anatomy.skin),
    }
    text = {
        "format": FORMAT,
        "name": anatomy.name,
        "digest": anatomy.digest,
        "landmarks": json.dumps({name: point.tolist() for name, point in anatomy.landmarks.items()}),
        "doubtful": json.dumps(dict(anatomy.doubtful)),
        "facts": json.dumps(dict(anatomy.facts)),
    }
    return tensors, text


def anatomy_from_tensors(tensors: Mapping[str, Tensor], text: Mapping[str, str]) -> Anatomy:
    """The anatomy that :func:`anatomy_tensors` described; raises :class:`InvalidInputError` for another format."""
    if text.get("format") != FORMAT:
        raise InvalidInputError(
            f"patient {text.get('name', '?')!r} is stored in format {text.get('format', '1')}, this sonogym reads "
            f"{FORMAT}: import it again"
        )
    name = text.get("name", "?")
    lacking = [key for key in _TENSORS if key not in tensors] + [key for key in _TEXTS if key not in text]
    if lacking:
        raise InvalidInputError(f"patient {name!r} is not whole: it lacks {', '.join(lacking)}; import it again")
    for key, dtype in _TENSORS.items():
        if tensors[key].dtype != dtype or (dtype.is_floating_point and not bool(tensors[key].isfinite().all())):
            raise InvalidInputError(f"patient {name!r}: {key} must be finite {dtype}, got {tensors[key].dtype}")
    matrix, points = tensors["patient_from_voxel"], _loaded(text, "landmarks")
    wrong = [key for key, point in points.items() if len(point) != 3 or not all(map(math.isfinite, point))]
    if wrong:
        raise InvalidInputError(f"patient {name!r}: landmarks must be three finite numbers, not so {', '.join(wrong)}")
    return Anatomy(
        name=name,
        skin=skin_from_tensors(tensors),
        landmarks={key: torch.tensor(point) for key, point in points.items()},
        digest=text["digest"],
        doubtful=_loaded(text, "doubtful"),
        ct=Volume(tensors["ct"], matrix),
        labels=Volume(tensors["labels"], matrix),
        facts=_loaded(text, "facts"),
    )


_TENSORS = {
    "ct": torch.int16, "labels": torch.uint8, "patient_from_voxel": torch.float64, "skin": torch.float32,
    "skin_patient_from_voxel": torch.float64,
}  # fmt: skip
_TEXTS = ("name", "digest", "landmarks", "doubtful", "facts")


def _loaded(text: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text[key]))
    except ValueError as error:
        raise InvalidInputError(f"patient {text['name']!r}: {key} are no JSON ({error}); import it again") from error


ANATOMY_FILE = "anatomy.safetensors"


def anatomy_digest(anatomy: Anatomy) -> str:
    """Names the content of an imported patient: voxels, skin, and landmarks."""
    places = {name: point.tolist() for name, point in anatomy.landmarks.items()}
    skin, matrix = anatomy.skin.distance.voxels, anatomy.ct.patient_from_voxel.tolist()
    return content_digest(anatomy.ct.voxels, anatomy.labels.voxels, skin, matrix, places)


def anatomy_file(folder: Path) -> Path:
    """Where a patient folder keeps its anatomy."""
    return folder / ANATOMY_FILE
