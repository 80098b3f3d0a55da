"""Exams: every answer is computed again by other means, draws are fit, pages say no more than they should."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hope_docs import exams
from hope_docs.exam_form import Drawn, array, number

from hope_ref import HopeConfig
from hope_ref.reference import chunks, hope, self_modifying_titans
from hope_ref.reference.delta_gradient_descent import delta_gradient_descent_step, memory_step
from hope_ref.reference.delta_rule import delta_rule
from hope_ref.reference.gradient_descent import train_linear
from hope_ref.reference.linear_attention import linear_attention
from hope_ref.reference.m3 import m3_step
from hope_ref.reference.momentum import gradients_to_hold, momentum_step
from hope_ref.reference.parameters import init
from hope_ref.reference.titans import start, titans

SEEDS = range(30)
ROOT = Path(__file__).parents[2]
exam = cache(exams.exam)
Checker = Callable[[dict[str, Any]], dict[str, Any]]
CHECKERS: dict[str, Checker] = {}


def checks(name: str) -> Callable[[Checker], Checker]:
    def enter(checker: Checker) -> Checker:
        CHECKERS[name] = checker
        return checker

    return enter


def column(values: Any) -> np.ndarray:
    """A sequence of numbers as (T, 1)."""
    return floats(values).reshape(-1, 1)


def floats(values: Any) -> np.ndarray:
    return np.array(values, dtype=float)


@checks("00a")
def _(given: dict[str, Any]) -> dict[str, Any]:
    logits = np.log(floats(given["weights"])) + 1000
    total = np.logaddexp.reduce(logits, axis=1)
    return {
        "bits": [(s - row[t]) / math.log(2) for s, row, t in zip(total, logits, given["tokens"], strict=True)]
    }


@checks("01a")
def _(given: dict[str, Any]) -> dict[str, Any]:
    k, v, q = (floats(given[name]) for name in "kvq")
    y, m = linear_attention(np.tile(q, (3, 1)), k, v)
    return {"M": m, "y": y[-1], "scores": k @ q}


@checks("01b")
def _(given: dict[str, Any]) -> dict[str, Any]:
    v, alpha = column(given["v"]), floats(given["alpha"])
    one, first = np.ones((4, 1)), column([1, 0, 0, 0])
    cut = alpha.copy()
    cut[given["cut"] - 1] = 0

    def last(values: np.ndarray, gates: np.ndarray) -> float:
        return float(linear_attention(one, one, values, gates)[1][0, 0])

    return {"M": last(v, alpha), "share": last(first, alpha), "emptied": last(v, cut)}


@checks("02a")
def _(given: dict[str, Any]) -> dict[str, Any]:
    m, k, v, eta = floats([given["M0"]]), floats(given["k"]), column(given["v"]), float(given["eta"])
    states = [delta_rule(k[:n], k[:n], v[:n], eta, m)[1] for n in (1, 2)]
    return {"M1": states[0][0], "M2": states[1][0], "answers": [(s @ k[0])[0] for s in states]}


@checks("02b")
def _(given: dict[str, Any]) -> dict[str, Any]:
    c21, c31, c32 = floats(given["overlaps"])
    k = np.linalg.cholesky(np.array([[1, c21, c31], [c21, 1, c32], [c31, c32, 1]]))  # keys that overlap so
    _, m = delta_rule(k, k, column(given["v"]), float(given["eta"]))
    return {"w": np.linalg.solve(k.T, m[0])}  # M = Σ w_t k_tᵀ


@checks("02c")
def _(given: dict[str, Any]) -> dict[str, Any]:
    k, eta = floats(given["k"]), float(given["eta"])
    error = [1.0]
    m = np.zeros((1, 2))
    while abs(error[-1]) >= 0.01:
        _, m = delta_rule(k[None], k[None], np.ones((1, 1)), eta, m)
        error.append(1 - float((m @ k)[0]))
    along = np.linalg.eigvalsh(np.outer(k, k)).max()
    return {"factor": error[1], "writes": len(error) - 1, "limit": 2 / along, "one_shot": 1 / along}


@checks("03a")
def _(given: dict[str, Any]) -> dict[str, Any]:
    w, values = train_linear(
        np.zeros((1, 2)), floats(given["x"]), column(given["targets"]), float(given["eta"])
    )
    return {"v": values[:, 0], "y": (w @ floats(given["q"]))[0]}


@checks("03b")
def _(given: dict[str, Any]) -> dict[str, Any]:
    x, targets, eta = column(given["x"]), column(given["targets"]), float(given["eta"])
    w, values = train_linear(np.zeros((1, 1)), x, targets, eta)
    honest, _ = train_linear(np.zeros((1, 1)), x[1:], targets[1:], eta)
    return {"w": w[0, 0], "struck": (w - eta * values[0] * x[0])[0, 0], "honest": honest[0, 0]}


@checks("04a")
def _(given: dict[str, Any]) -> dict[str, Any]:
    w, x, u, eta = (floats(given[name]) for name in ("W", "x", "u", "eta"))
    # The bottom of ½‖W x - u‖² + ‖W - W_t‖²/(2 η), as least squares: no Sherman and Morrison.
    left = np.vstack([x[None], np.eye(2) / np.sqrt(eta)])
    new = np.linalg.lstsq(left, np.vstack([u[None], w.T / np.sqrt(eta)]), rcond=None)[0].T
    np.testing.assert_allclose(new, delta_gradient_descent_step(w, x, -u, eta), atol=1e-12)
    before, after = w @ x - u, new @ x - u
    step = np.linalg.norm(new - w) / np.linalg.norm(np.outer(before, x))
    return {"eta_step": step, "W": new, "after": after, "divided": before @ before / (before @ after)}


@checks("04b")
def _(given: dict[str, Any]) -> dict[str, Any]:
    one, factors, rests = np.ones(1), [], []
    for step in ("explicit", "implicit"):

        def move(m: float, step: str = step) -> float:
            arguments = (float(given["eta"]), float(given["alpha"]), given["loss"], step)
            return float(memory_step([[m]], one, one, *arguments)[0, 0])

        factors.append(move(1.0) - move(0.0))
        m = 0.0
        for _ in range(400):
            m = move(m) if abs(m) < 1e6 else m
        rests.append(m if abs(m) < 1e6 else None)
    return {"factors": factors, "rests": rests}


@checks("05a")
def _(given: dict[str, Any]) -> dict[str, Any]:
    eta, mu = float(given["eta"]), float(given["mu"])

    def race(g: np.ndarray) -> tuple[list[float], float]:
        w, m, seen = np.zeros(1), np.zeros(1), []
        for x in g:
            w, m = momentum_step(w, m, x, eta, mu)
            seen.append(float(m[0]))
        return seen, float(w[0])

    momenta, change = race(column(given["g"]))
    return {"m": momenta, "change": change, "weights": [-race(one[:, None])[1] / eta for one in np.eye(4)]}


@checks("05b")
def _(given: dict[str, Any]) -> dict[str, Any]:
    mu = float(given["mu"])
    steady, turning = 0.0, 0.0
    for t in range(5000):
        steady, turning = mu * steady + 1, mu * turning + (-1) ** t
    return {
        "n": gradients_to_hold(mu, float(given["share"])),
        "length": steady,
        "ratio": steady / abs(turning),
    }


@checks("06a")
def _(given: dict[str, Any]) -> dict[str, Any]:
    one = np.ones((3, 1))
    eta = floats([given["eta"], given["eta"], 0])
    seen, state = {"B": [], "M": []}, start(np.zeros((1, 1)))
    for t, v in enumerate([*given["v"], 0]):
        rates = {"eta": eta[t], "alpha": float(given["alpha"]), "mu": float(given["mu"])}
        _, state = titans(one[:1], one[:1], np.array([[float(v)]]), state=state, **rates)
        seen["B"].append(float(state.momentum[0][0, 0]))
        seen["M"].append(float(state.weights[0][0, 0]))
    return seen


@checks("06b")
def _(given: dict[str, Any]) -> dict[str, Any]:
    a, h, theta = (float(given[name]) for name in ("alpha", "eta", "theta"))
    m = s = 0.0
    for _ in range(20000):  # the paper's two lines, with the value 1
        s = h * s - theta * 2 * (m - 1)
        m = (1 - a) * m + s
    return {"alpha": 1 - a, "mu": h, "eta": 2 * theta, "share": m}


@checks("07a")
def _(given: dict[str, Any]) -> dict[str, Any]:
    size, t = given["C"], given["t"]
    end = next(n for n in range(t, t + size) if n % size == 0)
    later = [token for token in range(end) if token > t]
    return {"boundary": chunks.boundary(t, size), "printed": end, "later": len(later)}


@checks("07b")
def _(given: dict[str, Any]) -> dict[str, Any]:
    size, eta = given["C"], float(given["eta"])

    def after(length: int, chunk: int) -> float:
        one = np.ones((length, 1))
        return float(
            chunks.frozen_gradients(
                one, one, one * float(given["v"]), eta, 1.0, [[float(given["M"])]], chunk
            )[1][0, 0]
        )

    def grows(chunk: int) -> bool:
        first, last = (abs(after(n * chunk, chunk) - float(given["v"])) for n in (1, 9))
        return last > first * (1 + 1e-9)

    return {
        "frozen": after(size, size),
        "loop": after(size, 1),
        "diverges": next(chunk for chunk in range(1, 99) if grows(chunk)),
    }


@checks("08a")
def _(given: dict[str, Any]) -> dict[str, Any]:
    moves, waiting, echoes = [], [], []
    for size in given["sizes"]:
        open_sum, contained, heard = (
            [],
            -1,
            [],
        )  # tokens that wait, the newest one in the weights, who notices
        for token in range(given["T"] + size + 1):
            if token == given["T"]:
                waiting.append(len(open_sum))
                moves.append(sum((before + 1) % size == 0 for before in range(token)))
            if token > given["t"] and contained >= given["t"]:
                heard.append(token)
            open_sum.append(token)
            if len(open_sum) == size:
                open_sum, contained = [], token
        echoes.append(heard[0])
    return {"moves": moves, "waiting": waiting, "echoes": echoes, "first": min(echoes)}


@checks("09a")
def _(given: dict[str, Any]) -> dict[str, Any]:
    w, state = np.zeros((1, 1)), None
    for g in given["g"]:
        options = {"beta3": float(given["beta3"]), "slow_every": given["f"], "newton_schulz": "none"}
        w, state = m3_step(w, np.array([[float(g)]]), state, **options)
    newest = 0
    for step in range(1, given["step"]):
        newest = step if step % given["period"] == 0 else newest
    return {"m2": state.m2[0, 0], "open": state.window[0, 0], "newest": newest}


@checks("10a")
def _(given: dict[str, Any]) -> dict[str, Any]:
    w, k, v = (floats(given[name]) for name in ("W", "k", "v"))
    config = HopeConfig.printed()
    target = self_modifying_titans.answer((w,), v)
    [(phi, u)] = self_modifying_titans.associations((w,), k, target, config)
    new, _ = self_modifying_titans.write(
        w, w, None, phi, u, float(given["eta"]), float(given["alpha"]), config
    )
    return {"target": target, "error": -u, "W": new}


@checks("11a")
def _(given: dict[str, Any]) -> dict[str, Any]:
    config = HopeConfig(
        width=given["width"],
        heads=given["heads"],
        hidden=given["hidden"],
        convolution_width=given["kernel"],
        blocks=1,
    )
    state = hope.initial_state(init(config), config).blocks[0].mixer
    inputs = sum(part.size for part in (state.key_inputs, state.value_inputs, state.query_inputs))
    moving = sum(
        w.size for head in state.heads for part in (head.weights, head.boundary) for w in part.values()
    )
    return {"numbers": inputs + moving, "inputs": inputs}


@checks("12a")
def _(given: dict[str, Any]) -> dict[str, Any]:
    nats, per_byte = float(given["nats"]), given["tokens"] / float(given["bytes"])
    return {
        "bits": -math.log2(math.exp(-nats)) * per_byte,
        "perplexity": 1 / math.exp(-nats),
        "blind": -math.log2(1 / given["words"]) * per_byte,
    }


@checks("12b")
def _(given: dict[str, Any]) -> dict[str, Any]:
    sides = [f"{number:0{given['seeds']}b}" for number in range(2 ** given["seeds"])]
    row = sum(len(set(side)) == 1 for side in sides) / len(sides)
    chance = [1.0]  # of 0, 1, … lucky rows
    for _ in range(given["rows"]):
        chance = [a * (1 - row) + b * row for a, b in zip([*chance, 0], [0, *chance], strict=True)]
    return {"row": row, "expected": sum(n * p for n, p in enumerate(chance)), "some_row": sum(chance[1:])}


@checks("13a")
def _(given: dict[str, Any]) -> dict[str, Any]:
    late = sum(tick % given["c"] == 0 for tick in range(1, given["ticks"] + 1))
    return {"moves": [given["ticks"], late]}


@checks("13b")
def _(given: dict[str, Any]) -> dict[str, Any]:
    frequency, needs = given["frequency"], given["needs"]

    def depth(name: str) -> tuple[Fraction, int]:
        same = [other for other in needs.get(name, ()) if frequency[other] == frequency[name]]
        return -frequency[name], 1 + max((depth(other)[1] for other in same), default=-1)

    places = sorted({depth(name) for name in frequency})
    return {"levels": [{name for name in frequency if depth(name) == place} for place in places]}


def same(got: Any, wanted: Any) -> bool:
    """Whether two results agree: numbers to 1e-9 of their size, sets and None exactly."""
    if got is None or isinstance(got, set):
        return bool(got == wanted)
    if isinstance(got, list | tuple | np.ndarray):
        return len(got) == len(wanted) and all(same(a, b) for a, b in zip(got, wanted, strict=True))
    return math.isclose(float(got), float(wanted), rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.parametrize("name", sorted(exams.QUESTIONS))
def test_every_answer_is_right(name: str) -> None:
    for seed in SEEDS:
        drawn = exam(seed)[name]
        again = CHECKERS[name](drawn.given)
        assert set(again) == set(drawn.result)
        for key, value in drawn.result.items():
            assert same(value, again[key]), (seed, key, value, again[key])


def test_every_notebook_is_asked_about() -> None:
    course = {path.stem[:2] for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    count = {number: sum(name.startswith(number) for name in exams.QUESTIONS) for number in course}
    assert {name[:2] for name in exams.QUESTIONS} == course
    assert all(n >= (2 if "01" <= number <= "06" else 1) for number, n in count.items()), count


def leaves(value: Any) -> list[float]:
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in leaves(part)]
    return [float(value)] if isinstance(value, int | Fraction) else []


def test_draws_are_neither_empty_nor_large() -> None:
    """No result is zero throughout, none is so long that a pen gives up, and no name stands in an answer unfilled."""
    for seed in SEEDS:
        for name, drawn in exam(seed).items():
            for key, value in drawn.result.items():
                numbers = leaves(value)
                assert not numbers or any(numbers), (seed, name, key)
                assert all(abs(x) < 20000 for x in numbers), (seed, name, key)
            for text in (drawn.task, drawn.working, drawn.answer):
                assert "Fraction(" not in text, (seed, name)
                assert not re.search(r"\{(rate|c)\}|nan|inf\b", text), (seed, name)
                assert text.count("$") % 2 == 0, (seed, name)
                assert text.count("`") % 2 == 0, (seed, name)
            assert len(drawn.working.split("\n")) <= 3, (seed, name)


def test_special_cases_are_excluded() -> None:
    for seed in SEEDS:
        drawn = exam(seed)
        k, v = drawn["02a"].given["k"], drawn["02a"].given["v"]
        assert drawn["02a"].result["answers"][0] != drawn["02a"].result["answers"][1], (
            "the pairs do not interact"
        )
        assert all(sum(x * x for x in key) == 1 for key in k)
        assert all(v)
        assert 0 < abs(drawn["02c"].result["factor"]) < 1
        assert all(abs(f) != 1 for f in drawn["04b"].result["factors"]), "neither settles nor diverges"
        assert drawn["07a"].result["later"] > 0
        assert drawn["07b"].result["frozen"] != drawn["07b"].result["loop"]
        assert all(drawn["08a"].result["waiting"])
        assert drawn["09a"].result["open"] != 0


def test_the_same_seed_the_same_pages_another_seed_other_numbers() -> None:
    drawn = [exam(seed) for seed in SEEDS]
    assert exams.pages(7) == exams.pages(7)
    for name in exams.QUESTIONS:
        tasks = [one[name].task for one in drawn]
        assert len(set(tasks)) >= 0.8 * len(tasks), name
    for a in SEEDS:
        for b in range(a):
            repeated = [name for name in exams.QUESTIONS if drawn[a][name].task == drawn[b][name].task]
            assert len(repeated) <= 2, (a, b, repeated)


def test_a_seed_makes_these_pages_on_every_machine() -> None:
    drawn = exam(7)
    assert drawn["02c"].given == {"k": [-2, 4], "eta": Fraction(1, 40)}
    assert drawn["07a"].given == {"C": 7, "t": 22}


def test_questions_show_no_answer(tmp_path: Path) -> None:
    for seed in (1, 7):
        assert exams.make(tmp_path, seed) == 0
        questions, answers = (
            (tmp_path / f"{name}_{seed}.md").read_text(encoding="utf-8") for name in ("questions", "answers")
        )
        assert "**Answer**" not in questions
        assert answers.count("**Answer**") == len(exams.QUESTIONS)
        for name, one in exam(seed).items():
            assert one.task in questions
            assert one.answer in answers
            assert one.answer not in questions
            assert not any(line in questions for line in one.working.split("\n")), name
        headings = [re.findall(r"^## .+$", page, re.MULTILINE) for page in (questions, answers)]
        assert headings[0] == headings[1]
    assert len(list(tmp_path.iterdir())) == 4, "exams of other seeds stay"


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed must be >= 0, got -1"):
        exams.exam(-1)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (2, "2"),
        (Fraction(-1, 2), "-0.5"),
        (Fraction(5, 6), "5/6 (≈ 0.8333)"),
        (Fraction(1, 10**7), "≈ 0.000000"),
    ],
)
def test_numbers_are_written_short(value: Fraction, written: str) -> None:
    assert number(value) == written


def test_arrays_are_written_as_in_numpy() -> None:
    assert array([[Fraction(1, 2), 3], [Fraction(-2, 3), 0]]) == "[[0.5, 3], [-2/3, 0]]"
    assert isinstance(exam(0)["01a"], Drawn)
