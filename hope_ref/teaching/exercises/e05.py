"""Exercises of notebook 05: a running mean without bias, momentum without a recurrence, and the best momentum of a valley."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, ask_named, must_equal, unchanged

MANY = 64  # gradients with which array operations are counted


def _call(function: Any, arguments: dict[str, Any]) -> Any:
    """What the learner's function returns on copies of the arguments; refused if it changes one of them in place."""
    with np.errstate(all="ignore"):
        got, names = ask_named(function, arguments)
    unchanged(names, "you changed {} in place: compute in a new array, the caller still needs it.")
    return got


def _gradients(count: int = 6) -> Array:
    return np.random.default_rng(105).normal(size=(count, 3)) + 1.0


# --- 05.1: a running mean without bias --------------------------------------------------------------------------------


def _raw_mean(gradients: Array, beta: float) -> Array:
    m = np.zeros(gradients.shape[1])
    for g in gradients:
        m = beta * m + (1 - beta) * g
    return m


def _bias_correction(gradients: Array, beta: float) -> Array:
    return _raw_mean(gradients, beta) / (1 - beta ** len(gradients))


def _divided_inside(gradients: Array, beta: float, by: str) -> Array:
    """The mean with the division in the loop: by the weight seen so far, by all of it, or by the newest one's."""
    m = np.zeros(gradients.shape[1])
    for t, g in enumerate(gradients, start=1):
        power = {"so far": t, "all": len(gradients), "newest": 1}[by]
        m = (beta * m + (1 - beta) * g) / (1 - beta**power)
    return m


def _likely_means(gradients: Array, beta: float) -> dict[str, Array]:
    """Hint -> the mean that this mistake gives."""
    count = len(gradients)
    fading = beta ** np.arange(count)[::-1]
    raw = (1 - beta) * fading @ gradients  # what the loop holds before any correction
    again = "so the next step fades and divides the same sum again. Leave m alone in the loop; divide once, after it."
    likely = {
        "There is no correction in it: the start, zero, still has the weight βⁿ. With n = 1 the mean must be g itself.": raw,
        "n gradients, n factors: after n of them divide by 1 - βⁿ, not by 1 - βⁿ⁺¹.": raw
        / (1 - beta ** (count + 1)),
        "1 - β is the weight of one gradient; n of them weigh 1 - βⁿ together.": raw / (1 - beta),
        f"You divide by 1 - βᵗ inside the loop, {again}": _divided_inside(gradients, beta, "so far"),
        f"You divide by 1 - βⁿ inside the loop, {again}": _divided_inside(gradients, beta, "all"),
        f"You divide by 1 - β inside the loop, {again}": _divided_inside(gradients, beta, "newest"),
        "You divide by n, but the weights sum to 1 - βⁿ, not to n.": raw / count,
        "You leave 1 - β out and divide by n. The weights sum to (1 - βⁿ)/(1 - β), not to n.": fading
        @ gradients
        / count,
        "The newest gradient, the last row, must weigh most; yours fade the wrong way.": np.average(
            gradients, axis=0, weights=fading[::-1]
        ),
        "That is the plain mean: old gradients do not fade.": gradients.mean(0),
    }
    if count > 1:
        likely["n gradients, n factors: after n of them divide by 1 - βⁿ, not by 1 - βⁿ⁻¹."] = raw / (
            1 - beta ** (count - 1)
        )
    return likely


def check_bias_correction(function: Any) -> None:
    """(gradients, beta) -> corrected mean: compared with NumPy's weighted average, which shares no line with a loop."""
    for case, gradients, beta in (
        ("6 gradients", _gradients(6), 0.8),
        ("one gradient", _gradients(1), 0.8),
        ("4 equal gradients", np.full((4, 3), 2.0), 0.9),
        ("3 gradients at beta = 0, which is the newest of them", _gradients(3), 0.0),
        ("5 gradients, all zero", np.zeros((5, 2)), 0.9),
    ):
        newest_last = beta ** np.arange(len(gradients))[::-1]
        must_equal(
            f"{case}: mean",
            _call(function, {"gradients": gradients, "beta": beta}),
            np.average(gradients, axis=0, weights=newest_last),
            _likely_means(gradients, beta),
        )


