"""Run anybody's function on a golden vector: the worst error of each array, the likely cause if one differs.

The function is somebody else's: whatever it raises, prints, returns, or does to its inputs is its own affair.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.files import one_line
from hope_ref.golden.cause import first_wrong, relative_error, search
from hope_ref.golden.components import Arrays
from hope_ref.golden.files import Vector
from hope_ref.golden.manifest import checked_tolerance

Implementation = Callable[..., Any]
FLOAT32 = 1e-5  # relative: what many roundings of float32 can come to


class Finding(NamedTuple):
    """What was found for one array."""

    array: str
    error: float  # worst, relative to the largest entry or to 1; inf if the array is missing or unusable
    note: str  # what is wrong with it beyond its numbers, or where it first differs; "" if nothing


class Report(NamedTuple):
    """What was found for one vector."""

    findings: tuple[Finding, ...]
    tolerance: float
    cause: str  # the likely one; "" if all agree, or none is known
    tried: str = ""  # what was tried in search of it, in words; "" if nothing was

    def agrees(self) -> bool:
        """True if every array is within the tolerance, and there is one."""
        return all(finding.error <= self.tolerance for finding in self.findings) and bool(self.findings)


def attempt(call: Callable[[], Any]) -> tuple[Any, str]:
    """(what somebody else's code returns, ""), or (None, what it raised, in words).

    What it prints goes to stderr. Raises: KeyboardInterrupt alone.
    """
    try:
        with np.errstate(), contextlib.redirect_stdout(sys.stderr):
            return call(), ""
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, too: it would end the command with a status of its own
        try:
            text = str(error)
        except Exception:
            text = ""
        return None, one_line(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def implementation(where: str, name: str) -> Implementation:
    """The function at ``package.module:function``, or the one named like the component in ``package.module``.

    Raises: ValueError if there is none, whatever the module does when it is imported.
    """
    form = f"--implementation must be package.module:function, got {one_line(repr(where), 120)}"
    module_name, sign, function = where.partition(":")
    names = [*module_name.split("."), *([function] if sign else [])]
    if not all(part.replace("-", "_").isidentifier() for part in names):
        raise ValueError(f"{form}: for a file mine.py with a function f write mine:f")
    module, problem = attempt(lambda: importlib.import_module(module_name))
    if problem:
        raise ValueError(f"{form}: {problem}")
    chosen, problem = attempt(lambda: getattr(module, function or name, None))
    if not callable(chosen):
        problem = problem or "none"
        raise ValueError(
            f"--implementation: {module_name} must hold a function {function or name}, got {problem}"
        )
    return chosen


def check(vector: Vector, function: Implementation) -> Report:
    """Call the function with copies of the inputs and of the options; compare each array of results.

    Args: vector; function, as the head of `hope_ref.golden` describes it. Returns: the report.
    Raises: ValueError if the vector has no results, or its tolerance is not in (0, 1].
    """
    checked_tolerance("tolerance", vector.tolerance)
    if not vector.results:
        raise ValueError("results of the vector must hold at least one array, got none")
    inputs = {name: array.copy() for name, array in vector.inputs.items()}
    options = copy.deepcopy(vector.options)
    answer, problem = attempt(lambda: function(**inputs, **options))
    if problem or not isinstance(answer, dict):
        note = f"the function must return a dict of arrays, got {type(answer).__name__}"
        note = f"the function raised {problem}" if problem else note
        return _report(vector, [Finding(name, float("inf"), note) for name in vector.results], {})
    findings, usable = [], {}
    for name, want in vector.results.items():
        finding, got = _compared(name, answer, want, vector.tolerance)
        findings.append(finding)
        if got is not None:
            usable[name] = got
    return _report(vector, findings, usable)


def _compared(name: str, answer: dict[Any, Any], want: Any, tolerance: float) -> tuple[Finding, Any]:
    """The finding for one array, and the array itself if its numbers can be compared."""
    if name not in answer:
        names, _ = attempt(lambda: ", ".join(map(str, answer)))
        return Finding(name, float("inf"), f"missing; returned: {one_line(names or 'nothing', 120)}"), None
    got, problem = attempt(lambda: np.asarray(answer[name]))
    if not problem and got.dtype.kind not in "iuf":
        problem = f"got dtype {one_line(got.dtype, 80)}"
        return Finding(name, float("inf"), f"must be an array of real numbers, {problem}"), None
    if problem:
        return Finding(name, float("inf"), f"must be an array of real numbers: {problem}"), None
    if got.shape != want.shape:
        return Finding(name, float("inf"), f"must have shape {want.shape}, got {got.shape}"), None
    error, note = relative_error(got, want), ""
    if error > tolerance:
        if name == "outputs":
            first = first_wrong(got, want, tolerance)
            note = f"first differs at token {first} of {len(want)} (counted from 0)"
        if got.dtype.kind == "f" and got.dtype.itemsize < 8:
            note = f"{note}; " * bool(note) + f"computed in {got.dtype}, not float64"
    return Finding(name, error, note), got


def _report(vector: Vector, findings: list[Finding], usable: Arrays) -> Report:
    wrong = any(f.error > vector.tolerance and f.array in usable for f in findings)
    cause, tried = search(vector, usable) if wrong else ("", "")
    if wrong and not cause and all(finding.error < FLOAT32 for finding in findings):
        cause = "the rounding of float32: nothing differs by more, see --tolerance"
    return Report(tuple(findings), vector.tolerance, cause, tried)


def likely_cause(vector: Vector, got: Arrays) -> str:
    """Which other option values, one or two at a time, or which known mistake would give exactly these arrays.

    Every value that fits with the fewest changes is named, since options may coincide on a vector; "" if none fits.
    """
    return search(vector, got)[0]
