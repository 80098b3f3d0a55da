"""The kernels in Triton's interpreter, against float64: answers, states and every gradient. No GPU, no speed."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import kernel_cases
import pytest
from kernel_process import interpreted

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is there on Linux alone"
)


NOT_HIDDEN = """
import json, torch
from hope_ref.parallel import chunks
hidden = []
q, k, v = torch.randn(3, 6, 4)
for backend in ("torch", "triton"):
    for value in (float("nan"), float("inf")):
        for wrong in range(4):
            u, eta, alpha, start = v.clone(), torch.full((6,), 0.5), torch.full((6,), 0.9), torch.zeros(4, 4)
            (u[5], eta[5:6], alpha[5:6], start[1])[wrong].fill_(value)
            y, end = chunks.recurrence(q, k, u, eta, alpha, start, 4, "after_decay", backend)
            if torch.isfinite(end).all():
                hidden.append((backend, str(value), wrong, "not in the final state"))
            if wrong != 3 and not torch.isfinite(y[:4]).all():
                hidden.append((backend, str(value), wrong, "in the first chunk"))
print(json.dumps(hidden))
"""
CASES = """
import runpy, sys
sys.argv = ['', {part!r}]
runpy.run_path('tests/shared/kernel_cases.py', run_name='__main__')
"""


def lines_of(code: str) -> list[Any]:
    """What a process prints, each line as JSON."""
    done = interpreted(code)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def found() -> list[Any]:
    """What is hidden, and the errors of the quick cases: one process, whose start takes seconds."""
    return lines_of(NOT_HIDDEN + CASES.format(part="quick"))


@pytest.fixture(scope="module")
def errors(found: list[Any]) -> dict[str, kernel_cases.Errors]:
    return found[1]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def slow_errors() -> dict[str, kernel_cases.Errors]:
    return lines_of(CASES.format(part="slow"))[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", list(filter(kernel_cases.quick, kernel_cases.cases())))
def test_the_kernels_are_right_to_float32(name: str, errors: dict[str, kernel_cases.Errors]) -> None:
    assert errors[name]
    assert kernel_cases.close(errors[name]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in kernel_cases.cases() if not kernel_cases.quick(name)])
def test_all_else_is_right_to_float32(name: str, slow_errors: dict[str, kernel_cases.Errors]) -> None:
    assert slow_errors[name]
    assert kernel_cases.close(slow_errors[name]) == []


def test_every_result_and_every_gradient_is_there(errors: dict[str, kernel_cases.Errors]) -> None:
    names = set(errors["recurrence before_decay post T=5 C=4 shape=2"])
    assert names == {"answers", "state", "by q", "by phi", "by u", "by eta", "by alpha", "by state"}
    of_titans = errors["short titans adaptive query"]
    for memory in ("k", "v", "q", "eta", "alpha", "memory"):
        assert {f"by w1_{memory}", f"by w2_{memory}", f"by eta_bias_{memory}", f"w1_{memory}"} <= set(
            of_titans
        )


def test_an_overflow_is_not_hidden_and_does_not_reach_an_earlier_chunk(found: list[Any]) -> None:
    assert found[0] == []


def test_the_gradient_by_a_retention_of_zero_is_held_against_three_ways(
    errors: dict[str, kernel_cases.Errors],
) -> None:
    told = {name for name in errors["forgetting none post 4,5,9"] if name.startswith("by alpha of 0")}
    assert told == {f"by alpha of 0, {way}" for way in ("loop", "differences", "chunks")}


def test_what_is_wrong_is_seen() -> None:
    assert kernel_cases.close({"one": [3e-6], "other": [1e-4, 1e-4], "third": [float("nan")]}) == [
        "one: 3.0e-06",
        "third: nan",
    ]
