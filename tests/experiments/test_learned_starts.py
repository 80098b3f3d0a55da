"""Forgetting from learned starts: what is drawn, the levels against a literal loop, the meta-gradient, what records say."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from hope_ref.experiments import Cell, Record, Records
from hope_ref.experiments import learned_starts as own
from hope_ref.tasks import digits

FULL = own.cells("full", [0, 1, 2])
QUICK = own.cells("quick", [0])


def settings_of(source: str, model: str = f"{own.ONE}; {own.START}", **changes: Any) -> dict[str, Any]:
    cell = next(cell for cell in FULL if cell.seed == 0 and (cell.task, cell.model) == (source, model))
    return {**cell.settings, "width": 8, "hidden": 12, "lanes": 2, **changes}


def made_up_digits() -> digits.Digits:
    """Forty images of each of ten classes, no two alike; the first pixel tells which image it is."""
    labels = np.repeat(np.arange(10), 40)
    images = np.random.default_rng(0).random((400, digits.PIXELS)) / 2
    images[:, 0] = np.arange(400) / 400
    return digits.Digits(images, labels)


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> own.Images:
    monkeypatch.setattr(own.digits, "load", made_up_digits)
    return own.Images(0)


# --- cells ------------------------------------------------------------------------------------------------------------


def test_cells_are_distinct_json_and_of_equal_size() -> None:
    for cells in (FULL, QUICK):
        assert len({cell.key for cell in cells}) == len(cells)
        assert json.loads(json.dumps([cell.to_dict() for cell in cells])) == [c.to_dict() for c in cells]
    assert len(FULL) == 3 * 3 * 3 * 2
    sizes = set()
    for cell in FULL:
        learner = own.Learner(dict(cell.settings), 5, 0)
        sizes.add(sum(w.numel() for w in (*learner.w1, *learner.w2)))
        assert all(phase % cell.settings["chunk_sizes"][0] == 0 for phase in cell.settings["phases"])
    assert len(sizes) == 1


def test_a_random_start_is_not_trained_its_rates_are() -> None:
    for learned, count in ((own.START, 7), (own.RATES, 1)):
        learner = own.Learner(settings_of("Markov", f"{own.CLOCKS}; {learned}"), 32, 0)
        assert sum(p.requires_grad for p in learner.parameters()) == count
        assert learner.powers.requires_grad
        np.testing.assert_allclose(learner.rates.detach(), [0.01, 0.0025, 0.000625], rtol=1e-5)


# --- what is drawn ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["Markov", "text"])
def test_inputs_are_the_last_symbols_and_classes_the_next(source: str) -> None:
    settings = settings_of(source)
    learner = own.Learner(settings, 6, 0)
    tokens = torch.tensor([[3, 1, 4, 1, 5], [2, 0, 2, 1, 1]])
    x, following = learner.seen_as(tokens)
    context = len(learner.seen)
    assert context == (1 if source == "Markov" else 2)
    for lane in range(2):
        for place in range(5 - context):
            seen = sum(learner.seen[ago, tokens[lane, place + context - 1 - ago]] for ago in range(context))
            torch.testing.assert_close(x[lane, place], seen)
            assert following[lane, place] == tokens[lane, place + context]


@pytest.mark.parametrize("source", ["Markov", "text"])
def test_a_and_b_are_other_languages_in_every_lane_and_a_returns_where_it_is_tested(source: str) -> None:
    settings = settings_of(source)
    languages = own.Languages(source)
    learner = own.Learner(settings, languages.classes, 0)
    for held_out in (False, True):
        drawn = languages.draw(learner, settings, np.random.default_rng(1), 2048, held_out)
        assert len(drawn.phases) == (3 if held_out else 2)
        assert len(drawn.tests) == 2
        assert drawn.phases[0][0].shape == (2, 2048, 8)
        assert drawn.tests[0][1].shape == (2, settings["tested"])

        def pairs(x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
            """How often a symbol follows another, whichever symbols x and y stand for."""
            before = torch.cdist(x, learner.seen[0]).argmin(-1) if source == "Markov" else y[:-1]
            before, y = (before[:-1], y[:-1]) if source == "Markov" else (before, y[1:])
            found = np.zeros((languages.classes, languages.classes))
            np.add.at(found, (before.numpy(), y.numpy()), 1)
            return found / found.sum()

        for lane in range(2):
            a, b = (pairs(x[lane], y[lane]) for x, y in drawn.phases[:2])
            of_a, of_b = (pairs(x[lane], y[lane]) for x, y in drawn.tests)
            assert np.minimum(a, of_a).sum() > 2 * np.minimum(b, of_a).sum()
            assert np.minimum(b, of_b).sum() > 2 * np.minimum(a, of_b).sum()
            if held_out:
                again = pairs(*(part[lane] for part in drawn.phases[2]))
                assert np.minimum(a, again).sum() > 2 * np.minimum(b, again).sum()
        first, second = drawn.phases[0][1]
        assert (first != second).float().mean() > 0.5


def test_what_is_asked_of_the_text_held_out_is_read_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text whose last tenth has bytes of its own."""
    data = np.concatenate([np.arange(45_000) % 100, 100 + np.arange(5_000) % 50]).astype(np.uint8)
    monkeypatch.setattr(own.text, "load", lambda: own.text.Text(data, "0" * 64, "made up"))
    languages = own.Languages("text")
    settings = settings_of("text")
    learner = own.Learner(settings, languages.classes, 0)
    drawn = languages.draw(learner, settings, np.random.default_rng(0), 512, True)
    assert drawn.phases[0][1].max() < 100 <= drawn.tests[0][1].min()
    names = [set(drawn.phases[1][1][lane].tolist()) for lane in range(2)]
    assert all(names[lane].isdisjoint(drawn.tests[1][1][lane].tolist()) for lane in range(2))
    drawn = languages.draw(learner, settings, np.random.default_rng(0), 512, False)
    assert all(len(np.unique(y[lane])) <= 100 for _, y in drawn.tests for lane in range(2))


