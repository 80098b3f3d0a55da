"""A, B, A: the cells, the streams, the learner, and what is read off records, by numbers made up here."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from hope_ref.experiments import Cell, Record, Records
from hope_ref.experiments import continual as own
from hope_ref.experiments import continual_reading as reading
from hope_ref.parallel.continuum_memory import initial_state, weights_of

QUICK = own.cells("quick", [0])


def settings_of(task: str, model: str = "MLP", **changes: Any) -> dict[str, Any]:
    cell = next(cell for cell in own.cells("full", [0]) if (cell.task, cell.model) == (task, model))
    return {**cell.settings, **changes}


def test_cells_are_distinct_and_the_rates_are_tuned_on_other_seeds_first() -> None:
    cells = own.cells("full", [0, 1, 2])
    assert len({cell.key for cell in cells}) == len(cells) == 2 * 7 * 4
    assert json.loads(json.dumps([cell.to_dict() for cell in cells])) == [cell.to_dict() for cell in cells]
    tuning = [cell.task.endswith("tuning") for cell in cells]
    assert tuning == sorted(tuning, reverse=True)
    assert {cell.seed for cell, one in zip(cells, tuning, strict=True) if one}.isdisjoint({0, 1, 2})


def test_all_models_of_a_stream_differ_in_nothing_but_their_levels() -> None:
    for task in own.SOURCES:
        found = [cell for cell in own.cells("full", [0]) if cell.task == task]
        rest = [
            {
                name: value
                for name, value in cell.settings.items()
                if name not in ("chunk_sizes", "slower", "variant")
            }
            for cell in found
        ]
        assert all(one == rest[0] for one in rest)
        counts = set()
        for cell in found:
            levels = own.learner(dict(cell.settings), 10, 0).levels
            assert len(levels) == len(cell.settings["chunk_sizes"])
            counts.add(sum(level.w1.numel() + level.w2.numel() for level in levels))
        assert len(counts) == 1


@pytest.fixture(scope="module")
def measured() -> Records:
    return Records([Record(cell, own.measure(cell), 1.0) for cell in QUICK])


def test_the_same_cell_twice_measures_the_same(measured: Records) -> None:
    found, again = (
        dict(measured.of("Markov", "MLP")[0].measures),
        own.measure(measured.of("Markov", "MLP")[0].cell),
    )
    assert found.pop("training_seconds") > 0 < again.pop("training_seconds")
    assert found == again


def test_quick_cells_measure_what_they_promise(measured: Records) -> None:
    assert [record.cell.key for record in measured.all] == sorted(cell.key for cell in QUICK)
    for cell, found, _ in measured.all:
        json.dumps(found, allow_nan=False)
        run = found["rate0"]
        assert run["tokens"] == 3 * cell.settings["phase"]
        assert not run["diverged"]
        assert run["forgetting"] == pytest.approx(run["a_after_b"] - run["a_before_b"])
        assert all(
            0 < run[name] < 2 * found["chance"]
            for name in ("a_before_b", "b_after_b", "a_again", "online_return")
        )
        assert 0 < found["floor"] < found["chance"] == 5
        assert [point[0] for point in run["curve"]][-1] == run["tokens"]


def test_another_seed_is_another_stream_and_another_model_the_same() -> None:
    settings = dict(QUICK[0].settings)
    one, same, other = (
        own.streams(settings, 0),
        own.streams({**settings, "chunk_sizes": [2]}, 0),
        own.streams(settings, 1),
    )
    assert all(torch.equal(first, second) for first, second in zip(one[:3], same[:3], strict=True))
    assert not torch.equal(one.learnt, other.learnt)
    assert not torch.equal(own.learner(settings, 9, 0).levels[0].w1, own.learner(settings, 9, 1).levels[0].w1)


@pytest.mark.parametrize("source", own.SOURCES)
def test_b_contradicts_a_and_nothing_tested_was_learnt(source: str) -> None:
    settings = settings_of(source, phase=2048, held_out=256)
    given = own.streams(settings, 0)
    phase = settings["phase"]
    assert given.learnt.shape == (4, 3 * phase)
    assert given.of_a.shape == (4, 257)
    assert int(given.learnt.max()) < given.symbols

    def pairs(tokens: torch.Tensor) -> np.ndarray:
        found = np.zeros((given.symbols, given.symbols))
        np.add.at(found, (tokens[:, :-1].flatten().numpy(), tokens[:, 1:].flatten().numpy()), 1)
        return found / found.sum()

    a, b, again = (pairs(given.learnt[:, n * phase : (n + 1) * phase]) for n in range(3))
    assert np.minimum(a, again).sum() > 0.6 > 2 * np.minimum(a, b).sum()
    assert np.minimum(pairs(given.of_a), a).sum() > 2 * np.minimum(pairs(given.of_a), b).sum()
    assert np.minimum(pairs(given.of_b), b).sum() > 2 * np.minimum(pairs(given.of_b), a).sum()
    assert not torch.equal(given.learnt[:, :256], given.of_a[:, :256])


def test_what_is_tested_comes_from_another_part_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text whose last tenth has bytes of its own: none of them is learnt, and nothing else is tested."""
    bytes_of = np.concatenate([np.arange(45_000) % 100, 100 + np.arange(5_000) % 50]).astype(np.uint8)
    monkeypatch.setattr(own.text, "load", lambda: own.text.Text(bytes_of, "0" * 64, "made up"))
    phase = 2048
    given = own.streams(settings_of(own.SOURCES[1], phase=phase, held_out=256), 0)
    assert given.learnt[:, :phase].max() < 100 <= given.of_a.min()
    renamed = np.unique(given.learnt[:, phase : 2 * phase])
    assert len(renamed) == 100
    assert not np.isin(given.of_b, renamed).any()


