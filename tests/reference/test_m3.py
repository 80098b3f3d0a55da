"""M3 against closed sums in PyTorch, torch.optim's Adam and Muon, perturbed gradients, and the quadratic where the print fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from selection import some_slow

from hope_ref.reference.m3 import M3State, initial_state, m3_step

SHORT = {"slow_every": 4, "lr": 0.05}
FACTORS = {"quintic": (3.4445, -4.7750, 2.0315), "cubic": (1.5, -0.5, 0.0)}


def draws(steps: int, shape: tuple[int, int] = (3, 5), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A weight and that many gradients."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape), rng.normal(size=(steps, *shape))


def run(
    w: np.ndarray, gradients: np.ndarray, state: M3State | None = None, **options: Any
) -> tuple[np.ndarray, M3State]:
    """All steps on given gradients: the weights after each, and the last state."""
    path = []
    for g in gradients:
        w, state = m3_step(w, g, state, **options)
        path.append(w)
    assert state is not None
    return np.stack(path), state


def literal(
    w: np.ndarray,
    gradients: np.ndarray,
    accumulate: str,
    second_moment: str,
    newton_schulz: str,
    f: int,
    lr: float = 0.05,
    betas: tuple[float, float, float] = (0.8, 0.95, 0.7),
    a: float = 0.6,
    epsilon: float = 1e-8,
) -> np.ndarray:
    """Algorithm 1 from the list of all gradients so far: nothing is carried, every momentum is a sum over the past."""
    beta1, beta2, beta3 = betas
    g = torch.from_numpy(gradients)

    def ns(x: torch.Tensor) -> torch.Tensor:
        if newton_schulz == "none":
            return x
        p, q, r = FACTORS[newton_schulz]
        x = x / (x.norm() + 1e-7)
        for _ in range(3):
            gram = x @ x.T  # from the left, where the library works from the right
            x = p * x + q * gram @ x + r * gram @ gram @ x
        return x

    def memory(terms: list[torch.Tensor], beta: float) -> torch.Tensor:
        n = len(terms)
        weights = [(1 - beta) * beta ** (n - 1 - j) if accumulate == "ema" else beta for j in range(n)]
        return sum((c * term for c, term in zip(weights, terms, strict=True)), torch.zeros_like(g[0]))

    current, updates, path = torch.from_numpy(w), [], []
    for i in range(1, len(g) + 1):
        fast = memory(list(g[:i]), beta1)
        windows = [g[k * f : (k + 1) * f].sum(0) for k in range((i - 1) // f)]  # full before step i
        update = ns(fast) + (a * ns(memory(windows, beta3)) if windows else 0)
        updates.append(update)
        scale: Any = 1.0
        if second_moment != "none":
            squares = updates if second_moment == "update" else list(g[:i])
            v = memory([s**2 for s in squares], beta2)
            if second_moment == "update" and accumulate == "ema":
                v = v / (1 - beta2**i)
            scale = v.sqrt() + epsilon
        current = current - lr * update / scale
        path.append(current.numpy())
    return np.stack(path)


@pytest.mark.parametrize("accumulate", ["ema", "sum"])
@pytest.mark.parametrize("second_moment", ["update", "gradient", "none"])
@pytest.mark.parametrize("newton_schulz", ["quintic", "cubic", "none"])
@pytest.mark.parametrize("f", [1, 3, 4, 50])
def test_equals_the_algorithm_written_from_all_gradients(
    accumulate: str, second_moment: str, newton_schulz: str, f: int
) -> None:
    w, gradients = draws(13)
    options = {"accumulate": accumulate, "second_moment": second_moment, "newton_schulz": newton_schulz}
    rates = {"beta1": 0.8, "beta2": 0.95, "beta3": 0.7, "slow_weight": 0.6, "lr": 0.05, "steps": 3}
    path, state = run(w, gradients, slow_every=f, **rates, **options)
    want = literal(w, gradients, f=f, **options)
    np.testing.assert_allclose(path, want, rtol=0, atol=1e-12 * max(1.0, np.abs(want).max()))
    assert state.steps == 13
    np.testing.assert_allclose(state.window, gradients[13 - 13 % f :].sum(0), rtol=0, atol=1e-13)


def test_the_defaults_are_those_of_the_algorithm_here() -> None:
    w, gradients = draws(205)
    path, _ = run(w, gradients)
    options = {
        "lr": 1e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "beta3": 0.9,
        "slow_weight": 1.0,
        "slow_every": 100,
        "steps": 5,
        "newton_schulz": "quintic",
        "accumulate": "ema",
        "second_moment": "update",
        "epsilon": 1e-8,
    }
    np.testing.assert_array_equal(path, run(w, gradients, **options)[0])


# --- limits -----------------------------------------------------------------------------------------------------


def test_without_newton_schulz_and_slow_momentum_it_is_adam() -> None:
    """f = 1, a = 0, V of g: Adam without bias corrections, which torch's Adam gives up by a learning rate per step."""
    w, gradients = draws(30)
    path, _ = run(
        w,
        gradients,
        slow_every=1,
        slow_weight=0,
        newton_schulz="none",
        second_moment="gradient",
        lr=0.01,
        epsilon=0,
    )
    tensor = torch.from_numpy(w.copy())
    adam = torch.optim.Adam([tensor], betas=(0.9, 0.999), eps=0.0)
    for i, g in enumerate(gradients, start=1):
        adam.param_groups[0]["lr"] = 0.01 * (1 - 0.9**i) / np.sqrt(1 - 0.999**i)
        tensor.grad = torch.from_numpy(g)
        adam.step()
        np.testing.assert_allclose(path[i - 1], tensor.numpy(), rtol=0, atol=1e-12)


