"""Read the data shipped in ``assets/`` by name."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from sonogym.errors import unknown_name

ASSETS = "sonogym.assets"


def asset_names(folder: str, suffix: str) -> list[str]:
    """Names (without ``suffix``) of the assets in ``folder``, sorted."""
    entries = resources.files(ASSETS).joinpath(folder).iterdir()
    return sorted(entry.name.removesuffix(suffix) for entry in entries if entry.name.endswith(suffix))


def asset_path(folder: str, name: str, suffix: str, kind: str) -> Path:
    """Path of one asset; raises :class:`UnknownNameError` listing the known ones."""
    path = Path(str(resources.files(ASSETS).joinpath(folder, name + suffix)))
    if not path.is_file():
        raise unknown_name(kind, name, asset_names(folder, suffix))
    return path


def read_toml(folder: str, name: str, kind: str) -> dict[str, Any]:
    """The content of ``assets/<folder>/<name>.toml``."""
    return tomllib.loads(asset_path(folder, name, ".toml", kind).read_text(encoding="utf-8"))
