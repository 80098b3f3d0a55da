"""Languages in turn: the cells, the controls, that only levels carry, and what is read off the records."""

from __future__ import annotations

import json
import math
from statistics import mean
from typing import Any

import pytest
import torch

from hope_ref.experiments import Cell, Record, Records, amnesia
from hope_ref.experiments import languages as own
from hope_ref.experiments.fitting import parameters
from hope_ref.parallel import lessons
from hope_ref.tasks.languages import WORDS

FULL = own.cells("full", [0, 1, 2])
QUICK = own.cells("quick", [0])


@pytest.fixture(scope="module")
def quick() -> dict[str, dict[str, Any]]:
    return {cell.model: own.measure(cell) for cell in QUICK}


def settings_of(task: str, mixer: str, levels: str, start: str) -> dict[str, Any]:
    (found,) = (
        cell
        for cell in FULL
        if cell.seed == 0 and cell.task == task and cell.model == f"{mixer}; {levels}; {start}"
    )
    return dict(found.settings)


def small(settings: dict[str, Any]) -> dict[str, Any]:
    return {**settings, "config": {**settings["config"], "width": 8}}


# --- cells ----------------------------------------------------------------------------------------------------------------


def test_cells_are_distinct_and_json() -> None:
    for cells in (FULL, QUICK):
        assert len({cell.key for cell in cells}) == len(cells)
        assert json.loads(json.dumps([cell.to_dict() for cell in cells])) == [
            cell.to_dict() for cell in cells
        ]
    assert len(FULL) == 3 * (3 * 2 * len(own.LEVELS) + 4 + 4 + 3 + len(own.PACES))


def test_the_controls_have_as_many_parameters_and_the_same_total_rate() -> None:
    sizes = {}
    for name in own.LEVELS:
        settings = settings_of("8 languages, own words", own.EMPTIED, name, own.THROUGH)
        sizes[name] = parameters(own.built(settings, 0))
        assert sum(settings["config"]["cms_rate"]) == pytest.approx(0.1)
    three = sizes["3 clocks"]
    assert sizes["3 levels, one clock"] == three
    assert abs(sizes["1 level, 3 times as wide"] / three - 1) < 0.01
    assert sizes["1 level"] < sizes["2 clocks"] < three


def test_a_slow_clock_stands_beside_a_level_that_does_not_learn() -> None:
    for name, (size, rate) in own.PACES.items():
        settings = settings_of("8 languages, own words", own.EMPTIED, name, own.THROUGH)
        model = own.built(settings, 0)
        assert model.config.levels_chunk_sizes == (32, 32 * size)
        assert model.config.level_rates == (0.0, rate)
        given = own._episode({**settings, "languages": 8}, 2, (0, 0))
        after = amnesia.learned(model, given.lessons)
        start = lessons.begin(model, (2,))
        assert torch.equal(after.levels[0].w1, start.levels[0].w1)
        assert not torch.equal(after.levels[1].w1, start.levels[1].w1)


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_emptied_attention_is_the_amnesia_of_the_command() -> None:
    settings = settings_of("2 languages, own words", own.EMPTIED, "1 level", own.THROUGH)
    model = own.built(settings, 3)
    given = own._episode(settings, 3, (1, 2))
    everything = torch.arange(2 * WORDS).expand(3, -1)
    found = own.answered(model, given, settings, everything, True, False)
    wanted = lessons.ask(model, given.questions, amnesia.learned(model, given.lessons))[:, :, -1]
    assert torch.equal(found, wanted)
    some = torch.tensor([[3, 20], [0, 31], [5, 5]])
    picked = own.answered(model, given, settings, some, True, False)
    torch.testing.assert_close(
        picked, wanted.gather(1, some[..., None].expand(-1, -1, wanted.shape[-1])), rtol=0, atol=1e-5
    )


def test_hope_is_emptied_as_attention_is() -> None:
    settings = small(settings_of("4 languages, own words", own.HOPE_EMPTIED, "1 level", own.THROUGH))
    model = own.built(settings, 0)
    given = own._episode(settings, 2, (1, 2))
    asked = torch.tensor([[0, 63], [17, 5]])
    found = own.answered(model, given, settings, asked, False, False)
    wanted = model(given.questions.gather(1, asked[..., None]))[0][:, :, -1]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    assert not torch.allclose(found, own.answered(model, given, settings, asked, True, False), atol=1e-3)