def test_the_fast_clock_alone_is_muon() -> None:
    """a = 0, no second moment: torch's Muon, whose Newton–Schulz runs in bfloat16: seven bits, hence 0.05 per step."""
    w, gradients = draws(20, (4, 6))
    path, _ = run(w, gradients, slow_weight=0, second_moment="none", lr=1.0)
    tensor = torch.from_numpy(w.copy())
    muon = torch.optim.Muon([tensor], lr=1.0, momentum=0.9, nesterov=False, weight_decay=0.0)
    before, last = w, w
    for g, got in zip(gradients, path, strict=True):
        tensor.grad = torch.from_numpy(g)
        muon.step()
        np.testing.assert_allclose(got - before, tensor.numpy() - last, rtol=0, atol=0.05)
        before, last = got, tensor.numpy().copy()


def test_with_sums_the_first_and_third_rate_change_nothing() -> None:
    w, gradients = draws(9)
    one, _ = run(w, gradients, accumulate="sum", beta1=0.9, beta3=0.9, **SHORT)
    two, _ = run(w, gradients, accumulate="sum", beta1=0.1, beta3=0.3, **SHORT)
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)  # the 1e-7 of Newton–Schulz is seen
    three, _ = run(w, gradients, beta1=0.1, beta3=0.3, **SHORT)
    assert np.abs(run(w, gradients, **SHORT)[0] - three).max() > 0.1


def test_with_printed_sums_a_step_under_one_gradient_shrinks_with_the_root_of_time() -> None:
    w, gradients = draws(1)
    printed = {"accumulate": "sum", "second_moment": "gradient", "slow_weight": 0, "lr": 1.0, "epsilon": 0}
    path, _ = run(
        w, np.repeat(1e3 * gradients, 16, axis=0), **printed
    )  # large beside the 1e-7 of Newton–Schulz
    steps = -np.diff(np.concatenate([w[None], path]), axis=0)
    np.testing.assert_allclose(steps[15] / steps[0], 1 / 4, rtol=1e-6)


