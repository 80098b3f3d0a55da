"""Boundaries, the rank-one recurrence and its chunk form, against products of transitions, double sums and each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hope_ref.reference import chunks
from hope_ref.reference.delta_gradient_descent import memory_step
from hope_ref.reference.delta_rule import delta_rule, gated_delta_rule
from hope_ref.reference.linear_attention import linear_attention

D_IN, D_OUT = 5, 3
GRID = [(C, T) for C in (1, 4, 16) for T in sorted({1, C - 1, C, C + 1, 2 * C + 1, 50} - {0})]
every_erase = pytest.mark.parametrize("erase", chunks.ERASE)


def draw(length: int, seed: int = 0, least_alpha: float = 0.0) -> dict[str, np.ndarray]:
    """Unit inputs, so that eta < 2 is stable; a random state; gates uniform over their whole range."""
    rng = np.random.default_rng(seed)
    phi = rng.normal(size=(length, D_IN))
    return {
        "q": rng.normal(size=(length, D_IN)),
        "phi": phi / np.linalg.norm(phi, axis=1, keepdims=True),
        "u": rng.normal(size=(length, D_OUT)),
        "eta": rng.uniform(0, 1.99, size=length),
        "alpha": rng.uniform(least_alpha, 1, size=length),
        "state": rng.normal(size=(D_OUT, D_IN)),
    }


def with_momentum(arguments: dict[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    more = {name: rng.normal(size=(D_OUT, D_IN)) for name in ("momentum", "shift")}
    return arguments | more | {"mu": rng.uniform(size=len(arguments["phi"]))}


# --- boundaries ---------------------------------------------------------------------------------------------------


def test_boundaries_by_hand() -> None:
    assert [chunks.boundary(t, 3) for t in range(7)] == [0, 0, 0, 3, 3, 3, 6]
    assert [chunks.boundary(t, 1) for t in range(4)] == [0, 1, 2, 3]
    assert chunks.boundary(np.int64(10**9 + 1), 2) == 10**9


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 64])
def test_a_boundary_is_the_last_multiple_that_has_seen_nothing_of_the_token(chunk_size: int) -> None:
    for t in range(200):
        b = chunks.boundary(t, chunk_size)
        assert b % chunk_size == 0
        assert b <= t < b + chunk_size


# --- the recurrence -----------------------------------------------------------------------------------------------


def transitions(erase: str, **a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each write times the product of all later transitions: no state is kept, every prefix is computed afresh."""
    identity, reads = np.eye(D_IN), []
    for last in range(len(a["phi"])):
        after = identity  # the product of the transitions of the tokens after s, from right to left
        state = np.zeros((D_OUT, D_IN))
        for s in range(last, -1, -1):
            phi, eta, alpha = a["phi"][s], a["eta"][s], a["alpha"][s]
            state = state + eta * np.outer(a["u"][s], phi) @ after
            erased = {"before_decay": eta, "after_decay": alpha * eta, "none": 0.0}[erase]
            after = (alpha * identity - erased * np.outer(phi, phi)) @ after
        state = state + a["state"] @ after
        reads.append(state @ a["q"][last])
    return np.array(reads), state


