"""Exercises of notebooks 07 to 10: right answers in other forms pass; near misses are named; inputs tell mistakes apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hope_ref.reference.chunks import chunk_recurrence
from hope_ref.teaching import attempt
from hope_ref.teaching.exercise import WrongAnswer, exercise
from hope_ref.teaching.exercises import e07, e08, e09, e10

ROOT = Path(__file__).parents[2]
SOLUTIONS = [
    next((ROOT / "notebooks/solutions").glob(f"{name}_*.ipynb")) for name in ("07", "08", "09", "10")
]


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem[:2])
def test_the_printed_solutions_pass(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert capsys.readouterr().out.count("ok  exercise") == 3


# --- 07.1: one solve --------------------------------------------------------------------------------------------------


def by_products(q: Any, phi: Any, u: Any, eta: Any, alpha: Any, S: Any) -> Any:
    """The decays as products down the columns, without a logarithm; y as a list."""
    below = np.tri(len(phi), k=-1, dtype=bool)
    decay = np.tril(np.cumprod(np.where(below, alpha[:, None], 1.0), axis=0))
    gamma = np.cumprod(alpha)[:, None]
    erased = eta[:, None] * np.where(below, decay, 0) * np.einsum("td,sd->ts", phi, phi)
    w = np.linalg.inv(np.eye(len(phi)) + erased) @ (eta[:, None] * (u - gamma * (S @ phi.T).T))
    return list(gamma * (S @ q.T).T + (decay * (q @ phi.T)) @ w)


def with_torch(q: Any, phi: Any, u: Any, eta: Any, alpha: Any, S: Any) -> Any:
    torch = pytest.importorskip("torch")
    q, phi, u, eta, alpha, S = (torch.tensor(np.asarray(x)) for x in (q, phi, u, eta, alpha, S))
    logs = torch.cumsum(torch.log(alpha.clamp(min=1e-30)), 0)
    later = torch.ones(len(logs), len(logs)).tril().bool()
    decay = torch.exp(torch.where(later, logs[:, None] - logs, -torch.inf))
    system = torch.eye(len(phi)) + eta[:, None] * decay.tril(-1) * (phi @ phi.T)
    w = torch.linalg.solve(system, eta[:, None] * (u - logs.exp()[:, None] * (phi @ S.T)))
    return logs.exp()[:, None] * (q @ S.T) + (decay * (q @ phi.T)) @ w


def by_the_other_rule(q: Any, phi: Any, u: Any, eta: Any, alpha: Any, S: Any) -> Any:
    """The notebook's rule with the rows of α and the memory shifted by one token: decay first, then measure."""
    ones = np.ones_like(alpha)
    logs = np.append(0.0, np.cumsum(np.log(np.maximum(alpha, 1e-30))))
    table = np.exp(np.where(np.tri(len(logs), dtype=bool), logs[:, None] - logs, -np.inf))[1:]
    system = np.eye(len(phi)) + np.outer(eta, ones) * np.tril(table[:, 1:], -1) * (phi @ phi.T)
    w = np.linalg.solve(system, eta[:, None] * (u - table[:, :1] * (phi @ S.T)))
    return table[:, :1] * (q @ S.T) + (table[:, 1:] * (q @ phi.T)) @ w


@pytest.mark.parametrize("answer", [by_products, with_torch, by_the_other_rule])
def test_a_gated_chunk_may_be_solved_in_another_form(answer: Callable[..., Any]) -> None:
    attempt("07.1", answer)


def test_the_gated_loop_is_the_librarys_rule() -> None:
    q, phi, u, eta, alpha, state = e07._chunk()
    y, _ = chunk_recurrence(q, phi, u, eta * 1.0, alpha, state, chunk_size=5)
    assert not np.allclose(
        y, e07._gated_loop(q, phi, u, eta, alpha, state)
    )  # the notebook's rule is another one
    assert np.allclose(y, e07._solved(q, phi, u, eta, alpha, state, slip="measures before"))


def test_a_loop_in_lists_is_seen() -> None:
    def answer(q: Any, phi: Any, u: Any, eta: Any, alpha: Any, S: Any) -> Any:
        y = []
        for query, key, value, rate, keep in zip(q, phi, u, eta, alpha, strict=True):
            S = keep * S
            S = S + rate * (value - S @ key)[:, None] * key
            y.append(S @ query)
        return y

    with pytest.raises(WrongAnswer, match=r"64 more tokens take \d+ more steps: there is a loop over tokens"):
        attempt("07.1", answer)


