"""Figures of notebook 09: two clocks, an old task that does not fade, the scale of a loss, a race, and who outvotes whom."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from hope_ref.common.validation import Array
from hope_ref.parallel import m3 as in_torch
from hope_ref.reference.m3 import M3State, m3_step
from hope_ref.reference.newton_schulz import newton_schulz
from hope_ref.teaching.figures import BLACK, BLUE, GREEN, PURPLE, VERMILION, figure

PLAIN: dict[str, Any] = {"newton_schulz": "none", "second_moment": "none"}  # the momenta alone

# --- two clocks ---------------------------------------------------------------------------------------------------


class TwoClocks(NamedTuple):
    """What figure ``two_clocks`` shows: the weight of a gradient in each momentum, by its age in steps."""

    fast: Array  # (steps,), newest first
    slow: Array  # (steps,)
    every: int


def two_clocks_data(every: int = 20, steps: int = 400) -> TwoClocks:
    """Give step j the j-th unit vector as its gradient: both momenta are then the lists of their own weights."""
    w, state = np.zeros((1, steps)), None
    for gradient in np.eye(steps):
        _, state = m3_step(w, gradient[None], state, slow_every=every, **PLAIN)
    assert state is not None
    return TwoClocks(state.m1[0, ::-1], state.m2[0, ::-1], every)


@figure(
    "two_clocks",
    alt="The weight of a gradient in two momenta against its age in steps. The fast one starts at 0.1 and "
    "has faded after some 40 steps; the slow one is a staircase with stairs of 20 steps that still weighs "
    "0.014 after 390.",
    caption="The same decay on two clocks: the slow momentum is the fast one stretched twentyfold, in "
    "stairs, because a whole window is taken in at once.",
)
def two_clocks(data: TwoClocks | None = None) -> Figure:
    """Two lists of weights."""
    data = data or two_clocks_data()
    picture, axes = plt.subplots(figsize=(7.6, 3.5))
    age = np.arange(len(data.fast))
    axes.plot(age, data.slow, color=VERMILION, drawstyle="steps-post", linestyle="--")
    axes.plot(age, data.fast, color=BLUE)
    axes.text(40, 0.004, "fast, every step", color=BLUE)
    axes.text(70, 0.08, f"slow, every {data.every} steps", color=VERMILION)
    axes.set(
        xlabel="age of a gradient (steps)",
        ylabel="its weight in the momentum",
        ylim=(-0.002, 0.105),
        xlim=(-4, 402),
    )
    axes.set_title("How far back each momentum looks (both decays 0.9)")
    return picture


# --- an old task --------------------------------------------------------------------------------------------------


class OldTask(NamedTuple):
    """What figure ``old_task`` shows: the part of task A in what each clock holds and in what acts, after the switch to B."""

    steps: Array  # since the switch, spaced evenly on a logarithmic axis
    held: dict[str, Array]  # clock -> ⟨m, A⟩ relative to the switch
    acts: dict[str, Array]  # clock -> ⟨O, A⟩
    noisy: Array  # ⟨O_1, A⟩ with noise in every gradient, the mean of several draws
    every: int


NOISE = 0.3  # Frobenius norm of the noise beside gradients of norm 1, on average


@lru_cache(maxsize=1)
def old_task_data(width: int = 8, every: int = 100, longest: int = 10_000) -> OldTask:
    """Gradients A for ever, then B, each of rank one and norm 1, with nothing in common; Newton–Schulz on every momentum."""
    steps = np.unique(np.round(np.logspace(0, np.log10(longest), 120)).astype(int))
    a, b = two_tasks(width, 0)
    state, course = settled(a, every), []
    for _ in range(longest):
        _, state = m3_step(np.zeros_like(a), b, state, slow_every=every, second_moment="none")
        course.append((state.m1, state.m2 / every, state.o2))
    m1, m2, o2 = ([part[place] for part in (course[n - 1] for n in steps)] for place in range(3))
    held = {"fast": np.array([(m * a).sum() for m in m1]), "slow": np.array([(m * a).sum() for m in m2])}
    acts = {
        "fast": np.array([(newton_schulz(m) * a).sum() for m in m1]),
        "slow": np.array([(o * a).sum() for o in o2]),
    }
    soon = steps[steps <= 120]
    noisy = np.mean([_noisy(width, every, soon, seed) for seed in range(20)], axis=0)
    return OldTask(steps, held, acts, noisy, every)


def two_tasks(width: int, seed: int) -> tuple[Array, Array]:
    """Two matrices of rank one and norm 1 that share no row and no column direction."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.normal(size=(width, width))).Q for _ in range(2))
    return np.outer(left[:, 0], right[:, 0]), np.outer(left[:, 1], right[:, 1])


