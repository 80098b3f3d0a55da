"""Exercises of notebook 06: Titans with a gate per token, the Titans paper's letters in ours, and rules of forgetting compared."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.reference.activations import silu, silu_derivative
from hope_ref.reference.titans import start, titans
from hope_ref.teaching.checks import to_numpy
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, ask_named, changed, must_equal, unchanged

Gates = tuple[Array, Array, Array]
Tokens = tuple[Array, Array, Array, Array, Array, Array]  # q, k, v, eta, alpha, mu
Weights = tuple[Array, ...]
Forget = Callable[[Weights], Weights]


SPOILT = (
    "you changed {} in place: whoever called you has lost it. Write `new = {} - ...` instead of `{} -= ...`."
)


def _call(function: Any, arguments: dict[str, Any]) -> Any:
    """What the learner's function returns on copies of the arguments; refused if it changes one of them in place."""
    with np.errstate(all="ignore"):
        got, names = ask_named(function, arguments)
    unchanged(names, SPOILT)
    return got


# --- 06.1: Titans, token by token -------------------------------------------------------------------------------------


def _stream(length: int = 6) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(601)
    return rng.normal(size=(length, 3)), rng.normal(size=(length, 3)), rng.normal(size=(length, 2))


def _gates(length: int = 6) -> Gates:
    rng = np.random.default_rng(602)
    return tuple(rng.uniform(low, high, length) for low, high in ((0.1, 0.4), (0.6, 0.95), (0.3, 0.8)))  # type: ignore[return-value]


def _matrix(
    q: Array, k: Array, v: Array, eta: Array, alpha: Array, mu: Array, slip: str = "", gates: str = "own"
) -> Array:
    """Titans with a matrix memory from zero, with a slip by its name."""
    M, B, y = np.zeros((v.shape[1], k.shape[1])), np.zeros((v.shape[1], k.shape[1])), np.zeros_like(v)
    for t in range(len(k)):
        e_t, a_t, m_t = (gate[t if gates == "own" else 0] for gate in (eta, alpha, mu))
        at = {"after the decay": a_t * M, "no error": 0 * M}.get(slip, M)
        gradient = np.outer(at @ k[t] - v[t], k[t])
        old = B
        B = {
            "α on B": a_t * B - e_t * gradient,
            "η outside": m_t * B - gradient,
            "sign": m_t * B + e_t * gradient,
            "no momentum": -e_t * gradient,
            "mean": m_t * B - (1 - m_t) * e_t * gradient,
            "η on both": e_t * (m_t * B - gradient),
        }.get(slip, m_t * B - e_t * gradient)
        if slip == "reads first":
            y[t] = M @ q[t]
        M = {
            "late": a_t * M + old,
            "η outside": a_t * M + e_t * B,
            "1 - α": (1 - a_t) * M + B,
            "α on all": a_t * (M + B),
            "no forgetting": M + B,
        }.get(slip, a_t * M + B)
        if slip != "reads first":
            y[t] = M @ (k[t] if slip == "reads the key" else q[t])
    return y


_SLIPS = {
    "after the decay": "The surprise comes first: take the gradient at M_{t-1}, before α has touched it.",
    "α on B": "B decays by μ; α belongs to the memory.",
    "late": "M takes the new B: update B first, then add it.",
    "η outside": "η_t belongs to its own gradient. Outside of B it would scale the old gradients anew at every token.",
    "η on both": "η_t belongs to the gradient alone; B keeps μ_t of itself.",
    "1 - α": "α = 1 must keep everything: M is multiplied by α, not by 1 - α.",
    "α on all": "α multiplies the old memory only; B comes in whole.",
    "no forgetting": "There is no forgetting in it: α_t multiplies the old memory.",
    "no momentum": "There is no momentum in it: B keeps μ_t of what it was.",
    "mean": "B is a decaying sum, not a mean: there is no 1 - μ before the gradient.",
    "sign": "You climb: the step goes against the gradient.",
    "no error": "The gradient contains the error M k - v, not -v alone.",
    "reads first": "You read before you wrote: y_t is M_t q_t, with the memory after the write.",
    "reads the key": "You read with the key; the question is q_t.",
}


