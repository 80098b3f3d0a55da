"""How a printed formula is held against numbers: it is executed on the names that a simulation has bound."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import latex_values as latex
import numpy as np
import pytest

from hope_ref import symbolic
from hope_ref.symbolic.identity import Identity

Rng = np.random.Generator
Env = dict[str, Any]
Check = Callable[[str, Rng], None]
TOLERANCE = 1e-9
WORDS = {"once": 1, "twice": 2}
SEEDS = (0, 1)

# Which test file binds which concepts; each file asserts its own part, one test that no concept is left out.
FILES = {
    "test_printed_memories.py": ("linear_attention", "delta_rule", "titans", "chunks", "kernels"),
    "test_printed_gradients.py": ("gradient_descent", "delta_gradient_descent", "newton_schulz"),
    "test_printed_momentum.py": ("momentum", "m3", "continuum_memory"),
    "test_printed_claims.py": ("self_modifying_titans", "counts", "tables"),
    "test_printed_shared_gain.py": ("shared_gain",),
    "test_printed_state_tracking.py": ("state_tracking", "chunk_equivalence"),
    "test_printed_online_learning.py": ("online_learning",),
    "test_printed_expressive.py": ("expressive_optimisers",),
}
# The same for the claims in words.
CLAIM_FILES = {
    "test_claims_about_memories.py": (
        *FILES["test_printed_memories.py"],
        *FILES["test_printed_claims.py"],
        *FILES["test_printed_shared_gain.py"],
        *FILES["test_printed_state_tracking.py"],
    ),
    "test_claims_about_optimisers.py": (
        *FILES["test_printed_gradients.py"],
        *FILES["test_printed_momentum.py"],
        *FILES["test_printed_expressive.py"],
        *FILES["test_printed_online_learning.py"],
    ),
}


def identities(file: str) -> list[Identity]:
    """The identities that the test file of this name has to bind."""
    return [entry for entry in symbolic.identities() if entry.concept in FILES[file]]


def same(a: Any, b: Any, what: str = "") -> None:
    """Equal but for rounding; shapes must agree."""
    apart = latex.distance(a, b)
    assert apart < TOLERANCE, f"{what}: {apart:.1e} apart"


def holds(formula: str, env: Env, *values: Any) -> None:
    """Every chain of the formula has equal sides, all equal to the independent value if there is one.

    A value per chain, in order; None for a chain that speaks for itself, which must then have two sides.
    """
    chains = latex.chains(formula, env)
    assert len(values) <= len(chains), f"{formula}: {len(chains)} chains for {len(values)} values"
    for i, sides in enumerate(chains):
        numbers = [latex.evaluate(side, env) for side in sides]
        if i < len(values) and values[i] is not None:
            numbers.append(values[i])
        if len(numbers) < 2 or len(set(map(latex.canonical, sides))) < len(sides):
            raise latex.LatexError(f"{' = '.join(sides)} states nothing")
        for side, number in zip([*sides, "the simulation"][1:], numbers[1:], strict=False):
            same(numbers[0], number, f"{sides[0]} and {side}")


def parts(formula: str, env: Env | None = None) -> Sequence[list[str]]:
    """The chains of a formula, for a check that takes it apart."""
    return latex.chains(formula, env)


def differs(a: Any, b: Any) -> None:
    assert latex.distance(a, b) > 1e-3


# Prints that are wrong or not, in letters of their own: what the sources call by another name.
RENAMED = {
    "linear_attention.retention": {r"\eta_t v_t \phi(k_t)": "v_t k_t"},
    "linear_attention.weighted_mean": {"s(k_i, q)": r"\kappa_i", "s(k_j, q)": r"\kappa_j", "M": "m"},
    "delta_gradient_descent.sherman_morrison": {"x_t": "x", r"\eta_t": "c"},
    "momentum.step": {r"\alpha": r"\mu"},
    "momentum.delta_momentum": {r"\alpha": r"\mu"},
    "delta_gradient_descent.inverse_rate": {r"\beta_t": r"\alpha_t", r"\eta_t": r"\eta"},
}
# The words in a formula, in order: which case each of its parts is of.
SAID = {
    "delta_rule.gated_and_delta_gradient_descent": ["gated", "DGD"],
    "titans.without_momentum": ["gated"],
    "chunks.boundary": ["from", "from"],
    "delta_gradient_descent.inverse_rate": ["from"],
    "delta_gradient_descent.frozen_chunk": ["(DGD)", "(gradient descent)"],
    "momentum.step": ["from"],
    "momentum.delta_momentum_fixed_points": ["(explicit)", "(implicit)"],
    "continuum_memory.otherwise": ["otherwise"],
    "continuum_memory.window": ["otherwise"],
    "continuum_memory.update_counts": ["updates", "carried"],
    "self_modifying_titans.eigenvalues": ["(dot; regression inside a chunk)", "(regression token by token)"],
    "self_modifying_titans.skip_escapes": ["(dot)", "(regression)"],
    "self_modifying_titans.worn_away": ["orthonormal", "with", "with"],
}
PRINTED_IS_EQUAL = {
    "delta_gradient_descent.beta_is_alpha"
}  # a proof of its own, but only because it is unsimplified
PRINTED_IS_NOT_RUN = {
    "gradient_descent.self_referential": "counts its learning rate from t + 1",
    "gradient_descent.two_layers": "of a layer ℓ, with δ and x̂ that are defined by it",
    "momentum.delta_momentum_sign": "an objective; the step on it is the correct formula",
    "momentum.adam_regression": "another solution: its sums have the weights β1 and β2, which the objective has not",
    "momentum.adam_two_betas": "Adam as an arg min, which the correct formula refutes",
    "titans.alpha_clash": "the other paper's letters clash with ours: test_claims_about_memories translates it by the claim",
    "continuum_memory.update_counts": "updates per window, where the correct formula counts tokens",
}


def reprinted(entries: Sequence[Identity]) -> list[Identity]:
    """Those whose source prints another formula that can be run with the same bindings."""
    return [e for e in entries if e.printed not in (None, e.correct) and e.name not in PRINTED_IS_NOT_RUN]


def run_the_print(bindings: Bindings, entry: Identity) -> None:
    """A print with a proof against it is numerically different, every other one holds."""
    formula = entry.printed
    assert formula is not None
    for theirs, ours in RENAMED.get(entry.name, {}).items():
        formula = formula.replace(theirs, ours)
    if entry.printed_proof is None or entry.name in PRINTED_IS_EQUAL:
        bindings.run(entry.name, formula)
    else:
        with pytest.raises(AssertionError):
            bindings.run(entry.name, formula)


class Bindings(dict[str, Check]):
    """By the name of an identity: what executes its formula, `correct` or `printed`, and asserts that it holds."""

    def check(self, *names: str) -> Callable[[Check], Check]:
        """Register a function of the formula and a generator."""

        def register(function: Check) -> Check:
            for name in names:
                assert name not in self, name
                self[name] = function
            return function

        return register

    def simulation(self, *names: str) -> Callable[[Callable[[Rng], Iterator[Any]]], Any]:
        """Register a simulation: it yields bindings, or (bindings, value, …) with the value that each chain must have."""

        def register(simulate: Callable[[Rng], Iterator[Any]]) -> Any:
            def run(formula: str, rng: Rng) -> None:
                for entry in simulate(rng):
                    holds(formula, *(entry if isinstance(entry, tuple) else (entry,)))

            self.check(*names)(run)
            return simulate

        return register

    def run(self, name: str, formula: str) -> None:
        """Hold the formula against every seed; its words, if it has any, are the known ones."""
        said = [word.strip() for word in re.findall(r"\\text\{([^}]*)\}", formula)]
        assert not said or said == SAID.get(name), said
        for seed in SEEDS:
            self[name](formula, np.random.default_rng(seed))


# --- claims in words -------------------------------------------------------------------------------------------------

SIGNS = {
    "η̃": r"\tilde\eta ", "v̂": r"\hat v ", "φ": r"\varphi ", "η": r"\eta ", "λ": r"\lambda ", "α": r"\alpha ", "β": r"\beta ",
    "μ": r"\mu ", "σ": r"\sigma ", "‖": r"\|", "²": "^2", "³": "^3", "½": r"\tfrac12 ", "ᵀ": r"^\top ", "W1": "W_1", "W2": "W_2",
    "·": "y",
}  # fmt: skip


def value(text: str, env: Env | None = None) -> Any:
    """The value of a formula in signs."""
    text = re.sub(r"√(\w+)", r"\\sqrt{\1}", text)
    for sign, command in SIGNS.items():
        text = text.replace(sign, command)
    return latex.evaluate(text, env or {})


class Claims(dict[str, tuple[str, Callable[..., None]]]):
    """By the name of an identity: the pattern of its claim, and what is asserted of the formulas that ‹› captures."""

    def check(self, name: str, pattern: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Register a function of a generator and what each ‹› has captured, in order."""
        whole = "(.+?)".join(re.escape(part) for part in pattern.split("‹›"))

        def register(check: Callable[..., None]) -> Callable[..., None]:
            assert name not in self, name
            self[name] = whole, check
            return check

        return register

    def run(self, name: str) -> None:
        """The claim must still read as the pattern has it."""
        pattern, check = self[name]
        match = re.fullmatch(pattern, symbolic.named(name).claim)
        assert match is not None, symbolic.named(name).claim
        for seed in SEEDS:
            check(np.random.default_rng(seed), *match.groups())


def with_numbers(file: str) -> set[str]:
    """The identities with a digit or an inequality in their claim that the test file of this name has to check."""
    return {
        e.name
        for e in symbolic.identities()
        if e.concept in CLAIM_FILES[file] and re.search(r"[0-9½<>≤≥]", e.claim)
    }
