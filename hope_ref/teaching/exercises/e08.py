"""Exercises of notebook 08: the clock of a level, the first echo of a token, and the largest stable rate of a chunk."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.exercise import Exercise, ask, must_equal

# --- 08.1 ---------------------------------------------------------------------------------------------------------


def _path(theta: Array, signals: Array, size: int, eta: float) -> Array:
    open_sum, path = np.zeros_like(theta), []
    for i, f in enumerate(signals):
        open_sum = open_sum + f
        if (i + 1) % size == 0:
            theta, open_sum = theta - eta * open_sum, np.zeros_like(theta)
        path.append(theta)
    return np.stack(path)


def _zero_otherwise(theta: Array, signals: Array, size: int, eta: float) -> Array:
    path = _path(theta, signals, size, eta)
    at_rest = (np.arange(1, len(signals) + 1) % size != 0)[:, None]
    return np.where(at_rest, 0.0, path)


def _with_both_ends(theta: Array, signals: Array, size: int, eta: float) -> Array:
    path = []
    for i in range(len(signals)):
        if (i + 1) % size == 0:
            theta = theta - eta * signals[max(i - size, 0) : i + 1].sum(0)
        path.append(theta)
    return np.stack(path)


def _never_cleared(theta: Array, signals: Array, size: int, eta: float) -> Array:
    path = []
    for i in range(len(signals)):
        if (i + 1) % size == 0:
            theta = theta - eta * signals[: i + 1].sum(0)
        path.append(theta)
    return np.stack(path)


def _one_early(theta: Array, signals: Array, size: int, eta: float) -> Array:
    open_sum, path = np.zeros_like(theta), []
    for i, f in enumerate(signals):
        open_sum = open_sum + f
        if i % size == 0:
            theta, open_sum = theta - eta * open_sum, np.zeros_like(theta)
        path.append(theta)
    return np.stack(path)


def _flushed(theta: Array, signals: Array, size: int, eta: float) -> Array:
    path = _path(theta, signals, size, eta)
    full = len(signals) - len(signals) % size
    return np.concatenate([path[:-1], path[-1:] - eta * signals[full:].sum(0)])


def _every_token(theta: Array, signals: Array, size: int, eta: float) -> Array:
    return np.asarray(theta - eta * np.cumsum(signals, axis=0))


def _mean(theta: Array, signals: Array, size: int, eta: float) -> Array:
    return _path(theta, signals, size, eta / size)


def check_clock(function: Any) -> None:
    """(theta, signals, C, eta) -> θ after every token: a table of which signals each θ contains, one matrix product."""
    rng = np.random.default_rng(801)
    theta, eta = rng.normal(size=3), 0.3
    for length, size in ((11, 4), (6, 3), (2, 5)):
        signals = rng.normal(size=(length, 3))
        contains = np.arange(length) < size * (
            np.arange(1, length + 1)[:, None] // size
        )  # (after token, signal)
        arguments = (theta, signals, size, eta)
        must_equal(
            f"θ after each of {length} tokens with C = {size}",
            ask(function, *arguments),
            theta - eta * contains @ signals,
            {
                "Between two boundaries θ is what it was: what is 0 there is its update.": _zero_otherwise(
                    *arguments
                ),
                "That sum has C + 1 terms: the boundary token is counted in two chunks.": _with_both_ends(
                    *arguments
                ),
                "The sum is never emptied: every chunk adds up its own tokens only.": _never_cleared(
                    *arguments
                ),
                "You move after token 0, which is no full chunk: tokens count from 0, so i + 1 of them have come.": _one_early(
                    *arguments
                ),
                "The last, partial chunk is carried, not applied.": _flushed(*arguments),
                "That moves with every token: within a chunk θ must hold still.": _every_token(*arguments),
                "That is the mean over the chunk; [S 15] adds up.": _mean(*arguments),
            },
        )


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


def check_echo(function: Any) -> None:
    """(t, sizes) -> the first other output that can notice token t: compared with perturbed runs of a chain of levels."""
    for t, sizes in ((1, (4, 6, 10)), (4, (4, 6, 10)), (5, (4, 6)), (9, (4, 10)), (8, (8, 32))):
        ends = [size * (t // size + 1) for size in sizes]  # the first token of the next chunk, level by level
        must_equal(
            f"the first echo of token {t} with chunks of {', '.join(map(str, sizes))}",
            ask(function, t, sizes),
            _heard(t, sizes),
            {
                "That is the last token of the chunk: the level moves after it, so the next one is the first to notice.": min(
                    ends
                )
                - 1,
                "That is the slow level's boundary: a faster one may move before.": max(ends),
                "C ⌈t/C⌉ is t itself where t starts a chunk: the chunk of t ends at C (⌊t/C⌋ + 1).": min(
                    size * -(-t // size) for size in sizes
                ),
                "The chunk of the fast level may end later than another's: look at all of them.": ends[0],
                "That counts C tokens from t on: the clock of a level does not start at t.": t + min(sizes),
                "Nobody knows token t at once: a level moves at the end of its chunk.": t + 1,
            },
        )


# --- 08.3 ---------------------------------------------------------------------------------------------------------


def _largest_rate(x: Array) -> float:
    return float(2 / np.linalg.eigvalsh(x.T @ x).max())


def _by_search(x: Array) -> float:
    """Bisect for the η at which a layer that gets this chunk again and again stops settling: literal steps."""
    rng = np.random.default_rng(803)
    low, high = 0.0, 4.0 / float((x**2).sum(1).max())
    for _ in range(60):
        eta = (low + high) / 2
        w: Any = rng.normal(size=x.shape[1])
        first = np.linalg.norm(x @ w)
        for _ in range(400):
            w = w + eta * (0 - x @ w) @ x  # wanted: 0
            w = w / max(1.0, np.linalg.norm(w) / 1e100)
        low, high = (low, eta) if np.linalg.norm(x @ w) > first else (eta, high)
    return low


@lru_cache(maxsize=1)
def _searched() -> list[tuple[str, Array, float]]:
    """Chunks of inputs by name, and the rate that the search finds for each."""
    rng = np.random.default_rng(804)
    row = rng.normal(size=6)
    crowd = rng.normal(size=(12, 6))
    chunks = {
        "one input 8 times": np.tile(row, (8, 1)),
        "12 inputs": crowd,
        "12 inputs that lean one way": crowd + row,
    }
    return [(name, x, _by_search(x)) for name, x in chunks.items()]


def check_rate(function: Any) -> None:
    """(x) -> the largest stable η of a chunk with inputs x: compared with a search over literal steps."""
    for name, x, found in _searched():
        squares = (x**2).sum(1)
        top = float(np.linalg.eigvalsh(x.T @ x).max())
        must_equal(
            f"the largest stable η for {name}",
            ask(function, x),
            found,
            {
                "That takes all C inputs for one and the same; different ones do not add up along one direction.": 2
                / float(squares.sum()),
                "That is the bound of a single step: the C steps of a chunk add up.": 2
                / float(squares.max()),
                "That is half of it: up to 2/λ_max the factor 1 - η λ_max stays above -1.": 1 / top,
                "Take the direction that the inputs share most: the largest eigenvalue of Σ φ φᵀ, not the smallest.": 2
                / max(float(np.linalg.eigvalsh(x.T @ x).min()), 1e-300),
                "The eigenvalue of Σ φ φᵀ is the singular value of X squared.": 2 / float(np.sqrt(top)),
            },
            bound=1e-3,
        )


EXERCISES = (
    Exercise(
        "08.1",
        "write the clock of a level: θ after every token",
        check_clock,
        _path,
        (
            (_zero_otherwise, "what is 0 there is its update"),
            (_with_both_ends, "C + 1 terms"),
            (_never_cleared, "never emptied"),
            (_one_early, "You move after token 0"),
            (_flushed, "carried, not applied"),
            (_every_token, "hold still"),
            (_mean, "[S 15] adds up"),
        ),
    ),
    Exercise(
        "08.2",
        "find the first output that can notice a token",
        check_echo,
        _first_echo,
        (
            (lambda t, sizes: _first_echo(t, sizes) - 1, "the next one is the first to notice"),
            (lambda t, sizes: max(size * (t // size + 1) for size in sizes), "slow level's boundary"),
            (lambda t, sizes: min(size * -(-t // size) for size in sizes), "t itself where t starts a chunk"),
            (lambda t, sizes: t + min(sizes), "does not start at t"),
            (lambda t, sizes: t + 1, "at the end of its chunk"),
            (lambda t, sizes: sizes[0] * (t // sizes[0] + 1), "look at all of them"),
        ),
    ),
    Exercise(
        "08.3",
        "find the largest stable rate of a chunk",
        check_rate,
        _largest_rate,
        (
            (lambda x: 2 / (x**2).sum(), "takes all C inputs for one and the same"),
            (lambda x: 2 / (x**2).sum(1).max(), "bound of a single step"),
            (lambda x: 1 / np.linalg.eigvalsh(x.T @ x).max(), "half of it"),
            (lambda x: 2 / np.linalg.svd(x, compute_uv=False).max(), "singular value of X squared"),
        ),
    ),
)