def check_titans_matrix(function: Any) -> None:
    """(q, k, v, eta, alpha, mu) -> y: compared with the library's Titans, at gates that tell mistakes apart."""
    q, k, v = _stream()
    eta, alpha, mu = _gates()
    one, zero = np.ones(6), np.zeros(6)
    cases: tuple[tuple[str, Tokens], ...] = (
        ("y", (q, k, v, eta, alpha, mu)),
        ("y at μ = 0 and α = 1, which is the delta rule", (q, k, v, eta, one, zero)),
        ("y at α = 0", (q, k, v, eta, zero, mu)),
        ("y for one token", (q[:1], k[:1], v[:1], eta[:1], alpha[:1], mu[:1])),
        ("y for keys that are zero", (q, 0 * k, v, eta, alpha, mu)),
    )
    names = ("q", "k", "v", "eta", "alpha", "mu")
    for what, case in cases:
        likely = {hint: _matrix(*case, slip=slip) for slip, hint in _SLIPS.items()}
        likely["Each token has its own gates: eta[t], alpha[t], mu[t]."] = _matrix(*case, gates="first")
        expected, _ = titans(*case, start(np.zeros((2, 3))))
        must_equal(what, _call(function, dict(zip(names, case, strict=True))), expected, likely)
    single = {name: x.astype(np.float32) for name, x in zip(names, cases[0][1], strict=True)}
    q, k, v, eta, alpha, mu = (x.astype(np.float64) for x in single.values())
    expected, _ = titans(q, k, v, eta, alpha, mu, start(np.zeros((2, 3))))
    must_equal("y for float32 input", _call(function, single), expected, bound=1e-5)


def _spoils_the_keys(q: Array, k: Array, v: Array, eta: Array, alpha: Array, mu: Array) -> Array:
    y = _matrix(q, k, v, eta, alpha, mu)
    k *= eta[:, None]
    return y


# --- 06.2: the letters of the Titans paper ----------------------------------------------------------------------------


def _paper_gates(length: int = 6) -> Gates:
    rng = np.random.default_rng(612)
    alpha, eta, theta = (
        rng.uniform(low, high, length) for low, high in ((0.02, 0.2), (0.3, 0.8), (0.05, 0.2))
    )
    return alpha, eta, theta


def _as_printed(alpha: Array, eta: Array, theta: Array) -> Array:
    """The memory after each token by the paper's two lines; ∇‖M k - v‖² by central differences, exact for a quadratic."""
    _, k, v = _stream()
    memory, surprise, states = np.zeros((2, 3)), np.zeros((2, 3)), []
    for t in range(len(alpha)):
        slope = np.zeros((2, 3))
        for i, j in np.ndindex(2, 3):
            nudge = np.zeros((2, 3))
            nudge[i, j] = 0.5
            up, down = (float((((memory + s * nudge) @ k[t] - v[t]) ** 2).sum()) for s in (1, -1))
            slope[i, j] = up - down
        surprise = eta[t] * surprise - theta[t] * slope
        memory = (1 - alpha[t]) * memory + surprise
        states.append(memory)
    return np.array(states)


def _ours(eta: Array, alpha: Array, mu: Array) -> Array:
    """The memory after each token by this course's two lines: ½‖M k - v‖², α keeps."""
    _, k, v = _stream()
    memory, momentum, states = np.zeros((2, 3)), np.zeros((2, 3)), []
    for t in range(len(eta)):
        momentum = mu[t] * momentum - eta[t] * np.outer(memory @ k[t] - v[t], k[t])
        memory = alpha[t] * memory + momentum
        states.append(memory)
    return np.array(states)