def test_digits_have_names_of_their_own_and_no_image_is_read_and_asked(images: own.Images) -> None:
    settings = settings_of("digits", width=64, tested=16)
    learner = own.Learner(settings, 10, 0)
    truth = {round(400 * x[0]): int(y) for x, y in zip(*made_up_digits(), strict=True)}
    asked_of: dict[bool, set[int]] = {}
    read_of: dict[bool, set[int]] = {}
    for held_out in (False, True):
        drawn = images.draw(learner, settings, np.random.default_rng(2), 32, held_out)
        assert [x.shape for x, _ in drawn.phases] == [(2, 32, 64)] * 5
        assert [x.shape for x, _ in drawn.tests] == [(2, 16, 64)] * 5
        namings = []
        for lane in range(2):
            naming: dict[int, int] = {}
            read, asked = (
                [
                    (round(400 * float(x[0])), int(y), task)
                    for task, part in enumerate(parts)
                    for x, y in zip(part[0][lane], part[1][lane], strict=True)
                ]
                for parts in (drawn.phases, drawn.tests)
            )
            for number, name, _ in read + asked:
                assert naming.setdefault(truth[number], name) == name
            assert sorted(naming.values()) == list(range(10))
            assert {(name, task) for _, name, task in read} == {(name, task) for _, name, task in asked}
            numbers = [{number for number, _, _ in part} for part in (read, asked)]
            assert numbers[0].isdisjoint(numbers[1])
            read_of.setdefault(held_out, set()).update(numbers[0])
            asked_of.setdefault(held_out, set()).update(numbers[1])
            namings.append(naming)
        assert namings[0] != namings[1]
    assert asked_of[True].isdisjoint(read_of[True] | read_of[False] | asked_of[False])


# --- learning ---------------------------------------------------------------------------------------------------------


