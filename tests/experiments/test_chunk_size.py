"""Chunk sizes: the cells, what is measured beside the default, and what is read off the records."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hope_ref.experiments import Cell, Record, Records, text_runs
from hope_ref.experiments import chunk_size as own
from hope_ref.parallel.hope import Hope

FULL = own.cells("full", [0, 1, 2])
TIMES = ("training_seconds", "seconds_per_step")


def test_cells_are_distinct_and_differ_in_the_chunk_size_alone() -> None:
    assert len({cell.key for cell in FULL}) == len({cell.checksum for cell in FULL}) == len(FULL) == 18
    assert json.loads(json.dumps([cell.to_dict() for cell in FULL])) == [cell.to_dict() for cell in FULL]
    sizes = []
    for cell in FULL[::3]:
        settings = json.loads(json.dumps(cell.settings))
        pair = settings["config"].pop("memory_chunk_size"), settings["config"].pop("projection_chunk_size")
        assert pair[0] == pair[1]
        assert cell.model == f"C = {pair[0]}"
        sizes.append((pair[0], json.dumps(settings)))
    assert sorted(size for size, _ in sizes) == [4, 8, 16, 32, 64, 128]
    assert sizes[0][0] == FULL[0].settings["beside"] == 16
    assert len({settings for _, settings in sizes}) == 1


def test_quick_cells_measure_what_they_promise_beside_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ratio(model: Hope, other: Hope, *_: Any, rounds: int) -> float:
        asked.append((model.config.memory_chunk_size, other.config.memory_chunk_size))
        return 1.5

    monkeypatch.setattr(text_runs, "time_ratio", ratio)
    bits = []
    for cell in own.cells("quick", [0]):
        found, again = own.measure(cell), own.measure(cell)
        json.dumps(found, allow_nan=False)
        assert all(found.pop(name) > 0 and again.pop(name) > 0 for name in TIMES)
        assert found == again
        assert found["time_beside_default"] == 1.5
        bits.append(found["bits_per_byte"])
    assert asked == [(2, 4), (2, 4), (4, 4), (4, 4)]
    assert all(6 < value < 10 for value in bits)
    assert bits[0] != bits[1]


def test_the_time_is_measured() -> None:
    assert 0 < own.measure(own.cells("quick", [0])[1])["time_beside_default"] < 20


# --- what is said ---------------------------------------------------------------------------------------------------


def made_up(more: dict[int, float], times: dict[int, float], seeds: int = 3) -> Records:
    about = {"name": "a text", "sha256": "37d06970", "train_bytes": 9, "test_bytes": 9}
    about |= {"entropy": 4.46, "bigram": 3.3, "gzip": 1.97}
    found = []
    for size, extra in more.items():
        settings = {
            "beside": 16,
            "config": {"memory_chunk_size": size},
            "training": {"tokens": 128, "batch": 16, "steps": 70},
            "long": {"length": 1024, "stride": 512},
        }
        for seed in range(seeds):
            measures: dict[str, Any] = {
                "steps": 70,
                "asked_steps": 70,
                "bits_per_byte": 3.0 + seed / 10 + extra * (1 + seed / 10),
                "time_beside_default": times[size],
                "places": {"0-127": 3.0, "512-1023": 3.5},
                "text": about,
            }
            found.append(Record(Cell("chunk_size", "text", f"C = {size}", seed, settings), measures, 1.0))
    return Records(found)


TIMED = {4: 2.8, 16: 1.0, 32: 0.75, 128: 1.2}


def test_without_records_or_without_the_default_nothing_is_claimed() -> None:
    assert own.tables(Records([])) == []
    assert own.sentence(Records([])) == "Not run yet."
    assert "Not run yet" in own.sentence(made_up({4: 0.0}, TIMED))
    assert "Not run yet" in own.sentence(made_up({4: 0.1, 16: 0.0}, TIMED, seeds=1))
    assert own.tables(made_up({4: 0.0}, TIMED))[0].rows[0][2] == "–"


def test_the_sentence_follows_the_numbers() -> None:
    said = own.sentence(made_up({4: -0.1, 16: 0.0, 32: 0.0, 128: 0.2}, TIMED))
    assert "beside C = 16 (3.10 ± 0.10): worse: C = 128 (+0.22 ± 0.02); no difference found: C = 32" in said
    assert "better: C = 4 (-0.11 ± 0.01)" in said
    assert "Quickest here is C = 32, 0.75 times the time of C = 16" in said
    assert "the slowest, C = 4, takes 2.80 times as long" in said
    other = own.sentence(made_up({4: 0.1, 16: 0.0}, {4: 0.5, 16: 1.0}))
    assert "worse: C = 4 (+0.11 ± 0.01). Quickest here is C = 4" in other


def test_the_table_is_in_the_order_of_the_sizes() -> None:
    (table,) = own.tables(made_up({16: 0.0, 128: 0.2, 4: -0.1}, TIMED))
    assert [row[0] for row in table.rows] == ["C = 4", "C = 16", "C = 128"]
    assert table.rows[0][1:] == ("2.990 ± 0.090", "-0.110 ± 0.010", "2.80 ± 0.00", "+0.50 ± 0.00")
    assert table.rows[1][2] == "–"
