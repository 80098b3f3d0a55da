"""The printed formulas of the matrix memories, Titans, chunks and kernels, executed beside a token loop written out here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import latex_values as latex
import numpy as np
import pytest
from printed_claims import Bindings, Env, Rng, identities, parts, reprinted, run_the_print
from simulated import column, columns, dgd_step, gated_step, rate, rates, silu, silu_slope, squares

from hope_ref.symbolic.identity import Identity

BINDINGS = Bindings()
LENGTH = 4  # tokens of a loop
SIZES = ((3, 3), (3, 2))  # (d_k, d_v); square first, so that a factor on the wrong side fits


def products(factors: dict[int, float]) -> tuple[dict[int, float], dict[tuple[int, int], float]]:
    """γ_t and D_{t,s}, by multiplying what a token loop multiplies between two tokens; D_{t,t} is 1."""
    gamma, ratio = {0: 1.0}, {}
    for t in range(len(factors) + 1):
        running = 1.0
        ratio[t, t] = running
        for later in range(t + 1, len(factors) + 1):
            running *= factors[later]
            ratio[later, t] = running
        gamma[t] = ratio[t, 0]
    return gamma, ratio


# --- linear attention ------------------------------------------------------------------------------------------------


@BINDINGS.simulation("linear_attention.weighted_mean")
def answers(rng: Rng) -> Iterator[Any]:
    """κ_s = exp(⟨q, k_s⟩/√d); the mean as softmax has it, of the last c tokens or of all so far."""
    keys, values, q = columns(rng, LENGTH, 3), columns(rng, LENGTH, 2), column(rng, 3)
    for t, c in ((LENGTH, 2), (3, LENGTH), (LENGTH, 1)):
        window = [s for s in range(1, t + 1) if s > t - c]
        scores = np.array([(q * keys[s]).sum() / 3**0.5 for s in window])
        shares = np.exp(scores - scores.max())
        mean = sum(share * values[s] for share, s in zip(shares / shares.sum(), window, strict=True))
        kappa = {s: float(np.exp((q * keys[s]).sum() / 3**0.5)) for s in window}
        yield (
            {
                "t": t,
                "c": max(c, 1) if c < t else t,
                "v": values,
                r"\kappa": kappa,
                "m": np.zeros((2, 1)),
                "m_t": mean,
            },
            mean,
        )


@BINDINGS.simulation("linear_attention.rotary")
def turned(rng: Rng) -> Iterator[Any]:
    """Pairs (z_i, z_{i + d/2}) turned one by one, as complex numbers."""
    q, k = column(rng, 4), column(rng, 4)
    speeds = np.array([1.0, 0.01])

    def turn(place: int) -> np.ndarray:
        real, imag = np.cos(place * speeds), np.sin(place * speeds)
        return np.block([[np.diag(real), -np.diag(imag)], [np.diag(imag), np.diag(real)]])

    def complexed(z: np.ndarray) -> np.ndarray:
        return z[:2, 0] + 1j * z[2:, 0]

    for t, s in ((5, 2), (3, 3), (1, 6)):
        far = (complexed(q).conj() * np.exp(1j * (s - t) * speeds) * complexed(k)).sum().real
        yield {"t": t, "s": s, "q": q, "k": k, "R": {n: turn(n) for n in range(-6, 7)}}, float(far)


@BINDINGS.simulation("linear_attention.gradient")
def one_pair(rng: Rng) -> Iterator[Any]:
    k, v = column(rng, 3), column(rng, 2)
    slope = np.array([[-v[i, 0] * k[j, 0] for j in range(3)] for i in range(2)])
    yield {"M": rng.normal(size=(2, 3)), "k": k, "v": v}, slope


@BINDINGS.simulation("linear_attention.one_step")
def writes(rng: Rng) -> Iterator[Any]:
    memory = rng.normal(size=(2, 3))
    for _ in range(LENGTH):
        k, v = column(rng, 3), column(rng, 2)
        after = memory + v * k.T
        yield {"M": memory, "M_{t-1}": memory, "M_t": after, "k_t": k, "v_t": v}, after
        memory = after


@BINDINGS.simulation("linear_attention.parallel_form")
def reads(rng: Rng) -> Iterator[Any]:
    q, k, v = (rng.normal(size=(5, d)) for d in (3, 3, 2))
    memory, outputs = np.zeros((2, 3)), []
    for t in range(5):
        memory = memory + np.outer(v[t], k[t])
        outputs.append(memory @ q[t])
    yield {"Q": q, "K": k, "V": v, "Y": np.array(outputs)}


@BINDINGS.simulation("linear_attention.retention")
def retention(rng: Rng) -> Iterator[Any]:
    k, q, v, alpha = (
        columns(rng, LENGTH, 3),
        columns(rng, LENGTH, 3),
        columns(rng, LENGTH, 2),
        rates(rng, LENGTH),
    )
    memory, outputs = {0: rng.normal(size=(2, 3))}, {}
    for t in range(1, LENGTH + 1):
        memory[t] = alpha[t] * memory[t - 1] + v[t] * k[t].T
        outputs[t] = memory[t] @ q[t]
        yield {
            "t": t, "k": k, "q": q, "v": v, r"\alpha": alpha, r"\gamma": products(alpha)[0], "M": memory, "y": outputs
        }  # fmt: skip


# --- the delta rule --------------------------------------------------------------------------------------------------


@BINDINGS.simulation("delta_rule.one_step")
def corrections(rng: Rng) -> Iterator[Any]:
    for d_k, d_v in SIZES:
        memory = {0: rng.normal(size=(d_v, d_k))}
        k, v, eta = columns(rng, LENGTH, d_k), columns(rng, LENGTH, d_v), rates(rng, LENGTH)
        for t in range(1, LENGTH + 1):
            error = memory[t - 1] @ k[t] - v[t]
            memory[t] = memory[t - 1] - eta[t] * error * k[t].T
            yield {"t": t, "M": memory, "k": k, "v": v, r"\eta": eta}


@BINDINGS.simulation("delta_rule.gradient")
def slope_without_the_half(rng: Rng) -> Iterator[Any]:
    memory, k, v = rng.normal(size=(2, 3)), column(rng, 3), column(rng, 2)
    yield {"M": memory, "k": k, "v": v}, latex.gradient(lambda m: squares(m @ k - v), memory)


@BINDINGS.simulation("linear_attention.pairs")
def agreement_over_pairs(rng: Rng) -> Iterator[Any]:
    """Five pairs, their agreements added up one by one."""
    memory, keys, values = rng.normal(size=(2, 3)), rng.normal(size=(3, 5)), rng.normal(size=(2, 5))

    def loss(m: np.ndarray) -> float:
        return -sum(float((m @ k) @ v) for k, v in zip(keys.T, values.T, strict=True))

    yield {"M": memory, "K": keys, "V": values}, latex.gradient(loss, memory)


@BINDINGS.simulation("delta_rule.pairs")
def squares_over_pairs(rng: Rng) -> Iterator[Any]:
    """Five pairs, their squared errors added up one by one."""
    memory, keys, values = rng.normal(size=(2, 3)), rng.normal(size=(3, 5)), rng.normal(size=(2, 5))

    def loss(m: np.ndarray) -> float:
        return sum(float(((m @ k - v) ** 2).sum()) for k, v in zip(keys.T, values.T, strict=True))

    yield {"M": memory, "K": keys, "V": values}, latex.gradient(loss, memory)


def one_correction(rng: Rng, eta: float | None = None) -> Env:
    """One pair and one delta step; at 1/‖k‖² by default."""
    before, k, v = rng.normal(size=(2, 3)), column(rng, 3), column(rng, 2)
    eta = 1 / squares(k) if eta is None else eta
    after = before + eta * (v - before @ k) * k.T
    return {"M_{t-1}": before, "M_t": after, "k": k, "v": v, r"\eta": eta}


@BINDINGS.simulation("delta_rule.error_shrinks")
def error(rng: Rng) -> Iterator[Any]:
    env = one_correction(rng, rate(rng))
    yield env, env["M_t"] @ env["k"] - env["v"]


@BINDINGS.simulation("delta_rule.one_shot")
def one_shot(rng: Rng) -> Iterator[Any]:
    yield one_correction(rng)


@BINDINGS.simulation("delta_rule.eigenvalues")
def transition(rng: Rng) -> Iterator[Any]:
    for width in (2, 4):
        k, eta = column(rng, width), rate(rng)
        step = np.array([row - eta * (row @ k) * k[:, 0] for row in np.eye(width)])
        for x in rng.normal(size=3):
            value = np.prod(float(x) - np.linalg.eigvalsh(step))
            yield {"x": float(x), "k": k, r"\eta": eta, "d_k": width}, value


@BINDINGS.simulation("delta_rule.gated")
def gated_loop(rng: Rng) -> Iterator[Any]:
    for d_k, d_v in SIZES:
        memory = {0: rng.normal(size=(d_v, d_k))}
        k, v, eta, alpha = (
            columns(rng, LENGTH, d_k),
            columns(rng, LENGTH, d_v),
            rates(rng, LENGTH),
            rates(rng, LENGTH),
        )
        written = {}
        gamma, ratio = products(alpha)
        for t in range(1, LENGTH + 1):
            faded = alpha[t] * memory[t - 1]
            written[t] = eta[t] * (v[t] - faded @ k[t])
            memory[t] = faded + written[t] * k[t].T
            yield {
                "t": t, "M": memory, "k": k, "v": v, "w": written, r"\eta": eta, r"\alpha": alpha, r"\gamma": gamma, "D": ratio
            }  # fmt: skip


BINDINGS.simulation("delta_rule.chunk_form")(gated_loop)


@BINDINGS.simulation("delta_rule.gated_and_delta_gradient_descent")
def gated_and_dgd(rng: Rng) -> Iterator[Any]:
    memory, k, v, alpha, eta = rng.normal(size=(2, 3)), column(rng, 3), column(rng, 2), rate(rng), rate(rng)
    both = {name: step(memory, k, v, eta, alpha) for name, step in STEPS.items()}
    yield {**both, "M": memory, "k": k, r"\alpha": alpha, r"\eta": eta}


STEPS = {r"\text{gated}": gated_step, r"\text{DGD}": dgd_step}


# --- Titans ----------------------------------------------------------------------------------------------------------


@BINDINGS.simulation("titans.matrix_gradient")
def slope_of_the_error(rng: Rng) -> Iterator[Any]:
    memory, k, v = rng.normal(size=(2, 3)), column(rng, 3), column(rng, 2)
    yield {"M": memory, "k": k, "v": v}, latex.gradient(lambda m: squares(m @ k - v) / 2, memory)


@BINDINGS.simulation("titans.mlp_gradient_w1", "titans.mlp_gradient_w2")
def perceptron(rng: Rng) -> Iterator[Any]:
    w1, w2, k, v = rng.normal(size=(3, 4)), rng.normal(size=(4, 3)), column(rng, 3), column(rng, 3)
    yield {
        "M": latex.Lazy(lambda env: lambda z: z + env["W_1"] @ silu(env["W_2"] @ z)),
        "W_1": w1, "W_2": w2, "k": k, "v": v, "e": k + w1 @ silu(w2 @ k) - v, r"\sigma": silu, r"\sigma'": silu_slope,
    }  # fmt: skip


def titans_loop(rng: Rng, mu: float | None = None, alpha: float | None = None) -> Iterator[Env]:
    """Titans with a matrix memory: momentum against the slope of ½‖M k - v‖², then decay and add. Literal names."""
    memory, push = rng.normal(size=(2, 3)), np.zeros((2, 3))
    for _ in range(LENGTH):
        k, v, eta = column(rng, 3), column(rng, 2), rate(rng)
        fade, keep = (rate(rng) if number is None else number for number in (mu, alpha))
        pushed = fade * push - eta * (memory @ k - v) * k.T
        after = keep * memory + pushed
        yield {
            "M_{t-1}": memory, "M_t": after, "B_{t-1}": push, "B_t": pushed, "k_t": k, "v_t": v,
            r"\eta_t": eta, r"\mu_t": fade, r"\alpha_t": keep, r"\mu": fade, r"\alpha": keep,
            r"\text{gated}": gated_step(memory, k, v, eta, keep), r"\nabla": "M_{t-1}",
        }  # fmt: skip
        memory, push = after, pushed


@BINDINGS.simulation("titans.delta_rule")
def titans_is_the_delta_rule(rng: Rng) -> Iterator[Any]:
    yield from titans_loop(rng, 0.0, 1.0)


@BINDINGS.simulation("titans.without_momentum")
def titans_without_momentum(rng: Rng) -> Iterator[Any]:
    yield from titans_loop(rng, 0.0)


@BINDINGS.simulation("titans.alpha_clash")
def titans_in_two_notations(rng: Rng) -> Iterator[Any]:
    yield from titans_loop(rng)


@BINDINGS.simulation("titans.two_frozen_tokens")
def two_frozen_tokens(rng: Rng) -> Iterator[Any]:
    start, k, v = rng.normal(size=(2, 3)), columns(rng, 2, 3), columns(rng, 2, 2)
    eta, alpha, mu = rates(rng, 2), rates(rng, 2), rates(rng, 2)
    memory, push = start, np.zeros((2, 3))
    for t in (1, 2):
        push = mu[t] * push - eta[t] * (start @ k[t] - v[t]) * k[t].T
        memory = alpha[t] * memory + push
    yield {"M": {0: start, 2: memory}, "k": k, "v": v, r"\eta": eta, r"\alpha": alpha, r"\mu": mu}


# --- chunks ----------------------------------------------------------------------------------------------------------


def boundary_of(formula: str) -> list[tuple[str, int]]:
    """The index formulas of a printed boundary, each with the number that its tokens are counted from."""
    chains = parts(formula)
    if len(chains) == 1:  # the print: the index stands below the state, and both ways of counting are open
        (inside,) = [side[side.index("_") + 3 : -1] for side in chains[0]]
        return [(inside, 0), (inside, 1)]
    assert chains[0] == ["M _ { b ( t ) }"]
    assert chains[1][0] == "b ( t )"
    assert [chain[0] for chain in (chains[2], chains[4])] == ["t", "t"]
    return [(chains[1][1], int(chains[2][1])), (chains[3][0], int(chains[4][1]))]


@BINDINGS.check("chunks.boundary")
def boundary(formula: str, rng: Rng) -> None:
    """A walk through three chunks that keeps, at a chunk's first token, how many tokens have been seen."""
    for size in (2, 3):
        kept, seen = [], 0
        for _ in range(3):
            kept += [seen] * size
            seen += size
        for inside, first in boundary_of(formula):
            for t, before in enumerate(kept, start=first):
                assert latex.evaluate(inside, {"t": t, "C": size}) == before, (inside, t)