def literal(learner: own.Learner, episode: own.Episode) -> tuple[list[float], list[list[np.ndarray]]]:
    """Token by token in NumPy, one lane after the other, gradients by hand: the mean loss per phase, scores after each."""
    online, scores = np.zeros((len(episode.phases),)), []
    lanes = len(episode.phases[0][0])
    answers = learner.answers.double().numpy()
    per_lane = []
    for lane in range(lanes):
        theta = [
            [w1.detach().double().numpy().copy(), w2.detach().double().numpy().copy()]
            for w1, w2 in zip(learner.w1, learner.w2, strict=True)
        ]
        rates = np.exp(10 * learner.powers.detach().double().numpy())
        sums = [[np.zeros_like(w) for w in pair] for pair in theta]
        now = [[w.copy() for w in pair] for pair in theta]
        seen, found = 0, []
        for number, (x, y) in enumerate(episode.phases):
            for vector, wanted in zip(x[lane].double().numpy(), y[lane].numpy(), strict=True):
                z, kept = vector, []
                for w1, w2 in now:
                    scale = math.sqrt((z * z).mean() + 1e-6)
                    n = z / scale
                    a = w2 @ n
                    gate = 1 / (1 + np.exp(-a))
                    kept.append((n, scale, a, gate))
                    z = z + w1 @ (a * gate)
                logits = answers @ z
                p = np.exp(logits - logits.max())
                p /= p.sum()
                online[number] -= math.log(p[wanted]) / (lanes * x.shape[1])
                p[wanted] -= 1
                back = answers.T @ p
                for level in reversed(range(len(now))):
                    (w1, w2), (n, scale, a, gate) = now[level], kept[level]
                    sums[level][0] += np.outer(back, a * gate)
                    inner = (w1.T @ back) * (gate + a * gate * (1 - gate))
                    sums[level][1] += np.outer(inner, n)
                    u = w2.T @ inner
                    back = back + (u - n * (n * u).mean()) / scale
                seen += 1
                for level, size in enumerate(learner.options.chunk_sizes):
                    if seen % size == 0:
                        for layer in (0, 1):
                            now[level][layer] = now[level][layer] - rates[level] * sums[level][layer]
                            sums[level][layer] = np.zeros_like(sums[level][layer])
            found.append(
                [
                    np.stack([_read(now, v) @ answers.T for v in t[lane].double().numpy()])
                    for t, _ in episode.tests
                ]
            )
        per_lane.append(found)
    for number in range(len(episode.phases)):
        scores.append([np.stack([lane[number][t] for lane in per_lane]) for t in range(len(episode.tests))])
    return online.tolist(), scores


def _read(theta: list[list[np.ndarray]], z: np.ndarray) -> np.ndarray:
    for w1, w2 in theta:
        a = w2 @ (z / math.sqrt((z * z).mean() + 1e-6))
        z = z + w1 @ (a / (1 + np.exp(-a)))
    return z


def small(levels: str) -> tuple[own.Learner, own.Episode]:
    settings = settings_of("Markov", f"{levels}; {own.START}", tested=16)
    languages = own.Languages("Markov")
    learner = own.Learner(settings, languages.classes, 3).double()
    with torch.no_grad():
        learner.powers += 0.05
    drawn = languages.draw(learner, settings, np.random.default_rng(1), 80, True)
    return learner, drawn


@pytest.mark.parametrize("levels", [own.ONE, own.CLOCKS])
def test_following_is_a_literal_loop(levels: str) -> None:
    learner, drawn = small(levels)
    found = own.follow(learner, drawn, differentiable=False)
    online, scores = literal(learner, drawn)
    np.testing.assert_allclose([float(x) for x in found.online], online, rtol=0, atol=1e-11)
    for got, want in zip(found.scores, scores, strict=True):
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(one.numpy(), other, rtol=0, atol=1e-10)


def test_the_loss_goes_through_every_update_to_start_and_rates() -> None:
    learner, drawn = small(own.CLOCKS)
    drawn = own.Episode(drawn.phases[:2], drawn.tests)
    own.loss_of(learner, drawn).backward()
    rng = np.random.default_rng(0)
    for name, parameter in learner.named_parameters():
        assert parameter.grad is not None
        direction = torch.from_numpy(rng.normal(size=parameter.shape))
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * 1e-5 * direction
                sides.append(float(own.loss_of(learner, drawn)))
                parameter -= sign * 1e-5 * direction
        slope = (sides[0] - sides[1]) / 2e-5
        assert float((parameter.grad * direction).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-8), name


