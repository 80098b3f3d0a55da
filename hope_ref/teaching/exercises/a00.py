"""Exercises of notebook A0: read an outer product without building it, two gradients, the largest overlap of many vectors."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.checks import to_numpy
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask_shaped, must_equal

WIDE = 1000  # entries of the vectors with which memory is measured: their outer product takes 8 MB
NORMS = "½‖Mk - v‖² is the loss: a sum of squares, without a root."


def _single(inputs: dict[str, Array]) -> dict[str, Array]:
    """The same in float32."""
    return {name: np.asarray(array, dtype=np.float32) for name, array in inputs.items()}


def _shape(got: Any) -> tuple[int, ...] | None:
    """The shape of an answer; None where it is no numbers, which `must_equal` says."""
    try:
        return None if got is None else to_numpy(got).shape
    except (TypeError, ValueError):
        return None


def _with_hint(mistakes: Callable[..., dict[str, Any]], hint: str) -> tuple[Any, str]:
    """An answer that makes the mistake whose hint holds these words."""
    return lambda *inputs: next(value for text, value in mistakes(*inputs).items() if hint in text), hint


# --- A0.1 -------------------------------------------------------------------------------------------------------------


MEETS = "The key meets the query, the value comes out: k · q is a number, and v is multiplied by it."


def _vectors(d_v: int, d_k: int) -> dict[str, Array]:
    """A value, a key of length 2, a query."""
    rng = np.random.default_rng(1)
    k = rng.normal(size=d_k)
    return {"v": rng.normal(size=d_v), "k": 2 * k / np.linalg.norm(k), "q": rng.normal(size=d_k)}


def _misread(v: Array, k: Array, q: Array) -> dict[str, Array]:
    """What the mistakes give where all vectors have as many entries."""
    length, answer = np.linalg.norm(k), v * (k @ q)
    return {
        MEETS: k * (v @ q),
        f"{MEETS} ": q * (v @ k),
        "k · q is one number: the products, added up.": v * k * q,
        f"Use k as it is; here ‖k‖ = {length:.0f}.": answer / length,
        f"Use k as it is; here ‖k‖ = {length:.0f}. Do not divide by ‖k‖².": answer / length**2,
        "Use k and q as they are, without their lengths divided out.": answer / length / np.linalg.norm(q),
        "The sign is turned: nothing is subtracted here.": -answer,
    }


def check_read_outer(function: Any) -> None:
    """(v, k, q) -> (v kᵀ) q: square, then 2 × 5; a query across the key, zeros, float32; then the memory that it takes."""
    square, wide = _vectors(3, 3), _vectors(2, 5)
    _read_as_matrix(function, "", square, _misread(**square))
    _read_as_matrix(function, "with d_v = 2 and d_k = 5 ", wide)
    across = wide["q"] - wide["k"] * (wide["k"] @ wide["q"]) / 4  # ‖k‖² = 4
    _read_as_matrix(function, "for a query at right angles to the key ", {**wide, "q": across})
    _read_as_matrix(function, "for a key of zeros ", {**wide, "k": np.zeros(5)})
    _read_as_matrix(function, "with float32 arrays ", _single(wide), bound=1e-5)
    large = _vectors(WIDE, WIDE)
    traced = tracemalloc.is_tracing()
    if not traced:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        ask_shaped(function, MEETS, **large)
        most = tracemalloc.get_traced_memory()[1] - before
    finally:
        if not traced:
            tracemalloc.stop()
    if most > 2 * WIDE**2:  # bytes: a quarter of the matrix
        raise WrongAnswer(
            "the result is right, but you build the matrix. For vectors of a million entries that is 10¹² entries; "
            "you need k · q only."
        )


def _read_as_matrix(
    function: Any, what: str, inputs: dict[str, Array], mistakes: Any = None, bound: float = 1e-9
) -> None:
    """Compare with the matrix v kᵀ, built entry by entry, times q."""
    v, k, q = (to_numpy(inputs[name]) for name in "vkq")
    want = np.array([[value * key for key in k] for value in v]) @ q
    got = ask_shaped(function, MEETS, **inputs)
    shape = _shape(got)
    if shape == () and not isinstance(got, str):
        raise WrongAnswer("you returned one number. k · q says how strongly v comes out: multiply v by it.")
    if shape in ((1, len(v)), (len(v), 1)):
        raise WrongAnswer(f"the answer has shape {shape}: return a vector, shape (d_v,) = ({len(v)},).")
    if shape == (len(v), len(k)):
        raise WrongAnswer(
            f"the answer has shape {shape}, it is a matrix: (v kᵀ) q sums over the entries of q."
        )
    if shape == k.shape != v.shape:
        raise WrongAnswer(f"the answer has as many entries as the key. {MEETS}")
    must_equal(f"{what}the answer", got, want, mistakes, bound)


def _read_outer(v: Array, k: Array, q: Array) -> Array:
    answer: Array = v * (k @ q)
    return answer


def _read_into_v(v: Array, k: Array, q: Array) -> Array:
    v *= k @ q
    return v


# --- A0.2 -------------------------------------------------------------------------------------------------------------


BACK = "An error travels back through Mᵀ: dk = Mᵀ e."


def _layer(rows: int, columns: int) -> dict[str, Array]:
    rng = np.random.default_rng(2)
    shapes = {"M": (rows, columns), "k": (columns,), "v": (rows,)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def _loss(M: Array, k: Array, v: Array) -> float:
    return float(np.sum((M @ k - v) ** 2) / 2)


def _slopes(inputs: dict[str, Array], name: str) -> Array:
    """Central differences of the loss; it is quadratic in each entry, so a large nudge is exact."""
    slopes = np.zeros(inputs[name].shape)
    for at in np.ndindex(slopes.shape):
        nudge = np.zeros(slopes.shape)
        nudge[at] = 0.5
        up, down = (_loss(**{**inputs, name: inputs[name] + sign * nudge}) for sign in (1, -1))
        slopes[at] = up - down
    return slopes


def _wrong_slopes(M: Array, k: Array, v: Array) -> Iterator[tuple[str, Array, Array]]:
    """Hint, dM and dk of each mistake that is made in the error."""
    error = M @ k - v
    for hint, e in (
        ("A small step along minus the gradient must lower the loss; along minus yours it rises.", -error),
        ("Twice too much: the ½ takes the 2.", 2 * error),
        ("v is missing in it: e = M k - v.", M @ k),
        ("M k is missing in it: e = M k - v.", -v),
        (NORMS, error / (np.linalg.norm(error) or 1.0)),
        ("The squares are added, not averaged.", error / len(error)),
    ):
        yield hint, np.outer(e, k), M.T @ e


def check_gradients(function: Any) -> None:
    """(M, k, v) -> (dM, dk): 4 × 3 against central differences; square, one entry, a right answer, float32."""
    _compare_slopes(function, "", _layer(4, 3))
    square = _layer(3, 3)
    error = square["M"] @ square["k"] - square["v"]
    _compare_slopes(function, "for a square M, ", square, np.outer(square["k"], error), square["M"] @ error)
    _compare_slopes(function, "for a 1 × 1 M, ", _layer(1, 1))
    right = _layer(4, 3)
    _compare_slopes(function, "where M k = v already, ", {**right, "v": right["M"] @ right["k"]})
    _compare_slopes(function, "with float32 arrays, ", _single(_layer(4, 3)), bound=1e-5)


def _compare_slopes(
    function: Any,
    what: str,
    inputs: dict[str, Array],
    turned: Any = None,
    through: Any = None,
    bound: float = 1e-9,
) -> None:
    """Both parts against central differences."""
    got = ask_shaped(
        function, f"Here M is {inputs['M'].shape}, and e has as many entries as v. {BACK}", **inputs
    )
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise WrongAnswer("return two things: dM, dk.")
    exact = {name: to_numpy(array) for name, array in inputs.items()}
    want = {name: _slopes(exact, name) for name in "Mk"}
    shapes = [_shape(part) for part in got]
    rows, columns = want["M"].shape
    if shapes == [want["k"].shape, want["M"].shape]:
        raise WrongAnswer("dM comes first, then dk.")
    if shapes[0] == (columns, rows) != (rows, columns):
        raise WrongAnswer(
            f"dM has shape {shapes[0]}, it should be {(rows, columns)}: the error first, the input second."
        )
    likely: dict[str, dict[str, Array]] = {"M": {}, "k": {}}
    for hint, dM, dk in _wrong_slopes(**exact):
        likely["M"][hint], likely["k"][hint] = dM, dk
    if turned is not None:
        likely["M"]["The error first, the input second."] = turned
        likely["k"][BACK] = through
    for name, part in zip("Mk", got, strict=True):
        must_equal(f"{what}d{name}", part, want[name], likely[name], bound)


def _gradients(M: Array, k: Array, v: Array) -> tuple[Array, Array]:
    error = M @ k - v
    return np.outer(error, k), M.T @ error


def _slopes_with_mistake(hint: str, which: str) -> tuple[Any, str]:
    """Wrong in dM and dk, or in dk alone."""

    def answer(M: Array, k: Array, v: Array) -> tuple[Array, Array]:
        dM, dk = next((dM, dk) for text, dM, dk in _wrong_slopes(M, k, v) if hint in text)
        return (dM if which == "both" else _gradients(M, k, v)[0]), dk

    return answer, hint


def _error_into_v(M: Array, k: Array, v: Array) -> tuple[Array, Array]:
    v -= M @ k
    return np.outer(-v, k), M.T @ -v


def _square_only(M: Array, k: Array, v: Array) -> tuple[Array, Array]:
    """Forward through M wherever the shapes allow it."""
    dM, dk = _gradients(M, k, v)
    return dM, M @ (M @ k - v) if len(k) == len(v) else dk


# --- A0.3 -------------------------------------------------------------------------------------------------------------


def _rows() -> Array:
    """Eight vectors of different lengths; the two that overlap most point in nearly opposite directions."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(8, 5)) * np.linspace(0.5, 3, 8)[:, None]
    x[6] = -0.4 * x[1] + 0.2 * rng.normal(size=5)
    return x