def recurrence(rng: Rng, length: int) -> Iterator[Env]:
    """Decay, erase what the state before the token answers, write; seen after each token."""
    phi, q, u = columns(rng, length, 3), columns(rng, length, 3), columns(rng, length, 2)
    eta, alpha = rates(rng, length), rates(rng, length)
    gamma, ratio = products(alpha)
    state, written = {0: rng.normal(size=(2, 3))}, {}
    for t in range(1, length + 1):
        written[t] = eta[t] * (u[t] - state[t - 1] @ phi[t])
        state[t] = alpha[t] * state[t - 1] + written[t] * phi[t].T
        yield {
            "t": t, "C": t, r"\varphi": phi, "q": q, "u": u, "w": written, "S": state, r"\eta": eta,
            r"\gamma": gamma, "D": ratio, r"\sum_s": range(1, t + 1),
        }  # fmt: skip


@BINDINGS.simulation("chunks.writes", "chunks.three_steps", "chunks.reads")
def chunk(rng: Rng) -> Iterator[Any]:
    yield from recurrence(rng, 5)


def impulse(alpha: dict[int, float], mu: dict[int, float], at: int) -> dict[int, float]:
    """What a momentum of 1, put in at a token (0: before the first), has added to the state by each later time."""
    momentum, state, reached = float(at == 0), 0.0, {}
    for t in range(1, len(alpha) + 1):
        momentum = mu[t] * momentum + float(t == at)
        state = alpha[t] * state + momentum
        reached[t] = state
    return {0: 0.0} | reached


