"""The recall experiment: its cells, what a cell measures, and what the tables and the sentence make of the numbers."""

from __future__ import annotations

import json

import pytest

from hope_ref.config import HopeConfig
from hope_ref.experiments import fitting, recall
from hope_ref.experiments.cells import Cell, Record, Records
from hope_ref.tasks import recall as task

EXPERIMENT = recall.EXPERIMENT
TIMES = ("training_seconds", "seconds_per_step")


@pytest.fixture(scope="module")
def full() -> list[Cell]:
    return EXPERIMENT.cells("full", range(3))


@pytest.fixture(scope="module")
def quick() -> list[Record]:
    return [Record(cell, EXPERIMENT.measure(cell), 0.1) for cell in EXPERIMENT.cells("quick", [0])]


def made(cells: list[Cell], levels: dict[str, float], steps: int | None = None) -> Records:
    """A record for every cell: the share of queries by the model's name, a little more with every seed."""
    found = []
    for cell in cells:
        level = levels.get(cell.model, 0.9) + 0.001 * cell.seed
        measures = {
            "steps": steps or cell.settings["training"]["steps"],
            "parameters": 1000,
            "width": 64,
            "seconds_per_step": 0.5,
            **{str(n): {"queries": level, "sequences": level**2} for n in cell.settings["test_pairs"]},
        }
        found.append(Record(cell, measures, 1.0))
    return Records(found)


def test_cells_are_distinct_and_json_and_hold_the_whole_configuration(full: list[Cell]) -> None:
    for cells in (full, EXPERIMENT.cells("quick", [0, 1])):
        assert len({cell.key for cell in cells}) == len(cells)
        for cell in cells:
            assert json.loads(json.dumps(cell.to_dict())) == cell.to_dict()
            own_config = cell.settings["config"]
            assert fitting.memory_options(HopeConfig.from_dict(own_config)) == own_config
            assert cell.settings["model"] in fitting.MODELS
    assert len(full) == 3 * (len(recall.COMPARED) + len(recall.CHANGES))


def test_every_change_is_one_change_and_no_two_are_the_same(full: list[Cell]) -> None:
    few = {cell.model: cell.settings for cell in full if cell.task == recall.FEW}
    default = few[recall.DEFAULT]["config"]
    seen = set()
    for name, settings in few.items():
        changed = {key: value for key, value in settings["config"].items() if value != default[key]}
        assert {key: value for key, value in settings.items() if key != "config"} == {
            key: value for key, value in few[recall.DEFAULT].items() if key != "config"
        }
        assert set(changed) == set(recall.CHANGES[name])
        seen.add(json.dumps(changed, sort_keys=True))
    assert len(seen) == len(recall.CHANGES)
    filled = few["memory starts filled, read with skip"]["config"]["memory_w1_std"]
    assert filled == pytest.approx(0.5 / 32**0.5)


def test_the_models_have_the_same_training_and_the_first_cells_are_the_default_of_all_seeds(
    full: list[Cell],
) -> None:
    many = [cell.settings for cell in full if cell.task == recall.MANY]
    assert all(settings["training"] == many[0]["training"] for settings in many)
    assert [(cell.model, cell.seed) for cell in full[:3]] == [("HOPE", seed) for seed in range(3)]
    assert HopeConfig.from_dict(full[0].settings["config"]) == HopeConfig(heads=2, levels_chunk_sizes=(512,))


def test_quick_cells_give_shares_and_take_their_steps(quick: list[Record]) -> None:
    for record in quick:
        assert record.measures["steps"] == record.cell.settings["training"]["steps"]
        assert record.measures["parameters"] > 0
        assert 0 < record.measures["final_loss"] < 10
        for pairs in record.cell.settings["test_pairs"]:
            shares = record.measures[str(pairs)]
            assert 0 <= shares["sequences"] <= shares["queries"] <= 1
        json.dumps(record.measures)


def test_a_cell_measured_twice_is_the_same_and_another_seed_is_not(quick: list[Record]) -> None:
    def timeless(cell: Cell) -> dict[str, object]:
        return {key: value for key, value in EXPERIMENT.measure(cell).items() if key not in TIMES}

    again = timeless(quick[0].cell)
    assert again == {key: value for key, value in quick[0].measures.items() if key not in TIMES}
    other = timeless(Cell("recall", recall.MANY, "HOPE", 1, quick[0].cell.settings))
    assert other["final_loss"] != again["final_loss"]


