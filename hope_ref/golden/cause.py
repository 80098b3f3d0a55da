"""The likely cause of a disagreement: what our reference would have to compute to give somebody's arrays.

Outputs are causal: those of the first tokens are the same whatever comes later. So a candidate runs on the
first token alone, then on twice as many, and so on. Most fail at once; only what fits so far runs in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations
from typing import Any

import numpy as np

from hope_ref.golden.components import Arrays, Options
from hope_ref.golden.files import Vector
from hope_ref.golden.registry import component

BUDGET = 10_000  # tokens on which pairs of options are run
Run = Callable[[Arrays, Options], Arrays]


def relative_error(got: Any, want: Any) -> float:
    """max |got - want| / max(1, max |want|); NaN counts as infinitely wrong."""
    if not np.size(want):
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # what overflowed is wrong, and is said to be
        error = float(np.max(np.abs(got - want)) / max(1.0, float(np.max(np.abs(want)))))
    return float("inf") if np.isnan(error) else error


def first_wrong(got: Any, want: Any, tolerance: float) -> int:
    """The first token whose output is off by more than the tolerance; the worst one if none is."""
    with np.errstate(over="ignore", invalid="ignore"):
        errors = np.abs(got - want).reshape(len(want), -1).max(axis=1)  # (T,)
        wrong = ~(errors <= tolerance * max(1.0, float(np.max(np.abs(want)))))  # NaN, too
    return int(np.argmax(wrong)) if wrong.any() else int(np.argmax(errors))


def search(vector: Vector, got: Arrays) -> tuple[str, str]:
    """(the likely cause, what was tried), both in words; no cause is "".

    One option at a time, then known mistakes, then two options at a time as far as `BUDGET` goes. All that
    fit with the fewest changes are named.
    """
    chosen, trial = component(vector.component), _Trial(vector, got)
    singles = [
        {name: value}
        for name, values in chosen.options.items()
        for value in values
        if value != vector.options[name]
    ]
    tried = [f"{len(singles)} option values", f"{len(chosen.mistakes)} known mistakes"]
    if cause := _words(changes for changes in singles if trial.fits(chosen.run, changes)):
        return cause, tried[0]
    if cause := ", or ".join(mistake.words for mistake in chosen.mistakes if trial.fits(mistake.run, {})):
        return cause, " and ".join(tried)
    if chosen.pairs:
        pairs = [{**one, **other} for one, other in combinations(singles, 2) if set(one) != set(other)]
        cause, count = _of_pairs(pairs, chosen.run, trial)
        tried.append(f"{count} of {len(pairs)} pairs of option values")
    return cause, ", ".join(words for words in tried if not words.startswith("0 "))


def _of_pairs(pairs: list[Options], run: Run, trial: _Trial) -> tuple[str, int]:
    """The pairs that fit, in words, and how many were tried before the budget was spent."""
    fitting, most = list[Options](), trial.tokens + BUDGET
    for count, changes in enumerate(pairs):
        if trial.tokens >= most:
            return _words(fitting), count
        if trial.fits(run, changes):
            fitting.append(changes)
    return _words(fitting), len(pairs)


def _words(candidates: Iterable[Options]) -> str:
    return ", or ".join(" and ".join(f"{n}={v!r}" for n, v in changes.items()) for changes in candidates)


class _Trial:
    """Whether a run with other options gives exactly somebody's arrays; ``tokens`` counts the work so far."""

    def __init__(self, vector: Vector, got: Arrays) -> None:
        self.vector, self.got, self.tokens = vector, got, 0
        self.outputs = got.get("outputs")
        self.of_tokens = component(vector.component).of_tokens(vector.options, vector.draws)
        self.lengths = self._lengths()

    def _lengths(self) -> list[int]:
        """How many tokens to run, rising; once up to the first wrong output, which is wrong for a reason."""
        if self.outputs is None or not self.of_tokens or not self.outputs.size:
            return []
        want, tolerance = self.vector.results["outputs"], self.vector.tolerance
        lengths = {2**power for power in range(len(want).bit_length())}
        if relative_error(self.outputs, want) > tolerance:
            lengths.add(first_wrong(self.outputs, want, tolerance) + 1)
        return sorted(length for length in lengths if length < len(want))

    def fits(self, run: Run, changes: Options) -> bool:
        """True if the run gives every array that it has in common with somebody's, and one at least."""
        if self.outputs is not None and not np.isfinite(self.outputs).all():
            return False
        options = {**self.vector.options, **changes}
        for length in self.lengths:
            results = self._results(run, options, length)
            if results is None or not self._begins(results["outputs"]):
                return False
        results = self._results(run, options, None)
        if results is None:
            return False
        names = [name for name in self.got if name in results]
        if any(np.shape(self.got[name]) != np.shape(results[name]) for name in names):
            return False
        tolerance = self.vector.tolerance
        return bool(names) and all(relative_error(self.got[n], results[n]) <= tolerance for n in names)

    def _results(self, run: Run, options: Options, length: int | None) -> Arrays | None:
        """What the run gives on the first tokens, or on all; None if these options need other inputs."""
        self.tokens += max(1, self.vector.tokens) if length is None else length
        inputs = {n: a[:length] if n in self.of_tokens else a for n, a in self.vector.inputs.items()}
        try:
            with np.errstate(all="ignore"):  # what overflows does not fit
                return run(inputs, options)
        except (ValueError, KeyError):
            return None

    def _begins(self, outputs: Any) -> bool:
        """Whether these are the first of somebody's outputs, to twice the tolerance: the scale may grow."""
        assert self.outputs is not None
        first = self.outputs[: len(outputs)]
        bound = 2 * self.vector.tolerance * max(1.0, float(np.abs(self.outputs).max()))
        with np.errstate(all="ignore"):
            return first.shape == outputs.shape and bool((np.abs(first - outputs) <= bound).all())