def test_a_system_that_is_solved_row_by_row_is_a_loop() -> None:
    def answer(q: Any, phi: Any, u: Any, eta: Any, alpha: Any, S: Any) -> Any:
        decay, w = e07._decay(alpha), np.zeros_like(u)
        left, kept = np.tril(decay, -1) * (phi @ phi.T), decay[:, :1] * alpha[0]
        for t in range(len(u)):
            w[t] = eta[t] * (u[t] - kept[t] * (S @ phi[t]) - left[t] @ w)
        return kept * (q @ S.T) + (decay * (q @ phi.T)) @ w

    with pytest.raises(WrongAnswer, match="there is a loop over tokens"):
        attempt("07.1", answer)


def plain_logarithms(*given: Any) -> Any:
    logs = np.cumsum(np.log(given[4]))
    later = np.tri(len(logs), dtype=bool)
    return e07._by_decay(np.exp(np.where(later, logs[:, None] - logs, -np.inf)), *given)


@pytest.mark.parametrize("answer", [e07._divides, plain_logarithms])
def test_only_a_retention_of_zero_tells_a_division_by_it(answer: Callable[..., Any]) -> None:
    """Right for every other retention; there the loop gives numbers and the division none."""
    for given in (e07._chunk(), e07._chunk(7, 1.0), e07._chunk(128, 1e-3)):
        np.testing.assert_allclose(answer(*given), e07._gated_loop(*given), atol=1e-12)
    given = e07._chunk(3, [0.5, 0.0, 0.5])
    assert np.isfinite(e07._gated_loop(*given)).all()
    with np.errstate(all="ignore"):
        assert np.isnan(answer(*given)).any()
    with pytest.raises(WrongAnswer, match=r"α = 0 at one token: .*α_t = 0 is a retention, too"):
        attempt("07.1", answer)


def test_gamma_that_is_lifted_off_zero_is_refused() -> None:
    def answer(q: Any, phi: Any, u: Any, eta: Any, alpha: Any, S: Any) -> Any:
        gamma = np.maximum(np.cumprod(alpha), 1e-300)
        return e07._by_decay(np.tril(gamma[:, None] / gamma), q, phi, u, eta, alpha, S)

    with pytest.raises(WrongAnswer, match=r"chunk of 128: y\[.*expected .*0/0"):
        attempt("07.1", answer)


# --- 07.2: a state ----------------------------------------------------------------------------------------------------


class Memory:
    """A state of one's own making: an object that is never changed."""

    def __init__(self, now: Any, start: Any, place: int) -> None:
        self.now, self.start, self.place = now, start, place


def in_an_object(q: Any, k: Any, v: Any, eta: float, chunk_size: int, state: Any) -> Any:
    state = state or Memory(np.zeros((2, 3)), np.zeros((2, 3)), 0)
    y = []
    for query, key, value in zip(q, k, v, strict=True):
        start = state.now if state.place == 0 else state.start
        now = state.now - eta * np.outer(start @ key - value, key)
        state = Memory(now, start, (state.place + 1) % chunk_size)
        y.append(now @ query)
    return [y, state]


def with_the_open_tokens(q: Any, k: Any, v: Any, eta: float, chunk_size: int, state: Any) -> Any:
    """The memory at the open chunk's start and that chunk's tokens: fewer than C, so the state does not grow."""
    start, keys, values = (0 * v[0][:, None] * k[0], [], []) if state is None else state
    keys, values, y = list(keys), list(values), []
    for t in range(len(k)):
        keys.append(k[t])
        values.append(v[t])
        now = start - eta * (np.array(keys) @ start.T - np.array(values)).T @ np.array(keys)
        y.append(now @ q[t])
        if len(keys) == chunk_size:
            start, keys, values = now, [], []
    return np.array(y), {"start": start, "keys": keys, "values": values}.values()


def own_copies(q: Any, k: Any, v: Any, eta: float, chunk_size: int, state: Any) -> Any:
    """Changes arrays in place, but its own."""
    memory, frozen, seen = [np.zeros((2, 3)), np.zeros((2, 3)), 0] if state is None else state
    memory, frozen, y = memory.copy(), frozen.copy(), np.empty_like(v)
    for t in range(len(k)):
        if seen % chunk_size == 0:
            frozen[...] = memory
        memory -= eta * np.outer(frozen @ k[t] - v[t], k[t])
        y[t], seen = memory @ q[t], seen + 1
    return y, [memory, frozen, seen]


@pytest.mark.parametrize("answer", [in_an_object, with_the_open_tokens, own_copies])
def test_a_state_may_be_anything_that_does_not_grow(answer: Callable[..., Any]) -> None:
    attempt("07.2", answer)


def test_a_state_that_hides_its_tokens_in_a_function_is_counted() -> None:
    def answer(q: Any, k: Any, v: Any, eta: float, chunk_size: int, state: Any) -> Any:
        y, tokens = e07._keeps_all(q, k, v, eta, chunk_size, None if state is None else state())
        return y, lambda: tokens

    with pytest.raises(WrongAnswer, match="holds 144 numbers after 18 tokens and 528 after 66"):
        attempt("07.2", answer)


