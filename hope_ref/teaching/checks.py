"""`check`: compare two computations, print the bound that was used; say where they differ if they do."""

from __future__ import annotations

from typing import Any

import numpy as np

_passed: dict[str, None] = {}  # in order, each claim once, however often its cell was run
_solved: dict[str, bool] = {}  # exercises that were tried, and whether they are solved


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
    """Print ``ok`` and the bound if max|got - want| < bound · max(1, max|want|); raise CheckFailed if not.

    Args:
        claim: what is being compared, e.g. ``"chunked == token by token"``.
        got, want: numbers, arrays, tensors or SymPy matrices of numbers; shapes must be equal.
        bound: a power of ten; the difference itself is not printed, because its last digits are the machine's.
    """
    left, right = to_numpy(got), to_numpy(want)
    if left.shape != right.shape:
        raise CheckFailed(f"{claim}: shapes differ, got {left.shape}, want {right.shape}")
    for name, values in (("got", left), ("want", right)):
        if not np.isfinite(values).all():
            at = first_place(~np.isfinite(values))
            raise CheckFailed(
                f"{claim}: {name}{_index(at)} is {values[at]}, an overflow or an undefined number"
            )
    difference = np.abs(left - right)
    largest = float(np.abs(right).max(initial=0.0))
    allowed = bound * max(1.0, largest)
    if difference.size and not difference.max() < allowed:
        at = first_place(difference == difference.max())
        one, other = apart(float(left[at]), float(right[at]))
        by, limit = apart(float(difference[at]), allowed, digits=2)
        many = f", {(~(difference < allowed)).sum()} of {difference.size} entries differ" if len(at) else ""
        raise CheckFailed(
            f"{claim}: got{_index(at)} is {one}, want {other}: max|Δ| = {by}, allowed {limit}{many}"
        )
    _passed[claim] = None
    relative = f" ({bound:.0e} of the largest, {largest:.2g})" if largest > 1 else ""
    print(f"ok  {claim}   max|Δ| < {allowed:.2g}{relative}")


def check_true(claim: str, holds: Any) -> None:
    """Print ``ok`` if the statement is true; raise CheckFailed if not. For orderings, counts and proofs."""
    if not bool(holds):
        raise CheckFailed(f"{claim}: false")
    _passed[claim] = None
    print(f"ok  {claim}")


def reset() -> None:
    """Forget checks that have passed and exercises that were tried: a notebook starts with this."""
    _passed.clear()
    _solved.clear()


def tried(exercise: str, solved: bool) -> None:
    """Remember that an exercise was tried; once solved, it stays so."""
    _solved[exercise] = solved or _solved.get(exercise, False)


def what_you_checked() -> None:
    """Print which exercises are solved, and every claim that was checked since `reset`, once."""
    solved = [name for name, right in _solved.items() if right]
    if _solved:
        names = f": {', '.join(solved)}" if solved else ""
        print(f"{len(solved)} of {len(_solved)} exercises solved{names}")
    print(f"{len(_passed)} claims checked in this notebook:")
    for claim in _passed:
        print(f"  · {claim}")


# --- words for a difference -------------------------------------------------------------------------------------------


def first_place(where: np.ndarray) -> tuple[int, ...]:
    """The index of the first True."""
    return tuple(int(i) for i in np.argwhere(where)[0])


def _index(at: Any) -> str:
    """[1, 2], or nothing for a single number."""
    return f"[{', '.join(str(int(i)) for i in at)}]" if len(at) else ""


def apart(one: float, other: float, digits: int = 4) -> tuple[str, str]:
    """Both numbers with as many digits as it takes to tell them apart, at least ``digits``."""
    for precision in range(digits, 18):
        texts = f"{one:.{precision}g}", f"{other:.{precision}g}"
        if texts[0] != texts[1]:
            break
    return texts