def _spoils_its_input(gradients: Array, beta: float) -> Array:
    right = _bias_correction(gradients, beta)
    gradients *= beta
    return right


# --- 05.2: momentum without a recurrence ------------------------------------------------------------------------------


class _Counted(np.ndarray):
    """An array that counts operations on it and on what is computed from it, look-ups and rounds of a loop."""

    tally: list[int]

    def __array_finalize__(self, source: Any) -> None:
        self.tally = getattr(source, "tally", [0])
        self.tally[0] += 1  # every view, row or result passes here


def _operations(function: Any, gradients: Array, eta: float, mu: float) -> int:
    """How many arrays an answer makes from the gradients."""
    counted = gradients.copy().view(_Counted)
    counted.tally = [0]
    ask(lambda: function(counted, eta, mu))
    return counted.tally[0]


def _powers(count: int, mu: float) -> Array:
    """Row i: how often gradient i is in the weight, 1 + μ + … over the steps since. By summing, also at μ = 1."""
    return np.array([sum(mu**j for j in range(count - i)) for i in range(count)])


def _by_recurrence(gradients: Array, eta: float, mu: float) -> Array:
    w, m = np.zeros(gradients.shape[1]), np.zeros(gradients.shape[1])
    for g in gradients:
        m = mu * m - eta * g
        w = w + m
    return w


def _unrolled(gradients: Array, eta: float, mu: float) -> Array:
    """Total change of w after all gradients, from m = 0."""
    return -eta * np.cumsum(mu ** np.arange(len(gradients)))[::-1] @ gradients


def _geometric(gradients: Array, eta: float, mu: float) -> Array:
    """The closed form of the geometric sum, which is 0/0 at μ = 1."""
    return -eta * ((1 - mu ** np.arange(len(gradients), 0, -1)) / np.float64(1 - mu)) @ gradients


def _likely_changes(gradients: Array, eta: float, mu: float) -> dict[str, Array]:
    """Hint -> the change that this mistake gives."""
    count = len(gradients)
    powers, fading = _powers(count, mu), mu ** np.arange(count)[::-1]
    return {
        "Those are the weights in m, the last step. w has added up every m since: sum over the steps, too.": -eta
        * fading
        @ gradients,
        "Momentum descends: each gradient enters with -η.": eta * powers @ gradients,
        "Each gradient enters m with the factor η.": -powers @ gradients,
        "The oldest gradient, row 0, counts most in w: every later step repeats it. Yours count the wrong way.": -eta
        * powers[::-1]
        @ gradients,
        "One power too many: the newest gradient counts once, it has made one step.": -eta
        * (powers + fading * mu)
        @ gradients,
        "One power too few: the newest gradient counts once, it has made one step.": -eta
        * (powers - fading)
        @ gradients,
        "That is plain gradient descent: μ is missing.": -eta * gradients.sum(0),
        "Those are the weights of a running mean: in momentum nothing is multiplied by 1 - μ.": -eta
        * (1 - mu)
        * powers
        @ gradients,
        "Each step counts in full there: the step j after its gradient has the factor μʲ.": -eta
        * np.arange(count, 0, -1)
        @ gradients,
    }


