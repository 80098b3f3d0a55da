"""Exercises of notebook 06: what is left of a surprise, the paper's gates in our names, and where a pair comes to rest."""

from __future__ import annotations

from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.teaching.checks import to_numpy
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, must_equal

Gates = tuple[Array, Array, Array]


def check_left(function: Any) -> None:
    """(tokens, alpha, mu) -> share of one surprise in the memory, n = 0, 1, …: compared with the two lines of Titans."""
    for tokens, alpha, mu in ((8, 0.9, 0.8), (5, 1.0, 0.5), (6, 0.7, 0.7)):
        wanted, memory, momentum = np.zeros(tokens), 0.0, 0.0
        for n in range(tokens):
            momentum = mu * momentum + (1.0 if n == 0 else 0.0)
            memory = alpha * memory + momentum
            wanted[n] = memory
        powers = np.arange(tokens)
        got = ask(function, tokens, alpha, mu)
        if alpha == mu and np.shape(got) == (tokens,) and np.isnan(to_numpy(got)).any():
            raise WrongAnswer(
                "at α = μ your formula divides 0 by 0. The sum over the tokens at which momentum writes has no such gap."
            )
        must_equal(
            f"the share for α = {alpha:g}, μ = {mu:g}",
            got,
            wanted,
            {
                "Momentum writes the surprise again at every later token; here only the first write is in it.": alpha
                ** powers,
                "Nothing is forgotten yet: a write made r tokens after the surprise has been kept by α for n - r tokens.": np.cumsum(
                    mu**powers
                ),
                "Not all writes are equally old: the one made r tokens after the surprise has decayed n - r times only.": alpha
                ** powers
                * np.cumsum(mu**powers),
                "One token late: B_t holds token t's own surprise already, so n = 0 gives 1.": np.append(
                    0.0, wanted[:-1]
                ),
                "That is the momentum B; the memory adds it up.": mu**powers,
            },
        )


def _left(tokens: int, alpha: float, mu: float) -> Array:
    return np.array([sum(mu**r * alpha ** (n - r) for r in range(n + 1)) for n in range(tokens)])


def _gates() -> Gates:
    rng = np.random.default_rng(602)
    return rng.uniform(0.02, 0.2, size=6), rng.uniform(0.3, 0.8, size=6), rng.uniform(0.05, 0.2, size=6)


def _tokens() -> tuple[Array, Array]:
    rng = np.random.default_rng(603)
    return rng.normal(size=(6, 3)), rng.normal(size=(6, 2))


def _as_printed(alpha: Array, eta: Array, theta: Array) -> Array:
    """The paper's two lines with its own letters; ∇‖M k - v‖² by central differences, exact for a quadratic."""
    k, v = _tokens()
    memory, surprise = np.zeros((2, 3)), np.zeros((2, 3))
    for t in range(6):
        slope = np.zeros((2, 3))
        for i, j in np.ndindex(2, 3):
            nudge = np.zeros((2, 3))
            nudge[i, j] = 0.5
            up, down = (float((((memory + s * nudge) @ k[t] - v[t]) ** 2).sum()) for s in (1, -1))
            slope[i, j] = up - down
        surprise = eta[t] * surprise - theta[t] * slope
        memory = (1 - alpha[t]) * memory + surprise
    return memory


def _ours(eta: Array, alpha: Array, mu: Array) -> Array:
    """This course's two lines: ½‖M k - v‖², α keeps."""
    k, v = _tokens()
    memory, momentum = np.zeros((2, 3)), np.zeros((2, 3))
    for t in range(6):
        momentum = mu[t] * momentum - eta[t] * np.outer(memory @ k[t] - v[t], k[t])
        memory = alpha[t] * memory + momentum
    return memory


def check_translation(function: Any) -> None:
    """(alpha, eta, theta) of the paper -> (eta, alpha, mu) of this course: both memories must end in the same place."""
    alpha, eta, theta = _gates()
    got = ask(function, alpha, eta, theta)
    if not isinstance(got, tuple | list) or len(got) != 3:
        raise WrongAnswer("return three arrays, in this order: eta, alpha, mu.")
    try:
        found = [to_numpy(gate) for gate in got]
    except (TypeError, ValueError) as error:
        raise WrongAnswer("eta, alpha and mu must be arrays of numbers.") from error
    for name, gate in zip(("eta", "alpha", "mu"), found, strict=True):
        if gate.shape != (6,):
            raise WrongAnswer(f"{name} has shape {gate.shape}, it should be (6,): one number per token.")
    must_equal(
        "the memory after 6 tokens, run with your gates,",
        _ours(found[0], found[1], found[2]),
        _as_printed(alpha, eta, theta),
        {
            "The paper's loss has no ½, so its gradient is twice ours: that 2 must go into a gate.": _ours(
                theta, 1 - alpha, eta
            ),
            "The paper's α forgets, ours keeps.": _ours(2 * theta, alpha, eta),
            "Two slips: the paper's α forgets where ours keeps, and its loss has no ½.": _ours(
                theta, alpha, eta
            ),
            "η is our learning rate, but the paper's momentum decay: its learning rate is θ.": _ours(
                2 * eta, 1 - alpha, theta
            ),
            "The 2 of the missing ½ belongs to the other side: our η is larger than θ.": _ours(
                theta / 2, 1 - alpha, eta
            ),
        },
    )


def _largest(alpha: float, mu: float) -> float:
    """The η at which repeats of one pair stop coming to rest: bisection on the eigenvalues of one literal repeat."""
    low, high = 0.0, 8.0
    for _ in range(60):
        eta, step = (low + high) / 2, np.zeros((2, 2))
        # with v = 0 (M k, B k) after a repeat is linear in the two before it: apply the two lines to a basis
        for column, (answer, momentum) in enumerate(((1.0, 0.0), (0.0, 1.0))):
            moved = mu * momentum - eta * answer
            step[:, column] = alpha * answer + moved, moved
        shrinks = np.abs(np.linalg.eigvals(step)).max() < 1
        low, high = (eta, high) if shrinks else (low, eta)
    return (low + high) / 2