def test_text_sees_two_symbols_back_markov_one_and_pieces_join() -> None:
    for source, context in (("Markov", 1), ("text", 2)):
        settings = settings_of(source, lanes=1)
        learner = own.learner(settings, 8, 0)
        assert settings["context"] == context
        weights = weights_of(initial_state(learner.levels, (1,)))
        before = torch.zeros(1, context - 1, dtype=torch.int64)
        tokens = torch.tensor([[1, 2, 3, 4, 5]])
        whole, after = own.logits(learner, tokens, weights, before)
        changed, _ = own.logits(learner, torch.tensor([[1, 7, 3, 4, 5]]), weights, before)
        moved = [bool(found) for found in (whole != changed).any(-1)[0]]
        assert moved == [False, True, context == 2, False, False]
        first, between = own.logits(learner, tokens[:, :2], weights, before)
        second, end = own.logits(learner, tokens[:, 2:], weights, between)
        assert torch.allclose(whole, torch.cat([first, second], 1), atol=1e-5)
        assert torch.equal(after, end)


def test_slower_levels_take_the_same_rate_or_one_in_proportion_to_their_frequency() -> None:
    settings = {"chunk_sizes": [16, 128, 1024]}
    assert own.level_rates({**settings, "slower": "sum"}, 0.5) == (0.5, 0.5, 0.5)
    assert own.level_rates({**settings, "slower": "mean"}, 0.5) == (0.5, 0.0625, 0.0078125)


def test_a_learner_learns_forgets_and_recovers() -> None:
    settings = settings_of("Markov", phase=2048, held_out=256)
    given = own.streams(settings, 0)
    run = own.follow(own.learner(settings, given.symbols, 0), given, settings, 0.01)
    assert given.floor is not None
    assert given.floor < run["a_before_b"] < 3.5 < 5 < run["a_after_b"]  # from worse than chance …
    assert run["a_again"] < run["a_before_b"] + 0.5  # … back
    assert run["b_before_b"] - run["b_after_b"] > 2
    settings = settings_of("Markov", phase=256, held_out=256)
    given = own.streams(settings, 0)
    still = own.follow(own.learner(settings, given.symbols, 0), given, settings, 0.0)
    assert still["forgetting"] == 0
    assert still["recovery_tokens"] == 0


def test_a_run_that_diverges_says_so() -> None:
    settings = {**QUICK[0].settings, "rates": [1e4]}
    found = own.measure(Cell("continual", "Markov", "MLP", 0, settings))
    assert found["rate0"]["diverged"]
    assert found["rate0"]["tokens"] < 3 * settings["phase"]
    json.dumps(found, allow_nan=False)


# --- reading ----------------------------------------------------------------------------------------------------


def run(b: float, lost: float, online: float = 1.0, back: int | None = 100) -> dict[str, Any]:
    return {
        "a_before_b": 2.0,
        "a_after_b": 2.0 + lost,
        "forgetting": lost,
        "a_again": 2.0,
        "b_before_b": 9.0,
        "b_after_b": b,
        "recovery_tokens": back,
        "online_learning": online,
        "diverged": False,
    }


DIVERGED = {"tokens": 3, "diverged": True}


def measures(*runs: dict[str, Any]) -> dict[str, Any]:
    shared = {"parameters": 768, "chance": 5.0, "floor": 1.8}
    return {**{f"rate{n}": one for n, one in enumerate(runs)}, **shared}


