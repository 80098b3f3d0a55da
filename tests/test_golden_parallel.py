"""The parallel floor against every golden vector, and the vectors against a parallel floor that is wrong."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from hope_ref import golden
from hope_ref.agreement import golden_parallel
from hope_ref.golden.check import relative_error
from hope_ref.golden.registry import components

SHIPPED = golden.paths(golden.FOLDER)


def by_ours(vector: golden.Vector) -> golden.Report:
    function = golden.implementation("hope_ref.agreement.golden_parallel", vector.component)
    return golden.check(vector, function)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_vector(path: Any) -> None:
    vector = golden.load(path)
    assert vector.tolerance <= 1e-9
    report = by_ours(vector)
    assert report.agrees(), report
    assert [finding.array for finding in report.findings] == list(vector.results)


def test_no_component_is_without_a_parallel_form() -> None:
    without = [name for name in components() if not callable(getattr(golden_parallel, name, None))]
    assert without == []


def test_the_plain_command_over_the_whole_folder_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "--implementation", "hope_ref.agreement.golden_parallel"]
    assert golden.main(words) == 0
    assert f"{len(SHIPPED)} of {len(SHIPPED)} vectors agree" in capsys.readouterr().out


OTHERS: list[tuple[str, dict[str, Any], int]] = [
    *((name, {}, 0) for name in components() if name != "hope_adaptation"),
    *(("momentum_recurrence", {"erase": erase}, 13) for erase in ("before_decay", "after_decay", "none")),
    ("titans", {"chunk_size": 3}, 13),
    ("titans", {"architecture": "mlp", "chunk_size": 5}, 13),
    ("continuum_memory", {"levels_chunk_sizes": (1, 1), "order": "slow_to_fast", "rule": "dgd"}, 5),
    ("hope", {"variant": "nested", "signal": "associative", "memory_chunk_size": 4, "inner_momentum": 0.5}, 9),
    ("self_modifying_titans", {"memory_chunk_size": 3, "projection_chunk_size": 1, "eta_max": 2.0}, 10),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "tokens"), OTHERS)
def test_vectors_that_are_not_shipped(name: str, options: dict[str, Any], tokens: int) -> None:
    """Other options, other lengths, and no tokens at all."""
    report = by_ours(golden.make(name, options, seed=5, tokens=tokens, width=4, hidden=3))
    assert report.agrees(), report


def test_the_inputs_are_left_as_they_were() -> None:
    of_each = {vector.component: vector for vector in map(golden.load, SHIPPED)}
    for vector in of_each.values():
        inputs = {name: array.copy() for name, array in vector.inputs.items()}
        golden.implementation("hope_ref.agreement.golden_parallel", vector.component)(
            **inputs, **vector.options
        )
        for name, array in inputs.items():
            np.testing.assert_array_equal(array, vector.inputs[name], err_msg=f"{vector.component}: {name}")


@pytest.mark.parametrize(
    ("where", "component"),
    [
        ("hope_ref.parallel.chunks.unit_lower_solve", "gated_delta_rule"),
        ("hope_ref.parallel.continuum_memory.chunk_step", "continuum_memory"),
        ("hope_ref.parallel.layers.convolution", "hope"),
        ("hope_ref.parallel.hope_adaptation.loss_of", "hope_adaptation"),
        ("hope_ref.parallel.memory_network.unit", "self_modifying_titans"),
    ],
)
def test_a_parallel_floor_that_is_wrong_disagrees(
    where: str, component: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name = where.rsplit(".", 1)
    original = getattr(importlib.import_module(module), name)

    def wrong(*args: Any, **kwargs: Any) -> Any:
        found = original(*args, **kwargs)
        return (1.001 * found[0], *found[1:]) if isinstance(found, tuple) else 1.001 * found

    for holder in ("", ".self_modifying_titans"):  # names are imported where they are used
        place = module if not holder else "hope_ref.parallel" + holder
        if hasattr(importlib.import_module(place), name):
            monkeypatch.setattr(importlib.import_module(place), name, wrong)

    def error(vector: golden.Vector) -> float:
        """`golden.check` would also search for the cause, which takes its time."""
        got = getattr(golden_parallel, component)(**vector.inputs, **vector.options)
        return max(relative_error(got[name], want) for name, want in vector.results.items())

    named = (path for path in SHIPPED if path.stem.startswith(component))
    vectors = (vector for vector in map(golden.load, named) if vector.component == component)
    assert any(error(vector) > 1e-6 for vector in vectors)
