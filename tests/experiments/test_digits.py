"""Digits in turn: the cells, the learner on made-up digits (and the real ones where they are installed), the reading."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import numpy as np
import pytest
import torch

from hope_ref.experiments import Cell, Record, Records
from hope_ref.experiments import digits as own
from hope_ref.experiments.runner import lacking
from hope_ref.tasks import digits

FULL = own.cells("full", [0, 1, 2])


def made_up_digits() -> digits.Digits:
    rng = np.random.default_rng(0)
    patterns = rng.random((10, 64)) * (rng.random((10, 64)) < 0.5)
    labels = np.repeat(np.arange(10), 40)
    return digits.Digits(np.clip(patterns[labels] + 0.1 * rng.normal(size=(400, 64)), 0, 1), labels)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits from a formula in the place of scikit-learn's."""
    monkeypatch.setattr(digits, "load", made_up_digits)


def test_cells_are_distinct_tuned_first_and_alike_but_for_levels_and_order() -> None:
    assert len({cell.key for cell in FULL}) == len(FULL) == len(own.MODELS) * 6
    assert json.loads(json.dumps([cell.to_dict() for cell in FULL])) == [cell.to_dict() for cell in FULL]
    assert [cell.task for cell in FULL] == ["tuning"] * 24 + ["digits"] * 24
    assert {cell.seed for cell in FULL if cell.task == "tuning"}.isdisjoint({0, 1, 2})
    shared = [{name: cell.settings[name] for name in ("hidden", "batch", "epochs", "rates")} for cell in FULL]
    assert all(one == shared[0] for one in shared)


def test_all_models_are_equally_large() -> None:
    sizes = {
        sum(p.numel() for p in own.Levels(len(chunks), 192, 0).parameters())
        for chunks, _, _ in own.MODELS.values()
    }
    assert sizes == {2 * 64 * 192}


@pytest.mark.usefixtures("drawn")
def test_quick_cells_measure_what_they_promise_and_the_same_twice() -> None:
    for cell in own.cells("quick", [0]):
        found, again = own.measure(cell), own.measure(cell)
        json.dumps(found, allow_nan=False)
        assert found.pop("training_seconds") > 0
        del again["training_seconds"]
        assert found == again
        run = found["rate0"]
        assert all(0 <= run[name] <= 1 for name in own.SHOWN)
        assert run["told_accuracy"] >= run["mean_accuracy"]
        assert run["steps"] == 5 * 4  # 64 images of a task are left to train on
        assert np.shape(run["matrix"]) == (5, 5)
        assert run["mean_accuracy"] == pytest.approx(np.mean(run["matrix"][-1]), abs=1e-3)


@pytest.mark.usefixtures("drawn")
def test_in_turn_forgets_frozen_knows_one_task_and_all_at_once_knows_all() -> None:
    runs = {}
    for model in ("MLP", "frozen after the first task", "MLP, all tasks at once"):
        cell = next(cell for cell in FULL if (cell.task, cell.model) == ("digits", model))
        settings = {**cell.settings, "rates": [0.3]}
        runs[model] = own.measure(Cell("digits", "digits", model, 0, settings))["rate0"]
    turn, frozen, joint = runs.values()
    assert turn["just_learnt"] > 0.95
    assert turn["forgetting"] > 0.2
    assert frozen["mean_accuracy"] == pytest.approx(0.2, abs=0.02)
    assert frozen["forgetting"] == 0
    assert 0.3 < frozen["told_accuracy"] < 0.9 < turn["told_accuracy"]
    assert joint["mean_accuracy"] > 0.95 > turn["mean_accuracy"] + 0.1
    assert joint["steps"] == turn["steps"] == 5 * frozen["steps"]


@pytest.mark.usefixtures("drawn")
def test_a_run_that_diverges_says_so() -> None:
    cell = own.cells("quick", [0])[1]
    found = own.measure(Cell("digits", "digits", "x", 0, {**cell.settings, "rates": [1e6]}))
    json.dumps(found, allow_nan=False)
    assert found["rate0"]["diverged"]
    assert found["rate0"]["steps"] < 20


def test_levels_move_at_their_own_frequency_and_rate() -> None:
    settings = {"chunk_sizes": [16, 64], "slower": "mean"}
    model = own.Levels(2, 8, 0)
    stepper = own.schedule(model, settings, 0.4)
    assert [group["lr"] for group in stepper.optimizer.param_groups] == [0.4, 0.1]
    same = own.schedule(model, {**settings, "slower": "sum"}, 0.4)
    assert [group["lr"] for group in same.optimizer.param_groups] == [0.4, 0.4]
    before = [w.detach().clone() for w in model.w1]
    for step in range(4):
        stepper.zero_grad()
        model(torch.ones(16, 64)).square().mean().backward()
        stepper.step(16)
        moved = [not torch.equal(old, new) for old, new in zip(before, model.w1, strict=True)]
        assert moved == [True, step == 3]


