"""Numbers and inequalities in the claims about memories, read out of the sentence and held against numbers.

A claim is matched as a whole pattern, so that a rewritten one asks for its check again. What the pattern captures is a
formula in signs, translated to LaTeX and executed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import latex_values as latex
import numpy as np
import pytest
from printed_claims import CLAIM_FILES, WORDS, Claims, Rng, differs, same, value, with_numbers
from simulated import column, dgd_step, gated_step, nearest, pair, rate, silu, squares

from hope_ref import symbolic
from hope_ref.symbolic import tables

CLAIMS = Claims()
NO_NUMBER = {
    "titans.mlp_gradient_w1": "W1 and W2 are names of weights",
    "titans.mlp_gradient_w2": "W1 is the name of a weight",
    "chunks.momentum": "B_0 is the name of the first momentum",
    "self_modifying_titans.worn_away": "W_0 is the name of the start; the formula's check has both origins",
}


# --- linear attention and the delta rule -----------------------------------------------------------------------------


@CLAIMS.check(
    "linear_attention.one_step",
    "Linear attention is one gradient step of size ‹› on minus the similarity of M k and v.",
)
def similarity(rng: Rng, size: str) -> None:
    p = pair(rng)
    slope = latex.gradient(lambda m: -float((p["v"] * (m @ p["k"])).sum()), p["M"])
    same(p["M"] - value(size) * slope, p["M"] + p["v"] * p["k"].T)


@CLAIMS.check(
    "delta_rule.one_step",
    "The delta rule is one gradient step of size ‹› on ‹›; its factor stands on the ‹›.",
)
def delta_rule(rng: Rng, size: str, objective: str, side: str) -> None:
    p = pair(rng)
    after = gated_step(p["M"], p["k"], p["v"], p["η"])
    slope = latex.gradient(lambda m: value(objective, {"M": m, "k": p["k"], "v": p["v"]}), p["M"])
    same(p["M"] - value(size, {r"\eta": p["η"]}) * slope, after)
    factor = np.eye(3) - p["η"] * p["k"] * p["k"].T
    write = p["η"] * p["v"] * p["k"].T
    same({"right": lambda: p["M"] @ factor, "left": lambda: factor @ p["M"]}[side]() + write, after)


@CLAIMS.check(
    "delta_rule.gradient", "Without the ½ the gradient carries a ‹›, which the learning rate absorbs."
)
def carried(rng: Rng, factor: str) -> None:
    p = pair(rng)
    slope = latex.gradient(lambda m: squares(m @ p["k"] - p["v"]), p["M"])
    same(slope, value(factor) * (p["M"] @ p["k"] - p["v"]) * p["k"].T)


def error_after(steps: int, rate_times_norm: float, rng: Rng) -> float:
    """Of repeated delta steps on one pair: the error's length over that at the start."""
    p = pair(rng)
    memory, start = p["M"], squares(p["M"] @ p["k"] - p["v"])
    for _ in range(steps):
        memory = gated_step(memory, p["k"], p["v"], rate_times_norm / squares(p["k"]))
    return float(np.sqrt(squares(memory @ p["k"] - p["v"]) / start))


@CLAIMS.check("delta_rule.error_shrinks", "One step multiplies the error by ‹›: stable iff ‹› < η‖k‖² < ‹›.")
def stable(rng: Rng, factor: str, low: str, high: str) -> None:
    k, eta = column(rng, 3), rate(rng)
    same(abs(value(factor, {r"\eta": eta, "k": k})), error_after(1, eta * squares(k), rng))
    least, most = value(low), value(high)
    width = most - least
    for inside in (least + 0.02 * width, most - 0.02 * width):
        assert error_after(2000, inside, rng) < 1e-9
    for outside in (least - 0.02 * width, most + 0.02 * width):
        assert error_after(500, outside, rng) > 1e3


@CLAIMS.check(
    "delta_rule.eigenvalues",
    "The transition changes the memory along k only: its eigenvalues are ‹› (‹› times) and ‹›.",
)
def eigenvalues(rng: Rng, many: str, times: str, one: str) -> None:
    for width in (3, 5):
        k, eta = column(rng, width), rate(rng)
        values = np.linalg.eigvalsh(np.eye(width) - eta * k * k.T)
        said = [value(many)] * int(value(times, {"d_k": width})) + [value(one, {r"\eta": eta, "k": k})]
        np.testing.assert_allclose(values, sorted(said), rtol=1e-9)