def check_unrolled(function: Any) -> None:
    """(gradients, eta, mu) -> total change of w: compared with the recurrence; array operations are counted."""
    for case, gradients, eta, mu in (
        ("6 gradients", _gradients(6), 0.3, 0.9),
        ("6 gradients at mu = 0", _gradients(6), 0.3, 0.0),
        ("6 gradients at mu = 1", _gradients(6), 0.3, 1.0),
        ("one gradient", _gradients(1), 0.3, 0.9),
        ("5 gradients, all zero", np.zeros((5, 2)), 0.3, 0.9),
    ):
        dividing = "1 - μ is 0 there: sum the powers of μ; do not divide by 1 - μ."
        try:
            got = _call(function, {"gradients": gradients, "eta": eta, "mu": mu})
        except WrongAnswer as wrong:
            if isinstance(wrong.__cause__, ZeroDivisionError) and mu == 1:
                raise WrongAnswer(f"{wrong}, at mu = 1. {dividing}") from wrong.__cause__
            raise
        want = _by_recurrence(gradients, eta, mu)
        if mu == 1 and _is_nan(got, want.shape):
            raise WrongAnswer(f"{case}: the change of w is not a number. {dividing}")
        must_equal(f"{case}: change", got, want, _likely_changes(gradients, eta, mu))
    many = np.random.default_rng(106).normal(size=(MANY, 3))
    if _operations(function, many, 0.3, 0.9) >= MANY:
        raise WrongAnswer(
            "the change is right, but your function goes through the gradients one by one. "
            "Find the weight of each gradient first, then take one product of weights and gradients."
        )