def _likely_gates(alpha: Array, eta: Array, theta: Array) -> list[tuple[str, Gates]]:
    """(hint, the gates that this mistake gives), the most telling first."""
    half = "The paper's loss has no ½, so its gradient is twice ours: a 2 must go into our η."
    keeps = "The paper's α forgets, ours keeps: at its α = 0 nothing is lost."
    place = "η is left in its place: the paper's η is what momentum keeps, our μ. Its learning rate is θ."
    swapped = "η and μ are swapped: our η is the learning rate, which the paper calls θ."
    order = "These are the right gates in the wrong order: return eta, alpha, mu."
    right, keep = (2 * theta, 1 - alpha, eta), 1 - alpha
    rows: list[tuple[str, Gates]] = [
        (half, (theta, keep, eta)),
        (keeps, (2 * theta, alpha, eta)),
        (f"Two slips. {half} And α: the paper's forgets, ours keeps.", (theta, alpha, eta)),
        (
            "The 2 is on the other side: our gradient is half the paper's, so our η is larger than θ.",
            (theta / 2, keep, eta),
        ),
        ("Only the gradient has a 2: μ is the paper's η as it is.", (2 * theta, keep, 2 * eta)),
        ("Only α is turned round: the paper's η keeps, as our μ does.", (2 * theta, keep, 1 - eta)),
        ("Nothing is renamed: the same letters mean other things in the paper.", (eta, alpha, theta)),
        ("Nothing is renamed: the same letters mean other things in the paper.", (alpha, eta, theta)),
    ]
    rows += [(place, (e, a, m)) for e in (eta,) for a in (keep, alpha) for m in (theta, 2 * theta)]
    rows += [(swapped, (e, a, m)) for e in (2 * eta,) for a in (keep, alpha) for m in (theta, 2 * theta)]
    for gates, slip in (
        (right, ""),
        ((theta, keep, eta), f" And one slip: {half}"),
        ((2 * theta, alpha, eta), f" And one slip: {keeps}"),
    ):
        rows += [(order + slip, (gates[i], gates[j], gates[k])) for i, j, k in permutations(range(3))]
    return rows


def _three_gates(got: Any, length: int) -> Gates:
    """The answer as three arrays, one number per token each."""
    if isinstance(got, np.ndarray) and got.ndim == 2 and len(got) == 3:
        got = tuple(got)
    if not isinstance(got, tuple | list) or len(got) != 3:
        raise WrongAnswer("return three arrays, in this order: eta, alpha, mu.")
    try:
        eta, alpha, mu = (to_numpy(gate) for gate in got)
    except (TypeError, ValueError) as error:
        raise WrongAnswer("eta, alpha and mu must be arrays of numbers.") from error
    for name, gate in (("eta", eta), ("alpha", alpha), ("mu", mu)):
        if gate.shape != (length,):
            raise WrongAnswer(
                f"{name} has shape {gate.shape}, it should be ({length},): one number per token."
            )
    return eta, alpha, mu


def check_translation(function: Any) -> None:
    """(alpha, eta, theta) of the paper -> (eta, alpha, mu) of this course: the memories must agree after every token."""
    many = _paper_gates()
    zeros = np.array([0.0, 0.1, 0.0, 1.0, 0.0, 0.2]), many[1], many[2]
    for what, gates in (
        ("the memory, run with your gates,", many),
        ("the memory for gates that are 0 or 1 at times", zeros),
        ("the memory after a single token", (many[0][:1], many[1][:1], many[2][:1])),
    ):
        got = _call(function, dict(zip(("alpha", "eta", "theta"), gates, strict=True)))
        ours = _three_gates(got, len(gates[0]))
        states, printed = _ours(*ours), _as_printed(*gates)
        if not np.allclose(states, printed, rtol=0, atol=1e-9):
            for hint, mistake in _likely_gates(*gates):
                if all(np.allclose(one, other) for one, other in zip(ours, mistake, strict=True)):
                    raise WrongAnswer(hint)
        must_equal(f"{what} [token, row, column]", states, printed)


# --- 06.3: rules of forgetting, compared ------------------------------------------------------------------------------


class _Endless(Exception):
    """An answer that goes on although nothing changes any more."""


class _Counted(np.ndarray):
    """Arrays that count what is computed from them, so that an endless loop ends."""

    tally: list[int]

    def __array_finalize__(self, source: Any) -> None:
        self.tally = getattr(source, "tally", [0])
        self.tally[0] += 1
        if self.tally[0] > MOST_OPERATIONS:
            raise _Endless


MOST_OPERATIONS = 100_000


def _counted(array: Array) -> Array:
    counted = np.array(array).view(_Counted)
    counted.tally = [0]
    return counted


class Case(NamedTuple):
    """One call of `lessons_after`."""

    what: str
    forget: Forget
    blanks: int
    weights: Weights
    k: Array
    v: Array
    eta: float
    share: float
    most: int


def _fades(*keep: float) -> Forget:
    """Each weight is multiplied by its own number, in a new array."""
    return lambda weights: tuple(a * w for a, w in zip(keep, weights, strict=True))