@CLAIMS.check("delta_rule.one_shot", "At η = ‹› one step stores the pair exactly.")
def one_shot(rng: Rng, step: str) -> None:
    p = pair(rng)
    same(gated_step(p["M"], p["k"], p["v"], value(step, p)) @ p["k"], p["v"])


@CLAIMS.check(
    "delta_rule.gated_and_delta_gradient_descent",
    "The gated delta rule and Delta Gradient Descent on the dot product are equal iff α = ‹›.",
)
def equal_where(rng: Rng, where: str) -> None:
    p = pair(rng)
    for alpha in (value(where), value(where) - 0.1, value(where) + 0.1):
        both = (step(p["M"], p["k"], p["v"], p["η"], alpha) for step in (gated_step, dgd_step))
        (same if alpha == value(where) else differs)(*both)


# --- Titans and chunks -----------------------------------------------------------------------------------------------


@CLAIMS.check("titans.matrix_gradient", "The gradient of ‹› is the error times the key.")
def error_times_key(rng: Rng, objective: str) -> None:
    p = pair(rng)
    slope = latex.gradient(lambda m: value(objective, {"M": m, "k": p["k"], "v": p["v"]}), p["M"])
    same(slope, (p["M"] @ p["k"] - p["v"]) * p["k"].T)


@CLAIMS.check(
    "titans.without_momentum",
    "Without momentum it is Delta Gradient Descent on the dot product, and not the gated delta rule unless α = ‹›.",
)
def unless(rng: Rng, alpha: str) -> None:
    p = pair(rng)
    for keep in (value(alpha), value(alpha) - 0.1, value(alpha) + 0.1):
        titans = keep * p["M"] - p["η"] * (p["M"] @ p["k"] - p["v"]) * p["k"].T
        same(titans, dgd_step(p["M"], p["k"], p["v"], p["η"], keep))
        (same if keep == value(alpha) else differs)(titans, gated_step(p["M"], p["k"], p["v"], p["η"], keep))


@CLAIMS.check("titans.alpha_clash", "The Titans paper's rule is ours with α → ‹›, η → ‹›, θ → ‹› and S → ‹›.")
def translated(rng: Rng, *ours: str) -> None:
    """The paper's two equations, its letters bound to what the claim puts in their places."""
    p, mu = pair(rng), rate(rng)
    before = rng.normal(size=(2, 3))
    push = mu * before - p["η"] * (p["M"] @ p["k"] - p["v"]) * p["k"].T
    names = {r"\alpha": p["α"], r"\mu": mu, r"\eta": p["η"], "B": push}
    alpha, eta, theta, pushed = (value(text, names) for text in ours)
    env = {
        r"\alpha_t": alpha, r"\eta_t": eta, r"\theta_t": theta, "S_t": pushed, "S_{t-1}": before, "k_t": p["k"], "v_t": p["v"],
        r"\mathcal{M}_t": p["α"] * p["M"] + push, r"\mathcal{M}_{t-1}": p["M"], r"\nabla": r"\mathcal{M}_{t-1}",
    }  # fmt: skip
    for left, right in latex.chains(symbolic.named("titans.alpha_clash").printed, env):
        same(latex.evaluate(left, env), latex.evaluate(right, env), right)


@CLAIMS.check(
    "chunks.frozen_l2",
    "On ‹› the chunk size is part of the model: the second token does not see what the first decayed and wrote.",
)
def chunk_size_matters(rng: Rng, objective: str) -> None:
    """Frozen for two tokens against fresh at each: the difference is the second token's slope, of another state."""
    p, k, v = pair(rng), column(rng, 3), column(rng, 2)

    def slope(m: Any, key: Any, target: Any) -> Any:
        return latex.gradient(lambda n: value(objective, {"M": n, "k": key, "v": target}), m)

    same(slope(p["M"], k, v), (p["M"] @ k - v) * k.T)
    first = p["α"] * p["M"] - p["η"] * slope(p["M"], p["k"], p["v"])
    moved = slope(first, k, v) - slope(p["M"], k, v)
    same(moved, (first - p["M"]) @ k * k.T)
    differs(moved, 0 * moved + 1e-9)