def test_the_real_digits() -> None:
    if lacking(own.EXPERIMENT.needs):
        pytest.skip("the optional extra `digits` is not installed")
    found = own.measure(own.cells("quick", [0])[-1])
    assert found["rate0"]["just_learnt"] > 0.5


def test_what_is_needed_is_said() -> None:
    assert own.EXPERIMENT.needs == ("sklearn",)
    assert (lacking(("sklearn",)) == []) == (importlib.util.find_spec("sklearn") is not None)


# --- reading --------------------------------------------------------------------------------------------------------


def run(accuracy: float, loss: float) -> dict[str, Any]:
    return {
        "mean_accuracy": accuracy,
        "forgetting": 1 - accuracy,
        "just_learnt": 0.99,
        "told_accuracy": (1 + accuracy) / 2,
        "told_forgetting": (1 - accuracy) / 2,
        "online_loss": loss,
        "diverged": False,
    }


def made_up(more: float, scatter: float = 0.01, seeds: int = 3) -> Records:
    """The MLP ends at 40 % where it learns best and at 60 % with a smaller rate; "2 levels, sum" so much better at both."""
    found = []
    for task, own_seeds in (("tuning", [1001]), ("digits", list(range(seeds)))):
        for model, gain in (("MLP", 0.0), ("2 levels, sum", more), ("MLP, all tasks at once", 0.3)):
            for seed in own_seeds:
                shift = gain + (scatter * seed if gain else 0)
                runs = {
                    "rate0": run(0.6 + shift, 2.0),
                    "rate1": run(0.4 + shift, 0.1),
                    "rate2": {"diverged": True},
                }
                settings = {"rates": [0.1, 0.3, 1.0], "epochs": 3, "batch": 16}
                found.append(
                    Record(Cell("digits", task, model, seed, settings), {**runs, "parameters": 9}, 1.0)
                )
    return Records(found)


def test_a_rate_is_chosen_by_learning_or_by_the_end_and_on_the_tuning_seed() -> None:
    records = made_up(0.1)
    assert own.chosen(records, "MLP", "online_loss") == 1
    assert own.chosen(records, "MLP", "told_accuracy") == 0
    assert own.chosen(records, "3 levels, sum", "online_loss") is None


def test_a_rate_that_diverged_on_one_tuning_seed_is_not_chosen() -> None:
    records = made_up(0.1)
    first = records.of("tuning", "MLP")[0]
    other = Record(first.cell, {**first.measures, "rate1": {"diverged": True}}, 1.0)
    assert own.chosen(Records([first, other]), "MLP", "online_loss") == 0


@pytest.mark.parametrize(
    ("more", "scatter", "said", "told"),
    [
        (
            0.1,
            0.01,
            "better: 2 levels, sum (+11.0 ± 1.0 points)",
            "better: 2 levels, sum (+5.5 ± 0.5 points)",
        ),
        (-0.2, 0.01, "worse: 2 levels, sum (-19.0 ± 1.0 points)", "worse: 2 levels, sum (-9.5 ± 0.5 points)"),
        (-0.01, 0.02, "no difference found: 2 levels, sum", "no difference found: 2 levels, sum"),
    ],
)
def test_the_sentence_follows_the_numbers(more: float, scatter: float, said: str, told: str) -> None:
    found = own.sentence(made_up(more, scatter))
    assert "the MLP has 40.0 ± 0.0 % right" in found
    assert said in found.split("If the task is told")[0]
    assert found.split("If the task is told")[1].count(told) == 2  # for both choices of the rate
    assert "if it learns all tasks at once" in found


def test_without_records_or_with_one_seed_nothing_is_claimed() -> None:
    assert own.tables(Records([])) == []
    assert "Not run yet" in own.sentence(Records([]))
    assert "Not run yet" in own.sentence(made_up(0.1, seeds=1))


def test_tables_hold_what_there_is() -> None:
    records = made_up(0.1)
    learning, end = own.tables(records)
    assert learning.rows[0][:5] == ("MLP", "0.3", "40.0 ± 0.0", "60.0 ± 0.0", "99.0 ± 0.0")
    assert learning.rows[0][5:] == ("70.0 ± 0.0", "30.0 ± 0.0")
    assert end.rows[0][1:3] == ("0.1", "60.0 ± 0.0")
    assert [row[0] for row in learning.rows] == ["MLP", "2 levels, sum", "MLP, all tasks at once"]
    records.of("digits", "MLP")[0].measures["rate1"] = {"diverged": True}
    assert own.tables(records)[0].rows[0][1:3] == ("0.3, 1 diverged", "40.0 ± 0.0 (2 seeds)")
    assert own.tables(Records(records.of("digits"))) == []
    assert own.tables(Records(records.of("tuning"))) == []