def made_up(less: float, seeds: int = 3, scatter: float = 0.01) -> Records:
    """The MLP forgets 3 bits where it has learnt B to 2.55 bits; "3 levels, mean" as much less as is wanted."""
    found = []
    for task, own_seeds in (("Markov, tuning", [1001]), ("Markov", list(range(seeds)))):
        for model, shift in (("MLP", 0.0), ("3 levels, mean", less), ("3 levels, one frequency", 0.3)):
            for seed in own_seeds:
                lost = 3.0 - shift + (scatter * seed if shift else 0.0)
                runs = (run(3.0, lost - 1), run(2.55, lost), run(2.5, lost + 1, online=0.5), DIVERGED)
                cell = Cell("continual", task, model, seed, {"rates": [1, 2, 3, 4], "lanes": 4, "phase": 8})
                found.append(Record(cell, measures(*runs), 1.0))
    return Records(found)


def test_equal_learning_is_read_off_the_lines_between_rates() -> None:
    mlp = measures(run(4, 1), run(3, 2), run(2, 4), run(2.2, 9))
    other = measures(run(5, 0), run(2.95, 1), DIVERGED)
    assert reading.frontier(mlp) == [
        (2, 4),
        (3, 2),
        (4, 1),
    ]  # what learns B worse at a higher rate is left out
    level, first, second = reading.matched(mlp, other) or (0, 0, 0)
    assert level == pytest.approx(3.0)
    assert first == pytest.approx(2.0)
    assert second == pytest.approx(1 - 0.05 / 2.05)
    assert reading.matched(mlp, measures(run(9, 1), run(8, 2))) is None  # never as good as the MLP's worst
    assert reading.matched(mlp, measures(DIVERGED)) is None


def test_the_rate_is_chosen_by_learning_alone_and_on_the_tuning_seed() -> None:
    assert reading.chosen(made_up(0.5), "Markov", "MLP") == 2
    assert reading.chosen(made_up(0.5), "text", "MLP") is None


@pytest.mark.parametrize(
    ("less", "scatter", "said"),
    [
        (0.5, 0.01, "forgets less: 3 levels, mean on Markov (-0.49 ± 0.01"),
        (-0.5, 0.01, "forgets more than the MLP: 3 levels, mean on Markov (+0.51"),
        (0.1, 0.4, "no difference found: 3 levels, mean on Markov"),
    ],
)
def test_the_sentence_follows_the_numbers(less: float, scatter: float, said: str) -> None:
    found = reading.sentence(made_up(less, scatter=scatter))
    assert said in found
    first, depth = found.split(" Depth alone, ")
    assert "one frequency" not in first  # beside the MLP it is no continuum memory
    assert f"forgets {-0.3 + scatter:+.2f} ± {scatter:.2f} bits on Markov" in depth
    assert ("forgets less: none" in found) == (less < 0.5)
    assert found.endswith("At its own rate the MLP forgets 4.00 bits on Markov.")


def test_without_records_or_with_one_seed_nothing_is_claimed() -> None:
    assert reading.tables(Records([])) == []
    assert "Not run yet" in reading.sentence(Records([]))
    assert "Not run yet" in reading.sentence(made_up(0.5, seeds=1))


def test_tables_hold_what_there_is() -> None:
    first, second = reading.tables(made_up(0.5))
    assert {len(row) for row in first.rows} == {len(first.header)}
    rows = {row[0]: row for row in first.rows}
    assert rows["MLP"][1:5] == ("3", "2.00 ± 0.00", "6.00 ± 0.00", "4.00 ± 0.00")
    assert "frozen after A forgets nothing" in first.note
    assert "B 9.00 ± 0.00" in first.note
    matched = {row[1]: row[2:] for row in second.rows}
    assert matched["3 levels, mean"] == ("2.55 ± 0.00", "3.00 ± 0.00", "2.51 ± 0.01", "0.49 ± 0.01")
    no_mlp = Records([record for record in made_up(0.5).all if record.cell.model != "MLP"])
    only = reading.tables(no_mlp)
    assert len(only) == 1
    assert "frozen" not in only[0].note
    no_tuning = Records([record for record in made_up(0.5).all if record.cell.task == "Markov"])
    assert reading.tables(no_tuning)[0].rows == ()


def test_a_seed_that_never_recovers_or_diverges_is_seen() -> None:
    records = made_up(0.5)
    last = records.of("Markov", "MLP")[-1]
    last.measures["rate2"] = run(2.5, 4.0, back=None)
    assert "(1 never)" in reading.tables(records)[0].rows[0][-1]
    last.measures["rate2"] = DIVERGED
    assert "1 diverged" in reading.tables(records)[0].rows[0][1]


def test_quick_records_make_tables(measured: Records) -> None:
    assert next(len(table.rows) for table in own.EXPERIMENT.tables(measured)) == 3
