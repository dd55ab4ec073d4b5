"""Patients by name: ``procedural:train``, ``procedural:test/7``, ``procedural:test/0-31``, or an imported folder.

Any of them followed by ``+warp3`` or ``+warp0-15`` is a smooth deformation of it (:mod:`sonogym.anatomy.warps`).
"""

from __future__ import annotations

import difflib
from pathlib import Path

from sonogym.anatomy.anatomy import Anatomy, anatomy_file, anatomy_from_tensors
from sonogym.anatomy.cache import read_tensors
from sonogym.errors import InvalidInputError, MissingFileError, unknown_name

SPLITS = {"train": range(0, 1000), "val": range(1000, 1100), "test": range(1100, 1300), "findings": range(1300, 1400)}
_PROCEDURAL = "procedural:"
WARP = "+warp"


def resolve_patients(spec: str, limit: int | None = None) -> list[str]:
    """Names of single patients behind ``spec``: ``procedural:<split>[/i[-j]]``, or folder(s) separated by commas.

    A folder holds an imported patient or sub-folders that do; ``+warp<i>[-j]`` deforms each. ``limit`` keeps the first.
    """
    spec, warped, seeds = spec.partition(WARP)
    if warped:
        first, last = _range(seeds, f"{spec}{WARP}{seeds}")
        originals = resolve_patients(spec)
        return [f"{name}{WARP}{seed}" for seed in range(first, last + 1) for name in originals][:limit]
    if spec.startswith(_PROCEDURAL):
        names = [f"{_PROCEDURAL}{split}/{i}" for split, i in _indices(spec.removeprefix(_PROCEDURAL))]
    else:
        names = [name for part in spec.split(",") for name in _folders(Path(part))]
    return names[:limit]


def _indices(body: str) -> list[tuple[str, int]]:
    split, _, part = body.partition("/")
    if split not in SPLITS:
        raise unknown_name("patient split", split, SPLITS)
    first, last = _range(part, body) if part else (0, len(SPLITS[split]) - 1)
    if not 0 <= first <= last < len(SPLITS[split]):
        raise InvalidInputError(f"patient {body!r}: split {split!r} has numbers 0 .. {len(SPLITS[split]) - 1}")
    return [(split, i) for i in range(first, last + 1)]


def _range(text: str, name: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    if not low.isdecimal() or not (high or low).isdecimal():
        raise InvalidInputError(f"patient {name!r}: expected NUMBER or FIRST-LAST, got {text!r}")
    return int(low), int(high or low)


def _folders(folder: Path) -> list[str]:
    if anatomy_file(folder).is_file():
        return [str(folder)]
    inner = sorted(str(path.parent) for path in folder.glob(f"[!.]*/{anatomy_file(Path()).name}"))
    if not inner:
        beside = [str(path.parent) for path in folder.parent.glob(f"[!.]*/{anatomy_file(Path()).name}")]
        closest = difflib.get_close_matches(str(folder), beside, n=1, cutoff=0.4)
        hint = f" Did you mean {closest[0]!r}?" if closest else ""
        raise MissingFileError(
            f"no patient {str(folder)!r}.{hint} It is neither an imported folder (sonogym anatomy import) nor "
            f"procedural:{'|'.join(SPLITS)}[/NUMBER]"
        )
    return inner


def load_patient(name_or_dir: str | Path, spacing: float = 1.5e-3) -> Anatomy:
    """One patient by name or folder; procedural ones are generated at ``spacing`` [m] and cached.

    Raises :class:`UnknownNameError`, :class:`MissingFileError` or :class:`InvalidInputError`.
    """
    names = resolve_patients(str(name_or_dir))
    if len(names) != 1:
        raise InvalidInputError(f"{name_or_dir!r} names {len(names)} patients; pick one, such as {names[0]!r}")
    original, warped, seed = names[0].partition(WARP)
    if warped:
        from sonogym.anatomy.warps import warp_anatomy

        return warp_anatomy(load_patient(original, spacing), int(seed))
    if names[0].startswith(_PROCEDURAL):
        from sonogym.anatomy.patients import load_procedural

        split, index = _indices(names[0].removeprefix(_PROCEDURAL))[0]
        return load_procedural(SPLITS[split][index], spacing, names[0])
    return anatomy_from_tensors(*read_tensors(anatomy_file(Path(names[0]))))
