"""Optimisers: the cells, who moves which parameters at which rate, the toy loss, the reading of made-up records."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import Muon

from hope_ref.experiments import Cell, Record, Records
from hope_ref.experiments import optimizers as own
from hope_ref.experiments import optimizers_toy as toy
from hope_ref.experiments import records as kept
from hope_ref.tasks.oscillating_loss import psi
from hope_ref.training.optimizers import advance, is_matrix

FULL = own.cells("full", [0, 1, 2])
QUICK = own.cells("quick", [0])


@pytest.fixture(scope="module")
def measured() -> Records:
    return Records([Record(cell, own.measure(cell), 1.0) for cell in QUICK])


def test_cells_are_distinct_and_all_optimisers_are_tried_equally_often() -> None:
    assert len({cell.key for cell in FULL}) == len(FULL) == 5 + 4 + 3 * 5
    assert json.loads(json.dumps([cell.to_dict() for cell in FULL])) == [cell.to_dict() for cell in FULL]
    assert {len(tried) for tried in own.TRIED.values()} == {4}
    assert all(own.RATES[name] in own.TRIED[name] for name in own.OPTIONS)
    tuning = [cell for cell in FULL if cell.task == "tuning"]
    assert tuning == FULL[:5]
    assert {cell.seed for cell in tuning}.isdisjoint({0, 1, 2})
    for name in own.OPTIONS:
        (alone,) = {cell.settings["rate"] for cell in FULL if (cell.task, cell.model) == ("text", name)}
        assert alone == own.RATES[name]


def test_all_but_the_matrices_optimiser_is_equal() -> None:
    for task in ("tuning", "text"):
        rest = [
            {k: v for k, v in cell.settings.items() if k not in ("options", "rate", "rates")}
            for cell in FULL
            if cell.task == task
        ]
        assert all(one == rest[0] for one in rest)


def test_the_rates_are_those_that_the_tuning_runs_found() -> None:
    found = [
        (cell.model, record)
        for cell in FULL
        if cell.task == "tuning" and (record := kept.load(kept.FOLDER, cell))
    ]
    if not found:
        pytest.skip(f"no tuning runs in {kept.FOLDER}")
    for name, record in found:
        assert own.best_rate(record) == own.RATES[name], name


def test_the_best_rate_is_the_one_with_the_fewest_bits_that_came_to_the_end() -> None:
    cell = Cell("optimizers", "tuning", "M3", 1, {"rates": [1, 2, 3], "steps": 9})
    runs = [
        {"rate": 1, "bits": 4.0, "steps": 9},
        {"rate": 2, "bits": 3.0, "steps": 9},
        {"rate": 3, "bits": 2, "steps": 8},
    ]
    assert own.best_rate(Record(cell, {f"rate{n}": one for n, one in enumerate(runs)}, 1.0)) == 2
    assert own.best_rate(Record(cell, {f"rate{n}": runs[2] for n in range(3)}, 1.0)) is None


def test_quick_cells_measure_what_they_promise(measured: Records) -> None:
    for record in measured.all:
        json.dumps(record.measures, allow_nan=False)
    for name in ("M3", "AdamW", "Muon"):
        (run,) = (record.measures for record in measured.of("text", name))
        assert run["steps"] == 3
        assert 2 < run["bits"] < 9
        assert run["time_of_adamw"] == pytest.approx(
            (run["gradient_ms"] + run["optimizer_ms"]) / (run["gradient_ms"] + run["adamw_ms"])
        )
        (tried,) = (record.measures for record in measured.of("tuning", name))
        assert tried["rate0"]["rate"] == own.TRIED[name][0]
        assert "rate1" not in tried


def test_the_same_cell_twice_measures_the_same(measured: Records) -> None:
    timed = (
        "seconds_per_step",
        "training_seconds",
        "gradient_ms",
        "optimizer_ms",
        "adamw_ms",
        "time_of_adamw",
    )
    cell = QUICK[-1]
    (first,) = (record.measures for record in measured.of(cell.task, cell.model))
    again = own.measure(cell)
    for name in timed:
        assert again.pop(name) > 0
    assert again == {name: value for name, value in first.items() if name not in timed}


def test_optimisers_give_different_models_and_the_rest_is_moved_by_adamw_at_its_own_rate() -> None:
    cell = next(cell for cell in QUICK if (cell.task, cell.model) == ("text", "Muon"))
    settings = dict(cell.settings)
    moved: dict[str, dict[str, torch.Tensor]] = {}
    for name, rate in (("M3", 0.02), ("AdamW", 0.02), ("Muon", 0.02), ("SGD with momentum", 0.5)):
        options = own.OPTIONS[name]
        model = own.run_of(cell, rate).model()
        stepper = own.stepper(name, model, {**settings, "options": options}, rate)
        before = {place: p.detach().clone() for place, p in model.named_parameters()}
        for p in model.parameters():
            p.grad = torch.linspace(-1, 1, p.numel()).reshape(p.shape) + 0.01
        for scale in (1.0, 0.5):  # the ratio must not pile up from step to step
            advance(stepper, rate * scale, 1)
            rates = [[group["lr"] for group in one.param_groups] for one in stepper.optimizers]
            assert rates[0] == [rate * scale]
            assert rates[1] == pytest.approx([settings["rest_rate"] * scale])
        moved[name] = {place: p.detach() - before[place] for place, p in model.named_parameters()}
    for place, one in moved["AdamW"].items():
        matrix = is_matrix(place, one)
        for name in ("M3", "Muon", "SGD with momentum"):
            assert torch.allclose(moved[name][place], one, rtol=1e-3) != matrix, (name, place)


def test_muon_moves_each_matrix_of_a_stack_on_its_own() -> None:
    generator = torch.Generator().manual_seed(0)
    stack = torch.randn(2, 3, 4, 5, generator=generator)
    singles = [torch.nn.Parameter(one.clone()) for one in stack.flatten(0, 1)]
    together = torch.nn.Parameter(stack.clone())
    options = {"lr": 0.1, "weight_decay": 0.0, "momentum": 0.9}
    ours, theirs = own.MuonOnStacks([together], **options), Muon(singles, **options)
    for _ in range(3):
        gradient = torch.randn(stack.shape, generator=generator)
        together.grad = gradient.clone()
        for one, part in zip(singles, gradient.flatten(0, 1), strict=True):
            one.grad = part.clone()
        ours.step()
        theirs.step()
    assert torch.equal(together.flatten(0, 1), torch.stack([one.detach() for one in singles]))
    ours.zero_grad()
    assert together.grad is None
    before = together.detach().clone()
    ours.step()  # without a gradient nothing moves
    assert torch.equal(together, before)


def test_a_divergence_is_seen_in_the_steps() -> None:
    cell = next(cell for cell in QUICK if (cell.task, cell.model) == ("tuning", "AdamW"))
    found = own.measure(
        Cell("optimizers", "tuning", "AdamW", 0, {**cell.settings, "rates": [1e30], "steps": 4})
    )
    assert found["rate0"]["steps"] < 4


# --- the toy loss -----------------------------------------------------------------------------------------------


def numbers(step: Callable[[np.ndarray, Any], tuple[np.ndarray, Any]], start: np.ndarray, most: int) -> int:
    """Steps of one method, one start, written out in NumPy."""
    w, state = start, None
    for count in range(1, most + 1):
        w, state = step(w, state)
        if psi(*w) < toy.SOLVED:
            return count
    raise AssertionError("never arrived")


def test_the_toy_steps_are_those_of_the_formulas() -> None:
    from hope_ref.tasks.oscillating_loss import psi_gradient

    def momentum(w: np.ndarray, m: Any) -> tuple[np.ndarray, Any]:
        m = (0 if m is None else 0.7 * m) - 0.1 * psi_gradient(*w)
        return w + m, m

    def adam(w: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        m, v, t = state or (0, 0, 0)
        g, t = psi_gradient(*w), t + 1
        m, v = 0.8 * m + 0.2 * g, 0.999 * v + 0.001 * g**2
        return w - m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), (m, v, t)

    starts = toy.scattered_starts(3, 4)
    for name, step, setting in (("SGD with momentum", momentum, (0.1, 0.7)), ("Adam", adam, (1.0, 0.8))):
        needed, least = toy.descended(name, starts, *setting, 300)
        assert needed.tolist() == [numbers(step, start, 300) for start in starts]
        assert (least < toy.SOLVED).all()


def test_on_two_numbers_muon_and_m3_take_steps_of_one_length() -> None:
    for name in ("Muon-like", "M3"):
        far, near = (toy.descended(name, at * np.ones((1, 2)), 1e-3, 0.0, 1)[1][0] for at in (3.0, 0.3))
        assert psi(3.0, 3.0) - far > 0
        needed, least = toy.descended(name, toy.scattered_starts(0, 2), 1e-3, 0.5, 30)
        assert np.isinf(needed).all()
        assert (least > 1).all()  # 30 steps of a thousandth lead nowhere, however steep the wall
        assert near < psi(0.3, 0.3)


def test_a_divergence_is_not_an_arrival() -> None:
    needed, _ = toy.descended("SGD with momentum", toy.scattered_starts(0, 3), 3.0, 0.9, 100)
    assert np.isinf(needed).all()


def test_the_toy_cell_chooses_the_best_of_its_settings() -> None:
    settings = {"rates": [1e-3, 0.1], "decays": [0.0, 0.7], "starts": 5, "most": 300}
    found = toy.toy("SGD with momentum", settings, 0)
    assert (found["tried"], found["rate"], found["decay"], found["arrived"]) == (4, 0.1, 0.7, 1.0)
    assert 50 < found["median_steps"] < 300
    assert found["median_least"] < toy.SOLVED
    never = toy.toy("M3", {**settings, "rates": [0.01, 0.02], "decays": [0.5], "most": 20}, 0)
    assert never["rate"] == 0.02  # it came nearer
    assert never["median_steps"] is None
    assert never["arrived"] == 0


# --- reading ----------------------------------------------------------------------------------------------------


def made_up(m3: float, scatter: float = 0.01, seeds: int = 3) -> Records:
    """AdamW 3.0 bits, Muon 2.9, SGD 3.5, M3 as wanted, its fast momentum alone 0.05 better; a step's time 1.2."""
    bits = {
        "M3": m3,
        "AdamW": 3.0,
        "Muon": 2.9,
        "SGD with momentum": 3.5,
        "M3, fast momentum only": m3 - 0.05,
    }
    found = []
    for name, value in bits.items():
        for seed in range(seeds):
            settings = {"rate": own.RATES[name], "steps": 120, "rest_rate": 0.003}
            measures = {
                "bits": value + (scatter * seed if name == "M3" else 0.0),
                "training_bits": value,
                "optimizer_ms": 20.0,
                "time_of_adamw": 1.2,
                "steps": 120,
                "parameters": 7,
                "matrices": 5,
            }
            found.append(Record(Cell("optimizers", "text", name, seed, settings), measures, 1.0))
    return Records(found)