def test_zero_gradients_move_nothing() -> None:
    w, _ = draws(0)
    path, state = run(w, np.zeros((5, 3, 5)), slow_every=2)
    np.testing.assert_array_equal(path[-1], w)
    assert state.steps == 5


# --- two clocks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", range(1, 11))
def test_any_split_of_the_steps_gives_the_same(split: int) -> None:
    w, gradients = draws(11)
    path, state = run(w, gradients, **SHORT)
    first, carried = run(w, gradients[:split], **SHORT)
    second, last = run(first[-1], gradients[split:], carried, **SHORT)
    np.testing.assert_array_equal(np.concatenate([first, second]), path)
    for got, want in zip(last, state, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("perturbed", "acts_from"), [(1, 5), (2, 5), (4, 5), (5, 9), (8, 9), (9, 13)])
def test_a_gradient_acts_through_the_slow_clock_from_the_step_after_its_window(
    perturbed: int, acts_from: int
) -> None:
    """f = 4, steps from 1: O_2 is seen as the difference of two runs, a = 1 and a = 0, without a second moment."""
    w, gradients = draws(14)
    nudged = gradients.copy()
    nudged[perturbed - 1] += 0.5

    def slow_part(g: np.ndarray) -> np.ndarray:
        paths = [run(w, g, slow_weight=a, second_moment="none", **SHORT)[0] for a in (1.0, 0.0)]
        return np.diff(np.concatenate([w[None] * 0, paths[0] - paths[1]]), axis=0)

    moved = np.abs(slow_part(nudged) - slow_part(gradients)).max(axis=(1, 2)) > 1e-6
    assert int(np.argmax(moved)) + 1 == acts_from


def test_a_partial_window_is_carried_and_not_applied() -> None:
    w, gradients = draws(7)
    _, state = run(w, gradients, **SHORT)
    np.testing.assert_allclose(state.window, gradients[4:].sum(0), rtol=0, atol=1e-14)
    np.testing.assert_allclose(state.m2, 0.1 * gradients[:4].sum(0), rtol=0, atol=1e-14)


def test_the_slow_momentum_does_not_act_in_the_first_window() -> None:
    w, gradients = draws(4)
    with_slow, state = run(w, gradients, slow_weight=3.0, **SHORT)
    np.testing.assert_array_equal(with_slow, run(w, gradients, slow_weight=0.0, **SHORT)[0])
    assert np.abs(state.o2).max() > 0, "it stands ready for step 5"


# --- scale ------------------------------------------------------------------------------------------------------


def descend(scale: float, second_moment: str, steps: int, condition: bool) -> float:
    """Final loss, in units of the scale, of a 6 × 6 quadratic multiplied by the scale."""
    rng = np.random.default_rng(0)
    mixing, target = rng.normal(size=(6, 6)), rng.normal(size=(6, 6))
    mixing = mixing if condition else np.eye(6)
    w, state = np.zeros((6, 6)), None
    for _ in range(steps):
        slope = scale * mixing.T @ (mixing @ w - target)
        w, state = m3_step(w, slope, state, slow_every=10, second_moment=second_moment)
    return float(np.sum((mixing @ w - target) ** 2) / 2)


@pytest.mark.parametrize("condition", some_slow({"False": False, "True": True}, ["True"]))
def test_a_small_loss_makes_the_printed_second_moment_explode(condition: bool) -> None:
    """Loss × 1e-4, default rates: from 21 to about 1e7 as printed, to a few units with V of the update."""
    assert 1e6 < descend(1e-4, "gradient", 1500, condition) < 1e8
    assert descend(1e-4, "update", 1500, condition) < 5


def test_only_the_printed_second_moment_depends_on_the_loss_scale() -> None:
    assert descend(1e-4, "update", 200, True) == pytest.approx(descend(1.0, "update", 200, True), rel=1e-2)
    assert descend(1e-4, "gradient", 200, True) > 1e5 * descend(1.0, "gradient", 200, True)


