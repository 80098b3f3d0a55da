"""Modules in turn: cells, every learner against a literal loop, that nothing is heard early, and what is read off the records."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hope_ref.experiments import Cell, Record, Records, amnesia
from hope_ref.experiments import modules as own
from hope_ref.experiments.modules import Task, Way
from hope_ref.parallel.hope import Hope
from hope_ref.tasks import digits
from hope_ref.tasks import modules as task
from hope_ref.tasks.modules import FIRST_LABEL, LABELS, LENGTH, WORDS

FULL = own.cells("full", [0, 1, 2])
QUICK = own.cells("quick", [0])
SETTINGS = {cell.model: dict(cell.settings) for cell in QUICK}
WORDS_OF = tuple(np.random.default_rng(n).integers(0, FIRST_LABEL, 300) for n in range(12))


@pytest.fixture(scope="module")
def quick() -> dict[str, dict[str, Any]]:
    return {cell.model: own.measure(cell) for cell in QUICK}


def model_of(name: str = "1 level", seed: int = 3) -> Hope:
    return own.built(SETTINGS[name], seed).double()


def stream_of(modules: int = 6, shown: int = 3, asked: int = 4, seed: int = 1) -> tuple[Task, ...]:
    return own.tensors(task.stream(WORDS_OF[:modules], seed, shown, asked))


def points(tasks: int = 3, width: int = 5, shown: int = 4, asked: int = 3) -> tuple[Task, ...]:
    """A stream of features: modules 0, 1 | 2, 3 | …"""
    rng = torch.Generator().manual_seed(0)

    def drawn(labels: Tensor) -> Tensor:
        return (
            torch.randn(len(labels), width, generator=rng)
            + labels[:, None] * torch.eye(width)[labels % width]
        )

    made = []
    for n in range(tasks):
        named, answers = (torch.tensor([2 * n, 2 * n + 1]).repeat(count) for count in (shown, asked))
        made.append(Task((2 * n, 2 * n + 1), drawn(named), named, drawn(answers), answers))
    return tuple(made)


# --- cells ----------------------------------------------------------------------------------------------------------------


def test_cells_are_distinct_and_json() -> None:
    for cells in (FULL, QUICK):
        assert len({cell.key for cell in cells}) == len(cells)
        assert json.loads(json.dumps([cell.to_dict() for cell in cells])) == [
            cell.to_dict() for cell in cells
        ]
    assert [cell.model for cell in FULL[:4]] == [own.ORDINARY, *own.LEVELS]
    assert len(FULL) == 3 * 4


def test_levels_begin_with_the_same_rate_together_and_move_with_whole_passages() -> None:
    for cell in FULL:
        model = own.built(dict(cell.settings), 0)
        assert sum(model.config.level_rates) == pytest.approx(0.05)
        assert model.config.learned_rates == (cell.model in own.LEVELS)
        clocks = own.LEVELS.get(cell.model, (1,))
        assert model.config.levels_chunk_sizes == tuple(LENGTH * size for size in clocks)
        assert model.config.vocabulary == task.VOCABULARY
    assert {cell.settings["config"]["cms_rate"] * 3 for cell in FULL if "3" in cell.model} == {0.05}


def test_rates_are_chosen_on_other_seeds_and_on_words_that_may_be_learnt_from() -> None:
    where = tuple(10_000 * n + np.arange(400) for n in range(4))
    *choosing, tested = own.streams({"tuned": 2, "asked": 3}, where, 0, 5)
    assert len(choosing) == 2
    for stream in choosing:
        tokens = torch.cat([torch.cat([one.passages, one.questions])[:, :WORDS] for one in stream])
        assert int((tokens % 10_000).max()) < int(0.7 * 400)
    places = [
        {int(word) % 10_000 for one in tested for word in part(one)[:, :WORDS].flatten()}
        for part in (lambda one: one.passages, lambda one: one.questions)
    ]
    assert max(places[0]) < int(0.7 * 400) <= min(places[1])
    assert not torch.equal(choosing[0][0].passages, choosing[1][0].passages)


# --- the backbone -----------------------------------------------------------------------------------------------------


def test_the_ordinary_loss_is_of_every_word_the_question_mark_and_any_label() -> None:
    model = model_of(own.ORDINARY)
    found = own.next_token(model, WORDS_OF, 3, 5, 7)
    rng = task.generator((5, 7, 0))
    lines = [task.passages(WORDS_OF[n], 1, rng)[0] for n in rng.integers(0, 12, size=3)]
    labels = rng.integers(0, LABELS, size=(3, 1))[:, 0]
    losses = []
    for line, label in zip(lines, labels, strict=True):
        logs = model(torch.from_numpy(line))[0].log_softmax(-1)
        targets = [*line[1:], FIRST_LABEL + label]
        losses += [-logs[place, target] for place, target in enumerate(targets)]
    assert len(losses) == 3 * LENGTH
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_the_loss_of_episodes_goes_through_the_updates_and_reaches_the_rates() -> None:
    settings = SETTINGS["1 level"]
    model = model_of()
    loss = own.growing(model, settings, WORDS_OF, 0)(4)
    loss.backward()
    assert model.log_rates.grad is not None
    assert float(model.log_rates.grad.abs().max()) > 0
    still = own.growing(amnesia.at_rate(model_of(own.ORDINARY), 0.0).double(), settings, WORDS_OF, 0)(4)
    assert float(loss.detach()) != float(still.detach())
    drawn = [task.episode(WORDS_OF, (0, 4, 2 + pupil), 1, 2, 2) for pupil in range(2)]
    losses = []
    for pupil in drawn:
        learn, scores = own.by_levels(model, 1.0)
        for one in own.tensors(pupil):
            learn(one)
        losses += [cross_entropy(scores(one.questions), one.answers) for one in own.tensors(pupil)]
    torch.testing.assert_close(loss, torch.stack(losses).mean(), rtol=1e-9, atol=1e-9)


def test_an_episode_gets_a_task_more_when_all_it_has_is_easy(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    drawn = task.episode

    def noted(words: Any, seed: Any, tasks: int, *others: int) -> Any:
        counts.append(tasks)
        return drawn(words, seed, tasks, *others)

    monkeypatch.setattr(task, "episode", noted)
    settings = {**SETTINGS["1 level"], "episode": [3, 1, 1, 1]}
    settings["training"] = {**settings["training"], "batch": 1}
    for easy, most, steps in ((0.0, 1, 9), (100.0, 3, 40)):
        counts.clear()
        monkeypatch.setattr(own, "EASY", easy)
        loss = own.growing(own.built(settings, 0), settings, WORDS_OF, 0)
        for step in range(steps):
            loss(step)
        assert max(counts) == most
        assert counts[0] == 1


# --- learners ---------------------------------------------------------------------------------------------------------


def test_levels_take_a_step_of_gradient_descent_after_each_passage_and_are_asked_without_it() -> None:
    model, stream = model_of(), stream_of()
    learn, scores = own.by_levels(model, 0.3)
    moved = [name for name, _ in model.named_parameters() if name.endswith((".w1", ".w2"))]
    theta = {name: value.detach().clone() for name, value in model.named_parameters()}
    rate = 0.3 * float(model.log_rates.detach().exp())
    for one in stream[:2]:
        learn(one)
        for passage, label in zip(one.passages, one.named, strict=True):
            line = torch.cat([passage, FIRST_LABEL + label[None]])

            def loss(w: dict[str, Tensor], line: Tensor = line) -> Tensor:
                logits = torch.func.functional_call(model, {**theta, **w}, (line[:-1],))[0]  # noqa: B023
                return cross_entropy(logits, line[1:], reduction="sum")

            slope = torch.func.grad(loss)({name: theta[name] for name in moved})
            theta |= {name: theta[name] - rate * slope[name] for name in moved}
        asked = stream[2].questions
        wanted = torch.func.functional_call(model, theta, (asked,))[0][:, -1, FIRST_LABEL : FIRST_LABEL + 20]
        torch.testing.assert_close(scores(asked), wanted, rtol=0, atol=1e-9)


def test_levels_that_are_held_still_have_learned_nothing() -> None:
    model, stream = model_of(), stream_of()
    learn, scores = own.by_levels(model, 0.0)
    learn(stream[0])
    with torch.no_grad():
        wanted = own.of_labels(model(stream[0].questions)[0][:, -1])
    torch.testing.assert_close(scores(stream[0].questions), wanted, rtol=0, atol=1e-9)


def test_what_is_carried_in_context_is_the_last_passages_that_fit() -> None:
    model, stream = model_of(), stream_of(shown=4, asked=1)
    learn, scores = own.in_context(model)
    for one in stream:
        learn(one)
    line = torch.cat([own.labelled(one).flatten() for one in stream])
    with torch.no_grad():
        for length in (14 * (LENGTH + 1), 15 * (LENGTH + 1)):
            wanted = [model(torch.cat([line[-length:], asked]))[0][-1] for asked in stream[0].questions]
            same = torch.allclose(scores(stream[0].questions), own.of_labels(torch.stack(wanted)), atol=1e-9)
            assert same == (length + LENGTH <= 1024)


def test_features_are_the_mean_of_what_the_head_reads() -> None:
    model, tokens = model_of(), stream_of()[0].passages
    with torch.no_grad():
        wanted = model(tokens)[0].mean(1)
        torch.testing.assert_close(own.features(model, tokens) @ model.embedding.T, wanted)


@pytest.mark.parametrize("shared", [False, True])
def test_the_nearest_mean_is_a_literal_loop(shared: bool) -> None:
    stream = points()
    learn, scores = own.nearest_mean(shared)
    for one in stream[:2]:
        learn(one)
    seen = [
        (f.numpy(), int(y))
        for one in stream[:2]
        for f, y in zip(one.passages.double(), one.named, strict=True)
    ]
    means = {y: np.mean([f for f, label in seen if label == y], axis=0) for y in range(4)}
    covariance = np.mean([np.outer(f - means[y], f - means[y]) for f, y in seen], axis=0)
    ridge = 0.1 * np.mean(np.diag(covariance))
    metric = np.linalg.inv(covariance + ridge * np.eye(5)) if shared else np.eye(5)
    questions = torch.cat([one.questions for one in stream])
    found = scores(questions)
    for row, question in zip(found, questions.double().numpy(), strict=True):
        for y, m in means.items():
            assert float(row[y]) == pytest.approx(-0.5 * (question - m) @ metric @ (question - m))
    assert (found[:, 4:] == -math.inf).all()


def test_counts_of_words_are_naive_bayes() -> None:
    stream = stream_of()
    learn, scores = own.counted()
    for one in stream[:2]:
        learn(one)
    found = scores(stream[0].questions)
    for label in stream[1].labels:
        passages = [
            p for one in stream[:2] for p, y in zip(one.passages, one.named, strict=True) if y == label
        ]
        words = [int(word) for passage in passages for word in passage[:WORDS]]
        for row, question in zip(found, stream[0].questions, strict=True):
            logs = [
                math.log((words.count(int(w)) + 0.3) / (len(words) + 0.3 * FIRST_LABEL))
                for w in question[:WORDS]
            ]
            assert float(row[label]) == pytest.approx(sum(logs))
    assert (found[:, stream[2].labels] == -math.inf).all()


def small_net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, LABELS)).double()


def doubled(one: Task) -> Task:
    return one._replace(passages=one.passages.double(), questions=one.questions.double())


def test_the_fisher_diagonal_is_the_mean_of_squared_slopes() -> None:
    net, one = small_net(), doubled(points()[0])
    found = own.importance(net, net, one)
    h = 1e-6
    for p, (stood, fisher) in zip(net.parameters(), found, strict=True):
        assert torch.equal(p, stood)
        for place in [(0, 0), (1, 3)] if p.ndim == 2 else [(0,), (1,)]:
            slopes = []
            for passage, label in zip(one.passages, one.named, strict=True):
                logs = []
                for sign in (1, -1):
                    with torch.no_grad():
                        p[place] += sign * h
                        logs.append(float(net(passage).log_softmax(-1)[label]))
                        p[place] -= sign * h
                slopes.append((logs[0] - logs[1]) / (2 * h))
            assert float(fisher[place]) == pytest.approx(np.mean(np.square(slopes)), rel=1e-4, abs=1e-9)


def test_the_penalty_pulls_each_weight_back_by_its_importance() -> None:
    net = small_net()
    kept = [own.importance(net, net, doubled(one)) for one in points()[:2]]
    assert float(own.penalty(net, kept).detach()) == 0
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, dtype=p.dtype))
    found = torch.autograd.grad(own.penalty(net, kept), list(net.parameters()))
    for slope, p, *both in zip(found, net.parameters(), *kept, strict=True):
        torch.testing.assert_close(slope, sum(fisher * (p.detach() - stood) for stood, fisher in both))
    assert float(own.penalty(net, [])) == 0


@pytest.mark.parametrize("strength", [0.0, 30.0])
def test_steps_in_turn_are_a_literal_loop(strength: float) -> None:
    stream = [doubled(one) for one in points(2, shown=6)]
    net, other = small_net(), small_net()
    learn, _ = own.by_steps(net, net, torch.optim.SGD(net.parameters(), lr=0.1), 2, 7, strength)
    for one in stream:
        learn(one)
    draws = torch.Generator().manual_seed(7)
    anchors: list[Any] = []
    for one in stream:
        for _ in range(2):
            for rows in torch.randperm(12, generator=draws).split(8):
                logs = other(one.passages[rows]).log_softmax(-1)
                loss = -logs[torch.arange(len(rows)), one.named[rows]].mean()
                slopes = torch.autograd.grad(loss, list(other.parameters()))
                with torch.no_grad():
                    pulls = [torch.zeros_like(p) for p in other.parameters()]
                    for anchor in anchors:
                        for pull, p, (stood, fisher) in zip(pulls, other.parameters(), anchor, strict=True):
                            pull += strength * fisher * (p - stood)
                    for p, slope, pull in zip(other.parameters(), slopes, pulls, strict=True):
                        p.sub_(0.1 * (slope + pull))
        anchors.append(own.importance(other, other, one))
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-10)


def test_fine_tuning_moves_all_weights_of_a_copy() -> None:
    model, stream = model_of(own.ORDINARY), stream_of()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learn, scores = own.fine_tuned(model, 3, 0, 1e-2)
    first = scores(stream[0].passages)
    learn(stream[0])
    after = scores(stream[0].passages)
    losses = [float(cross_entropy(found, stream[0].named)) for found in (first, after)]
    assert losses[1] < losses[0] - 0.5
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# --- a stream ---------------------------------------------------------------------------------------------------------


def ways() -> dict[str, Way]:
    return own.ways(model_of(own.ORDINARY).float(), SETTINGS[own.ORDINARY], own.ORDINARY, 0)


@pytest.mark.parametrize("name", ways())
def test_no_task_hears_a_later_one(name: str) -> None:
    """Other passages in the last task leave all rows before it as they were; what is asked in the end is the last row."""
    way = ways()[name]
    model = model_of(own.ORDINARY).float()
    one, other = (stream_of(shown=2, asked=8, seed=seed) for seed in (1, 2))
    mixed = (*one[:2], one[2]._replace(passages=other[2].passages))
    if way.features:
        one, mixed = (tuple(own._seen(model, z) for z in stream) for stream in (one, mixed))
    choice = way.choices[-1]
    first, second = (own.followed(stream, way, choice) for stream in (one, mixed))
    if not way.at_once:
        assert first["matrix"][:2] == second["matrix"][:2]
    short = own.followed(one, way, choice, False)
    assert short["right"] == first["right"] == pytest.approx(100 * np.mean(first["matrix"][-1]), abs=0.1)
    assert short["told"] == first["told"] >= first["right"]
    assert first["forgetting"] == pytest.approx(100 * digits.forgetting(first["matrix"]), abs=0.2)


def test_right_among_all_and_right_if_the_task_is_told() -> None:
    stream = points(2, asked=2)
    tables = {2: [3, 0, 2, 1], 4: [0, 1, 0, 0]}  # what is said to the questions of a task, by its first label

    def scores(questions: Tensor) -> Tensor:
        said = tables[2] if torch.equal(questions, stream[0].questions) else tables[4]
        found = torch.zeros(4, LABELS)
        found[torch.arange(4), torch.tensor(said)] = 2.0
        found[:, 1] += 1.0  # the second choice is 1, and among 2 and 3 the first of equals
        found[:, 5] = 9.0  # no module of this stream
        return found

    found = own.followed(stream, Way(lambda _: (lambda one: None, scores)), None)
    answers = [one.answers.tolist() for one in stream]
    assert answers == [[0, 1, 0, 1], [2, 3, 2, 3]]
    assert found["matrix"] == [[0.25, 0.0]] * 2  # 3 0 2 1 beside 0 1 0 1, and 0 1 0 0 beside 2 3 2 3
    assert found["right"] == 12.5
    assert found["told"] == pytest.approx(100 * (0.25 + 0.5) / 2)  # 1 0 1 1 and 2 2 2 2
    assert (found["last"], found["forgetting"]) == (0, 0)


def test_all_at_once_is_one_task() -> None:
    stream = points()
    heard: list[Task] = []
    way = Way(lambda _: (heard.append, lambda questions: torch.zeros(len(questions), LABELS)), at_once=True)
    found = own.followed(stream, way, None)
    assert len(heard) == 1
    assert torch.equal(heard[0].passages, torch.cat([one.passages for one in stream]))
    assert heard[0].named.tolist() == [label for one in stream for label in one.named.tolist()]
    assert heard[0].labels == (0, 1, 2, 3, 4, 5)
    assert np.shape(found["matrix"]) == (3, 3)
    assert found["forgetting"] == 0


def test_the_best_choice_is_the_one_with_most_right_in_the_end() -> None:
    stream = points(3)
    answers = {one.questions: one.answers for one in stream}

    def make(choice: str) -> own._Learner:
        heard: list[Task] = []

        def scores(questions: Tensor) -> Tensor:
            right = {"early": len(heard) < 3, "late": len(heard) == 3, "never": False}[choice]
            (wanted,) = (known for asked, known in answers.items() if asked is questions)
            return torch.eye(LABELS)[wanted] if right else torch.zeros(len(questions), LABELS)

        return heard.append, scores

    assert own.tuned(Way(make, ("early", "late", "never")), [stream, stream]) == "late"
    assert own.tuned(Way(make, ("never", "early")), [stream]) == "never", "the first of equals"
    assert own.tuned(Way(make, ("early",)), []) == "early"


def test_quick_cells_say_what_the_tables_need(quick: dict[str, dict[str, Any]]) -> None:
    records = Records(Record(cell, quick[cell.model], 1.0) for cell in QUICK)
    for name, found in quick.items():
        json.dumps(found, allow_nan=False)
        assert found["steps"] == [2, 2] if name in own.LEVELS else [2]
        assert [len(one) for one in found["sha256"]] == [64, 64]
        run = found["10"]
        assert set(run) == set(own.ways(model_of(name), SETTINGS[name], name, 0))
        for way, one in run.items():
            assert all(0 <= one[what] <= 100 for what in ("right", "told", "last")), way
            assert np.shape(one["matrix"]) == (2, 2)
        assert run[own.STILL]["forgetting"] == 0
        assert run[own.LEARNING]["choice"] in own.GRIDS["levels"][:2]
    assert len(quick["1 level"]["rates"]) == 1
    (table,) = own.tables(records)
    run_so_far = {name for name, model, _ in own.ROWS if model in quick}
    assert all((row[1] != "–") == (row[0] in run_so_far) for row in table.rows[:-1])


def test_a_cell_gives_the_same_twice(quick: dict[str, dict[str, Any]]) -> None:
    again = own.measure(QUICK[1])
    for way, one in quick["1 level"]["10"].items():
        other = again["10"][way]
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert again["loss"] == quick["1 level"]["loss"]


# --- what is read off the records -------------------------------------------------------------------------------------


def made(**right: float) -> Records:
    """A record for every full cell; % right of some ways, else 20, a little more with every seed."""
    found = []
    for cell in FULL:
        runs: dict[str, Any] = {}
        every = {way for _, _, way in own.ROWS}
        for way in every if cell.model == own.ORDINARY else (own.LEARNING, own.STILL, *own.MEANS):
            level = right.get(f"{cell.model}: {way}", right.get(way, 20.0)) + 0.1 * cell.seed
            numbers = {"right": level, "forgetting": 5.0, "told": 60.0, "last": 30.0, "seconds": 1.0}
            runs[way] = {**numbers, "choice": [0.1, 10.0] if way == own.EWC else 0.3}
        measures = {"10": runs, "40": runs, "parameters": 20_000, "sha256": ["ab" * 32, "cd" * 32]}
        found.append(Record(cell, measures, 1.0))
    return Records(found)


@pytest.mark.parametrize(
    ("right", "verdict"),
    [
        (
            {"3 clocks: levels learning": 40},
            "ahead of both and of all that a context could hold, which supports",
        ),
        ({own.MEANS[1]: 30}, "Class means are ahead of them, which contradicts the paper"),
        ({f"3 clocks: {own.MEANS[0]}": 30, "3 clocks: levels learning": 22}, "Class means are ahead"),
        (
            {own.LEARNING: 10, own.MEANS[1]: 30},
            "not found to be more than the last task, which gives the paper no support",
        ),
        ({"3 clocks: levels learning": 40, own.EWC: 45}, "that decides nothing"),
        ({}, "that decides nothing"),
    ],
)
def test_the_sentence_follows_the_numbers(right: dict[str, float], verdict: str) -> None:
    assert verdict in own.sentence(made(**right))


def test_the_sentence_names_the_numbers() -> None:
    said = own.sentence(
        made(**{"3 clocks: levels learning": 25, own.EWC: 12, own.MEANS[1]: 28, own.LEARNING: 7})
    )
    assert "right in 25.1 ± 0.1 % if their start was trained through their updates (3 clocks)" in said
    assert "in 7.1 ± 0.1 % from an ordinary start" in said
    assert "beside EWC 13.0 ± 0.0 points; beside the nearest class mean −3.0 ± 0.0 points" in said
    assert own.sentence(Records([])) == "Not run yet."
    assert own.sentence(Records(r for r in made().all if r.cell.model == own.ORDINARY)) == "Not run yet."


def test_the_table_has_a_row_for_every_way() -> None:
    (table,) = own.tables(made(**{own.EWC: 12}))
    assert [row[0] for row in table.rows] == [*(name for name, _, _ in own.ROWS), "a blind guess"]
    assert all(len(row) == len(table.header) for row in table.rows)
    row = next(row for row in table.rows if row[0] == own.EWC)
    assert row[1:3] == ("12.1 ± 0.1", "12.1 ± 0.1")
    assert row[6] == "0.1, 10.0"
    assert "abababab…" in table.note
    (empty,) = own.tables(Records([]))
    assert all("–" in row for row in empty.rows)


def test_differences_are_taken_seed_by_seed() -> None:
    records = made(**{"3 clocks: levels learning": 30})
    rows = (("3 clocks", own.LEARNING), ("1 level", own.LEARNING))
    assert own.compared(records, *rows) == pytest.approx([10, 10, 10])
    some = Records(r for r in records.all if (r.cell.model, r.cell.seed) != ("1 level", 1))
    assert len(own.compared(some, *rows)) == 2


def test_keys_are_names_of_files() -> None:
    assert all(isinstance(cell, Cell) and len(cell.key) < 200 for cell in FULL)