def _pair_by_pair(x: Array) -> list[float]:
    """cos of each two different rows."""
    pairs = [(a, b) for i, a in enumerate(x) for b in x[:i]]
    return [float(np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b))) for a, b in pairs]


def _misjudged(x: Array) -> dict[str, Any]:
    """What the mistakes give."""
    cosines = np.array(_pair_by_pair(x))
    sizes, n = np.abs(cosines), len(x)
    average, sign = "The largest, not the average.", "Opposite counts as similar here: take absolute values."
    columns = x / np.linalg.norm(x, axis=0)
    neighbours = [abs(_pair_by_pair(x[i : i + 2])[0]) for i in range(n - 1)]
    return {
        "Leave the diagonal out: that is a row with itself.": 1.0,
        sign: cosines.max(),
        f"{sign} ": cosines.min(),
        average: sizes.mean(),
        f"{average} ": (2 * sizes.sum() + n) / n**2,
        f"{average}  ": cosines.mean(),
        f"{average} A root mean square is one, too.": np.sqrt(np.mean(cosines**2)),
        "Take the root: that is cos².": sizes.max() ** 2,
        "Divide each row by its own length, not each column.": _off_diagonal(columns @ columns.T).max(),
        "The vectors are the rows.": max(map(abs, _pair_by_pair(x.T))),
        "Every two rows count, not neighbours alone.": max(neighbours),
        "That is the smallest overlap.": sizes.min(),
    }


