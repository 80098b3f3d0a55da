"""Exercises of notebook 07: the gated form of the solve, a state that survives any cut, and a test that finds a leak."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.checks import to_numpy
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, changed, must_equal, unchanged

Chunk = tuple[Array, Array, Array, Array, Array, Array]
Model = Callable[[Array], Array]
State = tuple[Array, Array, int]  # memory, its copy at the open chunk's start, tokens seen


# --- 07.1: the gated form of the solve --------------------------------------------------------------------------------


class _Counted(np.ndarray):
    """An array that counts operations on it and on what is computed from it, look-ups and rounds of a loop."""

    tally: list[int]

    def __array_finalize__(self, source: Any) -> None:
        self.tally = getattr(source, "tally", [0])
        self.tally[0] += 1  # every view, row or result passes here


def _steps(function: Any, given: Chunk) -> int:
    """How many arrays an answer makes from its inputs."""
    tally = [0]
    counted = [np.array(a).view(_Counted) for a in given]
    for array in counted:
        array.tally = tally
    tally[0] = 0
    ask(lambda: function(*counted))
    return tally[0]


def _chunk(count: int = 5, alpha: Any = None) -> Chunk:
    rng = np.random.default_rng(701)
    q, phi, u = rng.normal(size=(count, 3)), rng.normal(size=(count, 3)), rng.normal(size=(count, 2))
    eta, kept = rng.uniform(0.2, 0.5, size=count), rng.uniform(0.5, 0.9, size=count)
    return q, phi, u, eta, kept if alpha is None else np.full(count, alpha), rng.normal(size=(2, 3))


def _gated_loop(q: Array, phi: Array, u: Array, eta: Array, alpha: Array, state: Array) -> Array:
    """The gated delta rule, token by token: decay, then measure, then write."""
    y = np.zeros_like(u)
    for t in range(len(phi)):
        state = alpha[t] * state
        state = state + eta[t] * np.outer(u[t] - state @ phi[t], phi[t])
        y[t] = state @ q[t]
    return y


def _solved(*given: Array, slip: str = "") -> Array:
    """One chunk by one solve, with γ_t/γ_s from products, which underflow, and with a slip by its name."""
    q, phi, u, eta, alpha, state = given
    gamma = np.cumprod(alpha)
    before, one = gamma / alpha, np.ones_like(gamma)
    ratio = gamma[:, None] / gamma
    start = {"measures before": before, "S_0 early": before, "S_0 whole": one}.get(slip, gamma)
    early = before[:, None] / gamma
    share = early if slip in ("measures before", "writes early") else ratio
    share = {"all": share - np.eye(len(u)), "diagonal": np.tril(share), "no ratio": np.tri(len(u), k=-1)}.get(
        slip, np.tril(share, -1)
    )
    if slip == "upside down":
        share = np.tril(ratio.T, -1)
    rate = eta[None] if slip == "rate of the writer" else eta[:, None]
    erased = (rate if slip != "no rate in the system" else 1) * share * (phi @ phi.T)
    system = np.eye(len(u)) + (-erased if slip == "sign" else erased)
    known = 0 if slip == "S_0 not erased" else start[:, None] * (phi @ state.T)
    w = np.linalg.solve(system, (1 if slip == "no rate" else eta[:, None]) * (u - known))
    if slip == "no solve":
        w = eta[:, None] * (u - known)
    seen = {"own write unread": np.tril(ratio, -1), "reads early": np.tril(early, -1) + np.eye(len(u))}
    read = {"S_0 not read": 0 * gamma, "S_0 read whole": one}.get(slip, gamma)
    return read[:, None] * (q @ state.T) + seen.get(slip, np.tril(ratio)) * (q @ phi.T) @ w


_GATED = {
    "measures before": "That is the rule of the notebook: it measures its error before token t's own decay.",
    "S_0 early": "S_0 has decayed by γ_t when token t measures its error, not by γ_{t-1}.",
    "S_0 whole": "S_0 has decayed by γ_t when token t measures its error; you measure it undecayed.",
    "S_0 not erased": "The error of token t contains what S_0 answers: u_t - γ_t S_0 φ_t - …",
    "writes early": "Earlier writes have decayed once more as well: D_{t,s} in the place of D_{t-1,s}.",
    "diagonal": "Token t does not erase its own write: the sum runs over s < t, so the mask leaves the diagonal out.",
    "all": "The sum runs over s < t: token t does not erase what is written after it. Mask the system.",
    "no ratio": "An earlier write has decayed by D_{t,s} when token t measures: the system needs that factor.",
    "upside down": "D_{t,s} = γ_t/γ_s is at most 1; in your system it is turned round.",
    "sign": "What earlier writes answer is erased: it stands with a plus in the system, left of the solve.",
    "no rate": "The right side of the system is η_t times the error.",
    "no rate in the system": "η_t stands in the system, too: it multiplies the whole error.",
    "rate of the writer": "Row t of the system has the rate η_t of the token that measures, not that of the one that wrote.",
    "no solve": "Earlier writes in this chunk change the error of token t: that is what the solve is for.",
    "own write unread": "y_t is read after write t: D_{t,t} = 1 belongs into the read.",
    "reads early": "Token t reads after its own decay: earlier writes have decayed by D_{t,s}, not by D_{t-1,s}.",
    "S_0 not read": "y_t contains what is left of S_0: γ_t S_0 q_t.",
    "S_0 read whole": "S_0 has decayed by γ_t when token t reads.",
}


def check_gated(function: Any) -> None:
    """(q, phi, u, eta, alpha, state) -> y of one chunk: the token loop's values, also where γ underflows, without its steps."""
    if not callable(function):
        ask(function)
    underflow = (
        "γ_t itself is too small for a float there, so that a quotient of two γ is 0/0. "
        "Subtract logarithms, and mask before exp (section 5)."
    )
    zero = "α_t = 0 is a retention, too: 0/0 and log 0 - log 0 are NaN; `decays` takes log max(α, 1e-30)."
    for what, given, hint in (
        ("y", _chunk(), ""),
        ("a single token: y", _chunk(1), ""),
        ("α = 1: y", _chunk(7, 1.0), ""),
        ("α = 1e-3 in a chunk of 128: y", _chunk(128, 1e-3), underflow),
        ("α = 0 at one token: y", _chunk(4, [0.7, 0.0, 0.6, 0.8]), zero),
    ):
        own = tuple(np.array(a) for a in given)
        likely = {} if hint else {said: _solved(*given, slip=slip) for slip, said in _GATED.items()}
        try:
            with np.errstate(all="ignore"):
                got = ask(lambda own=own: function(*own))
            if isinstance(got, tuple) and len(got) == 2:
                raise WrongAnswer(
                    "return y alone; chunk returned the state as well, and that is not asked here."
                )
            must_equal(what, got, _gated_loop(*given), likely)
        except WrongAnswer as wrong:
            raise (WrongAnswer(f"{wrong} {hint}") if hint else wrong) from wrong.__cause__
        names = ("q", "phi", "u", "eta", "alpha", "S")
        unchanged(changed(dict(zip(names, given, strict=True)), dict(zip(names, own, strict=True))))
    with np.errstate(all="ignore"):
        short, long = (_steps(function, _chunk(count)) for count in (64, 128))
    if long - short >= 2 * 64:  # a list of the rows of y is one step a token, and no loop
        raise WrongAnswer(
            f"right values, but 64 more tokens take {long - short} more steps: there is a loop over tokens. Change "
            "`chunk`, which finds all writes of a chunk by one solve."
        )


