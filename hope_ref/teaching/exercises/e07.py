"""Exercises of notebook 07: the gated form of the solve, a state that survives any cut, and a test that finds a leak."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, must_equal

Chunk = tuple[Array, Array, Array, Array, Array, Array]
Model = Callable[[Array], Array]
State = tuple[Array, Array, int]  # memory, its copy at the open chunk's start, tokens seen


def _chunk() -> Chunk:
    rng = np.random.default_rng(701)
    q, phi, u = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    return q, phi, u, rng.uniform(0.2, 0.5, size=5), rng.uniform(0.5, 0.9, size=5), rng.normal(size=(2, 3))


def _gated_loop(q: Array, phi: Array, u: Array, eta: Array, alpha: Array, state: Array) -> Array:
    """The gated delta rule, token by token: decay, then measure, then write."""
    y = np.zeros_like(u)
    for t in range(len(phi)):
        state = alpha[t] * state
        state = state + eta[t] * np.outer(u[t] - state @ phi[t], phi[t])
        y[t] = state @ q[t]
    return y


def _solved(given: Chunk, start: str, write: str, diagonal: int = -1) -> Array:
    """One chunk by one solve; ``start`` and ``write`` say whose decays stand in it, "before" or "after" token t's own α."""
    q, phi, u, eta, alpha, state = given
    gamma = np.cumprod(alpha)
    before = gamma / alpha
    kept = {"before": before, "after": gamma}
    share = np.tril(kept[write][:, None] / gamma, diagonal)
    system = np.eye(5) + eta[:, None] * share * (phi @ phi.T)
    w = np.linalg.solve(system, eta[:, None] * (u - kept[start][:, None] * (phi @ state.T)))
    return gamma[:, None] * (q @ state.T) + np.tril(gamma[:, None] / gamma) * (q @ phi.T) @ w


def check_gated(function: Any) -> None:
    """(q, phi, u, eta, alpha, state) -> y of one chunk: compared with the gated delta rule's token loop."""
    given = _chunk()
    must_equal(
        "y",
        ask(function, *given),
        _gated_loop(*given),
        {
            "That is the rule of the notebook: it measures its error before token t's own decay.": _solved(
                given, "before", "before"
            ),
            "S_0 has decayed by γ_t when token t measures its error, not by γ_{t-1}.": _solved(
                given, "before", "after"
            ),
            "Earlier writes have decayed once more as well: D_{t,s} in the place of D_{t-1,s}.": _solved(
                given, "after", "before"
            ),
            "Token t does not erase its own write: the sum runs over s < t, so the mask leaves the diagonal out.": _solved(
                given, "after", "after", 0
            ),
        },
    )


def _tokens() -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(702)
    return rng.normal(size=(11, 3)), rng.normal(size=(11, 3)), rng.normal(size=(11, 2))