def _is_nan(got: Any, shape: tuple[int, ...]) -> bool:
    try:
        found = np.asarray(got, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return found.shape == shape and bool(np.isnan(found).all())


# --- 05.3: the best momentum of a valley ------------------------------------------------------------------------------

LOST = 1e12  # farther away than this a run will not come back


class Race(NamedTuple):
    """One call of `best_mu`, and what it is there to tell apart."""

    case: str
    curvatures: Array
    mus: tuple[float, ...]
    etas: Array
    tol: float


Triple = tuple[float, float, float]  # mu, eta, steps

RACES = (
    Race("one curvature, 4", np.array([4.0]), (0.5, 0.0), np.array([0.1, 0.25, 0.4]), 1e-6),
    Race("curvatures 1 and 10", np.array([1.0, 10.0]), (0.0, 0.3, 0.6, 0.9), np.geomspace(0.05, 0.35, 8), 1e-6),
    Race("curvatures 0.1, 0.5 and 1", np.array([0.1, 0.5, 1.0]), (0.0, 0.25, 0.9), np.array([0.5, 1.0, 1.5]), 1e-3),
    Race("curvatures 1 and 100, where large rates diverge", np.array([1.0, 100.0]), (0.0, 0.3),
         np.array([0.01, 0.0189, 0.5, 3.0]), 1e-6),
    Race("one curvature, 1, where all tie", np.array([1.0]), (0.5, 0.2), np.array([1.0, 0.5]), 0.6),
)  # fmt: skip


def _steps(race: Race, mu: float, eta: float, scale: Any = 1.0) -> float:
    """Steps until |scale · w| < tol, by the recurrence of w alone: w' = (1 + μ - ηh) w - μ w_before; infinite if never."""
    before = w = np.ones(len(race.curvatures))
    factor = 1 + mu - eta * race.curvatures
    for step in range(1, 10_001):
        before, w = w, factor * w - mu * before
        size = np.linalg.norm(scale * w)
        if size < race.tol:
            return step
        if size > LOST:
            break
    return np.inf


def _best(race: Race, scale: Any = 1.0) -> Triple:
    steps, mu, eta = min(
        (_steps(race, mu, eta, scale), mu, float(eta)) for mu in race.mus for eta in race.etas
    )
    return mu, eta, steps


def _one_rate_for_all(race: Race) -> Triple:
    """The best rate of the first mu, used for all of them."""
    eta = min((_steps(race, race.mus[0], e), float(e)) for e in race.etas)[1]
    steps, mu = min((_steps(race, mu, eta), mu) for mu in race.mus)
    return mu, eta, steps


def _likely_best(race: Race) -> dict[str, Triple]:
    """Hint -> the triple that this mistake gives."""
    mu, eta, steps = _best(race)
    likely = {
        "One step too many: test after the step, so that one step that lands on the minimum counts as 1.": (
            mu,
            eta,
            steps + 1,
        ),
        "You count from 0: after the first step the count is 1.": (mu, eta, steps - 1),
        "Return (mu, eta, steps), in this order.": (steps, mu, eta),
        "Return (mu, eta, steps): mu comes first.": (eta, mu, steps),
        "You stop on the gradient; the distance of w to the minimum is asked.": _best(race, race.curvatures),
        "Each mu has its own best rate: try every rate for every mu.": _one_rate_for_all(race),
    }
    for other in race.mus:
        for rate in race.etas:
            if _steps(race, other, rate) == steps:
                likely.setdefault(
                    f"It is a tie: the smallest mu is asked, {mu:g}, and then the smallest eta, {eta:g}; "
                    f"mu = {other:g} with eta = {rate:g} takes as many steps.",
                    (other, float(rate), steps),
                )
    return likely


def check_best_mu(function: Any) -> None:
    """(curvatures, mus, etas, tol) -> (mu, eta, steps): compared with runs by another recurrence."""
    for race in RACES:
        arguments = {name: value for name, value in race._asdict().items() if name != "case"}
        got = _call(function, arguments)
        what = f"{race.case}: (mu, eta, steps)"
        if not isinstance(got, tuple | list | np.ndarray) or len(got) != 3:
            raise WrongAnswer(f"{what}: return three things, got {type(got).__name__}.")
        _refuse_lost(got, race)
        must_equal(what, got, _best(race), _likely_best(race))


def _refuse_lost(got: Any, race: Race) -> None:
    """A hint if the winner of a race is a run that diverges."""
    for mu in race.mus:
        for eta in race.etas:
            if (mu, eta) == tuple(got[:2]) and _steps(race, mu, eta) == np.inf:
                raise WrongAnswer(
                    f"{race.case}: you name mu = {mu:g}, eta = {eta:g}, which diverges. It ends in NaN, and every "
                    "comparison with NaN is false: ask for size < tol, and give up unless size < 1e12."
                )


def _race(
    curvatures: Array, mu: float, eta: float, tol: float, *, late: int = 0, gradient: bool = False
) -> float:
    """The learner's loop: steps until |w| < tol; `late` is added, `gradient` stops on the wrong size."""
    w, m = np.ones(len(curvatures)), np.zeros(len(curvatures))
    for step in range(1, 10_001):
        m = mu * m - eta * curvatures * w
        w = w + m
        size = np.linalg.norm(curvatures * w if gradient else w)
        if size < tol:
            return step + late
        if not size < LOST:
            break
    return np.inf


def _best_mu(curvatures: Array, mus: Any, etas: Array, tol: float, **slip: Any) -> Triple:
    steps, mu, eta = min((_race(curvatures, mu, eta, tol, **slip), mu, eta) for mu in mus for eta in etas)
    return mu, eta, steps


def _nan_arrives(curvatures: Array, mus: Any, etas: Array, tol: float) -> Triple:
    """Runs `while size >= tol`: NaN ends the loop and counts as arrived."""
    found = []
    for mu in mus:
        for eta in etas:
            w, m, step = np.ones(len(curvatures)), np.zeros(len(curvatures)), 0
            while np.linalg.norm(w) >= tol and step < 10_000:
                m = mu * m - eta * curvatures * w
                w, step = w + m, step + 1
            found.append((step, mu, eta))
    steps, mu, eta = min(found)
    return mu, eta, steps


def _rate_of_the_first(curvatures: Array, mus: Any, etas: Array, tol: float) -> Triple:
    eta = _best_mu(curvatures, mus[:1], etas, tol)[1]
    return _best_mu(curvatures, mus, np.array([eta]), tol)


def _first_of_a_tie(curvatures: Array, mus: Any, etas: Array, tol: float) -> Triple:
    runs = [(_race(curvatures, mu, eta, tol), mu, eta) for mu in mus for eta in etas]
    steps, mu, eta = min(runs, key=lambda run: run[0])
    return mu, eta, steps


EXERCISES = (
    Exercise(
        "05.1",
        "correct the bias of a running mean that starts at zero",
        check_bias_correction,
        _bias_correction,
        (
            (_raw_mean, "no correction"),
            (lambda g, beta: _divided_inside(g, beta, "so far"), "1 - βᵗ inside the loop"),
            (lambda g, beta: _divided_inside(g, beta, "all"), "1 - βⁿ inside the loop"),
            (lambda g, beta: _divided_inside(g, beta, "newest"), "1 - β inside the loop"),
            (lambda g, beta: _raw_mean(g, beta) / (1 - beta), "the weight of one gradient"),
            (lambda g, beta: _raw_mean(g, beta) / (1 - beta ** (len(g) + 1)), "not by 1 - βⁿ⁺¹"),
            (lambda g, beta: _raw_mean(g, beta) / (1 - beta ** max(1, len(g) - 1)), "not by 1 - βⁿ⁻¹"),
            (lambda g, beta: _bias_correction(g[::-1], beta), "fade the wrong way"),
            (lambda g, beta: _raw_mean(g, beta) / len(g), "not to n"),
            (lambda g, beta: beta ** np.arange(len(g))[::-1] @ g / len(g), "leave 1 - β out"),
            (lambda g, beta: g.mean(0), "do not fade"),
            (lambda g, beta: _bias_correction(g.astype(np.float32), beta), "do you compute in float32"),
            (_spoils_its_input, "changed gradients in place"),
        ),
    ),
    Exercise(
        "05.2",
        "find the total change of a weight under momentum, without a recurrence",
        check_unrolled,
        _unrolled,
        (
            (lambda g, eta, mu: -eta * mu ** np.arange(len(g))[::-1] @ g, "added up every m since"),
            (lambda g, eta, mu: -_unrolled(g, eta, mu), "descends"),
            (lambda g, eta, mu: _unrolled(g, 1.0, mu), "the factor η"),
            (lambda g, eta, mu: _unrolled(g[::-1], eta, mu), "The oldest gradient"),
            (lambda g, eta, mu: -eta * np.cumsum(mu ** np.arange(len(g) + 1))[:0:-1] @ g, "One power too many"),
            (lambda g, eta, mu: -eta * (_powers(len(g), mu) - mu ** np.arange(len(g))[::-1]) @ g, "One power too few"),
            (lambda g, eta, mu: -eta * g.sum(0), "plain gradient descent"),
            (lambda g, eta, mu: (1 - mu) * _unrolled(g, eta, mu), "running mean"),
            (lambda g, eta, mu: -eta * np.arange(len(g), 0, -1) @ g, "counts in full"),
            (_geometric, "do not divide by 1 - μ"),
            (lambda g, eta, mu: -eta / (1 - mu) * (1 - mu ** np.arange(len(g), 0, -1)) @ g, "do not divide by 1 - μ"),
            (_by_recurrence, "one by one"),
            (lambda g, eta, mu: _unrolled(g.astype(np.float32), eta, mu), "do you compute in float32"),
        ),
    ),
    Exercise(
        "05.3",
        "measure which momentum reaches the bottom of a valley first",
        check_best_mu,
        _best_mu,
        (
            (_nan_arrives, "comparison with NaN is false"),
            (lambda h, mus, etas, tol: _best_mu(h, mus, etas, tol, late=1), "One step too many"),
            (lambda h, mus, etas, tol: _best_mu(h, mus, etas, tol, late=-1), "count from 0"),
            (_rate_of_the_first, "its own best rate"),
            (lambda h, mus, etas, tol: _best_mu(h, mus, etas, tol, gradient=True), "stop on the gradient"),
            (_first_of_a_tie, "It is a tie"),
            (lambda h, mus, etas, tol: np.roll(_best_mu(h, mus, etas, tol), 1), "in this order"),
            (lambda h, mus, etas, tol: _best_mu(h, mus, etas, tol)[2], "return three things"),
        ),
    ),
)  # fmt: skip
