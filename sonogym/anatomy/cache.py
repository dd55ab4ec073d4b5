"""Files keyed by content hash, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sonogym.errors import InvalidInputError, MissingFileError

CACHE_VARIABLE = "SONOGYM_CACHE"


def cache_folder() -> Path:
    """``$SONOGYM_CACHE``, else ``~/.cache/sonogym``."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "sonogym")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it: readers see all of it or nothing.

    A full disk or missing right becomes one :class:`InvalidInputError`; the temporary file is removed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise InvalidInputError(f"cannot write {path}: {error.strerror or error}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise InvalidInputError(f"cannot write {path}: {error} (nothing was left behind)") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], text: Mapping[str, str]) -> None:
    """Store named tensors and strings as one safetensors file, atomically."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda temporary: save_file(contiguous, temporary, metadata=dict(text)))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What :func:`write_tensors` stored; a missing or damaged file is refused by name."""
    if not path.is_file():
        raise MissingFileError(f"no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except SafetensorError as error:
        raise InvalidInputError(
            f"{path} is not a whole safetensors file ({error}); delete it and make it again"
        ) from error