def test_no_phase_hears_a_later_one() -> None:
    learner, drawn = small(own.CLOCKS)
    x, y = drawn.phases[2]
    changed = own.Episode((*drawn.phases[:2], (x + 1.0, (y + 1) % 32)), drawn.tests)
    one, other = (own.follow(learner, e, differentiable=False) for e in (drawn, changed))
    assert torch.equal(torch.stack(one.online[:2]), torch.stack(other.online[:2]))
    for first, second in zip(one.scores[:2], other.scores[:2], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(one.scores[2][0], other.scores[2][0])


def test_training_makes_the_loss_less_and_a_random_start_stays() -> None:
    for learned in (own.START, own.RATES):
        settings = settings_of(
            "Markov",
            f"{own.ONE}; {learned}",
            phases=[32, 64],
            tested=16,
            training={"steps": 25, "lr": 1e-2, "schedule": "constant"},
        )
        cell = Cell("learned_starts", "Markov", "x", 0, settings)
        first = own.measure(Cell("learned_starts", "Markov", "x", 0, {**settings, "training": {"steps": 1}}))
        found = own.measure(cell)
        assert found["steps"] == 25
        assert found["loss"] < first["loss"]
        assert found["rates"] != first["rates"]


def test_a_quick_cell_says_what_the_tables_need() -> None:
    for cell in QUICK:
        found = own.measure(cell)
        json.dumps(found, allow_nan=False)
        for length in ("short", "long"):
            run = found[length]
            assert run["kept"] == run["bits"][1][0]
            assert run["last"] == run["bits"][1][1]
            assert run["lost"] == pytest.approx(run["bits"][1][0] - run["bits"][0][0])
            assert 0 < run["online"] < 20
            assert np.shape(run["right"]) == (3, 2)
        assert found["short"] != found["long"]


def test_digits_are_summed_up_as_tasks_in_turn(images: own.Images, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(
        "digits",
        width=64,
        phases=[16, 32],
        tested=8,
        training={"steps": 1, "lr": 1e-3, "schedule": "constant"},
    )
    found = own.measure(Cell("learned_starts", "digits", "x", 0, settings))["short"]
    right = np.array(found["right"])
    assert right.shape == (5, 5)
    assert found["kept"] == pytest.approx(right[-1].mean())
    assert found["last"] == pytest.approx(right[-1, -1])
    assert found["lost"] == pytest.approx(np.mean([right[j:-1, j].max() - right[-1, j] for j in range(4)]))


# --- what is read off the records -------------------------------------------------------------------------------------


def made(kept: dict[tuple[str, str], float]) -> Records:
    records = []
    for cell in FULL:
        level = kept.get((cell.task, cell.model), 0.5) + 0.001 * cell.seed
        run = {"diverged": False, "kept": level, "lost": 0.25, "last": 0.75, "online": 1.5}
        measures = {"parameters": 24576, "short": {**run, "kept": 0.125}, "long": run}
        records.append(Record(cell, measures, 1.0))
    return Records(records)


def test_the_sentence_tells_start_from_clocks() -> None:
    records = made(
        {
            ("digits", f"{own.ONE}; {own.START}"): 0.8,
            ("digits", f"{own.ONE}; {own.RATES}"): 0.2,
            ("digits", f"{own.CLOCKS}; {own.START}"): 0.8,
            ("digits", f"{own.LEVEL}; {own.START}"): 0.9,
            ("Markov", f"{own.ONE}; {own.START}"): 4.0,
            ("Markov", f"{own.CLOCKS}; {own.START}"): 3.0,
        }
    )
    said = own.sentence(records)
    assert (
        "Digits: one level with a learned start is better (60.0 ± 0.0 points right in the end) than with a random one"
        in said
    )
    assert (
        "three clocks are worse (−10.0 ± 0.0 points right in the end) than three levels at one clock" in said
    )
    assert "and not found to differ (0.0 ± 0.0 points right in the end) from one level" in said
    assert (
        "Markov languages: one level with a learned start is worse (−3.50 ± 0.00 bits on A after B)" in said
    )
    assert (
        "three clocks are worse (−2.50 ± 0.00 bits on A after B) than three levels at one clock and better (1.00"
        in said
    )
    assert own.sentence(Records([])) == "Not run yet."


def test_tables_have_both_starts_of_every_arrangement_and_both_lengths() -> None:
    records = made({("digits", f"{own.ONE}; {own.START}"): 0.8})
    found = own.tables(records)
    assert len(found) == 6
    short, long = found[-2:]
    assert [row[:2] for row in long.rows] == [
        (levels, learned) for levels in own.CHUNKS for learned in (own.RATES, own.START)
    ]
    assert long.rows[1][2] == "80.1 ± 0.1"
    assert short.rows[1][2] == "12.5 ± 0.0"
    assert "256 images per task" in long.note
    assert "64 images per task" in short.note
    assert found[0].rows[0][2:] == ("0.12 ± 0.00", "0.25 ± 0.00", "0.75 ± 0.00", "1.50 ± 0.00")
    assert own.tables(Records([])) == []


def test_the_figure_marks_every_seed() -> None:
    from matplotlib import pyplot as plt

    from hope_ref.teaching.gallery.experiments_learning import results_learned_starts

    picture = results_learned_starts(made({("digits", f"{own.CLOCKS}; {own.START}"): 0.8})).figure
    panels = picture.axes
    marks = [line.get_xdata() for line in panels[2].lines if len(line.get_xdata()) == 3]
    assert len(marks) == 2 * len(own.CHUNKS)
    assert sorted(round(max(x)) for x in marks) == [50] * 5 + [80]
    plt.close(picture)