def test_sgd_moves_all_weights_once_after_each_lesson_and_each_pupil_begins_anew() -> None:
    settings = small(settings_of("2 languages, own words", own.EMPTIED, "1 level", own.THROUGH))
    model = own.built(settings, 0).double()
    given = own._episode(settings, 2, (1, 2))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    rate, hits = 0.05, []
    for pupil in range(2):
        theta = before
        for lesson in given.lessons:
            line = lesson[pupil]

            def loss(w: dict[str, torch.Tensor], line: torch.Tensor = line) -> torch.Tensor:
                logits = torch.func.functional_call(model, w, (line[:-1],))[0]
                return -logits.log_softmax(-1).gather(-1, line[1:, None]).sum()

            slope = torch.func.grad(loss)(theta)
            theta = {name: value - rate * slope[name] for name, value in theta.items()}
        logits = torch.func.functional_call(model, theta, (given.questions[pupil],))[0]
        hits.append(logits[:, -1].argmax(-1) == given.answers[pupil])
    wanted = [100 * float(part.double().mean()) for part in torch.stack(hits).split(WORDS, 1)]
    assert own.by_sgd(model, given, rate) == wanted
    assert wanted != own.by_sgd(model, given, 0.0)
    assert all(torch.equal(before[name], value) for name, value in model.named_parameters())


@pytest.mark.parametrize("mixer", own.CARRIED)
@pytest.mark.parametrize("learning", [False, True])
def test_carried_mixers_read_one_line_and_every_question_behind_it(mixer: str, learning: bool) -> None:
    settings = small(settings_of("4 languages, own words", mixer, "none", own.ORDINARY))
    model = own.built(settings, 0).double()
    given = own._episode(settings, 1, (1, 2))
    asked = torch.tensor([[0, 17, 63]])
    with torch.no_grad():
        found = own.answered(model, given, settings, asked, learning, False)
        line = torch.cat(given.lessons, 1)
        for place, number in enumerate(asked[0]):
            state = model.adapt(line)[1].now if learning else model(line)[1]
            alone = model(given.questions[:, number], state)[0][:, -1]
            torch.testing.assert_close(found[:, place], alone, rtol=0, atol=1e-9)


def test_a_carried_lesson_is_a_chunk_of_the_level() -> None:
    settings = small(
        settings_of("4 languages, own words", "gated delta rule, carried", "1 level", own.THROUGH)
    )
    model = own.built(settings, 0).double()
    given = own._episode(settings, 1, (1, 2))
    with torch.no_grad():
        found = own.answered(model, given, settings, torch.tensor([[5]]), True, False)[:, 0]
        line = torch.cat([*(lesson[:, :-1] for lesson in given.lessons), given.lessons[0][:, -1:]], 1)
        state = model.adapt(line)[1].now
        assert state.blocks[0].continuum.position == 4 * 2 * WORDS
        wanted = model(given.questions[:, 5], state)[0][:, -1]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


def test_a_window_of_one_lesson_does_not_reach_the_one_before() -> None:
    """With levels held still, an answer does not depend on lessons that left the window."""
    settings = small(
        settings_of("4 languages, own words", "attention, a window of one lesson", "none", own.ORDINARY)
    )
    model = own.built(settings, 0)
    given, other = (own._episode(settings, 1, seed) for seed in ((1, 2), (1, 3)))
    mixed = given._replace(lessons=(other.lessons[0], *given.lessons[1:]))
    asked = torch.arange(4 * WORDS)[None]
    with torch.no_grad():
        one, two = (own.answered(model, g, settings, asked, False, False) for g in (given, mixed))
    assert torch.equal(one, two)


def test_a_random_start_is_another_one_in_every_episode_and_is_not_trained() -> None:
    start = "a new random start in every episode"
    settings = small(settings_of("4 languages, own words", own.EMPTIED, "1 level", start))
    model = own.built(settings, 0)
    level = model.blocks[0].continuum.levels[0]
    seen = []
    for step in (0, 1, 0):
        own.loss_of(model, settings, 0, step)
        seen.append(level.w1.detach().clone())
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])
    assert seen[1].std() == pytest.approx(0.5 / math.sqrt(32), rel=0.15)
    assert level.w2.detach().std() == pytest.approx(1 / math.sqrt(8), rel=0.15)


def test_the_loss_goes_through_the_updates_unless_levels_are_held_still() -> None:
    for start, moves in ((own.THROUGH, True), (own.ORDINARY, False)):
        settings = small(settings_of("4 languages, own words", own.EMPTIED, "1 level", start))
        losses = [
            float(own.loss_of(amnesia.at_rate(own.built(settings, 0), rate), settings, 0, 0).detach())
            for rate in (0.0, 0.3)
        ]
        assert (losses[0] != losses[1]) == moves