def settled(gradient: Array, every: int) -> M3State:
    """M3's state after that gradient has come for ever."""
    zero, slow = np.zeros_like(gradient), every * gradient
    return M3State(gradient, slow, zero, newton_schulz(slow), zero, 0)


def _noisy(width: int, every: int, steps: Array, seed: int) -> Array:
    """⟨O_1, A⟩ after those steps of B, with noise in every gradient, of A too."""
    rng = np.random.default_rng((seed, 1))
    a, b = two_tasks(width, seed)
    state, course = settled(a, every), []
    for step in range(-100, int(steps[-1])):
        g = (a if step < 0 else b) + NOISE / width * rng.normal(size=a.shape)
        _, state = m3_step(np.zeros_like(a), g, state, slow_every=every, second_moment="none")
        if step + 1 in steps:
            course.append(float((newton_schulz(state.m1) * a).sum()))
    return np.array(course)


@figure(
    "old_task",
    alt="Two panels over steps since a switch from task A to B, log axis. Left, A's share in the fast "
    "momentum fades within 40 steps, in the slow one within 4,000; right, after Newton-Schulz it stays "
    "above 0.6 for 60 and 6,000 steps, then drops.",
    caption="The momentum forgets the old task step by step, but Newton–Schulz lifts whatever is left to full size: what acts "
    "forgets nothing for a long time, and then everything at once.",
)
def old_task(data: OldTask | None = None) -> Figure:
    """What is held, and what acts."""
    data = data or old_task_data()
    picture, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.8), sharey=True)
    for clock, color, line in (("fast", BLUE, "-"), ("slow", VERMILION, "--")):
        left.plot(data.steps, data.held[clock], color=color, linestyle=line)
        right.plot(data.steps, data.acts[clock], color=color, linestyle=line)
    soon = data.steps[: len(data.noisy)]
    right.plot(soon, data.noisy, color=BLACK, linestyle=":", linewidth=1.6)
    left.text(8, 0.52, "fast", color=BLUE)
    left.text(800, 0.52, f"slow,\nf = {data.every}", color=VERMILION)
    right.text(90, 0.3, "fast", color=BLUE)
    right.text(1300, 0.3, f"slow,\nf = {data.every}", color=VERMILION)
    right.text(1.2, 0.17, f"fast, {NOISE:.0%} noise\nin each gradient", color=BLACK, fontsize=9)
    for axes, title in ((left, "A in the momentum"), (right, "A in what acts, after Newton–Schulz")):
        axes.set_xscale("log")
        axes.set(xlabel="steps of B", title=title, ylim=(-0.13, 1.28))
    left.set_ylabel("part of task A")
    return picture


# --- the scale of the loss ----------------------------------------------------------------------------------------


class LossScale(NamedTuple):
    """What figure ``loss_scale`` shows."""

    scales: Array
    final: dict[str, Array]  # second moment -> final loss, in units of the scale
    start: float


@lru_cache(maxsize=1)
def loss_scale_data(steps: int = 1500) -> LossScale:
    """The quadratic scale · ½‖W - T‖² in 6 × 6, from W = 0, at the default rates with f = 10: all scales in one batch."""
    rng = np.random.default_rng(0)
    rng.normal(size=(6, 6))  # the same target as in the tests of m3_step
    target = torch.from_numpy(rng.normal(size=(6, 6)))
    scales = np.logspace(-6, 2, 9)
    weight = torch.from_numpy(scales)[:, None, None]
    final = {}
    for second_moment in ("update", "none", "gradient"):
        w, state = torch.zeros(len(scales), 6, 6, dtype=torch.float64), None
        for _ in range(steps):
            w, state = in_torch.m3_step(
                w, weight * (w - target), state, slow_every=10, second_moment=second_moment
            )
        final[second_moment] = ((w - target).square().sum((-1, -2)) / 2).numpy()
    return LossScale(scales, final, float(target.square().sum() / 2))


@figure(
    "loss_scale",
    alt="Final loss in units of its scale against the scale of the loss, log axes. With V of the update and "
    "without V it is flat; with V of the gradient, as printed, it is low at scale 1 only, explodes at "
    "smaller scales and stays at the start for larger ones.",
    caption="Multiply the loss by a constant: nothing should change. With the printed second moment the "
    "steps grow as one over the gradient, and only one scale works.",
)
def loss_scale(data: LossScale | None = None) -> Figure:
    """Final loss against the loss's own scale."""
    data = data or loss_scale_data()
    picture, axes = plt.subplots(figsize=(7.4, 3.7))
    axes.axhline(data.start, color="0.5", linestyle=":", linewidth=1.4)
    axes.text(1.2e-6, 1.5 * data.start, "loss at the start", color="0.35", fontsize=9)
    drawn = (("update", BLUE, "-", "o"), ("none", GREEN, "-.", "^"), ("gradient", VERMILION, "--", "s"))
    for name, color, line, marker in drawn:
        axes.plot(data.scales, data.final[name], color=color, linestyle=line, marker=marker)
    axes.text(8e-5, 2e8, "V of the gradient, as printed", color=VERMILION)
    axes.text(2e-5, 0.12, "V of the update", color=BLUE)
    axes.text(2e-2, 5.0, "no V", color=GREEN)
    axes.set(
        xscale="log", yscale="log", xlabel="scale of the loss", ylabel="final loss / scale", ylim=(0.05, 1e10)
    )
    axes.set_title("The same problem, the loss times a constant")
    return picture