@BINDINGS.simulation("chunks.momentum")
def momentum_chunk(rng: Rng) -> Iterator[Any]:
    phi, u, shift = columns(rng, LENGTH, 3), columns(rng, LENGTH, 2), rng.normal(size=(2, 3))
    eta, alpha, mu = rates(rng, LENGTH), rates(rng, LENGTH), rates(rng, LENGTH)
    gamma, ratio = products(alpha)
    reached = {(t, s): impulse(alpha, mu, s)[t] for t in alpha for s in range(1, t + 1)}
    push, state, erased = rng.normal(size=(2, 3)), {0: rng.normal(size=(2, 3))}, {}
    env = {
        r"\varphi": phi,
        "u": u,
        "p": erased,
        "S": state,
        "B_0": push,
        r"\eta": eta,
        r"\gamma": gamma,
        "D": ratio,
    }
    for t in range(1, LENGTH + 1):
        push = mu[t] * push + eta[t] * u[t] * phi[t].T
        erased[t] = (state[t - 1] + shift) @ phi[t]
        state[t] = alpha[t] * state[t - 1] - eta[t] * erased[t] * phi[t].T + push
        yield env | {"t": t, "b": impulse(alpha, mu, 0), "c": reached}


@BINDINGS.simulation("chunks.frozen_dot")
def frozen_dot(rng: Rng) -> Iterator[Any]:
    """∇_M of a function of M, read at any state M_{b(t)}."""
    k, v = column(rng, 3), column(rng, 2)
    yield (
        {"M": rng.normal(size=(2, 3)), "M_{b(t)}": latex.Lazy(lambda env: env["M"]), "k_t": k, "v_t": v},
        -v * k.T,
    )