# --- self-modifying Titans -------------------------------------------------------------------------------------------


def perceptron_slopes(
    architecture: str, loss: Callable[[Any, Any], float], rng: Rng
) -> Iterator[tuple[Any, Any]]:
    """For W1 and W2: minus the gradient by differences, and the outer product of its own u and φ, from slopes by differences."""
    w1, w2, k, target = rng.normal(size=(3, 4)), rng.normal(size=(4, 3)), column(rng, 3), column(rng, 3)
    env = {"W_1": w1, "W_2": w2, "z": k, r"\sigma": silu}
    hidden = w2 @ k
    out = w1 @ silu(hidden)
    yield (
        -latex.gradient(lambda w: loss(value(architecture, env | {"W_1": w}), target), w1),
        -latex.gradient(lambda y: loss(k + y, target), out) * silu(hidden).T,
    )
    yield (
        -latex.gradient(lambda w: loss(value(architecture, env | {"W_2": w}), target), w2),
        -latex.gradient(lambda n: loss(k + w1 @ silu(n), target), hidden) * k.T,
    )


@CLAIMS.check(
    "self_modifying_titans.gradients_dot",
    "On minus the dot product, minus the gradient of either layer of ‹› is u φᵀ with its own u and φ.",
)
def layers_dot(rng: Rng, architecture: str) -> None:
    for slope, product in perceptron_slopes(architecture, lambda y, v: -float((y * v).sum()), rng):
        same(slope, product)


@CLAIMS.check(
    "self_modifying_titans.gradients_l2",
    "On ‹› the same holds with the error ‹› in the place of ‹›.",
)
def layers_l2(rng: Rng, objective: str, error: str, other: str) -> None:
    """The two errors are the slopes of the two losses at the answer."""
    answer, target = column(rng, 3), column(rng, 3)

    def loss(y: Any, v: Any) -> float:
        return value(objective, {"M": lambda k: y, "k": 0.0, r"\hat v": v})

    env = {"M": lambda k: answer, "k": 0.0, r"\hat v": target}
    same(latex.gradient(lambda y: loss(y, target), answer), value(error, env))
    same(latex.gradient(lambda y: -float((y * target).sum()), answer), value(other, env))
    for slope, product in perceptron_slopes("z + W1 σ(W2 z)", loss, rng):
        same(slope, product)


@CLAIMS.check(
    "self_modifying_titans.implicit_step",
    "With α = ‹› and η̃ = ‹› the write is the exact minimiser, whatever the erase measures from.",
)
def implicit(rng: Rng, alpha: str, step: str) -> None:
    weight, origin, phi, u, eta = (
        rng.normal(size=(2, 3)),
        rng.normal(size=(2, 3)),
        column(rng, 3),
        column(rng, 2),
        rate(rng),
    )
    taken = value(step, {r"\eta": eta, r"\varphi": phi})
    written = value(alpha) * weight - taken * ((weight - origin) @ phi - u) * phi.T
    same(written, nearest(phi, u + origin @ phi, weight, 1 / eta))


@CLAIMS.check(
    "self_modifying_titans.linear_dot",
    "A linear memory on the dot product takes a step of the gated delta rule's kind; at α = ‹› it is the delta rule.",
)
def linear_at(rng: Rng, alpha: str) -> None:
    """The skip is a constant in the dot product's slope."""
    p = pair(rng)
    same(dgd_step(p["M"], p["k"], p["v"], p["η"], value(alpha)), gated_step(p["M"], p["k"], p["v"], p["η"]))


@CLAIMS.check(
    "self_modifying_titans.linear_l2", "A linear memory on ‹›, token by token, erases ‹› and writes ‹›."
)
def linear_l2(rng: Rng, objective: str, times: str, written: str) -> None:
    weight, k, target, eta = rng.normal(size=(3, 3)), column(rng, 3), column(rng, 3), rate(rng)
    slope = latex.gradient(lambda w: value(objective, {"y": k + w @ k - target}), weight)
    after = weight - eta * weight @ k * k.T - eta * slope
    said = value(written, {r"\hat v": target, "k": k})
    same(after, weight - WORDS[times] * eta * weight @ k * k.T + eta * said * k.T)