# --- outvoted -----------------------------------------------------------------------------------------------------


class Outvoted(NamedTuple):
    """What figure ``outvoted`` shows: the way down ½ w², one number, by weight of the slow momentum."""

    path: dict[float, Array]
    every: int


def outvoted_data(every: int = 10, steps: int = 120) -> Outvoted:
    """From w = 1 at the rate 0.05, without a second moment; Newton–Schulz of one number is (nearly) its sign."""
    path = {}
    for slow_weight in (0.0, 0.3, 1.0):
        w, state, points = np.array([[1.0]]), None, [1.0]
        for _ in range(steps):
            w, state = m3_step(
                w, w, state, lr=0.05, slow_every=every, slow_weight=slow_weight, second_moment="none"
            )
            points.append(float(w[0, 0]))
        path[slow_weight] = np.array(points)
    return Outvoted(path, every)


@figure(
    "outvoted",
    alt="One weight on its way down a parabola, against the step, for three weights a of the slow momentum. "
    "With a = 0 and 0.3 it settles around 0; with a = 1 it shoots to -0.5, stands still, swings to the "
    "other side and never settles.",
    caption="With a = 1 the slow momentum can stop the fast one dead: they point in opposite directions at equal size, and until "
    "the slow one turns nothing moves.",
)
def outvoted(data: Outvoted | None = None) -> Figure:
    """Three ways down a parabola."""
    data = data or outvoted_data()
    picture, axes = plt.subplots(figsize=(7.6, 3.6))
    axes.axhline(0, color="0.5", linewidth=1, linestyle=":")
    for slow_weight, color, line, marker in (
        (0.0, BLUE, "-", "o"),
        (0.3, GREEN, "-.", "^"),
        (1.0, VERMILION, "--", "s"),
    ):
        axes.plot(
            data.path[slow_weight], color=color, linestyle=line, marker=marker, markevery=10, markersize=5
        )
    axes.text(122, data.path[0.0][-1] + 0.06, "a = 0", color=BLUE)
    axes.text(122, data.path[0.3][-1] - 0.1, "a = 0.3", color=GREEN)
    axes.text(122, data.path[1.0][-1], "a = 1", color=VERMILION)
    axes.set(xlabel="step", ylabel="w", xlim=(0, 135), xticks=range(0, 121, 20))
    axes.set_title(f"Down the parabola ½ w², f = {data.every}")
    return picture


# --- the race -----------------------------------------------------------------------------------------------------

WIDTHS, BATCH, STEPS = (16, 32, 8), 64, 200
RACE_RATES = np.logspace(-3, 0, 10)
OPTIONS: dict[str, dict[str, Any]] = {
    "SGD with momentum": {},
    "Adam": {},
    "Muon-like": {"slow_weight": 0.0, "second_moment": "none"},
    "M3, a = 0": {"slow_weight": 0.0},
    "M3, a = 0.1": {"slow_weight": 0.1},
    "M3, a = 1": {"slow_weight": 1.0},
}


class Race(NamedTuple):
    """What figure ``race`` shows, by method."""

    final: dict[str, Array]  # (seeds,), error on fresh inputs relative to the targets' size
    rate: dict[str, float]  # the best of ten rates on other seeds


@lru_cache(maxsize=1)
def race_data() -> Race:
    """Tune every method on the same ten rates and four seeds, measure it on twelve others."""
    race = Race({}, {})
    for name in OPTIONS:
        tuning = run(name, RACE_RATES, range(100, 104))
        best = int(np.nan_to_num(np.median(tuning, axis=1), nan=np.inf).argmin())
        race.final[name] = run(name, RACE_RATES[best : best + 1], range(12))[0]
        race.rate[name] = float(RACE_RATES[best])
    return race


