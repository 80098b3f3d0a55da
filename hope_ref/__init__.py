"""HOPE and Nested Learning: derived in SymPy, stated in NumPy, computed in PyTorch, and proven equal.

    import torch
    from hope_ref import Hope, HopeConfig

    model = Hope(HopeConfig(width=64, heads=2, vocabulary=256, blocks=2))
    logits, state = model(torch.randint(256, (8, 128)))

The three floors hold the same concepts under the same names:

* ``hope_ref.symbolic``  derives each equation and proves it (SymPy only);
* ``hope_ref.reference`` states it, one token at a time, in float64 (NumPy only);
* ``hope_ref.parallel``  computes it in chunks, with batch and heads, on CPU or CUDA (PyTorch).

``hope_ref.agreement`` holds the floors against each other; ``python -m hope_ref verify`` shows the result.
``import hope_ref`` loads nothing but NumPy: PyTorch is loaded when one of the names below is first used.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hope_ref import notation
from hope_ref.config import HopeConfig

if TYPE_CHECKING:
    from hope_ref.parallel.delta_gradient_descent import DeltaGradientDescent
    from hope_ref.parallel.delta_rule import delta_rule, gated_delta_rule
    from hope_ref.parallel.hope import Hope, HopeState
    from hope_ref.parallel.hope_adaptation import AdaptationState
    from hope_ref.parallel.linear_attention import linear_attention
    from hope_ref.parallel.m3 import M3
    from hope_ref.parallel.self_modifying_titans import self_modifying_titans
    from hope_ref.parallel.shared_gain import shared_gain
    from hope_ref.parallel.titans import titans

__all__ = [
    "M3",
    "AdaptationState",
    "DeltaGradientDescent",
    "Hope",
    "HopeConfig",
    "HopeState",
    "__version__",
    "delta_rule",
    "gated_delta_rule",
    "linear_attention",
    "load",
    "notation",
    "self_modifying_titans",
    "shared_gain",
    "titans",
]
__version__ = "0.1.0"
# A tiny HOPE, trained on Python's own manual: what `Hope.save` wrote, and in run.json how it was made.
SHIPPED = Path(__file__).parent / "training" / "shipped"

_HOME = {
    "M3": "m3",
    "AdaptationState": "hope_adaptation",
    "DeltaGradientDescent": "delta_gradient_descent",
    "Hope": "hope",
    "HopeState": "hope",
    "delta_rule": "delta_rule",
    "gated_delta_rule": "delta_rule",
    "linear_attention": "linear_attention",
    "self_modifying_titans": "self_modifying_titans",
    "shared_gain": "shared_gain",
    "titans": "titans",
}  # the module of hope_ref.parallel that a name comes from


def load(folder: str | Path = "tiny", device: str = "cpu") -> Hope:
    """A trained model: from a folder that `Hope.save` wrote, or "tiny", the one in this package (bytes of Python's manual).

    Raises: ValueError if the folder holds something else; OSError if it cannot be read.
    """
    from hope_ref.parallel.hope import Hope

    return Hope.load(SHIPPED if str(folder) == "tiny" else folder, device)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hope_ref' has no attribute {name!r}")
    value = getattr(import_module(f"hope_ref.parallel.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