def test_every_seed_has_batches_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only another start: the seed of the cell reaches every batch."""
    own, seeds = task.training_batch, []

    def noted(step: int, steps: int, most: int, batch: int, seed: int, symbols: int) -> task.Batch:
        seeds.append(seed)
        return own(step, steps, most, batch, seed, symbols)

    monkeypatch.setattr(task, "training_batch", noted)
    EXPERIMENT.measure(EXPERIMENT.cells("quick", [7])[0])
    assert seeds == [7] * 3


def test_training_never_draws_the_test(quick: list[Record]) -> None:
    settings = quick[0].cell.settings
    pairs, symbols = settings["most"], settings["symbols"]
    test = task.draw(settings["test_sequences"], pairs, (recall.TEST_SEED, pairs), symbols)
    for step in range(20):
        drawn = task.training_batch(step, 20, pairs, settings["test_sequences"], 0, symbols)
        assert drawn.tokens.shape != test.tokens.shape or (drawn.tokens != test.tokens).any()


@pytest.mark.slow
def test_learning_is_measured(quick: list[Record]) -> None:
    """Linear attention on one pair among few symbols: 150 steps take it from chance to most of the queries."""
    settings = dict(quick[1].cell.settings)
    settings |= {"model": "linear attention", "most": 1, "test_pairs": [1], "test_sequences": 64}
    settings["config"] = {**settings["config"], "width": 16}
    shares = []
    for steps in (1, 150):
        settings["training"] = {**settings["training"], "steps": steps, "batch": 32, "lr": 0.01}
        found = EXPERIMENT.measure(Cell("recall", recall.MANY, "x", 0, settings))
        shares.append(found["1"]["queries"])
    assert shares[0] < 0.6 < 0.9 < shares[1]


def test_tables_and_sentence_of_nothing_and_of_one_record(full: list[Cell], quick: list[Record]) -> None:
    assert EXPERIMENT.sentence(Records([])) == "not run yet"
    only_change = made([cell for cell in full if cell.task == recall.FEW], {})
    assert EXPERIMENT.sentence(only_change) == "not run yet"
    for records in (Records([]), made(full[:1], {}), Records(quick), only_change):
        for table in EXPERIMENT.tables(records):
            assert table.rows
            assert all(len(row) == len(table.header) for row in table.rows)
            assert all(isinstance(entry, str) for row in table.rows for entry in row)
    one = EXPERIMENT.sentence(made(full[:1], {"HOPE": 0.97}))
    assert "97.0 (1 seed)" in one
    assert "no baseline was run yet" in one


def test_the_sentence_says_who_is_ahead_and_who_is_behind(full: list[Cell]) -> None:
    many = [cell for cell in full if cell.task == recall.MANY]
    worse = EXPERIMENT.sentence(made(many, {"HOPE": 0.9, "softmax attention": 0.99, "Titans": 0.5}))
    assert "ahead of it is softmax attention (99.1 ± 0.1)" in worse
    assert "behind it is Titans (50.1 ± 0.1)" in worse
    best = EXPERIMENT.sentence(made(many, {"HOPE": 0.99}))
    assert "ahead of it is none" in best
    assert "gated delta rule (90.1 ± 0.1), delta rule" in best
    assert "Cut short" not in best
    assert "Below 90 % even with 8 pairs: Titans in 3 of 3 seeds." in worse
    assert "Below 90 %" not in best


def test_the_sentence_lists_clear_changes_alone(full: list[Cell]) -> None:
    found = EXPERIMENT.sentence(made(full, {"no input projection": 0.3, "erases nothing": 0.905}))
    assert "what changes recall: no input projection (−60.0 ± 0.0) points" in found
    assert (
        f"no difference found for the other {len(recall.CHANGES) - 2} of {len(recall.CHANGES) - 1} changes"
        in found
    )
    assert "erases nothing" not in found
    assert f"no difference found for any of {len(recall.CHANGES) - 1} changes" in EXPERIMENT.sentence(
        made(full, {})
    )


def test_differences_are_taken_seed_by_seed(full: list[Cell]) -> None:
    few = [cell for cell in full if cell.task == recall.FEW]
    records = made(few, {"no convolution": 0.5})
    found = recall.differences(records, recall.FEW, "no convolution", recall.DEFAULT, "8.queries")
    assert found == pytest.approx([-40.0] * 3)
    missing = Records(r for r in records.all if (r.cell.model, r.cell.seed) != (recall.DEFAULT, 1))
    found = recall.differences(missing, recall.FEW, "no convolution", recall.DEFAULT, "8.queries")
    assert len(found) == 2


def test_tables_show_chance_differences_and_a_training_that_stopped(full: list[Cell]) -> None:
    compared, changed = EXPERIMENT.tables(made(full, {"erases nothing": 0.6, "dot-product objective": 0.95}))
    rows = {row[0]: row for row in compared.rows}
    assert rows["chance: any value"][1:5] == ("3.1",) * 4
    assert rows["chance: a value of the sequence"][2] == "15.2"
    assert rows["HOPE"][5] == "81.2 ± 0.2"
    rows = {row[0]: row for row in changed.rows}
    assert rows["erases nothing"][1:3] == ("60.1 ± 0.1", "**−30.0 ± 0.0**")
    assert rows["dot-product objective"][2] == "**+5.0 ± 0.0**"
    assert rows["no convolution"][2] == "0.0 ± 0.0"
    stopped = EXPERIMENT.tables(made(full, {}, steps=7))
    assert stopped[0].rows[0][0] == "HOPE († 7, 7, 7)"
    assert "†" not in compared.rows[0][0]
