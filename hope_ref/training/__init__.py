"""Training: one loop from a laptop's CPU to several GPUs, on text, resumable bit for bit. For notebooks and the command line.

Its names are loaded when they are used: where the shipped model lies is known without PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hope_ref import SHIPPED as SHIPPED

if TYPE_CHECKING:
    from hope_ref.training.evaluation import Trained, Worth, bits_per_byte, evaluate, generate, trained
    from hope_ref.training.loop import Outcome, train
    from hope_ref.training.presets import PRESETS
    from hope_ref.training.settings import Run, TrainingSettings

__all__ = [
    "PRESETS",
    "SHIPPED",
    "Outcome",
    "Run",
    "Trained",
    "TrainingSettings",
    "Worth",
    "bits_per_byte",
    "evaluate",
    "generate",
    "train",
    "trained",
]

_MODULES = {
    "evaluation": ("Trained", "Worth", "bits_per_byte", "evaluate", "generate", "trained"),
    "loop": ("Outcome", "train"),
    "presets": ("PRESETS",),
    "settings": ("Run", "TrainingSettings"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