def _off_diagonal(table: Array) -> Array:
    entries: Array = np.abs(table[~np.eye(len(table), dtype=bool)])
    return entries


def check_largest_overlap(function: Any) -> None:
    """x -> max |cos|: lengths that differ; two rows, a row three times another, right angles, many rows, float32."""
    x = _rows()
    rng = np.random.default_rng(4)
    _compare_overlap(function, "", x, _misjudged(x))
    opposite = {"Opposite counts as similar here: take absolute values.": -1.0}
    for what, other, likely in (
        ("of two rows ", x[:2], None),
        ("of rows of which one is -3 times another ", np.vstack([x[:3], -3 * x[1]]), opposite),
        ("of rows at right angles ", np.diag([0.5, 2.0, 3.0]), None),
        ("of 40 rows in 2 dimensions ", rng.normal(size=(40, 2)), None),
        ("of rows of length 0.001 and 1,000 ", x * np.logspace(-3, 3, 8)[:, None], None),
    ):
        _compare_overlap(function, what, other, likely)
    _compare_overlap(function, "with float32 rows ", x.astype(np.float32), bound=1e-5)


def _compare_overlap(
    function: Any, what: str, x: Array, likely: dict[str, Any] | None = None, bound: float = 1e-9
) -> None:
    got = ask_shaped(
        function, "x has one vector in each row: lengths are norms along axis 1, as a column.", x=x
    )
    if _shape(got) == () and to_numpy(got) > 1 + 1e-5:
        raise WrongAnswer(
            f"{what}the largest overlap is {float(got):.3g}, and no cosine is above 1: "
            "divide by the lengths of both rows."
        )
    want = max(map(abs, _pair_by_pair(to_numpy(x))))
    must_equal(f"{what}the largest overlap", got, want, likely, bound)