@pytest.mark.parametrize(
    ("newton_schulz", "low", "high"), [("quintic", 0.2, 1.21), ("cubic", 0.01, 1.0 + 1e-12)]
)
def test_what_acts_is_nearly_orthogonal(newton_schulz: str, low: float, high: float) -> None:
    """O_1 is the step itself with a = 0 and no second moment; O_2 stands in the state. Bands over 20 draws of 8 × 4; the cubic never passes 1."""
    for seed in range(20):
        w, gradients = draws(4, (8, 4), seed)
        options = {"newton_schulz": newton_schulz, "second_moment": "none", "slow_weight": 0, "lr": 1.0}
        path, state = run(w, gradients, slow_every=4, **options)
        for o in (path[-2] - path[-1], state.o2):
            values = np.linalg.svd(o, compute_uv=False)
            assert low < values[-1] <= values[0] < high


# --- bad input --------------------------------------------------------------------------------------------------

ONE = np.ones((2, 3))
STATE = initial_state(ONE)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.ones(3), np.ones(3)), {}, r"w must have shape \(rows, columns\), got \(3,\)"),
        ((np.ones((2, 2, 2)), ONE), {}, r"w must have shape \(rows, columns\), got \(2, 2, 2\)"),
        ((ONE, ONE.T), {}, r"gradient must have shape \(2, 3\), got \(3, 2\)"),
        ((ONE, ONE * np.nan), {}, "gradient must be finite, got 6 NaN"),
        ((ONE.astype(np.float32), ONE), {}, r"w must be float64.*got dtype float32"),
        ((ONE, ONE.astype(np.float32)), {}, r"gradient must be float64.*got dtype float32"),
        ((ONE, ONE, STATE._replace(m1=ONE.T)), {}, r"state.m1 must have shape \(2, 3\), got \(3, 2\)"),
        ((ONE, ONE, STATE._replace(window=ONE * np.inf)), {}, "state.window must be finite, got 6 NaN"),
        ((ONE, ONE, STATE._replace(steps=-1)), {}, "state.steps must be an integer >= 1, got -1"),
        ((ONE, ONE, STATE._replace(steps=1.5)), {}, "state.steps must be an integer >= 1, got 1.5"),
        ((ONE, ONE), {"lr": -0.1}, "lr must be >= 0, got min -0.1"),
        ((ONE, ONE), {"lr": ONE}, r"lr must have shape \(\), got \(2, 3\)"),
        ((ONE, ONE), {"beta1": 1.0}, "beta1 must be < 1, got 1"),
        ((ONE, ONE), {"beta2": 1.0}, "beta2 must be < 1, got 1"),
        ((ONE, ONE), {"beta3": -0.1}, "beta3 must be >= 0, got min -0.1"),
        ((ONE, ONE), {"slow_weight": -1}, "slow_weight must be >= 0, got min -1"),
        ((ONE, ONE), {"slow_every": 0}, "slow_every must be an integer >= 1, got 0"),
        ((ONE, ONE), {"steps": 0}, "steps must be an integer >= 1, got 0"),
        ((ONE, ONE), {"newton_schulz": "septic"}, "newton_schulz must be one of 'quintic', 'cubic', 'none', got 'septic'"),
        ((ONE, ONE), {"accumulate": "mean"}, "accumulate must be one of 'ema', 'sum', got 'mean'"),
        ((ONE, ONE), {"second_moment": "v"}, "second_moment must be one of 'update', 'gradient', 'none', got 'v'"),
        ((ONE, ONE), {"epsilon": -1}, "epsilon must be >= 0, got min -1"),
        ((ONE, 0 * ONE), {"epsilon": 0}, "epsilon must be > 0 where the second moment is 0, got 0"),
    ],
)  # fmt: skip
def test_bad_input_is_named(arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        m3_step(*arguments, **options)
