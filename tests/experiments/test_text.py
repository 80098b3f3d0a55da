"""Text: the cells, training and reading of what the experiments on text share, and what is read off the records."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from hope_ref.experiments import Cell, Record, Records, fitting, text_runs
from hope_ref.experiments import text as own
from hope_ref.experiments import text_reading as reading
from hope_ref.training.evaluation import bits_per_byte

FULL = own.cells("full", [0, 1, 2])
TIMES = ("training_seconds", "seconds_per_step")


@pytest.fixture(autouse=True)
def one_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a step is not the test's matter, and would change how many are taken."""
    monkeypatch.setattr(text_runs, "time_ratio", lambda *_: 2.4)


# --- cells ----------------------------------------------------------------------------------------------------------


def test_cells_are_distinct_and_hope_comes_first() -> None:
    assert len({cell.key for cell in FULL}) == len({cell.checksum for cell in FULL}) == len(FULL) == 3 * 10
    assert json.loads(json.dumps([cell.to_dict() for cell in FULL])) == [cell.to_dict() for cell in FULL]
    assert [cell.model for cell in FULL[:6]] == [own.HOPE] * 3 + [own.FULL] * 3
    assert {cell.task for cell in FULL[-12:]} == {own.TIME}


def test_all_models_have_one_recipe_and_as_many_parameters() -> None:
    assert len({json.dumps(cell.settings["training"]) for cell in FULL}) == 1
    erases = {cell.model: cell.settings["config"]["erase"] for cell in FULL}
    assert erases.pop(own.FULL) == "full"
    assert set(erases.values()) == {"deviation"}
    sizes = [
        fitting.parameters(text_runs.built(cell.settings, 0))
        for cell in FULL
        if cell.task == own.STEPS and cell.seed == 0
    ]
    assert max(sizes) < 1.05 * min(sizes)


# --- running --------------------------------------------------------------------------------------------------------


def test_quick_cells_measure_what_they_promise_and_the_same_twice() -> None:
    for cell in own.cells("quick", [0]):
        found, again = own.measure(cell), own.measure(cell)
        json.dumps(found, allow_nan=False)
        assert all(found.pop(name) > 0 and again.pop(name) > 0 for name in TIMES)
        assert found == again
        assert 6 < found["bits_per_byte"] < 10  # two steps from nothing
        assert list(found["places"]) == ["0-15", "16-63"]
        assert all(6 < value < 12 for value in found["places"].values())
        assert found["steps"] == found["asked_steps"] == (5 if cell.task == own.TIME else 2)
        about = found["text"]
        assert len(about["sha256"]) == 64
        assert 8 > about["entropy"] > about["bigram"] > about["gzip"] > 1
        assert 0 < about["test_bytes"] < about["train_bytes"] / 10


def test_another_seed_gives_another_model() -> None:
    cell, other = own.cells("quick", [0, 1])[:2]
    assert own.measure(cell)["bits_per_byte"] != own.measure(other)["bits_per_byte"]


@pytest.mark.slow
def test_training_lowers_the_loss() -> None:
    cell = own.cells("quick", [0])[0]
    settings = {
        **cell.settings,
        "training": {**cell.settings["training"], "steps": 40, "batch": 8, "lr": 0.03},
    }
    first = own.measure(cell)["bits_per_byte"]
    assert own.measure(Cell("text", own.STEPS, own.HOPE, 0, settings))["bits_per_byte"] < first - 1


def test_a_training_that_diverges_is_reported() -> None:
    cell = own.cells("quick", [0])[0]
    settings = json.loads(json.dumps(cell.settings))
    settings["training"] |= {"lr": 1e30, "steps": 6, "clip": 0.0, "schedule": "constant"}
    found = own.measure(Cell("text", own.STEPS, own.HOPE, 0, settings))
    json.dumps(found, allow_nan=False)
    assert found["steps"] < found["asked_steps"] == 6


def test_bits_by_place_are_those_of_the_windows() -> None:
    settings = own.cells("quick", [0])[0].settings
    model, data = text_runs.built(settings, 0), text_runs.parts()[0].test[: 5 * 16 + 1]
    by_place = text_runs.bits_by_place(model, data, 16, 16, batch=2)
    assert by_place.shape == (16,)
    whole = bits_per_byte(model, data, text_runs.training_of(settings, 0), torch.device("cpu"))
    assert float(by_place.mean()) == pytest.approx(whole, abs=1e-5)
    with torch.no_grad():
        first = torch.from_numpy(data[[0, 16, 32, 48, 64]].astype(np.int64))[:, None]
        after = torch.from_numpy(data[[1, 17, 33, 49, 65]].astype(np.int64))[:, None]
        expected = text_runs.bits(model(first)[0], after).mean()
    assert float(by_place[0]) == pytest.approx(float(expected), abs=1e-5)
    with pytest.raises(ValueError, match="data must be longer than a window of 81 bytes, got 81"):
        text_runs.bits_by_place(model, data, 81, 16)


def test_the_ratio_is_of_the_quickest_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    times = iter([3.0, 1.0, 2.0, 4.0])  # two rounds of the one and the other in turn
    monkeypatch.setattr(fitting, "seconds_of_a_step", lambda *_: next(times))
    model = text_runs.built(own.cells("quick", [0])[0].settings, 0)
    loss = text_runs.loss_of(model, text_runs.training_of(own.cells("quick", [0])[0].settings, 0))
    assert text_runs.time_ratio(model, model, loss, loss, rounds=2) == 2.0


