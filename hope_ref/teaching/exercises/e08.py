"""Exercises of notebook 08: the clock of a level, the first echo of a token, and the largest stable rate of a chunk."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.exercise import Exercise, ask, ask_named, must_equal, unchanged


def _call(function: Any, arguments: dict[str, Any]) -> tuple[Any, list[str]]:
    with np.errstate(all="ignore"):
        return ask_named(function, arguments)


SPOILT = "right values, but you changed {} in place; the caller still needs it. Make a new array."


# --- 08.1 ---------------------------------------------------------------------------------------------------------


def _path(theta: Array, signals: Array, size: int, eta: float) -> Array:
    open_sum, path = np.zeros_like(theta), []
    for i, f in enumerate(signals):
        open_sum = open_sum + f
        if (i + 1) % size == 0:
            theta, open_sum = theta - eta * open_sum, np.zeros_like(theta)
        path.append(theta)
    return np.stack(path)


def _slipping(theta: Array, signals: Array, size: int, eta: float, slip: str) -> Array:
    """θ after every token, each a window of signals applied at a boundary, with a slip by its name."""
    first, path = theta, []
    step = {"mean": eta / size, "plus": -eta, "no rate": 1.0}.get(slip, eta)
    for i in range(len(signals)):
        old, begin = theta, i + 1 - size
        moves = {"one early": i % size == 0, "one late": i > 0 and i % size == 0, "every token": True}
        begin = {"both ends": begin - 1, "never emptied": 0, "every token": i, "newest": i}.get(slip, begin)
        if slip == "one late" and i == size:
            begin = 0
        if moves.get(slip, (i + 1) % size == 0):
            theta = (first if slip == "from the start" else theta) - step * signals[
                max(begin, 0) : i + 1
            ].sum(0)
        path.append(
            {"reads first": old, "zero": np.zeros_like(old) if theta is old else theta}.get(slip, theta)
        )
    if slip == "flushed":
        path[-1] = theta - eta * signals[len(signals) - len(signals) % size :].sum(0)
    return np.stack([theta] * len(path) if slip == "one array" else path)


_CLOCK = {
    "zero": "Between two boundaries θ is what it was: what is 0 there is its update.",
    "both ends": "That sum has C + 1 terms: the boundary token is counted in two chunks.",
    "never emptied": "The sum is never emptied: every chunk adds up its own tokens only.",
    "newest": "Only the newest signal is in it: a chunk adds up all C of them.",
    "one early": "You move after token 0, which is no full chunk: tokens count from 0, so i + 1 of them have come.",
    "one late": "You move one token late: after token C - 1 C tokens have come. Tokens count from 0: test i + 1.",
    "flushed": "The last, partial chunk is carried, not applied.",
    "every token": "That moves with every token: within a chunk θ must hold still.",
    "mean": "That is the mean over the chunk; [S 15] adds up.",
    "plus": "θ goes against the signals: minus η times their sum.",
    "no rate": "The sum has the factor η.",
    "reads first": "You note θ before the move: row i is θ after token i, with the move that this token sets off.",
    "from the start": "Each move starts from where θ is; yours starts from the first θ, and earlier chunks are lost.",
    "one array": "All rows are the last θ: `theta -= …` changes the array that is in your list already. "
    "Write theta = theta - …, or store a copy.",
}


def check_clock(function: Any) -> None:
    """(theta, signals, C, eta) -> θ after every token: a table of which signals each θ contains, one matrix product."""
    rng = np.random.default_rng(801)
    theta, eta = rng.normal(size=3), 0.3
    for length, size in ((11, 4), (6, 3), (2, 5), (4, 4), (3, 1)):
        signals = rng.normal(size=(length, 3))
        contains = np.arange(length) < size * (
            np.arange(1, length + 1)[:, None] // size
        )  # (after token, signal)
        arguments = {"theta": theta, "signals": signals, "size": size, "eta": eta}
        got, changed = _call(function, arguments)
        must_equal(
            f"{length} tokens with C = {size}: θ",
            got,
            theta - eta * contains @ signals,
            {hint: _slipping(theta, signals, size, eta, slip) for slip, hint in _CLOCK.items()},
        )
        unchanged(changed, SPOILT)


def _moves_in_place(theta: Array, signals: Array, size: int, eta: float) -> Array:
    path = np.zeros_like(signals)
    for i in range(len(signals)):
        if (i + 1) % size == 0:
            theta -= eta * signals[i + 1 - size : i + 1].sum(0)
        path[i] = theta
    return path


def _one_array(theta: Array, signals: Array, size: int, eta: float) -> list[Array]:
    path, open_sum = [], np.zeros_like(theta)
    for i, f in enumerate(signals):
        open_sum += f
        if (i + 1) % size == 0:
            theta -= eta * open_sum
            open_sum[:] = 0
        path.append(theta)
    return path


# --- 08.2 ---------------------------------------------------------------------------------------------------------


def _first_echo(t: int, sizes: tuple[int, ...]) -> int:
    return min(size * (t // size + 1) for size in sizes)


def _heard(t: int, sizes: tuple[int, ...]) -> int:
    """Change token t of a chain of scalar levels and look for the first later output that moves."""
    length = t + 2 * max(sizes)
    runs: list[Array] = []
    for nudge in (0.0, 1.0):
        theta, sums, outputs = [0.1] * len(sizes), [0.0] * len(sizes), []
        for i in range(length):
            z = np.sin(3.0 * i) + (nudge if i == t else 0.0)
            for level, w in enumerate(theta):
                sums[level] += np.cos(z)
                z = z + w * np.tanh(z)
            outputs.append(z)
            for level, size in enumerate(sizes):
                if (i + 1) % size == 0:
                    theta[level], sums[level] = theta[level] + 0.01 * sums[level], 0.0
        runs.append(np.array(outputs))
    later = np.abs(runs[0] - runs[1])[t + 1 :] > 0
    return t + 1 + int(np.argmax(later))


def _echoes(t: int, sizes: tuple[int, ...]) -> dict[str, int]:
    """Hint -> the token that this mistake gives."""
    ends = [size * (t // size + 1) for size in sizes]  # the first token of the next chunk, level by level
    return {
        "That is the last token of the chunk: the level moves after it, so the next one is the first to notice.": min(
            ends
        )
        - 1,
        "Tokens count from 0: the chunk of token t has the number ⌊t/C⌋, not ⌊(t + 1)/C⌋.": min(
            size * ((t + 1) // size + 1) for size in sizes
        ),
        "C ⌈t/C⌉ is t itself where t starts a chunk: the chunk of t ends at C (⌊t/C⌋ + 1).": min(
            size * -(-t // size) for size in sizes
        ),
        "That is the slow level's boundary: a faster one may move before.": max(ends),
        "The chunk of the fast level may end later than another's: look at all of them.": ends[0],
        "That counts C tokens from t on: the clock of a level does not start at t.": t + min(sizes),
        "That is a whole chunk of the slow level after t: the clock of a level does not start at t.": t
        + max(sizes),
        "Nobody knows token t at once: a level moves at the end of its chunk.": t + 1,
        "That is how long it takes; asked is the token.": min(ends) - t,
        "That is the number of the chunk: its first token is C times that.": min(
            t // size + 1 for size in sizes
        ),
    }


def check_echo(function: Any) -> None:
    """(t, sizes) -> the first other output that can notice token t: compared with perturbed runs of a chain of levels."""
    for t, sizes in ECHOES:
        must_equal(
            f"the first echo of token {t} with chunks of {', '.join(map(str, sizes))}",
            ask(function, t, sizes),
            _heard(t, sizes),
            _echoes(t, sizes),
        )


ECHOES: tuple[tuple[int, tuple[int, ...]], ...] = (
    (6, (5, 6, 9)),
    (1, (4, 6, 10)),
    (4, (4, 6, 10)),
    (5, (4, 6)),
    (9, (4, 10)),
    (8, (8, 32)),
    (0, (1, 3)),
    (2, (7,)),
)


# --- 08.3 ---------------------------------------------------------------------------------------------------------


def _largest_rate(x: Array) -> float:
    return float(2 / np.linalg.eigvalsh(x.T @ x).max())


def _by_search(x: Array) -> float:
    """Bisect for the η at which a layer that gets this chunk again and again stops settling: literal steps, rescaled."""
    rng = np.random.default_rng(803)
    low, high = 0.0, 4.0 / float((x**2).sum(1).max())
    for _ in range(45):
        eta, growth = (low + high) / 2, 0.0
        w: Any = rng.normal(size=x.shape[1])
        for _ in range(250):
            w = w / (np.linalg.norm(x @ w) or 1.0)
            w = w + eta * (0 - x @ w) @ x  # wanted: 0
            growth = float(np.linalg.norm(x @ w))
        low, high = (low, eta) if growth > 1 else (eta, high)
    return low


@lru_cache(maxsize=1)
def _searched() -> list[tuple[str, Array, float]]:
    """Chunks of inputs by name, and the rate that the search finds for each; small inputs, so that rates are above 1."""
    rng = np.random.default_rng(804)
    row = rng.normal(size=6) / 10
    crowd = rng.normal(size=(12, 6)) / 10
    chunks = {
        "12 inputs": crowd,
        "one input 8 times": np.tile(row, (8, 1)),
        "12 inputs that lean one way": crowd + row,
        "3 inputs of 6 numbers": crowd[:3],
        "a single input": row[None],
    }
    return [(name, x, _by_search(x)) for name, x in chunks.items()]


def _rates(x: Array) -> dict[str, float]:
    """Hint -> the rate that this mistake gives."""
    squares = (x**2).sum(1)
    values = np.linalg.eigvalsh(x.T @ x)
    top = float(values.max())
    return {
        "That takes all C inputs for one and the same; different ones do not add up along one direction.": 2
        / float(squares.sum()),
        "That is the bound of a single step: the C steps of a chunk add up.": 2 / float(squares.max()),
        "That is the bound of a single mean input: the C steps of a chunk add up.": 2 / float(squares.mean()),
        "That is half of it: up to 2/λ_max the factor 1 - η λ_max stays above -1.": 1 / top,
        "Take the direction that the inputs share most: the largest eigenvalue of Σ x xᵀ, not the smallest.": 2
        / max(float(values.min()), 1e-300),
        "The eigenvalue of Σ x xᵀ is the singular value of X squared.": 2 / float(np.sqrt(top)),
        "The steps of a chunk are added up, not averaged: Σ x xᵀ, without 1/C.": 2 * len(x) / top,
        "That is λ_max itself; η is 2/λ_max.": top,
        "The inputs are not one long vector: Σ x xᵀ, not (Σ x)(Σ x)ᵀ.": 2 / float((x.sum(0) ** 2).sum()),
        "The mean is not taken off: Σ x xᵀ is no covariance.": 2
        / max(float(np.linalg.eigvalsh((x - x.mean(0)).T @ (x - x.mean(0))).max()), 1e-300),
        "That is the mean eigenvalue; the largest one leaves (-1, 1) first.": 2 / float(values.mean()),
    }


def check_rate(function: Any) -> None:
    """(x) -> the largest stable η of a chunk with inputs x: compared with a search over literal steps."""
    for name, x, found in _searched():
        got, changed = _call(function, {"x": x})
        must_equal(f"the largest stable η for {name}", got, found, _rates(x), bound=1e-6)
        unchanged(changed, SPOILT)


EXERCISES = (
    Exercise(
        "08.1",
        "write the clock of a level: θ after every token",
        check_clock,
        _path,
        (
            *((partial(_slipping, slip=slip), hint) for slip, hint in _CLOCK.items()),
            (_one_array, "All rows are the last θ"),
            (_moves_in_place, "you changed theta in place"),
            (lambda *given: _path(*given)[-1], "it should be (11, 3)"),
            (lambda *given: _path(*given).astype(np.float32), "float32"),
        ),
    ),
    Exercise(
        "08.2",
        "find the first output that can notice a token",
        check_echo,
        _first_echo,
        tuple((lambda t, sizes, hint=hint: _echoes(t, sizes)[hint], hint) for hint in _echoes(6, (5, 6, 9))),
    ),
    Exercise(
        "08.3",
        "find the largest stable rate of a chunk",
        check_rate,
        _largest_rate,
        (
            *((lambda x, hint=hint: _rates(x)[hint], hint) for hint in _rates(np.eye(2))),
            (lambda x: np.linalg.eigvalsh(x.T @ x), "it should be ()"),
            (lambda x: (2 / np.linalg.eigvalsh(x.T @ x).max(), x.fill(0))[0], "you changed x in place"),
        ),
    ),
)