def own_target(weight: Any, k: Any, v: Any, eta: float, skip: bool, regression: bool) -> Any:
    """A write of a linear memory toward its own answer to v."""
    answer, target = (weight @ z + (z if skip else 0.0) for z in (k, v))
    return dgd_step(weight, k, target - answer if regression else target, eta)


@CLAIMS.check(
    "self_modifying_titans.collapse",
    "A linear memory without the skip is homogeneous under its own targets: from ‹› it never leaves ‹›.",
)
def never_leaves(rng: Rng, start: str, kept: str) -> None:
    for regression in (False, True):
        weight = np.full((3, 3), value(start))
        for _ in range(5):
            weight = own_target(weight, column(rng, 3), column(rng, 3), rate(rng), False, regression)
            assert np.array_equal(weight, np.full((3, 3), value(kept)))


@CLAIMS.check(
    "self_modifying_titans.skip_escapes",
    "With the skip the target keeps the token's own value: the first write from ‹› is not ‹›.",
)
def escapes(rng: Rng, start: str, avoided: str) -> None:
    """The written matrix is far from the avoided one, which the memory without the skip would have stayed at."""
    k, v, eta, rest = column(rng, 3), column(rng, 3), rate(rng), np.full((3, 3), value(start))
    for regression in (False, True):
        assert squares(own_target(rest, k, v, eta, True, regression) - value(avoided)) > 1e-3
        assert squares(own_target(rest, k, v, eta, False, regression) - value(avoided)) == 0


@CLAIMS.check(
    "self_modifying_titans.longest_write",
    "An implicit write of a bounded surprise is never longer than ‹›.",
)
def never_longer(rng: Rng, bound: str) -> None:
    """Surprises far longer than c, inputs of all lengths: the longest write comes within a thousandth of the bound."""
    c, eta, longest = 3 * rate(rng), rate(rng), 0.0
    for length in np.geomspace(1e-2, 1e2, 400):
        phi = column(rng, 3)
        phi *= length / np.sqrt(squares(phi))
        u = 1e6 * column(rng, 2)
        u *= c / np.sqrt(c**2 + squares(u))
        longest = max(longest, float(np.sqrt(squares(eta / (1 + eta * squares(phi)) * u * phi.T))))
    most = value(bound, {"c": c, r"\eta": eta})
    assert 0.999 * most < longest <= most


@CLAIMS.check(
    "self_modifying_titans.square_growth",
    "With E = R and α ≥ ‹› an implicit write of a bounded surprise adds less than ‹› to ‹› ‖W - E‖^2: squares add up, not lengths.",
)
def squares_add_up(rng: Rng, least: str, added: str, kept: str) -> None:
    """An adversary who sees W chooses length, direction and surprise: it comes near the bound, and below α = ½ beyond it."""
    c, eta = 0.3 + rate(rng), 0.3 + rate(rng)

    def most(alpha: float) -> float:
        """The largest share of the bound that a write reaches; ‖D φ‖ may be anything up to ‖D‖ ‖φ‖."""
        lengths, d = np.geomspace(1e-2, 1e2, 200), 50.0
        found = 0.0
        for length in lengths:
            taken = eta / (1 + eta * length**2)
            reached = np.linspace(-3 * c, 3 * c, 2001)[:, None]  # along u, no farther than d · length
            surprise = np.linspace(-c, c, 41)
            written = alpha**2 * d**2 + taken * (
                taken * length**2 * (reached - surprise) ** 2 - 2 * alpha * reached * (reached - surprise)
            )
            possible = np.where(np.abs(reached) <= d * length, written, 0.0)
            names = {r"\alpha": alpha, r"\eta": eta, "c": c}
            found = max(found, float((possible.max() - value(kept, names) * d**2) / value(added, names)))
        return found

    for alpha in (value(least), 0.7, 1.0):
        assert 0.99 < most(float(alpha)) < 1
    assert most(float(value(least)) - 0.2) > 1


# --- counts and tables -----------------------------------------------------------------------------------------------