def _by_decay(decay: Array, q: Array, phi: Array, u: Array, eta: Array, alpha: Array, state: Array) -> Array:
    """The gated chunk from its table of decays D_{t,s}, zero above the diagonal."""
    kept = decay[:, :1] * alpha[0]  # γ_t
    system = np.eye(len(phi)) + eta[:, None] * np.tril(decay, -1) * (phi @ phi.T)
    w = np.linalg.solve(system, eta[:, None] * (u - kept * (phi @ state.T)))
    return kept * (q @ state.T) + (decay * (q @ phi.T)) @ w


def _decay(alpha: Array) -> Array:
    logs = np.cumsum(np.log(np.maximum(alpha, 1e-30)))
    return np.exp(np.where(np.tri(len(logs), dtype=bool), logs[:, None] - logs, -np.inf))


def _gated_chunk(q: Array, phi: Array, u: Array, eta: Array, alpha: Array, state: Array) -> Array:
    return _by_decay(_decay(alpha), q, phi, u, eta, alpha, state)


def _not_a_number_to_zero(*given: Array) -> Array:
    gamma = np.cumprod(given[4])
    return _by_decay(np.tril(np.nan_to_num(gamma[:, None] / gamma)), *given)


def _divides(*given: Array) -> Array:
    """Divides by α alone, D_{t,s} being a product down a column, so that nothing underflows."""
    whole = np.cumprod(np.where(np.tri(len(given[4]), dtype=bool), given[4][:, None], 1.0), axis=0)
    return _by_decay(np.tril(whole / given[4]), *given)