def teacher_and_student(seed: int) -> tuple[list[Array], list[Array], Array]:
    """Two networks W_2 tanh(W_1 x) of one shape, and inputs whose j-th entry has the size 2/j."""
    d_in, hidden, d_out = WIDTHS
    rng = np.random.default_rng(seed)
    teacher = [rng.normal(size=(hidden, d_in)), rng.normal(size=(d_out, hidden)) / np.sqrt(hidden)]
    student = [
        rng.normal(size=(hidden, d_in)) / np.sqrt(d_in),
        rng.normal(size=(d_out, hidden)) / np.sqrt(hidden),
    ]
    return teacher, student, rng.normal(size=(STEPS * BATCH + 512, d_in)) * 2 / np.arange(1, d_in + 1)


def network(weights: list[Tensor], x: Tensor) -> Tensor:
    """W_2 tanh(W_1 x), rows in, rows out."""
    return torch.tanh(x @ weights[0].mT) @ weights[1].mT


def run(name: str, rates: Array, seeds: Any, every: int = 10) -> Array:
    """Train all rates and seeds in one batch, the rate falling linearly to 0; returns the final errors, (rates, seeds)."""
    drawn = [teacher_and_student(seed) for seed in seeds]
    teacher = [torch.from_numpy(np.stack([entry[0][layer] for entry in drawn])) for layer in (0, 1)]
    weights = [
        torch.from_numpy(np.stack([entry[1][layer] for entry in drawn])).expand(
            len(rates), len(drawn), *drawn[0][1][layer].shape
        )
        for layer in (0, 1)
    ]
    x = torch.from_numpy(np.stack([entry[2] for entry in drawn]))
    y, rate = network(teacher, x), torch.from_numpy(rates)[:, None, None, None]
    states: list[Any] = [None, None]
    for step in range(1, STEPS + 1):
        batch = slice((step - 1) * BATCH, step * BATCH)
        asked = [w.detach().requires_grad_() for w in weights]
        loss = (network(asked, x[:, batch]) - y[:, batch]).square().sum(-1).mean(-1) / 2
        gradients = torch.autograd.grad(loss.sum(), asked)
        for layer, g in enumerate(gradients):
            change, states[layer] = changed(name, weights[layer], g, states[layer], step, every)
            weights[layer] = weights[layer] - rate * (1 - (step - 1) / STEPS) * change
    error = (network(weights, x[:, -512:]) - y[:, -512:]).square().sum(-1).mean(-1)
    return np.asarray((error / y[:, -512:].square().sum(-1).mean(-1)).numpy())


def changed(name: str, w: Tensor, g: Tensor, state: Any, step: int, every: int) -> tuple[Tensor, Any]:
    """What a step at the rate 1 takes from the weight, and the new state."""
    if name == "SGD with momentum":
        m = g if state is None else 0.9 * state + g
        return m, m
    if name == "Adam":
        m, v = (torch.zeros_like(g), torch.zeros_like(g)) if state is None else state
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g.square()
        return m / (1 - 0.9**step) / ((v / (1 - 0.999**step)).sqrt() + 1e-8), (m, v)
    new, state = in_torch.m3_step(w, g, state, lr=1.0, slow_every=every, **OPTIONS[name])
    return w - new, state


@figure(
    "race",
    alt="Final errors of a small network after 200 steps, a dot per seed, medians as bars, log axis. "
    "Muon-like and M3 with a = 0 or 0.1 end near 2 percent, Adam at 3.7, SGD with momentum at 5.5, and M3 "
    "with a = 1 last, near 7.",
    caption="Equal steps, ten rates tried for each: a light slow momentum is no worse than none; at equal "
    "weight M3 is no better than SGD.",
)
def race(data: Race | None = None) -> Figure:
    """One dot per seed, one row per method."""
    data = data or race_data()
    picture, axes = plt.subplots(figsize=(8.0, 4.2))
    colors = {"SGD with momentum": "0.35", "Adam": GREEN, "Muon-like": PURPLE}
    names = list(OPTIONS)[::-1]
    for height, name in enumerate(names):
        color = colors.get(name, VERMILION if name == "M3, a = 1" else BLUE)
        final = 100 * data.final[name]
        axes.plot(
            final,
            np.full(len(final), height),
            color=color,
            marker="o",
            linestyle="none",
            alpha=0.6,
            markersize=5,
        )
        median = float(np.median(final))
        axes.plot([median, median], [height - 0.33, height + 0.33], color=BLACK, linewidth=2.4)
        axes.text(22, height, f"η = {data.rate[name]:.2g}", color="0.35", va="center", fontsize=9, ha="right")
    axes.set_xscale("log")
    axes.set_xticks([0.3, 1, 3, 10], ["0.3", "1", "3", "10"])
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="error on fresh inputs after 200 steps (% of the targets' size)", xlim=(0.2, 23))
    axes.grid(axis="y", visible=False)
    axes.set_title("A small network learns another: the best of ten rates each")
    return picture