def of_its_formula(name: str, said: str, **sizes: float) -> None:
    """The claim repeats its formula, which has been held against arrays: equal at these sizes."""
    formula = symbolic.named(f"counts.{name}").correct
    same(value(said, sizes), latex.evaluate(formula, sizes), said)


@CLAIMS.check(
    "counts.parameters_of_self_modifying_titans",
    "One head of the bare equations has ‹› parameters, W_q among them.",
)
def parameters(rng: Rng, said: str) -> None:
    of_its_formula("parameters_of_self_modifying_titans", said, d=5, h=7)


@CLAIMS.check(
    "counts.state_of_hope",
    "HOPE carries per block two copies of its memories, the convolutions' last inputs, and ‹› for each level.",
)
def state(rng: Rng, said: str) -> None:
    """One level more; the memories' ten matrices are there twice."""
    formula = symbolic.named("counts.state_of_hope").correct.split(r", \quad")[0]
    sizes = {"N": 1.0, "H": 2.0, "d": 3.0, "h": 5.0, "W": 6.0, "w": 4.0}
    more, fewer = (latex.evaluate(formula, sizes | {"K": levels}) for levels in (3.0, 2.0))
    same(value(said, {"W": 6.0}), more - fewer)
    bare = latex.evaluate(formula, sizes | {"K": 0.0, "w": 1.0})
    same(bare, 2.0 * 2.0 * 10 * 3.0 * 5.0, "two copies of ten matrices in each head")


@CLAIMS.check("counts.token_flops", "With h = d the token loop multiplies ‹› for each token and head.")
def token_flops(rng: Rng, said: str) -> None:
    of_its_formula("token_flops", said, d=7)


@CLAIMS.check(
    "counts.chunk_flops",
    "With h = d a chunk of C tokens costs ‹› and lower terms: per token ‹›.",
)
def chunk_flops(rng: Rng, said: str, per_token: str) -> None:
    """At C = d, a million each, the lower terms are lost; per token is that over C."""
    sizes = {"C": 1e6, "d": 1e6}
    cost = latex.evaluate(symbolic.named("counts.chunk_flops").correct, sizes)
    assert value(said, sizes) == pytest.approx(cost, rel=1e-5)
    for chunk in (3.0, 50.0):
        same(value(said, {"C": chunk, "d": 7.0}) / chunk, value(per_token, {"C": chunk, "d": 7.0}))


@CLAIMS.check(
    "counts.crossover",
    "For large d = h chunks cost as much as the token loop at C = ‹›; at ‹›, or ‹› if the loop repeats nothing, with erase full.",
)
def crossover(rng: Rng, *said: str) -> None:
    """The formula, whose three values have been reached by halving, has the same three."""
    chains = latex.chains(symbolic.named("counts.crossover").correct)
    for text, sides in zip(said, chains, strict=True):
        same(value(text, {"d": 7.0}), latex.evaluate(sides[-1], {"d": 7.0}), text)


@CLAIMS.check("tables.averages", "The averages of TTT (‹›M) and Comba (‹›B) are ‹› and ‹›.")
def averages(rng: Rng, millions: str, billions: str, *said: str) -> None:
    """Rounded to two digits from exact tenths, half to even; the sizes are those of the two rows."""
    assert (millions, billions) == ("760", "1.3")
    for text, accuracies in zip(said, (tables.TTT_760M, tables.COMBA_1300M), strict=True):
        assert Decimal(text) == (Decimal(sum(accuracies)) / 80).quantize(Decimal("0.01"))


# --- the tests -------------------------------------------------------------------------------------------------------


def test_no_claim_with_a_number_is_left_out() -> None:
    assert set(CLAIMS) | set(NO_NUMBER) == with_numbers("test_claims_about_memories.py")
    assert not set(CLAIMS) & set(NO_NUMBER)


def test_the_two_files_share_all_concepts() -> None:
    shared = [concept for concepts in CLAIM_FILES.values() for concept in concepts]
    assert sorted(shared) == sorted(module.__name__.rsplit(".", 1)[1] for module in symbolic.CONCEPTS)
    assert all((Path(__file__).parent / file).is_file() for file in CLAIM_FILES)


@pytest.mark.parametrize("name", CLAIMS)
def test_the_numbers_of_a_claim(name: str) -> None:
    CLAIMS.run(name)