@every_erase
@pytest.mark.parametrize("length", [1, 2, 13])
def test_equals_a_product_of_transitions(erase: str, length: int) -> None:
    arguments = draw(length, seed=length)
    for got, want in zip(
        chunks.recurrence(**arguments, erase=erase), transitions(erase, **arguments), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_its_special_cases_are_the_earlier_memories() -> None:
    a = draw(20)
    names = {"q": a["q"], "k": a["phi"], "v": a["u"]}
    gates = {"eta": a["eta"], "alpha": a["alpha"]}
    given = {n: a[n] for n in ("q", "phi", "u", "state")}
    pairs = [
        (
            chunks.recurrence(**given, eta=1, alpha=a["alpha"], erase="none"),
            linear_attention(**names, alpha=a["alpha"], memory=a["state"]),
        ),
        (
            chunks.recurrence(**given, eta=a["eta"], alpha=1),
            delta_rule(**names, eta=a["eta"], memory=a["state"]),
        ),
        (
            chunks.recurrence(**given, **gates, erase="after_decay"),
            gated_delta_rule(**names, **gates, memory=a["state"]),
        ),
    ]
    for got, want in pairs:
        np.testing.assert_allclose(got[0], want[0], rtol=0, atol=1e-13)
        np.testing.assert_allclose(got[1], want[1], rtol=0, atol=1e-13)
    _, state = chunks.recurrence(**given, **gates)
    memory = a["state"]
    for t in range(20):
        memory = memory_step(memory, a["phi"][t], a["u"][t], a["eta"][t], a["alpha"][t])
    np.testing.assert_allclose(state, memory, rtol=0, atol=1e-13)


def test_the_two_orders_of_decay_and_erase_differ() -> None:
    y, _ = chunks.recurrence(**draw(10))
    other, _ = chunks.recurrence(**draw(10), erase="after_decay")
    assert np.abs(y - other).max() > 1e-2


@every_erase
@pytest.mark.parametrize("length", [1, 2, 11])
def test_momentum_is_a_weighted_sum_of_all_writes(erase: str, length: int) -> None:
    """B_t and S_t written out as double sums over earlier tokens, with p read off the states of every earlier token."""
    a = with_momentum(draw(length, seed=length, least_alpha=0.3))
    states = [a["state"]]
    for t in range(length):
        total = np.prod(a["alpha"][: t + 1]) * a["state"]
        for r in range(t + 1):
            kept = np.prod(a["alpha"][r + 1 : t + 1])
            total = total + kept * np.prod(a["mu"][: r + 1]) * a["momentum"]
            for s in range(r + 1):
                fade = np.prod(a["mu"][s + 1 : r + 1])
                total = total + kept * fade * a["eta"][s] * np.outer(a["u"][s], a["phi"][s])
            factor = {"before_decay": 1.0, "after_decay": a["alpha"][r], "none": 0.0}[erase]
            shift = a["shift"] * (erase != "none")
            p = (factor * states[r] + shift) @ a["phi"][r]
            total = total - kept * a["eta"][r] * np.outer(p, a["phi"][r])
        states.append(total)
    y, state, momentum = chunks.momentum_recurrence(**a, erase=erase)
    np.testing.assert_allclose(
        y, [s @ q for s, q in zip(states[1:], a["q"], strict=True)], rtol=0, atol=1e-11
    )
    np.testing.assert_allclose(state, states[-1], rtol=0, atol=1e-11)
    want = np.prod(a["mu"]) * a["momentum"]
    for s in range(length):
        want = want + np.prod(a["mu"][s + 1 :]) * a["eta"][s] * np.outer(a["u"][s], a["phi"][s])
    np.testing.assert_allclose(momentum, want, rtol=0, atol=1e-12)


@every_erase
def test_without_momentum_it_is_the_plain_recurrence(erase: str) -> None:
    y, state, _ = chunks.momentum_recurrence(**draw(12), mu=0, erase=erase)
    want, want_state = chunks.recurrence(**draw(12), erase=erase)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-13)
    np.testing.assert_allclose(state, want_state, rtol=0, atol=1e-13)


def test_the_shift_is_that_of_weights_that_return_to_r_and_erase_from_e() -> None:
    """W ← α W + (1 - α) R - η (W - E) φ φᵀ + B, with S = W - R and shift = R - E."""
    a, rng = with_momentum(draw(15)), np.random.default_rng(5)
    to, origin = rng.normal(size=(2, D_OUT, D_IN))
    weight, momentum = a["state"] + to, a["momentum"]
    for t in range(15):
        phi, eta, alpha = a["phi"][t], a["eta"][t], a["alpha"][t]
        momentum = a["mu"][t] * momentum + eta * np.outer(a["u"][t], phi)
        weight = alpha * weight + (1 - alpha) * to - eta * (weight - origin) @ np.outer(phi, phi) + momentum
    _, state, _ = chunks.momentum_recurrence(**{**a, "shift": to - origin})
    np.testing.assert_allclose(state + to, weight, rtol=0, atol=1e-12)


# --- the chunk form -----------------------------------------------------------------------------------------------