def test_what_is_no_number_is_none() -> None:
    assert text_runs.finite(2.0) == 2.0
    assert text_runs.finite(float("nan")) is text_runs.finite(float("inf")) is None


# --- reading --------------------------------------------------------------------------------------------------------

SETTINGS: dict[str, Any] = {
    "training": {"tokens": 128, "batch": 16},
    "long": {"length": 1024, "stride": 128},
}


def made_up(bits: dict[tuple[str, str], float], rise: float = 1.5, seeds: int = 3) -> Records:
    """Records with these bits per byte; only HOPE rises by so much beyond its training length."""
    found = []
    for (task, model), value in bits.items():
        for seed in range(seeds):
            beyond = value + (rise * (1 + seed / 10) if model == own.HOPE else 0.01 * (seed - 1))
            measures: dict[str, Any] = {
                "steps": 300 if task == own.STEPS else 1200,
                "asked_steps": 300 if task == own.STEPS else 1200,
                "bits_per_byte": value + seed / 100,
                "places": {"64-127": value, "128-255": value, "768-1023": beyond},
                "parameters": 223576,
                "text": {
                    "name": "a text",
                    "sha256": "37d06970",
                    "train_bytes": 419507,
                    "test_bytes": 23305,
                    "entropy": 4.46,
                    "bigram": 3.3,
                    "gzip": 1.97,
                },
            }
            if task == own.TIME:
                measures["steps_in_one_of_hope"] = 4.0
            found.append(Record(Cell("text", task, model, seed, SETTINGS), measures, 1.0))
    return Records(found)


GATED, SOFTMAX = "gated delta rule", "softmax attention"
ALL = {
    (own.STEPS, own.HOPE): 2.40,
    (own.STEPS, own.FULL): 2.40,
    (own.STEPS, GATED): 2.50,
    (own.TIME, GATED): 2.10,
    (own.TIME, SOFTMAX): 2.60,
}


def test_without_records_or_with_one_seed_nothing_is_claimed() -> None:
    assert own.tables(Records([])) == []
    assert "Not run yet" in own.sentence(Records([]))
    assert "Not run yet" in own.sentence(made_up(ALL, seeds=1))


def test_the_sentence_says_who_is_better_and_the_bad_news_first() -> None:
    said = own.sentence(made_up(ALL))
    equal_time = said.index("With equal time, bits per byte beside HOPE's 2.41 ± 0.01: better: gated delta")
    beyond = said.index("HOPE gets worse beyond the length it was trained on: +1.65 ± 0.15 bits")
    equal_steps = said.index("With equal steps, bits per byte beside HOPE's")
    assert equal_time < beyond < equal_steps
    assert "better: gated delta rule (-0.30 ± 0.00); worse: softmax attention (+0.20 ± 0.00)" in said
    assert "no difference found: HOPE, erases all (+0.00 ± 0.00); worse: gated delta rule" in said
    assert "the others: HOPE, erases all +0.00 ± 0.01, gated delta rule +0.00 ± 0.01" in said


def test_the_sentence_turns_with_the_numbers() -> None:
    better = {**ALL, (own.TIME, GATED): 2.50, (own.STEPS, GATED): 2.30}
    said = own.sentence(made_up(better, rise=0.0))
    assert "No difference found between HOPE within the length it was trained on and beyond: +0.00" in said
    assert said.startswith("With equal steps, bits per byte beside HOPE's 2.41 ± 0.01: better: gated delta")
    assert "worse: gated delta rule (+0.10 ± 0.00), softmax attention" in said
    assert "HOPE gets better beyond" in own.sentence(made_up(better, rise=-0.5))


def test_tables_hold_what_there_is() -> None:
    worth, places = own.tables(made_up(ALL))
    assert worth.rows[0] == (own.HOPE, "2.410 ± 0.010", "2.410 ± 0.010", "–", "1", "223,576")
    assert worth.rows[2] == (GATED, "2.510 ± 0.010", "2.110 ± 0.010", "1200", "1/4.0", "223,576")
    assert worth.rows[3][1] == "–"
    assert "Equal steps are 300;" in worth.note
    assert "4.46 bits per byte" in worth.note
    assert [row[0] for row in places.rows] == [
        own.HOPE,
        own.FULL,
        GATED,
        f"{GATED}, equal time",
        f"{SOFTMAX}, equal time",
    ]
    assert places.rows[0][-1] == "+1.65 ± 0.15"
    assert all(len(row) == len(table.header) for table in (worth, places) for row in table.rows)
    partial = own.tables(made_up({(own.STEPS, GATED): 2.5}, seeds=1))
    assert partial[0].rows == ((GATED, "2.500 (1 seed)", "–", "–", "–", "223,576"),)


def test_a_training_that_diverged_is_named() -> None:
    records = made_up(ALL)
    records.of(own.STEPS, GATED)[0].measures["steps"] = 17
    records.of(own.STEPS, GATED)[1].measures["bits_per_byte"] = None
    row = own.tables(records)[0].rows[2]
    assert row[0] == f"{GATED} (2 of 3 diverged)"
    assert row[1].endswith("(2 seeds)")


def test_differences_are_of_the_seeds_that_both_have() -> None:
    assert reading.between({0: 1.0, 1: 2.0, 5: 9.0}, {1: 2.5, 0: 1.25, 2: 7.0}) == [0.25, 0.5]
    assert reading.signed([0.25, 0.5], 2) == "+0.38 ± 0.18 (2 seeds)"
    assert reading.signed([-0.25], 2) == "-0.25 (1 seed)"
    assert reading.signed([]) == "–"