# --- 07.3: a test -----------------------------------------------------------------------------------------------------


def by_random_tokens(model: Any, x: Any) -> Any:
    rng = np.random.default_rng(0)
    first = []
    for s in range(1, len(x)):
        other = np.array(x)
        other[s] = rng.normal(size=x.shape[1])
        first += np.flatnonzero(np.abs(model(other) - model(x))[:s].max(1) > 1e-9).tolist()
    return np.int64(min(first)) if first else None


def all_later_tokens_at_random(model: Any, x: Any) -> Any:
    rng = np.random.default_rng(0)
    for t in range(len(x)):
        other = np.concatenate([x[: t + 1], rng.normal(size=x[t + 1 :].shape)])
        if not np.allclose(model(other)[t], model(x)[t], rtol=0, atol=1e-10):
            return float(t)
    return None


@pytest.mark.parametrize("answer", [by_random_tokens, all_later_tokens_at_random])
def test_a_leak_may_be_found_in_another_way(answer: Callable[..., Any]) -> None:
    attempt("07.3", answer)


def test_the_first_leak_by_changed_token_is_not_the_first_output() -> None:
    def answer(model: Any, x: Any) -> Any:
        for s in range(1, len(x)):
            for t in range(s):
                other = x.copy()
                other[s] += 1.0
                if np.abs(model(other)[t] - model(x)[t]).max() > 1e-9:
                    return t
        return None

    with pytest.raises(WrongAnswer, match=r"You say 1, expected 0\. Another token moves an earlier output"):
        attempt("07.3", answer)


def test_leaks_are_what_they_are_said_to_be() -> None:
    x = np.random.default_rng(703).normal(size=(e07.LENGTH, 2))
    assert [e07._search(model, x) for _, model, _ in e07.MODELS] == [wanted for *_, wanted in e07.MODELS]


# --- 08 ---------------------------------------------------------------------------------------------------------------


