"""sonogym: a robotic-ultrasound simulator and reinforcement-learning gym."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sonogym.registry import load, register_environments

if TYPE_CHECKING:
    from sonogym.anatomy.library import load_patient as load_patient
    from sonogym.ultrasound.renderer import Renderer as Renderer
    from sonogym.ultrasound.transducer import load_probe as load_probe

__version__ = "0.1.0"
__all__ = ["Renderer", "__version__", "load_patient", "load_probe"]

_LAZY = {
    "Renderer": "sonogym.ultrasound.renderer:Renderer",
    "load_patient": "sonogym.anatomy.library:load_patient",
    "load_probe": "sonogym.ultrasound.transducer:load_probe",
}


def __getattr__(name: str) -> Any:
    """Heavy names are imported at first use, so that ``import sonogym`` stays quick."""
    if name in _LAZY:
        return load(_LAZY[name])
    raise AttributeError(f"module 'sonogym' has no attribute {name!r}")


register_environments()