def _cases() -> tuple[Case, ...]:
    rng = np.random.default_rng(603)
    k, v = rng.normal(size=3), rng.normal(size=2)
    k, v = k / np.linalg.norm(k), 2 * v / np.linalg.norm(v)
    matrix = (3 * rng.normal(size=(2, 3)),)
    key, value = (x / np.linalg.norm(x) for x in rng.normal(size=(2, 4)))
    mlp = rng.normal(size=(4, 6)) / 2, rng.normal(size=(6, 4))
    first, both = np.eye(2)[0], _fades(0.8, 0.8)
    zero = np.zeros((4, 6)), np.zeros((6, 4))
    wild = (
        np.array([[1.1, 1.8, -2.6], [-0.1, 1.0, 1.4]]),
        np.array([[0.7, 1.5], [0.3, 0.6], [0.2, -1.1]]),
    )
    return (
        Case("a matrix, no blanks", _fades(0.9), 0, matrix, k, v, 0.3, 0.1, 40),
        Case("a matrix, 20 blanks", _fades(0.9), 20, matrix, k, v, 0.3, 0.1, 40),
        Case("an MLP, 30 blanks", both, 30, mlp, key, value, 0.5, 0.45, 200),
        Case("an MLP, 25 blanks, W1 alone forgets", _fades(0.8, 1.0), 25, mlp, key, value, 0.5, 0.45, 200),
        Case(
            "an MLP whose error rises again",
            _fades(1.0, 1.0),
            1,
            wild,
            np.array([-0.8, 0.4]),
            np.array([-1.2, 2.5]),
            0.5,
            0.3,
            12,
        ),
        Case("an MLP with zero weights, which never learns", both, 3, zero, key, value, 0.5, 0.45, 60),
        Case("as many lessons as are allowed", _fades(0.9), 0, matrix, k, v, 0.3, 0.1, 7),
        Case("one lesson fewer than it needs", _fades(0.9), 0, matrix, k, v, 0.3, 0.1, 6),
        Case(
            "an error that is halved exactly", _fades(0.9), 0, (np.zeros((2, 2)),), first, first, 0.5, 0.5, 9
        ),
    )


def _read(weights: Weights, z: Array) -> Array:
    if len(weights) == 1:
        return weights[0] @ z
    return z + weights[0] @ silu(weights[1] @ z)


def _slopes(weights: Weights, k: Array, v: Array) -> Weights:
    """The gradient of ½‖M(k) - v‖² by each weight. Unchecked: a wrong answer may overflow."""
    e = _read(weights, k) - v
    if len(weights) == 1:
        return (np.outer(e, k),)
    hidden = weights[1] @ k
    return np.outer(e, silu(hidden)), np.outer((weights[0].T @ e) * silu_derivative(hidden), k)


def _count(case: Case, slip: str = "") -> int | None:
    """Lessons until the error is below a share of the first, with a slip by its name."""

    _, forget, blanks, weights, k, v, eta, share, most = case
    eta = 0.5 if slip == "fixed rate" else eta
    share = 0.45 if slip == "fixed share" else share

    def error(weights: Weights) -> float:
        return float(np.linalg.norm(_read(weights, k) - v))

    before = error(weights)
    for _ in range({"no blanks": 0, "one blank": 1, "one more": blanks + 1}.get(slip, blanks)):
        weights = forget(weights)
    start = {"of 1": 1.0, "before the blanks": before, "of v": float(np.linalg.norm(v))}.get(
        slip, error(weights)
    )
    errors = []
    for _ in range(most):
        if slip == "forgets on":
            weights = forget(weights)
        slopes = _slopes(weights, k, v)
        sign = -1 if slip == "climbs" else 1
        weights = tuple(w - sign * eta * g for w, g in zip(weights, slopes, strict=True))
        errors.append(error(weights))
    below = np.array(errors) <= share * start if slip == "at" else np.array(errors) < share * start
    if slip == "last":
        return most if below[-1] else None
    if slip == "stays":  # the first lesson after which it is below for good
        return int(most - np.argmin(below[::-1])) + 1 if below[-1] and not below.all() else None
    if slip == "sum":
        return int((~below).sum()) + 1 if below.any() else None
    if not below.any():
        return {"most": most, "zero": 0, "one": 1, "minus": -1}.get(slip)
    first = int(np.argmax(below)) + 1
    if slip == "short" and first == most:
        return None
    return first + {"one less": -1, "one too many": 1}.get(slip, 0)