def check_rest(function: Any) -> None:
    """(eta, alpha, mu) -> share of v at rest, largest stable η: compared with literal repeats, and a search."""
    for eta, alpha, mu in ((0.2, 0.9, 0.5), (0.1, 0.95, 0.8), (0.5, 0.8, 0.0)):
        got = ask(function, eta, alpha, mu)
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise WrongAnswer("return two numbers: the share of v at rest, and the largest stable eta.")
        answer, momentum = 0.0, 0.0
        for _ in range(3000):
            momentum = mu * momentum - eta * (answer - 1.0)
            answer = alpha * answer + momentum
        gates = f"for η = {eta:g}, α = {alpha:g}, μ = {mu:g}"
        must_equal(
            f"the share at rest {gates}",
            got[0],
            answer,
            {
                "It does not reach v: at rest B must put back, at every token, what forgetting takes.": 1.0,
                "At rest the momentum adds up to 1/(1 - μ) of a write: it helps against forgetting.": eta
                / (eta + 1 - alpha),
                "Turned over: that share is lost.": 1 - answer,
                "B at rest is the step divided by 1 - μ, not multiplied by it.": eta
                * (1 - mu)
                / (eta * (1 - mu) + 1 - alpha),
            },
        )
        must_equal(
            f"the largest η for α = {alpha:g}, μ = {mu:g}",
            got[1],
            _largest(alpha, mu),
            {
                "That is the delta rule's bound; forgetting lowers it and momentum raises it.": 2.0,
                "Without momentum it would be so; with it, ask for which η the map of (M k, B) has the eigenvalue -1.": 1
                + alpha,
                "Without forgetting it would be so.": 2 * (1 + mu),
                "Momentum does not divide the bound: a write that alternates in sign never adds up to 1/(1 - μ).": (
                    1 + alpha
                )
                * (1 - mu),
            },
            bound=1e-8,
        )


EXERCISES = (
    Exercise(
        "06.1",
        "say how much of a surprise is in the memory n tokens later",
        check_left,
        _left,
        (
            (lambda tokens, alpha, mu: alpha ** np.arange(tokens), "only the first write"),
            (lambda tokens, alpha, mu: np.cumsum(mu ** np.arange(tokens)), "Nothing is forgotten"),
            (
                lambda tokens, alpha, mu: alpha ** np.arange(tokens) * np.cumsum(mu ** np.arange(tokens)),
                "equally old",
            ),
            (lambda tokens, alpha, mu: np.append(0.0, _left(tokens - 1, alpha, mu)), "One token late"),
            (lambda tokens, alpha, mu: mu ** np.arange(tokens), "the memory adds it up"),
            (
                lambda tokens, alpha, mu: np.array(
                    [
                        (alpha ** (n + 1) - mu ** (n + 1)) / (alpha - mu) if alpha != mu else np.nan
                        for n in range(tokens)
                    ]
                ),
                "divides 0 by 0",
            ),
            (lambda tokens, alpha, mu: _left(tokens + 1, alpha, mu), "it should be (8,)"),
        ),
    ),
    Exercise(
        "06.2",
        "run the Titans paper's gates with this course's names",
        check_translation,
        lambda alpha, eta, theta: (2 * theta, 1 - alpha, eta),
        (
            (lambda alpha, eta, theta: (theta, 1 - alpha, eta), "no ½, so its gradient"),
            (lambda alpha, eta, theta: (2 * theta, alpha, eta), "α forgets, ours keeps."),
            (lambda alpha, eta, theta: (theta, alpha, eta), "Two slips"),
            (lambda alpha, eta, theta: (2 * eta, 1 - alpha, theta), "its learning rate is θ"),
            (lambda alpha, eta, theta: (theta / 2, 1 - alpha, eta), "larger than θ"),
            (lambda alpha, eta, theta: 2 * theta, "three arrays"),
            (lambda alpha, eta, theta: (0.1, 1 - alpha, eta), "one number per token"),
        ),
    ),
    Exercise(
        "06.3",
        "say where a repeated pair comes to rest, and up to which η it does",
        check_rest,
        lambda eta, alpha, mu: (eta / (eta + (1 - alpha) * (1 - mu)), (1 + alpha) * (1 + mu)),
        (
            (lambda eta, alpha, mu: (1.0, (1 + alpha) * (1 + mu)), "does not reach v"),
            (lambda eta, alpha, mu: (eta / (eta + 1 - alpha), 2.0), "helps against forgetting"),
            (
                lambda eta, alpha, mu: ((1 - alpha) * (1 - mu) / (eta + (1 - alpha) * (1 - mu)), 2.0),
                "Turned over",
            ),
            (lambda eta, alpha, mu: (eta / (eta + (1 - alpha) * (1 - mu)), 2.0), "delta rule's bound"),
            (lambda eta, alpha, mu: (eta / (eta + (1 - alpha) * (1 - mu)), 1 + alpha), "Without momentum"),
            (
                lambda eta, alpha, mu: (eta / (eta + (1 - alpha) * (1 - mu)), 2 * (1 + mu)),
                "Without forgetting",
            ),
            (
                lambda eta, alpha, mu: (eta / (eta + (1 - alpha) * (1 - mu)), (1 + alpha) * (1 - mu)),
                "does not divide",
            ),
            (lambda eta, alpha, mu: eta, "two numbers"),
        ),
    ),
)