def _frozen_sum(q: Array, k: Array, v: Array, eta: float, chunk_size: int) -> Array:
    """y without a state: M_t is a sum over all tokens up to t, each with the error that its own boundary's sum makes."""

    def memory(count: int) -> Array:  # after so many tokens
        if count == 0:
            return np.zeros((v.shape[1], k.shape[1]))
        t = count - 1
        error = memory(chunk_size * (t // chunk_size)) @ k[t] - v[t]
        return memory(t) - eta * np.outer(error, k[t])

    return np.array([memory(t + 1) @ q[t] for t in range(len(k))])


def _runs(function: Any, cuts: tuple[int, ...], chunk_size: int = 4) -> Array:
    """The learner's function on pieces of the stream, its state handed on."""
    q, k, v = _tokens()
    state, pieces = None, []
    for begin, end in zip((0, *cuts), (*cuts, 11), strict=True):
        part = slice(begin, end)
        got = ask(function, q[part], k[part], v[part], 0.3, chunk_size, state)
        if not isinstance(got, tuple) or len(got) != 2:
            raise WrongAnswer("return two things: y, and a state, whatever you put into it.")
        y, state = got
        if np.shape(y) != (end - begin, 2):
            raise WrongAnswer(
                f"y has shape {np.shape(y)}, it should be {(end - begin, 2)}: this call got {end - begin} tokens."
            )
        pieces.append(np.asarray(y, dtype=np.float64))
    return np.concatenate(pieces)


def check_carry(function: Any) -> None:
    """(q, k, v, eta, C, state or None) -> y, state: one call and every cut, against a sum that has no state."""
    wanted = _frozen_sum(*_tokens(), 0.3, 4)
    must_equal(
        "y of the whole stream in one call",
        _runs(function, ()),
        wanted,
        {
            "Those are the gradients at M_{t-1}: here they are taken at the chunk's start.": _frozen_sum(
                *_tokens(), 0.3, 1
            ),
            "One chunk for the whole call: the boundary must move on after every C tokens.": _frozen_sum(
                *_tokens(), 0.3, 11
            ),
        },
    )
    for cuts in ((4,), (8,), (3,), (6,), (1, 2, 7), tuple(range(1, 11))):
        if np.abs(_runs(function, cuts) - wanted).max() <= 1e-9:
            continue
        where = f"cut after {', '.join(map(str, cuts))} tokens (C = 4) the outputs are others."
        if all(cut % 4 == 0 for cut in cuts):
            raise WrongAnswer(f"{where} At a chunk's end the memory alone is enough: do you hand it on?")
        for hint, mistake in (
            ("The call does not start a new chunk: hand on how many tokens were seen.", _restarts),
            (
                "The open chunk takes its gradients at its own start: hand on that copy of the memory too.",
                _no_copy,
            ),
        ):
            if np.allclose(_runs(function, cuts), _runs(mistake, cuts)):
                raise WrongAnswer(f"{where} {hint}")
        raise WrongAnswer(f"{where} What does a token in the middle of a chunk need, besides the memory?")


def _carry(
    q: Array, k: Array, v: Array, eta: float, chunk_size: int, state: State | None
) -> tuple[Array, State]:
    zero = np.zeros((v.shape[1], k.shape[1]))
    memory, frozen, seen = state or (zero, zero, 0)
    y = np.zeros_like(v)
    for t in range(len(k)):
        if seen % chunk_size == 0:
            frozen = memory
        memory = memory - eta * np.outer(frozen @ k[t] - v[t], k[t])
        seen += 1
        y[t] = memory @ q[t]
    return y, (memory, frozen, seen)


def _restarts(q: Array, k: Array, v: Array, eta: float, chunk_size: int, state: Any) -> tuple[Array, Any]:
    """Hands on the memory alone: every call begins a chunk."""
    y, (memory, _, _) = _carry(q, k, v, eta, chunk_size, None if state is None else (state, state, 0))
    return y, memory


def _no_copy(q: Array, k: Array, v: Array, eta: float, chunk_size: int, state: Any) -> tuple[Array, Any]:
    """Hands on memory and position: the open chunk takes the memory of the cut for that of its start."""
    y, (memory, _, seen) = _carry(
        q, k, v, eta, chunk_size, None if state is None else (state[0], state[0], state[1])
    )
    return y, (memory, seen)


def _forgets(q: Array, k: Array, v: Array, eta: float, chunk_size: int, state: Any) -> tuple[Array, Any]:
    return _carry(q, k, v, eta, chunk_size, None)


# --- a test that finds a leak -----------------------------------------------------------------------------------------


def _reading(seen: Callable[[int], int]) -> Model:
    """A model whose output t is a bend of the sum of the first seen(t) tokens, and of token t itself."""

    def model(x: Array) -> Array:
        return np.array([np.tanh(x[: seen(t)].sum(axis=0)) + x[t] ** 2 for t in range(len(x))])

    return model


def _peeks(reach: int, first: int = 0) -> Model:
    """A causal sum, but outputs from ``first`` on also see the one token ``reach`` places ahead, at a thousandth."""

    def model(x: Array) -> Array:
        y = np.cumsum(x, axis=0)
        y[first : len(x) - reach] += 1e-3 * np.sin(x[first + reach :])
        return y

    return model


LENGTH = 12
MODELS: tuple[tuple[str, Model, int | None], ...] = (
    ("a causal sum", _reading(lambda t: t + 1), None),
    ("memory at C⌊t/C⌋, C = 4", _reading(lambda t: 4 * (t // 4)), None),
    ("memory at C⌈t/C⌉, C = 4, counted from 1", _reading(lambda t: 4 * -(-(t + 1) // 4)), 0),
    ("memory at C⌈t/C⌉, C = 4, counted from 0", _reading(lambda t: 4 * -(-t // 4)), 1),
    ("one token ahead, from output 5 on", _peeks(1, 5), 5),
    ("only the token three places ahead, from output 2 on", _peeks(3, 2), 2),
    ("minus the mean of the whole sequence", lambda x: x - x.mean(axis=0), 0),
)


def check_leak(function: Any) -> None:
    """(model, x) -> first output that moves with a later token, or None: on models whose leaks are known by construction."""
    x = np.random.default_rng(703).normal(size=(LENGTH, 2))
    for name, model, wanted in MODELS:
        got = ask(function, model, x)
        if got is not None:
            try:
                got = int(got) if float(got) == int(got) else got
            except (TypeError, ValueError, OverflowError) as error:
                raise WrongAnswer(f"return an index or None, got {type(got).__name__}.") from error
        if got == wanted and not isinstance(got, bool):
            continue
        where = f"model: {name}. You say {got}"
        if wanted is None:
            raise WrongAnswer(
                f"{where}, but nothing leaks here: an output may move with its own token and with earlier ones; only s > t is the future."
            )
        if got is None:
            raise WrongAnswer(
                f"{where}, but output {wanted} moves with a later token. Change every later token, one at a time: not only the next one, "
                "not only the last one; and a small change is a change."
            )
        if got > wanted:
            raise WrongAnswer(
                f"{where}, but output {wanted} moves as well. Return the output that moved, not the token that was changed, and "
                "try every later token, not only the last one."
            )
        raise WrongAnswer(f"{where}, but the first output that moves with a later token is {wanted}.")


def _first_leak(model: Model, x: Array) -> int | None:
    before = model(x)
    for t in range(len(x)):
        for s in range(t + 1, len(x)):
            other = x.copy()
            other[s] += 1.0
            if np.abs(model(other)[t] - before[t]).max() > 0:
                return t
    return None


def _own_token_counts(model: Model, x: Array) -> int | None:
    for t in range(len(x)):
        other = x.copy()
        other[t:] += 1.0
        if np.abs(model(other)[t] - model(x)[t]).max() > 0:
            return t
    return None


def _next_token_only(model: Model, x: Array) -> int | None:
    for t in range(len(x) - 1):
        other = x.copy()
        other[t + 1] += 1.0
        if np.abs(model(other)[t] - model(x)[t]).max() > 0:
            return t
    return None


def _last_token_only(model: Model, x: Array) -> int | None:
    other = x.copy()
    other[-1] += 1.0
    moved = np.abs(model(other) - model(x)).max(axis=1)[:-1] > 0
    return int(moved.argmax()) if moved.any() else None


def _says_which_token(model: Model, x: Array) -> int | None:
    for s in range(1, len(x)):
        other = x.copy()
        other[s] += 1.0
        if np.abs(model(other) - model(x))[:s].max() > 0:
            return s
    return None


def _too_coarse(model: Model, x: Array) -> int | None:
    for t in range(len(x) - 1):
        other = x.copy()
        other[t + 1 :] += 1.0
        if np.abs(model(other)[t] - model(x)[t]).max() > 0.01:
            return t
    return None


EXERCISES = (
    Exercise(
        "07.1",
        "solve a chunk of the gated delta rule",
        check_gated,
        lambda *given: _solved(given, "after", "after"),
        (
            (lambda *given: _solved(given, "before", "before"), "before token t's own decay"),
            (lambda *given: _solved(given, "before", "after"), "S_0 has decayed by γ_t"),
            (lambda *given: _solved(given, "after", "before"), "D_{t,s} in the place"),
            (lambda *given: _solved(given, "after", "after", 0), "leaves the diagonal out"),
            (lambda *given: _solved(given, "after", "after").T, "transposed shape"),
        ),
    ),
    Exercise(
        "07.2",
        "hand on a state that survives any cut",
        check_carry,
        _carry,
        (
            (_restarts, "how many tokens were seen"),
            (_no_copy, "that copy of the memory too"),
            (_forgets, "do you hand it on"),
            (lambda q, k, v, eta, chunk_size, state: _carry(q, k, v, eta, 1, state), "at M_{t-1}"),
            (
                lambda q, k, v, eta, chunk_size, state: _carry(q, k, v, eta, 99, state),
                "move on after every C",
            ),
            (
                lambda q, k, v, eta, chunk_size, state: _carry(q, k, v, eta, chunk_size, state)[0],
                "two things",
            ),
        ),
    ),
    Exercise(
        "07.3",
        "write a test that finds the first output that reads the future",
        check_leak,
        _first_leak,
        (
            (_own_token_counts, "only s > t is the future"),
            (_next_token_only, "not only the next one"),
            (_last_token_only, "not only the last one"),
            (_says_which_token, "Return the output that moved"),
            (_too_coarse, "a small change is a change"),
            (lambda model, x: [0], "an index or None"),
        ),
    ),
)