def agree(got: Any, want: Any, relative: float = 1e-12) -> None:
    for ours, theirs in zip(got, want, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max(initial=0.0) <= relative * np.abs(theirs).max(initial=1.0)


@every_erase
@pytest.mark.parametrize(("chunk_size", "length"), GRID)
def test_the_chunk_form_equals_the_token_loop(erase: str, chunk_size: int, length: int) -> None:
    a = draw(length, seed=length)
    agree(
        chunks.chunk_recurrence(**a, chunk_size=chunk_size, erase=erase), chunks.recurrence(**a, erase=erase)
    )
    b = with_momentum(a)
    agree(
        chunks.chunk_momentum_recurrence(**b, chunk_size=chunk_size, erase=erase),
        chunks.momentum_recurrence(**b, erase=erase),
    )


@every_erase
@pytest.mark.parametrize("least_alpha", [0.0, 0.9])
@pytest.mark.parametrize("chunk_size", [64, 256])
def test_long_chunks_keep_twelve_digits(erase: str, least_alpha: float, chunk_size: int) -> None:
    a = draw(300, least_alpha=least_alpha)
    agree(
        chunks.chunk_recurrence(**a, chunk_size=chunk_size, erase=erase), chunks.recurrence(**a, erase=erase)
    )
    b = with_momentum(a)
    agree(
        chunks.chunk_momentum_recurrence(**b, chunk_size=chunk_size, erase=erase),
        chunks.momentum_recurrence(**b, erase=erase),
    )


@every_erase
def test_retentions_and_momentum_decays_of_zero_and_one(erase: str) -> None:
    a = with_momentum(draw(20))
    a["alpha"][[0, 7, 8, 19]], a["alpha"][[3, 4]] = 0.0, 1.0
    a["mu"][[0, 5, 6, 19]], a["mu"][[9, 10]] = 0.0, 1.0
    with np.errstate(all="raise", under="ignore"):
        got = chunks.chunk_momentum_recurrence(**a, chunk_size=8, erase=erase)
    agree(got, chunks.momentum_recurrence(**a, erase=erase))


@every_erase
def test_many_zeros_cost_no_digits(erase: str) -> None:
    """In sums of log max(α, 1e-30), 200 zeros add up to -14000, and what follows them is then known to 1e-12 only."""
    a = draw(256)
    a["alpha"] = np.concatenate([np.zeros(200), np.full(56, 0.999)])
    got = chunks.chunk_recurrence(**a, chunk_size=256, erase=erase)
    agree(got, chunks.recurrence(**a, erase=erase), 1e-13)


def test_decays_are_products_of_retentions() -> None:
    alpha = np.random.default_rng(1).uniform(0.1, 1, size=5)
    decay = chunks.decays(alpha)
    for t in range(5):
        assert decay.gamma[t] == pytest.approx(np.prod(alpha[: t + 1]), rel=1e-12)
        assert decay.gamma_before[t] == pytest.approx(np.prod(alpha[:t]), rel=1e-12)
        for s in range(5):
            want = np.prod(alpha[s + 1 : t + 1]) if s <= t else 0.0
            want_before = np.prod(alpha[s + 1 : t]) if s < t else 0.0
            assert decay.ratio[t, s] == pytest.approx(want, rel=1e-12)
            assert decay.ratio_before[t, s] == pytest.approx(want_before, rel=1e-12)


def test_no_decay_is_above_one_where_a_division_would_overflow() -> None:
    """γ falls to 1e-400, which is 0 in float64: γ_t / γ_s would be 0/0."""
    decay = chunks.decays(np.full(40, 1e-10))
    assert decay.gamma[-1] == 0.0
    assert decay.ratio.max() == 1.0
    assert decay.ratio[39, 38] == pytest.approx(1e-10, rel=1e-12)


FORMS = [
    (chunks.recurrence, {}, draw),
    (chunks.chunk_recurrence, {"chunk_size": 4}, draw),
    (chunks.momentum_recurrence, {}, lambda length: with_momentum(draw(length))),
    (chunks.chunk_momentum_recurrence, {"chunk_size": 4}, lambda length: with_momentum(draw(length))),
]
every_form = pytest.mark.parametrize(
    ("form", "options", "arguments"), FORMS, ids=lambda f: getattr(f, "__name__", "")
)
PER_TOKEN = ("q", "phi", "u", "eta", "alpha", "mu")


@every_form
@pytest.mark.parametrize("cut", range(10))
def test_any_split_gives_the_same(form: Any, options: Any, arguments: Any, cut: int) -> None:
    a = arguments(9)
    head = form(**{n: x[:cut] if n in PER_TOKEN else x for n, x in a.items()}, **options)
    carried = dict(zip(("state", "momentum"), head[1:], strict=False))
    tail = form(**{n: x[cut:] if n in PER_TOKEN else x for n, x in (a | carried).items()}, **options)
    whole = form(**a, **options)
    agree((np.concatenate([head[0], tail[0]]), *tail[1:]), whole)


@every_form
@pytest.mark.parametrize("name", ["q", "phi", "u", "eta", "alpha", "mu"])
def test_causal(form: Any, options: Any, arguments: Any, name: str) -> None:
    a = arguments(9)
    if name not in a:
        return
    changed = a[name].copy()
    changed[5] = changed[5] * 0.5
    y, other = form(**a, **options)[0], form(**{**a, name: changed}, **options)[0]
    np.testing.assert_allclose(other[:5], y[:5], rtol=0, atol=1e-13)
    assert np.abs(other[5] - y[5]).max() > 1e-6


@every_form
def test_no_tokens_change_nothing(form: Any, options: Any, arguments: Any) -> None:
    a = arguments(0)
    y, *states = form(**a, **options)
    assert y.shape == (0, D_OUT)
    for name, state in zip(("state", "momentum"), states, strict=False):
        np.testing.assert_array_equal(state, a[name])


@every_form
def test_nothing_given_is_an_empty_start(form: Any, options: Any, arguments: Any) -> None:
    a = arguments(6)
    matrices = {n: np.zeros((D_OUT, D_IN)) for n in ("state", "momentum", "shift") if n in a}
    agree(form(**{**a, **dict.fromkeys(matrices)}, **options), form(**{**a, **matrices}, **options))


# --- bad input ----------------------------------------------------------------------------------------------------

GOOD = draw(3)
MORE = with_momentum(GOOD)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phi": GOOD["phi"][0]}, r"phi must have shape \(T, d_in\), got \(5,\)"),
        ({"phi": GOOD["phi"].astype(np.float32)}, r"phi must be float64 \(or integers\), got dtype float32"),
        ({"u": GOOD["u"][:2]}, r"u must have shape \(3, d_out\), got \(2, 3\)"),
        ({"u": GOOD["u"] * np.nan}, "u must be finite, got 9 NaN or infinite entries"),
        ({"q": GOOD["q"][:, :4]}, r"q must have shape \(3, 5\), got \(3, 4\)"),
        ({"eta": -0.3}, r"eta must be >= 0, got min -0\.3"),
        ({"eta": [0.1, 0.2]}, r"eta must have shape \(3,\), got \(2,\)"),
        ({"alpha": 1.5}, r"alpha must be <= 1, got max 1\.5"),
        ({"alpha": [0.5, -0.1, 1]}, r"alpha must be >= 0, got min -0\.1"),
        ({"state": GOOD["state"].T}, r"state must have shape \(3, 5\), got \(5, 3\)"),
        ({"erase": "both"}, "erase must be one of 'before_decay', 'after_decay', 'none', got 'both'"),
        ({"mu": -0.1}, r"mu must be >= 0, got min -0\.1"),
        ({"mu": 1.1}, r"mu must be <= 1, got max 1\.1"),
        ({"momentum": GOOD["state"].T}, r"momentum must have shape \(3, 5\), got \(5, 3\)"),
        ({"shift": GOOD["state"].T}, r"shift must have shape \(3, 5\), got \(5, 3\)"),
        ({"chunk_size": 0}, "chunk_size must be an integer >= 1, got 0"),
        ({"chunk_size": 2.0}, r"chunk_size must be an integer >= 1, got 2\.0"),
    ],
)
def test_bad_input_of_the_recurrences(change: dict[str, Any], message: str) -> None:
    (name,) = change
    tried = 0
    for form in (f for f, *_ in FORMS):
        known = form.__annotations__
        if name in known:
            with pytest.raises(ValueError, match=message):
                form(**{n: x for n, x in (MORE | change).items() if n in known})
            tried += 1
    assert tried >= 2


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (chunks.boundary, {"t": -1, "chunk_size": 3}, "t must be an integer >= 0, got -1"),
        (chunks.boundary, {"t": 1.0, "chunk_size": 3}, r"t must be an integer >= 0, got 1\.0"),
        (chunks.boundary, {"t": True, "chunk_size": 3}, "t must be an integer >= 0, got True"),
        (chunks.boundary, {"t": 1, "chunk_size": 0}, "chunk_size must be an integer >= 1, got 0"),
        (chunks.decays, {"alpha": 0.5}, r"alpha must have shape \(C,\), got \(\)"),
        (chunks.decays, {"alpha": [2.0]}, "alpha must be <= 1, got max 2"),
    ],
)  # fmt: skip
def test_bad_input(function: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(**arguments)