def by_windows(theta: Any, signals: Any, size: int, eta: float) -> Any:
    full = len(signals) // size
    moves = -eta * signals[: full * size].reshape(full, size, len(theta)).sum(1)
    states = np.vstack([theta[None], theta + np.cumsum(moves, axis=0)])
    return [states[(i + 1) // size].tolist() for i in range(len(signals))]


def in_place_on_copies(theta: Any, signals: Any, size: int, eta: float) -> Any:
    theta, path = theta.copy(), []
    for i in range(len(signals)):
        if not (i + 1) % size:
            theta -= eta * sum(signals[i + 1 - size : i + 1])
        path.append(theta.copy())
    return tuple(path)


def echo_by_counting(t: int, sizes: Any) -> Any:
    later = t + 1
    while all(later % size for size in sizes):
        later += 1
    return np.float64(later)


def rate_by_singular_value(x: Any) -> Any:
    return 2 / np.linalg.norm(x, 2) ** 2


def rate_by_scores(x: Any) -> Any:
    return np.array(2 / np.linalg.eigvals(x @ x.T).real.max())


# --- 09 ---------------------------------------------------------------------------------------------------------------


def windows_at_once(gradients: Any, f: int, beta3: float) -> Any:
    full = len(gradients) // f
    sums = gradients[: full * f].reshape(full, f, 2, 3).sum(1)
    weights = (1 - beta3) * beta3 ** np.arange(full - 1, -1, -1.0)
    return [np.einsum("w,wij->ij", weights, sums), gradients[full * f :].sum(0)]


def as_one_array(gradients: Any, f: int, beta3: float) -> Any:
    return np.stack(windows_at_once(gradients, f, beta3))


def newest_by_counting(i: int, f: int) -> Any:
    return max((j for j in range(i) if j % f == 0), default=0) * 1.0


def acts_by_matrix(n: int, beta: float) -> Any:
    m = np.diag([beta**n, 1 - beta**n]) / np.linalg.norm([beta**n, 1 - beta**n])
    for _ in range(5):
        m = 3.4445 * m - 4.7750 * m @ m @ m + 2.0315 * np.linalg.matrix_power(m, 5)
    return m[0, 0]


# --- 10 ---------------------------------------------------------------------------------------------------------------


def one_write_of_all(w: Any, k: Any, v: Any, eta: float, alpha: float) -> Any:
    """W's factor and the writes apart; the result as rows in a list."""
    errors = k @ (np.eye(3) + w).T - v @ (np.eye(3) + w).T
    state = w
    for key, error in zip(k, errors, strict=True):
        state = state @ (alpha * np.eye(3) - eta * key[:, None] * key) - eta * error[:, None] * key
    return state.tolist()


def as_a_tuple(k: float, v: float, q: float, eta: float, alpha: float) -> Any:
    return q * (alpha - 2 * eta * k * k + eta * v * k), q * (alpha - 2 * eta * k * k)


def with_autograd(k: float, v: float, q: float, eta: float, alpha: float) -> Any:
    torch = pytest.importorskip("torch")
    slopes = []
    for stop in (False, True):
        w = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
        target = v + w * v
        error = k + w * k - (target.detach() if stop else target)
        after = w * (alpha - eta * k * k) - eta * error * k
        (q + after * q).backward()
        slopes.append(w.grad)
    return torch.stack(slopes)


RIGHT: list[tuple[str, Callable[..., Any]]] = [
    ("08.1", by_windows),
    ("08.1", in_place_on_copies),
    ("08.2", echo_by_counting),
    ("08.3", rate_by_singular_value),
    ("08.3", rate_by_scores),
    ("09.1", windows_at_once),
    ("09.1", as_one_array),
    ("09.2", newest_by_counting),
    ("09.3", acts_by_matrix),
    ("10.1", one_write_of_all),
    ("10.3", as_a_tuple),
    ("10.3", lambda *given: list(as_a_tuple(*given))),
    ("10.3", with_autograd),
]


@pytest.mark.parametrize(("name", "answer"), RIGHT, ids=lambda x: getattr(x, "__name__", x))
def test_another_right_form_passes(
    name: str, answer: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(name, answer)
    assert capsys.readouterr().out.startswith(f"ok  exercise {name}")


def test_a_rate_that_is_off_by_a_thousandth_is_refused() -> None:
    with pytest.raises(WrongAnswer, match=r"for 12 inputs is .*, expected "):
        attempt("08.3", lambda x: 1.001 * rate_by_singular_value(x))


# --- inputs that tell -------------------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[Any, list[Callable[[], Any]]]] = {
    "07.1": (
        e07._gated_loop(*e07._chunk()),
        [partial(e07._solved, *e07._chunk(), slip=slip) for slip in e07._GATED],
    ),
    "07.2": (
        e07._frozen_sum(*e07._tokens(), 0.3, 4),
        [lambda slip=slip: e07._carry(*e07._tokens(), 0.3, 4, None, slip)[0] for slip in e07._CARRIED],
    ),
    "10.1": (
        e10._literal(*e10._chunk()),
        [partial(e10._loop, *e10._chunk(), slip=slip) for slip in e10._READ],
    ),
    "10.3": (
        e10._by_differences(0.8, 1.5, 0.7, 0.5, 0.9),
        [lambda row=row: row for row in e10._other_derivatives(0.8, 1.5, 0.7, 0.5, 0.9).values()],
    ),
    "09.3": (
        e09._measured(10, 0.9),
        [lambda value=value: value for value in e09._other_acts(10, 0.9).values()],
    ),
    "08.3": (
        e08._largest_rate(e08._searched()[0][1]),
        [lambda value=value: value for value in e08._rates(e08._searched()[0][1]).values()],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_gives_another_value(name: str) -> None:
    """No two mistakes agree on the first input, and none is right there, so that no hint hides another."""
    right, mistakes = MISTAKES[name]
    rows = [right, *(mistake() for mistake in mistakes)]
    for i in range(len(rows)):
        for j in range(i):
            assert not np.allclose(rows[i], rows[j], rtol=1e-6, atol=1e-8), (i, j)


@pytest.mark.parametrize(
    "name", ["07.1", "07.2", "07.3", "08.1", "08.2", "08.3", "09.1", "09.2", "09.3", "10.1", "10.3"]
)
def test_many_mistakes_are_named_with_got_and_expected(name: str) -> None:
    task = exercise(name)
    assert len(task.wrong_answers) >= 8
    shown = 0
    for answer, _ in task.wrong_answers:
        with pytest.raises(WrongAnswer) as caught:
            task.check(answer)
        shown += "expected" in str(caught.value)
    assert shown >= 8


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("07.2", lambda *given: ("y", None), "y must be numbers, got str"),
        ("07.3", lambda model, x: "none", "an index or None, got str"),
        ("07.3", lambda model, x: 2.5, "an index or None, got float"),
        ("07.3", lambda model, x: 3, r"a causal sum\. You say 3, expected None\. Nothing leaks here"),
        ("09.1", lambda g, f, beta: 3, "two things, m2 and the open window, got int"),
        ("09.1", lambda g, f, beta: e09._slow(g, f, beta)[0].tolist(), r"m2 has shape \(3,\)"),
        ("10.3", lambda *given: [1.0, [2.0]], "must be numbers, got list"),
        ("10.3", lambda *given: (1.0, 2.0, 3.0), r"it should be \(2,\)"),
    ],
)
def test_an_odd_answer_gets_a_hint(name: str, answer: Callable[..., Any], hint: str) -> None:
    with pytest.raises(WrongAnswer, match=hint):
        attempt(name, answer)
