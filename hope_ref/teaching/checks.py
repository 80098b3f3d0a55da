"""`check`: compare two computations, print a bound, never a float; raise when they differ."""

from __future__ import annotations

from typing import Any

import numpy as np

_passed: list[str] = []


class CheckFailed(AssertionError):
    """A check did not hold. Shown without a stack of library frames in a notebook."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for this instead of a traceback
        return [f"check failed: {self}"]


def to_numpy(value: Any) -> np.ndarray:
    """Return numbers, arrays, tensors (also on a GPU, also with gradients) or SymPy matrices as a float64 array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value, dtype=np.float64)


def check(claim: str, got: Any, want: Any, bound: float = 1e-12) -> None:
    """Print ``ok`` and the bound if max|got - want| < bound (scaled by max(1, max|want|)); raise CheckFailed if not.

    Args:
        claim: what is being compared, e.g. ``"chunked == token by token"``.
        got, want: numbers, arrays, tensors or SymPy matrices of numbers; shapes must be equal.
        bound: a power of ten; the difference itself is not printed, because its last digits are the machine's.
    """
    left, right = to_numpy(got), to_numpy(want)
    if left.shape != right.shape:
        raise CheckFailed(f"{claim}: shapes differ, got {left.shape}, want {right.shape}")
    difference = np.abs(left - right).max(initial=0.0)
    scale = max(1.0, float(np.abs(right).max(initial=0.0)))
    if not difference < bound * scale:  # written so that NaN fails
        raise CheckFailed(f"{claim}: max|Δ| = {difference:.1e}, allowed {bound * scale:.0e}")
    _passed.append(claim)
    print(f"ok  {claim}   max|Δ| < {bound:.0e}")


def check_true(claim: str, holds: Any) -> None:
    """Print ``ok`` if the statement is true; raise CheckFailed if not. For orderings, counts and proofs."""
    if not bool(holds):
        raise CheckFailed(f"{claim}: false")
    _passed.append(claim)
    print(f"ok  {claim}")


def reset() -> None:
    """Forget the checks that have passed: a notebook starts with this."""
    _passed.clear()


def what_you_proved() -> None:
    """Print the list of all checks that have passed since `reset`."""
    print(f"{len(_passed)} checks passed in this notebook:")
    for claim in _passed:
        print(f"  · {claim}")