def test_a_quick_cell_of_each_kind_says_what_the_tables_need(quick: dict[str, dict[str, Any]]) -> None:
    for name, found in quick.items():
        assert found["steps"] == 2
        assert len(found["still"]) == 2
        assert all(0 <= share <= 100 for share in found["still"])
        assert found["right"] == mean(own._best(found))
        if "by_rate" in found:
            assert found["by_rate"]["0"] == found["still"], name
            assert found["right"] == max(map(mean, found["by_rate"].values()))
    assert sum("learning" in found for found in quick.values()) == 2
    assert sum("by_rate" in found for found in quick.values()) == 1
    assert [set(found["sgd"]) for found in quick.values() if "sgd" in found] == [
        {f"{rate:g}" for rate in own.RATES[1:]}
    ] * 3
    assert [list(found["emptied"]) for found in quick.values() if "emptied" in found] == [
        [f"{rate:g}" for rate in own.RATES]
    ]


# --- what is read off the records -------------------------------------------------------------------------------------


def made(right: dict[tuple[str, str], float]) -> Records:
    """A record for every full cell; % right by task and levels or start, else 50, a little more with every seed."""
    found = []
    for cell in FULL:
        mixer, levels, start = cell.model.split("; ")
        level = 50.0
        if mixer == own.EMPTIED:
            level = right.get((cell.task[0], levels if start == own.THROUGH else start), 50.0)
        level += 0.1 * cell.seed
        count = cell.settings["languages"]
        measures = _measures(level, count)
        if cell.settings["sgd"]:
            measures["sgd"] = {"0.003": [20.0] * count, "0.01": [90.0] * count}
        if mixer == own.FULL:
            measures["emptied"] = {"0": [6.0] * count, "0.1": [7.0] * count}
        found.append(Record(cell, measures, 1.0))
    return Records(found)


def _measures(level: float, count: int) -> dict[str, Any]:
    each = [level + 2, *[level] * (count - 2), level - 2]
    return {
        "right": level,
        "learning": each,
        "still": [6.0] * count,
        "parameters": 1000,
        "seconds_per_step": 0.1,
        "steps": 600,
    }


def test_the_sentence_says_which_of_three_carries_it() -> None:
    start = "a new random start in every episode"
    records = made(
        {
            ("8", "1 level"): 98,
            ("8", "3 clocks"): 98.4,
            ("8", "3 levels, one clock"): 90,
            ("8", "1 level, 3 times as wide"): 99.9,
            ("4", "1 level"): 99,
            ("4", own.ORDINARY): 8,
            ("4", start): 97,
        }
    )
    said = own.sentence(records)
    assert "one level keeps 98.1 ± 0.1 % of eight languages" in said
    assert "trained with levels held still 8.1 ± 0.1 %" in said
    assert "What three clocks keep: no difference found (0.4 ± 0.0 points) from one level;" in said
    assert "less (−1.5 ± 0.0 points) than one level with as many parameters" in said
    assert "more (8.4 ± 0.0 points) than three levels at one clock" in said
    assert "97.1 ± 0.1 % of four: what counts is that the model was trained through the steps" in said
    assert own.sentence(Records([])) == "Not run yet."
    first = Records(record for record in records.all if record.cell.seed == 0)
    assert own.sentence(first) == "Only 1 of 3 seeds so far: too few for a verdict."
    assert "what counts" not in own.sentence(made({("8", "1 level"): 98, ("4", start): 30}))


def test_tables_have_a_row_for_every_model_and_the_first_and_last_language() -> None:
    clocks, others, sgd, paces = own.tables(made({("8", "2 clocks"): 71}))
    assert [row[0] for row in clocks.rows] == [*own.LEVELS, "a blind guess"]
    row = next(row for row in clocks.rows if row[0] == "2 clocks")
    assert row[3] == "71.1 ± 0.1"
    assert row[-2] == "73.1 / 69.1"
    assert len(others.rows) == len(own.STARTS) + 4 + 4
    assert [row[0] for row in paces.rows] == list(own.PACES)
    assert sgd.rows[0] == (own.THROUGH, "50.1 ± 0.1", "90.0 ± 0.0", "0.01")
    assert sgd.rows[-1][1:] == ("7.0 ± 0.0", "90.0 ± 0.0", "0.01")
    for table in own.tables(Records([])):
        assert all("–" in row or row[0] == "a blind guess" for row in table.rows)


def test_differences_are_taken_seed_by_seed() -> None:
    records = made({("8", "3 clocks"): 60, ("8", "1 level"): 50})
    assert own.compared(records, "8 languages, own words", "3 clocks", "1 level") == pytest.approx(
        [10, 10, 10]
    )
    some = Records(r for r in records.all if not (r.cell.seed == 1 and "1 level;" in r.cell.model))
    assert len(own.compared(some, "8 languages, own words", "3 clocks", "1 level")) == 2


def test_keys_are_names_of_files() -> None:
    assert all(isinstance(cell, Cell) and len(cell.key) < 200 for cell in FULL)