def _largest_overlap(x: Array) -> float:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return float(_off_diagonal(unit @ unit.T).max())


def _below_one(x: Array) -> float:
    """Leaves the diagonal out by its value."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    table = np.abs(unit @ unit.T)
    return float(table[table < 1 - 1e-9].max(initial=0.0))


def _normalises_x(x: Array) -> float:
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return _largest_overlap(x)


EXERCISES = (
    Exercise(
        "A0.1",
        "read an outer product without building the matrix",
        check_read_outer,
        _read_outer,
        (
            (lambda v, k, q: k * (v @ q), "The key meets the query, the value comes out"),
            (lambda v, k, q: q * (v @ k), "The key meets the query, the value comes out"),
            (lambda v, k, q: v * k * q, "k · q is one number"),
            (lambda v, k, q: v * (k @ q) / np.linalg.norm(k), "Use k as it is; here ‖k‖ = 2."),
            (lambda v, k, q: v * (k @ q) / (k @ k), "Do not divide by ‖k‖²"),
            _with_hint(_misread, "Use k and q as they are"),
            (lambda v, k, q: -v * (k @ q), "The sign is turned"),
            (lambda v, k, q: (v * (k @ q))[None], "return a vector, shape (d_v,)"),
            (lambda v, k, q: (v * (k @ q))[:, None], "return a vector, shape (d_v,)"),
            (lambda v, k, q: k @ q, "you returned one number"),
            (lambda v, k, q: np.outer(v, k) * q, "it is a matrix"),
            (lambda v, k, q: np.outer(v, k) @ q, "10¹² entries; you need k · q only"),
            (lambda v, k, q: np.outer(v, q) @ k, "10¹² entries; you need k · q only"),
            (lambda v, k, q: v * (k @ q) if len(v) == len(k) else k, "as many entries as the key"),
            (lambda v, k, q: v * (k @ q) / (k @ k) * 4, "for a key of zeros"),
            (_read_into_v, "you changed v in place"),
        ),
    ),
    Exercise(
        "A0.2",
        "differentiate half the squared error by the matrix and by its input",
        check_gradients,
        _gradients,
        (
            (
                lambda M, k, v: (np.outer(k, M @ k - v), M.T @ (M @ k - v)),
                "the error first, the input second",
            ),
            (lambda M, k, v: (np.outer(M @ k - v, k), M @ (M @ k - v)), "travels back through Mᵀ"),
            (_square_only, "travels back through Mᵀ"),
            *(
                _slopes_with_mistake(hint, which)
                for which in ("both", "dk alone")
                for hint in (
                    "must lower the loss",
                    "the ½ takes the 2",
                    "v is missing",
                    "M k is missing",
                    "a sum of squares, without a root",
                    "not averaged",
                )
            ),
            (lambda M, k, v: _gradients(M, k, v)[::-1], "dM comes first"),
            (lambda M, k, v: _gradients(M, k, v)[0], "return two things"),
            (lambda M, k, v: (M @ k - v, M.T @ (M @ k - v)), "dM has shape (4,), it should be (4, 3)"),
            (_error_into_v, "you changed v in place"),
        ),
    ),
    Exercise(
        "A0.3",
        "find the largest overlap of two different rows",
        check_largest_overlap,
        _largest_overlap,
        (
            *(
                _with_hint(_misjudged, hint)
                for hint in (
                    "Leave the diagonal out",
                    "Opposite counts as similar",
                    "not the average",
                    "A root mean square is one, too",
                    "Take the root",
                    "not each column",
                    "The vectors are the rows",
                    "not neighbours alone",
                    "the smallest overlap",
                )
            ),
            (lambda x: min(_pair_by_pair(x)), "Opposite counts as similar"),
            (lambda x: np.mean(_pair_by_pair(x)), "not the average"),
            (lambda x: _off_diagonal(x @ x.T).max(), "divide by the lengths"),
            (lambda x: (x @ x.T).max(), "divide by the lengths"),
            (lambda x: _off_diagonal(x / np.linalg.norm(x, axis=1) @ x.T).max(), "one vector in each row"),
            (_below_one, "one is -3 times another"),
            (_normalises_x, "you changed x in place"),
        ),
    ),
)