@BINDINGS.simulation("chunks.frozen_l2")
def frozen_l2(rng: Rng) -> Iterator[Any]:
    start, k, v, eta, alpha = (
        rng.normal(size=(2, 3)),
        columns(rng, 2, 3),
        columns(rng, 2, 2),
        rates(rng, 2),
        rates(rng, 2),
    )
    last = {}
    for size in (1, 2):
        memory = seen = start
        for t in (1, 2):
            seen = memory if (t - 1) % size == 0 else seen
            memory = alpha[t] * memory - eta[t] * (seen @ k[t] - v[t]) * k[t].T
        last[size] = memory
    yield {
        "M_2^{C=1}": last[1], "M_2^{C=2}": last[2], "M_0": start, "k": k, "v": v, r"\eta": eta, r"\alpha": alpha
    }  # fmt: skip


# --- kernels ---------------------------------------------------------------------------------------------------------


@BINDINGS.simulation("kernels.doubling")
def doubling(rng: Rng) -> Iterator[Any]:
    for size in (2, 3):
        a, b = (np.tril(rng.normal(size=(size, size)), -1) + np.eye(size) for _ in range(2))
        between, nothing = rng.normal(size=(size, size)), np.zeros((size, size))
        inverses = np.block([[np.linalg.inv(a), nothing], [nothing, np.linalg.inv(b)]])
        whole = np.linalg.inv(np.block([[a, nothing], [between, b]]))
        yield {"A": a, "B": b, "M": between, "X": inverses}, whole