@pytest.mark.parametrize(
    ("m3", "scatter", "said"),
    [
        (2.5, 0.01, ["better by 0.490 ± 0.010 than AdamW", "better by 0.390 ± 0.010 than Muon"]),
        (2.95, 0.01, ["better by 0.040 ± 0.010 than AdamW", "worse by 0.060 ± 0.010 than Muon"]),
        (2.8, 0.1, ["not found to differ (+0.100 ± 0.100 better) from AdamW", "better by 0.600"]),
    ],
)
def test_the_sentence_follows_the_numbers(m3: float, scatter: float, said: list[str]) -> None:
    found = own.sentence(made_up(m3, scatter))
    assert found.startswith("A step's time beside AdamW's: M3 1.20 ± 0.00, Muon 1.20 ± 0.00.")
    assert all(words in found for words in said)
    assert "toy" not in found
    slow = (
        "worse by 0.060 ± 0.010 than"
        if scatter == 0.01
        else "not found to differ (-0.150 ± 0.100 better) from"
    )
    assert f"Beside its own fast momentum alone, M3 is {slow} it." in found


def test_without_records_or_with_one_seed_nothing_is_claimed(measured: Records) -> None:
    assert own.tables(Records([])) == []
    assert "Not run yet" in own.sentence(Records([]))
    assert "Not run yet" in own.sentence(made_up(2.5, seeds=1))
    assert "Not run yet" in own.sentence(measured)


def test_tables_hold_what_there_is(measured: Records) -> None:
    text, tuning, toys = own.tables(measured)
    for table in (text, tuning, toys):
        assert {len(row) for row in table.rows} == {len(table.header)}
    assert [row[0] for row in text.rows] == ["M3", "AdamW", "Muon"]
    assert tuning.rows[2][1].startswith("0.01: ")
    assert [row[0] for row in toys.rows] == ["Muon-like", "M3"]
    assert toys.rows[0][4] == "never"
    records = made_up(2.5)
    assert own.tables(records)[0].rows[1][2] == "3.000 ± 0.000"
    records.of("text", "AdamW")[0].measures["steps"] = 7
    assert own.tables(records)[0].rows[1][1] == "0.01, 1 stopped early"


def test_who_never_arrives_on_the_toy_loss_is_said(measured: Records) -> None:
    both = Records([*made_up(2.5).all, *measured.of("toy")])
    assert "never to 1e-6: M3, Muon-like" in own.sentence(both)