_COUNTING = {
    "short": "`most` lessons are allowed: look at the error after the last of them, too.",
    "at": "Below the share, not at it: use <.",
    "fixed rate": "The rate is `eta`, not always 0.5.",
    "fixed share": "The share is `share`, not always 0.45.",
    "one less": "Count the lessons that were given: after the first one the count is 1.",
    "one too many": "Count the lessons that were given: look at the error right after each one.",
    "before the blanks": "The first error is the one after the silence, before the first lesson.",
    "of 1": "The share is one of the first error, not of 1.",
    "of v": "The share is one of the first error ‖M(k) - v‖, not of ‖v‖.",
    "climbs": "None says that it never learned. Do you return the count? Does a lesson go against the gradient?",
    "last": "Look after every lesson, and return the first time that the error is below.",
    "stays": "The first time that the error is below counts, even if it rises again.",
    "sum": "The first time that the error is below counts, even if it rises again.",
    "most": "It never learned: return None, not the number of lessons that you tried.",
    "zero": "It never learned: return None. (np.argmax of an array without a True is 0.)",
    "one": "It never learned: return None. (np.argmax of an array without a True is 0.)",
    "minus": "It never learned: return None.",
}


def _asked(function: Any, case: Case) -> Any:
    """What the learner's function returns; refused if it changes its inputs or does not end."""
    if not callable(function):
        return ask(function)
    own = {
        "weights": tuple(_counted(w) for w in case.weights),
        "k": _counted(case.k),
        "v": np.array(case.v),
    }

    calls = 0

    def forget(weights: Weights) -> Weights:
        nonlocal calls
        calls += 1
        return case.forget(tuple(weights))

    with np.errstate(all="ignore"):
        try:
            got = ask(
                lambda: function(
                    forget,
                    case.blanks,
                    own["weights"],
                    own["k"],
                    own["v"],
                    case.eta,
                    case.share,
                    case.most,
                )
            )
        except WrongAnswer as stopped:
            if isinstance(stopped.__cause__, _Endless):
                raise WrongAnswer(
                    f"{case.what}: your loop goes on and on. Give up after `most` lessons and return None."
                ) from None
            raise
    unchanged(changed({"weights": case.weights, "k": case.k, "v": case.v}, own), SPOILT)
    if calls != case.blanks:
        why = (
            "not between the lessons, and not once more" if calls > case.blanks else "before the first lesson"
        )
        raise WrongAnswer(f"{case.what}: forget was called {calls} times, expected {case.blanks}: {why}.")
    return got


def check_lessons_after(function: Any) -> None:
    """(forget, blanks, weights, k, v, eta, share, most) -> lessons or None: compared with a count of our own."""
    for case in _cases():
        got = _asked(function, case)
        with np.errstate(all="ignore"):  # a slip may overflow
            expected = _count(case)
            mistakes = [(hint, _count(case, slip)) for slip, hint in _COUNTING.items()]
        if got is not None and not (
            isinstance(got, int | float | np.number | np.ndarray) and np.ndim(got) == 0
        ):
            raise WrongAnswer(f"{case.what}: return one whole number or None, got {type(got).__name__}.")
        if got is expected or (got is not None and expected is not None and got == expected):
            continue
        for hint, mistake in mistakes:
            if mistake != expected and (got is mistake or (got is not None and got == mistake)):
                raise WrongAnswer(f"{case.what}: got {got}, expected {expected}. {hint}")
        raise WrongAnswer(f"{case.what}: got {got}, expected {expected}.")


def _slipping(slip: str) -> Callable[..., Any]:
    return lambda *arguments: _count(Case("", *arguments), slip)


def _spoils_the_weights(
    forget: Forget, blanks: int, weights: Weights, k: Array, v: Array, eta: float, share: float, most: int
) -> int | None:
    count = _count(Case("", forget, blanks, weights, k, v, eta, share, most))
    for w, g in zip(weights, _slopes(weights, k, v), strict=True):
        w -= eta * g
    return count


