"""The agreement matrix: it agrees, and it would say so if it did not."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from selection import some_slow

from hope_ref import agreement

COMPONENTS = agreement.components()


def test_names_are_unique() -> None:
    assert len({component.name for component in COMPONENTS}) == len(COMPONENTS)


def slightly_wrong(function: Any) -> Any:
    def call(**arguments: Any) -> Any:
        first, *rest = function(**arguments)
        return (first * (1 + 1e-8), *rest)

    return call


@pytest.mark.parametrize("floor", ["reference", "parallel"])
def test_an_error_of_1e8_on_one_floor_is_seen(floor: str) -> None:
    component = COMPONENTS[0]
    broken = dataclasses.replace(component, **{floor: slightly_wrong(getattr(component, floor))})
    row = agreement.compare(broken, seeds=1)
    assert not row.agrees()
    assert "DISAGREES" in agreement.matrix([row])


def test_a_gradient_that_is_cut_is_seen() -> None:
    """The numbers are right, and the outer loss learns nothing of the keys."""
    component = COMPONENTS[1]
    whole = component.parallel

    def cut(k: Any, **arguments: Any) -> Any:
        assert whole is not None
        return whole(k=k.detach(), **arguments)

    row = agreement.compare(dataclasses.replace(component, parallel=cut), seeds=1)
    assert max(e for e in row.parallel_errors.values() if e is not None) < 1e-10
    assert not row.agrees()


def test_a_proof_that_fails_is_seen() -> None:
    row = agreement.compare(COMPONENTS[0], seeds=1)
    assert row.agrees()
    assert not row._replace(proved=row.proved - 1).agrees()


@pytest.mark.parametrize(("field", "error"), [("parallel_errors", 1e-9), ("gradient_errors", 1e-6)])
def test_a_small_error_is_one(field: str, error: float) -> None:
    row = agreement.Row("delta rule", 2, 2, 1e-15, {"cpu": 1e-15}, {"cpu": 1e-9})
    assert row.agrees()
    broken = row._replace(**{field: {"cpu": error}})
    assert not broken.agrees()
    assert "DISAGREES" in agreement.matrix([row, broken])


def test_nan_is_an_infinite_error() -> None:
    assert agreement.worst_error({"y": np.array([np.nan])}, {"y": np.array([1.0])}) == math.inf
    assert agreement.worst_error({"y": np.array([2.0])}, {"y": np.array([4.0])}) == 0.5


@pytest.mark.parametrize(
    ("error", "text"), [(None, "–"), (0.0, "0"), (3e-16, "< 1e-15"), (0.2, "< 1e0"), (math.inf, "not finite")]
)
def test_decade(error: float | None, text: str) -> None:
    assert agreement.decade(error) == text


# Two more options of the layer: tests/symbolic holds their statements against NumPy, tests/parallel NumPy against PyTorch.
OPTIONS = {"self-modifying Titans, dot", "self-modifying Titans, l2, erase full"}
NAMED = {component.name: component for component in COMPONENTS}


@pytest.mark.parametrize("component", some_slow(NAMED, NAMED.keys() - OPTIONS))
def test_floors_agree(component: agreement.Component) -> None:
    """At three points; a whole model, which is put together from the others, at one."""
    row = agreement.compare(component, seeds=1 if component.statement is None else 3)
    assert row.agrees(), row
    assert (row.identities > 0) == (component.statement is not None)
    assert (row.gradient_errors["cpu"] is None) == (component.parallel is None)
