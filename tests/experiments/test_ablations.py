"""Ablations: one change each, what it costs, and how that fits the paper's table."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hope_ref.config import HopeConfig
from hope_ref.experiments import Cell, Record, Records, text_runs
from hope_ref.experiments import ablations as own

FULL = own.cells("full", [0, 1, 2])
TIMES = ("training_seconds", "seconds_per_step")


def test_cells_are_distinct_and_differ_from_the_default_in_what_they_say() -> None:
    assert len({cell.key for cell in FULL}) == len({cell.checksum for cell in FULL}) == len(FULL)
    assert len(FULL) == 3 * len(own.CHANGES)
    assert json.loads(json.dumps([cell.to_dict() for cell in FULL])) == [cell.to_dict() for cell in FULL]
    assert [cell.model for cell in FULL[:3]] == [own.DEFAULT] * 3
    default = FULL[0].settings
    for cell in FULL:
        change = own.CHANGES[cell.model]
        for part, changed in (("config", change.options), ("training", change.training or {})):
            differing = {name for name, value in cell.settings[part].items() if value != default[part][name]}
            assert differing == set(changed)


def test_every_change_gives_a_model() -> None:
    for cell in FULL[::3]:
        assert text_runs.built(cell.settings, 0).config == HopeConfig.from_dict(cell.settings["config"])


def test_the_paper_s_table_is_the_paper_s() -> None:
    rows = {name: change.paper for name, change in own.CHANGES.items() if change.paper}
    assert len(rows) == 8  # its full model and seven ablations
    perplexity = {name: float(row.split()[0]) for name, row in rows.items()}
    for name, change in own.CHANGES.items():
        assert change.costs == (name in rows and perplexity[name] > 12.5)


def test_quick_cells_measure_what_they_promise_and_the_same_twice() -> None:
    cells = own.cells("quick", [0])
    assert [cell.model for cell in cells] == list(own.CHANGES)[:2]
    bits = []
    for cell in cells:
        found = own.measure(cell)
        json.dumps(found, allow_nan=False)
        assert all(found.pop(name) > 0 for name in TIMES)
        if cell is cells[-1]:
            again = own.measure(cell)
            assert found == {name: value for name, value in again.items() if name not in TIMES}
        assert found["steps"] == 2
        bits.append(found["bits_per_byte"])
    assert all(6 < value < 10 for value in bits)
    assert bits[0] != bits[1]


# --- what is said ---------------------------------------------------------------------------------------------------

SETTINGS: dict[str, Any] = {
    "training": {"tokens": 128, "batch": 8, "steps": 100},
    "long": {"length": 1024, "stride": 512},
}
ABOUT = {"name": "a text", "sha256": "37d06970", "train_bytes": 9, "test_bytes": 9}
ABOUT |= {"entropy": 4.46, "bigram": 3.3, "gzip": 1.97}


def made_up(more: dict[str, float], seeds: int = 3) -> Records:
    found = []
    for name, extra in {own.DEFAULT: 0.0, **more}.items():
        for seed in range(seeds):
            value = 3.0 + seed / 10 + extra * (1 + seed / 10)
            measures: dict[str, Any] = {"steps": 100, "asked_steps": 100, "bits_per_byte": value}
            measures |= {"places": {"0-127": 3.0, "512-1023": 3.5}, "parameters": 223576, "text": ABOUT}
            found.append(Record(Cell("ablations", "text", name, seed, SETTINGS), measures, 1.0))
    return Records(found)


DGD, MLP, TARGET = "no DGD (erases nothing)", "no continuum (one MLP)", "one target for all, v"


def test_without_records_or_with_one_seed_nothing_is_claimed() -> None:
    assert own.tables(Records([])) == []
    assert "Not run yet" in own.sentence(Records([]))
    assert "Not run yet" in own.sentence(made_up({DGD: 0.1}, seeds=1))


@pytest.mark.parametrize(
    ("dgd", "said"),
    [
        (
            0.1,
            "6 changes that cost the paper perplexity 2 are made here (our default has no inner momentum to take away); found to cost bits: 1. ",
        ),
        (-0.1, "to take away); found to cost bits: none, to gain: 1. "),
        (0.0, "to take away); found to cost bits: none. "),
    ],
)
def test_the_sentence_follows_the_numbers(dgd: float, said: str) -> None:
    found = own.sentence(made_up({DGD: dgd, MLP: 0.0, TARGET: -0.2}))
    assert said in found
    assert "beside the default's 3.10 ± 0.10: better: " in found
    assert f"{TARGET} (-0.220 ± 0.020)" in found
    assert f"no difference found: {MLP}" in found or f"no difference found: {DGD}" in found


def test_changes_that_are_ours_alone_say_nothing_of_the_paper() -> None:
    assert "paper" not in own.sentence(made_up({TARGET: 0.1}))


def test_the_table_is_beside_the_default_seed_by_seed() -> None:
    records = made_up({DGD: 0.1, TARGET: -0.2})
    (table,) = own.tables(records)
    assert [row[0] for row in table.rows] == [own.DEFAULT, DGD, TARGET]
    assert table.rows[0][1:4] == ("3.100 ± 0.100", "–", "+0.50 ± 0.00")
    assert table.rows[1][2] == "+0.110 ± 0.010"
    assert table.rows[1][-1] == "13.41 / 56.5"
    assert table.rows[2][-1] == "–"
    assert own.tables(Records(records.of("text", DGD)))[0].rows[0][2] == "–"


def test_what_diverged_is_named() -> None:
    records = made_up({DGD: 0.1})
    records.of("text", DGD)[2].measures.update(steps=40, bits_per_byte=None)
    assert own.sentence(records).endswith(f" Diverged: {DGD} (1 of 3 diverged).")
    assert own.tables(records)[0].rows[1][0] == f"{DGD} (1 of 3 diverged)"