@BINDINGS.simulation("kernels.distance")
def distance_loop(rng: Rng) -> Iterator[Any]:
    weight, back, origin = (rng.normal(size=(2, 3)) for _ in range(3))
    for _ in range(LENGTH):
        phi, u, alpha, eta = column(rng, 3), column(rng, 2), rate(rng), rate(rng)
        after = alpha * weight + (1 - alpha) * back - eta * ((weight - origin) @ phi - u) * phi.T
        yield {
            "W_t": after, "W_{t-1}": weight, "R": back, "E": origin, r"\varphi_t": phi, "u_t": u,
            r"\alpha_t": alpha, r"\eta_t": eta,
        }  # fmt: skip
        weight = after


@BINDINGS.simulation("kernels.backward", "kernels.gradients")
def backward(rng: Rng) -> Iterator[Any]:
    """Differences of the token loop, in rows; also by a write, a score q·φ or a product φ·φ as if each were free."""
    count, d_in, d_out = 3, 3, 2
    loop = {
        "q": rng.normal(size=(count, d_in)),
        "phi": rng.normal(size=(count, d_in)),
        "u": rng.normal(size=(count, d_out)),
    }
    loop |= {"start": rng.normal(size=(d_out, d_in)), "more": np.zeros((count, d_out))}
    loop |= {"scores": np.zeros((count, count)), "gram": np.zeros((count, count))}
    eta, alpha = rng.uniform(0.2, 0.9, size=(2, count))
    by_answer, by_end = rng.normal(size=(count, d_out)), rng.normal(size=(d_out, d_in))
    written = np.zeros((count, d_out))

    def loss(q: Any, phi: Any, u: Any, start: Any, more: Any, scores: Any, gram: Any) -> float:
        state, told = start, 0.0
        for t in range(count):
            before, state = state, alpha[t] * state
            decays = [
                np.prod(alpha[s + 1 : t]) for s in range(t)
            ]  # from each write to the token before this one
            answer = before @ phi[t] + sum(decays[s] * gram[t, s] * written[s] for s in range(t))
            written[t] = eta[t] * (u[t] - answer)
            state = state + np.outer(written[t] + more[t], phi[t])
            said = state @ q[t]
            for s in range(t + 1):
                said = said + np.prod(alpha[s + 1 : t + 1]) * scores[t, s] * written[s]
            told += float(by_answer[t] @ said)
        return told + float((by_end * state).sum())

    def by(name: str) -> Any:
        return latex.gradient(lambda x: loss(**(loop | {name: x})), loop[name])

    def free_writes(more: Any) -> float:
        """The loss of fixed writes, not made from the state."""
        state, told = loop["start"], 0.0
        for t in range(count):
            state = alpha[t] * state + np.outer(made[t] + more[t], loop["phi"][t])
            told += float(by_answer[t] @ state @ loop["q"][t])
        return told + float((by_end * state).sum())

    loss(**loop)
    made = written.copy()
    gamma = np.cumprod(alpha)[:, None]
    before = np.concatenate([[[1.0]], gamma[:-1]])
    system = np.eye(count)
    for t in range(count):
        for s in range(t):
            system[t, s] = eta[t] * np.prod(alpha[s + 1 : t]) * (loop["phi"][t] @ loop["phi"][s])
    env = {
        r"\bar S_0": by("start"), r"\bar S_C": by_end, r"\gamma_C": float(gamma[-1, 0]), r"\gamma": gamma, r"\gamma^-": before,
        r"\bar o": by_answer, "q": loop["q"], r"\varphi": loop["phi"], r"\eta": eta[:, None], "X": np.linalg.inv(system),
        r"\bar w": latex.gradient(free_writes, loop["more"]), r"\bar u": by("u"), r"\bar\varphi": by("phi"),
        "D_C": np.array([[np.prod(alpha[s + 1 :])] for s in range(count)]), "w": made, "S_0": loop["start"],
        "A": by("scores"), "G": by("gram"),
    }  # fmt: skip
    yield env


# --- the tests -------------------------------------------------------------------------------------------------------

ENTRIES = identities("test_printed_memories.py")


def test_no_identity_is_left_out() -> None:
    assert set(BINDINGS) == {entry.name for entry in ENTRIES}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_the_correct_formula_holds(entry: Identity) -> None:
    BINDINGS.run(entry.name, entry.correct)


@pytest.mark.parametrize("entry", reprinted(ENTRIES), ids=lambda e: e.name)
def test_the_print_holds_or_is_wrong_as_its_proof_says(entry: Identity) -> None:
    run_the_print(BINDINGS, entry)
