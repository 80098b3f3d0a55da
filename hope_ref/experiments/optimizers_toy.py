"""Optimisers on the oscillating toy loss of [P 53], two numbers: all starts of a setting in one batch. [D]"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from hope_ref.common.validation import Array
from hope_ref.experiments.cells import Measures
from hope_ref.parallel import m3
from hope_ref.tasks.oscillating_loss import START, psi, psi_gradient

TUNING_SEED = 1001
TOY = ("SGD with momentum", "Adam", "Muon-like", "M3")
SOLVED, LOST = 1e-6, 1e3  # ψ below counts as arrived; further away counts as diverged


def toy(name: str, settings: dict[str, Any], seed: int) -> Measures:
    """Steps until ψ < 1e-6 at the best of all settings: chosen on other starts than it is measured on.

    Best is the least 90th percentile: the least median would pick settings that fail from every third start. If none
    arrives, the setting that came nearest.
    """
    count, most = settings["starts"], settings["most"]
    tuning = scattered_starts(TUNING_SEED, count)
    grid = [(rate, decay) for rate in settings["rates"] for decay in settings["decays"]]

    def worth(setting: tuple[float, float]) -> tuple[float, ...]:
        return tuple(_percentile(found, 0.9) for found in descended(name, tuning, *setting, most))

    rate, decay = min(grid, key=worth)
    needed, least = descended(name, scattered_starts(seed, count), rate, decay, most)
    middle = _percentile(needed, 0.5)
    return {
        "tried": len(grid),
        "rate": rate,
        "decay": decay,
        "arrived": float(np.isfinite(needed).mean()),
        "median_steps": middle if math.isfinite(middle) else None,
        "median_least": _percentile(least, 0.5),
    }


def _percentile(values: Array, share: float) -> float:
    return float(np.quantile(values, share, method="higher"))


def scattered_starts(seed: int, count: int, width: float = 0.1) -> Array:
    """Starts scattered around the paper's (-3.5, 2), (count, 2)."""
    return np.array(START) + width * np.random.default_rng((seed, 5)).normal(size=(count, 2))


def descended(name: str, starts: Array, rate: float, decay: float, most: int) -> tuple[Array, Array]:
    """Steps until ψ < 1e-6 from every start, infinite where that does not happen, and the least ψ on the way.

    M3 and Muon take matrices: the two numbers are a column, (2, 1), whose orthogonalisation is its direction, at a fixed
    length. Muon-like is M3's fast momentum alone: Muon without Nesterov's look ahead.
    """
    w = torch.from_numpy(starts)
    needed, alive = np.full(len(starts), np.inf), np.ones(len(starts), dtype=bool)
    least = psi(*starts.T)
    plain: dict[str, Any] = {"slow_weight": 0.0, "second_moment": "none"} if name == "Muon-like" else {}
    options = m3.M3Options(lr=rate, beta1=decay, slow_every=10, **plain)
    state = m3.initial_state(w[..., None])
    memory, second = torch.zeros_like(w), torch.zeros_like(w)
    for step in range(1, most + 1):  # with nothing checked: lanes that are lost overflow
        g = torch.from_numpy(psi_gradient(w[:, 0].numpy(), w[:, 1].numpy()))
        if name == "SGD with momentum":
            memory = decay * memory - rate * g
            w = w + memory
        elif name == "Adam":
            memory = decay * memory + (1 - decay) * g
            second = 0.999 * second + (1 - 0.999) * g.square()
            scale = (second / (1 - 0.999**step)).sqrt() + 1e-8
            w = w - rate * memory / (1 - decay**step) / scale
        else:
            change, state = m3.update(g[..., None], state, options)
            w = w - change[..., 0]
        alive &= (w.abs().amax(-1) < LOST).numpy()
        w = torch.where(torch.from_numpy(alive)[:, None], w, torch.from_numpy(starts))
        least = np.minimum(least, psi(w[:, 0].numpy(), w[:, 1].numpy()))
        needed[(least < SOLVED) & np.isinf(needed)] = step
        if (np.isfinite(needed) | ~alive).all():
            break
    return needed, least