def _masks_late(*given: Array) -> Array:
    logs = np.cumsum(np.log(given[4]))
    return _by_decay(np.tri(len(logs)) * np.exp(logs[:, None] - logs), *given)


# --- 07.2: a state that survives any cut ------------------------------------------------------------------------------


def _tokens(count: int = 11) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(702)
    return rng.normal(size=(count, 3)), rng.normal(size=(count, 3)), rng.normal(size=(count, 2))


def _frozen_sum(q: Array, k: Array, v: Array, eta: float, chunk_size: int) -> Array:
    """y without a state: M_t is a sum over all tokens up to t, each with the error that its own boundary's sum makes."""

    def memory(count: int) -> Array:  # after so many tokens
        if count == 0:
            return np.zeros((v.shape[1], k.shape[1]))
        t = count - 1
        error = memory(chunk_size * (t // chunk_size)) @ k[t] - v[t]
        return memory(t) - eta * np.outer(error, k[t])

    return np.array([memory(t + 1) @ q[t] for t in range(len(k))])


def _piece(
    function: Any, tokens: tuple[Array, Array, Array], chunk_size: int, state: Any
) -> tuple[Array, Any]:
    """One call of the learner's function, its y as numbers."""
    own = tuple(np.array(a) for a in tokens)
    got = ask(lambda: function(*own, 0.3, chunk_size, state))
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise WrongAnswer("return two things: y, and a state, whatever you put into it.")
    try:
        y = to_numpy(got[0])
    except (TypeError, ValueError) as error:
        raise WrongAnswer(f"y must be numbers, got {type(got[0]).__name__}.") from error
    wanted = len(tokens[0]), tokens[2].shape[1]
    if y.shape != wanted:
        raise WrongAnswer(f"y has shape {y.shape}, it should be {wanted}: this call got {wanted[0]} tokens.")
    unchanged(changed(dict(zip("qkv", tokens, strict=True)), dict(zip("qkv", own, strict=True))))
    return y, got[1]


def _runs(function: Any, cuts: tuple[int, ...], chunk_size: int = 4) -> Array:
    """The learner's function on pieces of the stream, its state handed on."""
    q, k, v = _tokens()
    state, pieces = None, []
    for begin, end in zip((0, *cuts), (*cuts, 11), strict=True):
        y, state = _piece(function, (q[begin:end], k[begin:end], v[begin:end]), chunk_size, state)
        pieces.append(y)
    return np.concatenate(pieces)


_CARRIED = {
    "moving": "Those are the gradients at M_{t-1}: take them at the chunk's start. (If you change M in place, "
    "M -= …, its copy must be a copy: M.copy().)",
    "one chunk": "One chunk for the whole call: the boundary must move on after every C tokens. "
    "(From M = 0 an error without M k, -v alone, gives the same.)",
    "boundary": "You read at the chunk's start: only the gradient is taken there. y_t = M_t q_t, with every write up to t.",
    "late": "You read before you wrote: y_t = M_t q_t contains the write of token t.",
    "at the end": "M moves with every token; you let it move at the end of a chunk only.",
    "sign": "You climb: the step goes against the gradient.",
    "no rate": "Each write has the factor η.",
    "twice": "The loss has a ½, so its gradient is (M k - v) kᵀ, without a 2.",
    "early": "The first chunk has C tokens, too: a new one begins where the number of tokens seen before is a multiple of C.",
    "key": "You read with the key; the question is q_t.",
}


def check_carry(function: Any) -> None:
    """(q, k, v, eta, C, state or None) -> y, state: one call and every cut, against a sum that has no state."""
    if not callable(function):
        ask(function)
    given = (*_tokens(), 0.3, 4)
    wanted = _frozen_sum(*given)
    likely = {said: _carry(*given, None, slip=slip)[0] for slip, said in _CARRIED.items()}
    must_equal("the whole stream in one call: y", _runs(function, ()), wanted, likely)
    for cuts in ((4,), (8,), (3,), (6,), (1, 2, 7), tuple(range(1, 11))):
        _cut(function, cuts, wanted)
    third = _frozen_sum(*_tokens(), 0.3, 3)
    must_equal("C = 3, cut after 4 and 8 tokens: y", _runs(function, (4, 8), 3), third)
    _from_one_state_twice(function, wanted)
    few, many = (_numbers(_piece(function, _tokens(count), 4, None)[1], set()) for count in (18, 66))
    if many > few:
        raise WrongAnswer(
            f"right values, but your state holds {few} numbers after 18 tokens and {many} after 66: it grows with the "
            "stream. Hand on what the next token needs, not the tokens."
        )


def _cut(function: Any, cuts: tuple[int, ...], wanted: Array) -> None:
    """The outputs must be the same if the stream is cut there; what is missing in the state is named."""
    got = _runs(function, cuts)
    where = f"cut after {', '.join(map(str, cuts))} tokens (C = 4): y"
    likely = {}
    if all(cut % 4 == 0 for cut in cuts):
        likely["At a chunk's end the memory alone is enough: do you hand it on?"] = _runs(_forgets, cuts)
    likely["The call does not start a new chunk: hand on how many tokens were seen."] = _runs(_restarts, cuts)
    likely["The open chunk takes its gradients at its own start: hand on that copy of the memory too."] = (
        _runs(_no_copy, cuts)
    )
    try:
        must_equal(where, got, wanted, likely)
    except WrongAnswer as wrong:
        if any(hint in str(wrong) for hint in likely):
            raise
        raise WrongAnswer(
            f"{wrong} What does a token in the middle of a chunk need, besides the memory?"
        ) from None


def _from_one_state_twice(function: Any, wanted: Array) -> None:
    """A state is a value: who calls twice from the same one, gets the same twice."""
    q, k, v = _tokens()
    for cut in (6, 8):
        _, state = _piece(function, (q[:cut], k[:cut], v[:cut]), 4, None)
        for time in ("first", "second"):
            y, _ = _piece(function, (q[cut:], k[cut:], v[cut:]), 4, state)
            must_equal(
                f"called a {time} time from the state after {cut} tokens: y",
                y,
                wanted[cut:],
                {"Your function has changed the state that it was given: write M = M - …, not M -= ….": y},
            )


def _numbers(thing: Any, known: set[int]) -> int:
    """How many numbers a state holds, whatever it is made of."""
    if id(thing) in known or isinstance(thing, type):
        return 0
    known.add(id(thing))
    if isinstance(thing, np.ndarray):
        return thing.size
    if hasattr(thing, "numel"):
        return int(thing.numel())
    if isinstance(thing, str | bytes):
        return len(thing)
    parts = list(thing.values()) if isinstance(thing, dict) else []
    if isinstance(thing, list | tuple | set | frozenset) or type(thing).__name__ == "deque":
        parts = list(thing)
    parts += list(getattr(thing, "__dict__", {}).values())
    parts += [cell.cell_contents for cell in getattr(thing, "__closure__", None) or ()]
    return sum(_numbers(part, known) for part in parts) if parts else 1


def _carry(
    q: Array, k: Array, v: Array, eta: float, chunk_size: int, state: State | None, slip: str = ""
) -> tuple[Array, State]:
    zero = np.zeros((v.shape[1], k.shape[1]))
    memory, frozen, seen = state or (zero, zero, 0)
    moving, y = memory, np.zeros_like(v)
    step = {"no rate": 1.0, "twice": 2 * eta, "sign": -eta}.get(slip, eta)
    for t in range(len(k)):
        last = memory
        if slip == "moving" or (seen % chunk_size == 0 and (slip != "one chunk" or t == 0)):
            frozen = memory
        if slip == "early" and (seen + 1) % chunk_size == 0:
            frozen = memory
        memory = memory - step * np.outer(frozen @ k[t] - v[t], k[t])
        seen += 1
        moving = memory if seen % chunk_size == 0 else moving
        at = {"boundary": frozen, "late": last, "at the end": moving}.get(slip, memory)
        y[t] = at @ (k[t] if slip == "key" else q[t])
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


def _keeps_all(q: Array, k: Array, v: Array, eta: float, chunk_size: int, state: Any) -> tuple[Array, Any]:
    """Hands on every token and computes all outputs anew."""
    if state is not None:
        q, k, v = (np.concatenate(pair) for pair in zip(state, (q, k, v), strict=True))
    new = len(q) - (0 if state is None else len(state[0]))
    return _carry(q, k, v, eta, chunk_size, None)[0][len(q) - new :], (q, k, v)


def _changes_state(
    q: Array, k: Array, v: Array, eta: float, chunk_size: int, state: Any
) -> tuple[Array, Any]:
    """Right on every path, but the old state is lost."""
    memory, frozen, seen = state or [np.zeros((v.shape[1], k.shape[1])) for _ in range(2)] + [0]
    y = np.zeros_like(v)
    for t in range(len(k)):
        if seen % chunk_size == 0:
            frozen[...] = memory
        memory -= eta * np.outer(frozen @ k[t] - v[t], k[t])
        y[t], seen = memory @ q[t], seen + 1
    return y, [memory, frozen, seen]


# --- 07.3: a test that finds a leak -----------------------------------------------------------------------------------


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


def _leaks(terms: dict[tuple[int, int], Any]) -> Model:
    """A causal sum, but output t also sees token s through a number or a matrix: {(t, s): …}."""

    def model(x: Array) -> Array:
        y = np.cumsum(x, axis=0)
        for (t, s), weight in terms.items():
            y[t] += weight @ x[s] if np.ndim(weight) else weight * x[s]
        return y

    return model


def _rounds_anew(x: Array) -> Array:
    """A causal sum whose last digits depend on the whole sequence, as those of one large product may."""
    noise: Array = 1e-13 * np.sin(1e3 * x.sum() + np.arange(x.size).reshape(x.shape))
    return np.cumsum(x, axis=0) + noise


LENGTH = 12
MODELS: tuple[tuple[str, Model, int | None], ...] = (
    ("a causal sum", _reading(lambda t: t + 1), None),
    ("memory at C⌊t/C⌋, C = 4", _reading(lambda t: 4 * (t // 4)), None),
    ("memory at C⌈t/C⌉, C = 4, counted from 1", _reading(lambda t: 4 * -(-(t + 1) // 4)), 0),
    ("memory at C⌈t/C⌉, C = 4, counted from 0", _reading(lambda t: 4 * -(-t // 4)), 1),
    ("one token ahead, from output 5 on", _peeks(1, 5), 5),
    ("only the token three places ahead, from output 2 on", _peeks(3, 2), 2),
    ("minus the mean of the whole sequence", lambda x: x - x.mean(axis=0), 0),
    ("output 1 sees token 2, output 0 sees token 10", _leaks({(1, 2): 1, (0, 10): 1}), 0),
    ("output 4 sees the second entry of token 7", _leaks({(4, 7): np.array([[0, 1], [0, 0]])}), 4),
    ("the second entry of output 4 sees token 7", _leaks({(4, 7): np.array([[0, 0], [1, 0]])}), 4),
    ("a causal sum that is rounded anew in each run, by 1e-13", _rounds_anew, None),
    ("output 3 sees the difference of tokens 5 and 6", _leaks({(3, 5): 1, (3, 6): -1}), 3),
)


def _search(model: Model, x: Array, slip: str = "") -> Any:
    """The first output that moves with a later token, with a slip by its name."""
    count, before = len(x), model(x)
    moved = np.zeros((count, count), dtype=bool)  # (output, token)
    for s in range(count):
        other = x.copy()
        other[s, : 1 if slip == "first entry" else None] += 1.0
        change = np.abs(model(other) - before)[:, : 1 if slip == "first column" else None].max(axis=1)
        moved[:, s] = change > {"coarse": 0.01, "exact": 0.0}.get(slip, 1e-9)
    if slip == "at once":
        for t in range(count):
            other = x.copy()
            other[t + 1 :] += 1.0
            moved[t] = np.abs(model(other) - before)[t].max() > 1e-9
        moved[:, :-1] = False
    future = np.triu(moved, 0 if slip == "own" else 1)
    if slip == "past":
        future = np.tril(moved, -1)
    if slip == "next":
        future = np.triu(future) * np.eye(count, k=1, dtype=bool)
    if slip == "last token":
        future[:, :-1] = False
    outputs, tokens = np.flatnonzero(future.any(axis=1)), np.flatnonzero(future.any(axis=0))
    if slip == "number":
        return len(outputs)
    if not len(outputs):
        return {"minus": -1, "zero": 0}.get(slip)
    return {
        "token": int(tokens[0]),
        "by token": int(np.argmax(future[:, tokens[0]])),
        "last output": int(outputs[-1]),
        "from 1": int(outputs[0]) + 1,
        "one early": int(outputs[0]) - 1,
    }.get(slip, int(outputs[0]))


_SEARCHES = {
    "own": "An output may move with its own token and with earlier ones; only s > t is the future.",
    "past": "An output may move with earlier tokens; only s > t is the future.",
    "next": "Change every later token, one at a time: not only the next one.",
    "last token": "Change every later token, one at a time: not only the last one.",
    "at once": "Change one token at a time: a difference of two later tokens stays the same if both move alike.",
    "first entry": "Change the whole token: a leak may pass through one of its entries only.",
    "first column": "Look at the whole output: a leak may show in one of its entries only.",
    "exact": "That is rounding, not a leak: a movement must be larger than rounding, say 1e-9.",
    "coarse": "A small change is a change: allow for rounding, and no more.",
    "token": "Return the output that moved, not the token that was changed.",
    "by token": "Another token moves an earlier output: return the smallest output that moves with any later token.",
    "last output": "Return the first output that moves, not the last one.",
    "from 1": "Outputs count from 0, as the rows of x do.",
    "one early": "Return the index of the output itself, not of the one before.",
    "number": "Return the index of the first output that moves, not how many do.",
    "minus": "Nothing leaks here: return None.",
    "zero": "Nothing leaks here: return None. (np.argmax of an array without a True is 0.)",
}


def _index(got: Any) -> int | None:
    """The answer as a whole number or None."""
    if got is None:
        return None
    try:
        if isinstance(got, bool | np.bool_ | str) or float(got) != int(got):
            raise TypeError
        return int(got)
    except (TypeError, ValueError, OverflowError) as error:
        raise WrongAnswer(f"return an index or None, got {type(got).__name__}.") from error


def check_leak(function: Any) -> None:
    """(model, x) -> first output that moves with a later token, or None: on models whose leaks are known by construction."""
    x = np.random.default_rng(703).normal(size=(LENGTH, 2))
    answers: list[int | None] = []
    for _, model, _ in MODELS:
        own = x.copy()
        answers.append(
            _index(
                ask(lambda model=model, own=own: function(model, own))
                if callable(function)
                else ask(function)
            )
        )
        unchanged(changed({"x": x}, {"x": own}))
    for got, (name, _, wanted) in zip(answers, MODELS, strict=True):
        if got == wanted:
            continue
        said = f"model: {name}. You say {got}, expected {wanted}."
        for slip, hint in _SEARCHES.items():
            if answers == [_search(other, x, slip) for _, other, _ in MODELS]:
                raise WrongAnswer(f"{said} {hint}")
        if wanted is None:
            raise WrongAnswer(f"{said} Nothing leaks here: only s > t is the future.")
        if got is None:
            raise WrongAnswer(
                f"{said} Change every later token, one at a time; and a small change is a change."
            )
        raise WrongAnswer(f"{said} Return the smallest output that moves with any later token.")


def _first_leak(model: Model, x: Array) -> int | None:
    before = model(x)
    for t in range(len(x)):
        for s in range(t + 1, len(x)):
            other = x.copy()
            other[s] += 1.0
            if np.abs(model(other)[t] - before[t]).max() > 1e-9:
                return t
    return None


EXERCISES = (
    Exercise(
        "07.1",
        "solve a chunk of the gated delta rule",
        check_gated,
        _gated_chunk,
        (
            *((partial(_solved, slip=slip), hint) for slip, hint in _GATED.items()),
            (_solved, "a quotient of two γ is 0/0"),
            (_not_a_number_to_zero, "a quotient of two γ is 0/0"),
            (_masks_late, "mask before exp"),
            (_divides, "α_t = 0 is a retention, too"),
            (_gated_loop, "there is a loop over tokens"),
            (lambda *given: (_gated_chunk(*given), given[2].fill(0))[0], "you changed u in place"),
            (lambda *given: _gated_chunk(*given).T, "transposed shape"),
            (lambda *given: (_gated_chunk(*given), given[-1]), "return y alone"),
            (lambda *given: _gated_chunk(*given).astype(np.float32), "float32"),
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
            *((partial(_carry, slip=slip), hint) for slip, hint in _CARRIED.items()),
            (_keeps_all, "after 66: it grows with the stream"),
            (_changes_state, "has changed the state that it was given"),
            (lambda *given: _carry(*given)[0], "two things"),
            (lambda *given: (_carry(*given)[0][-1:], None), "it should be (11, 2)"),
        ),
    ),
    Exercise(
        "07.3",
        "write a test that finds the first output that reads the future",
        check_leak,
        _first_leak,
        (
            *((partial(_search, slip=slip), hint) for slip, hint in _SEARCHES.items()),
            (lambda model, x: (_first_leak(model, x), x.fill(0))[0], "you changed x in place"),
            (lambda model, x: [0], "an index or None"),
            (lambda model, x: _first_leak(model, x) is not None, "an index or None"),
        ),
    ),
)