def _never_ends(
    forget: Forget, blanks: int, weights: Weights, k: Array, v: Array, eta: float, share: float, most: int
) -> int:
    for _ in range(blanks):
        weights = forget(weights)
    lessons, first = 0, np.linalg.norm(_read(weights, k) - v)
    while np.linalg.norm(_read(weights, k) - v) >= share * first:
        slopes = _slopes(weights, k, v)
        weights = tuple(w - eta * g for w, g in zip(weights, slopes, strict=True))
        lessons += 1
    return lessons


EXERCISES = (
    Exercise(
        "06.1",
        "write Titans with a matrix memory and a gate per token",
        check_titans_matrix,
        _matrix,
        (
            *((partial(_matrix, slip=slip), hint[:48]) for slip, hint in _SLIPS.items()),
            (partial(_matrix, gates="first"), "Each token has its own gates"),
            (lambda q, k, v, *gates: _matrix(q, k, v, *gates).T, "It has the transposed shape"),
            (lambda q, k, v, *gates: _matrix(q, k, v, *gates)[-1], "it should be (6, 2)"),
            (_spoils_the_keys, "changed k in place"),
            (lambda *tokens: _matrix(*tokens).astype(np.float32), "float32"),
        ),
    ),
    Exercise(
        "06.2",
        "run the Titans paper's gates with this course's names",
        check_translation,
        lambda alpha, eta, theta: (2 * theta, 1 - alpha, eta),
        (
            (lambda alpha, eta, theta: (theta, 1 - alpha, eta), "no ½, so its gradient"),
            (lambda alpha, eta, theta: (2 * theta, alpha, eta), "α forgets, ours keeps: at"),
            (lambda alpha, eta, theta: (theta, alpha, eta), "Two slips"),
            (lambda alpha, eta, theta: (theta / 2, 1 - alpha, eta), "larger than θ"),
            (lambda alpha, eta, theta: (eta, 1 - alpha, theta), "η is left in its place"),
            (lambda alpha, eta, theta: (eta, 1 - alpha, 2 * theta), "η is left in its place"),
            (lambda alpha, eta, theta: (2 * eta, 1 - alpha, theta), "η and μ are swapped"),
            (lambda alpha, eta, theta: (2 * eta, 1 - alpha, 2 * theta), "η and μ are swapped"),
            (lambda alpha, eta, theta: (1 - alpha, eta, 2 * theta), "in the wrong order"),
            (lambda alpha, eta, theta: (2 * theta, eta, 1 - alpha), "in the wrong order"),
            (
                lambda alpha, eta, theta: (1 - alpha, eta, theta),
                "wrong order: return eta, alpha, mu. And one slip",
            ),
            (lambda alpha, eta, theta: (eta, alpha, theta), "Nothing is renamed"),
            (lambda alpha, eta, theta: (alpha, eta, theta), "Nothing is renamed"),
            (lambda alpha, eta, theta: (2 * theta, 1 - alpha, 1 - eta), "Only α is turned"),
            (lambda alpha, eta, theta: (2 * theta, 1 - alpha, 2 * eta), "Only the gradient has a 2"),
            (lambda alpha, eta, theta: 2 * theta, "three arrays"),
            (lambda alpha, eta, theta: (0.1, 1 - alpha, eta), "one number per token"),
            (lambda alpha, eta, theta: (2 * theta, "1 - alpha", eta), "arrays of numbers"),
            (
                lambda alpha, eta, theta: (np.multiply(theta, 2, out=theta), 1 - alpha, eta),
                "changed theta in place",
            ),
        ),
    ),
    Exercise(
        "06.3",
        "count the lessons that a memory needs after a silence",
        check_lessons_after,
        _slipping(""),
        (
            *((_slipping(slip), hint[:40]) for slip, hint in _COUNTING.items()),
            (_slipping("no blanks"), "forget was called 0 times, expected 20: before"),
            (_slipping("one blank"), "forget was called 1 times"),
            (_slipping("one more"), "not once more"),
            (_slipping("forgets on"), "not between the lessons"),
            (_spoils_the_weights, "changed weights in place"),
            (_never_ends, "Give up after `most` lessons"),
            (lambda *_: None, "None says that it never learned"),
            (lambda *_: [3], "one whole number or None"),
        ),
    ),
)
