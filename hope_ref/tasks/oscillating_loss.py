"""The oscillating toy loss of [P 53]: a long valley that swings from side to side on its way to the minimum."""

from __future__ import annotations

from typing import Any

import numpy as np

from hope_ref.common.validation import Array, float64, scalar

START = (-3.5, 2.0)  # (r, θ) of [P 53]


def _point(r: Any, theta: Any, **constants: Any) -> tuple[Array, Array, list[float]]:
    r, theta = float64("r", r), float64("theta", theta)
    if r.shape != theta.shape:
        raise ValueError(f"theta must have the shape of r, {r.shape}, got {theta.shape}")
    return r, theta, [scalar(name, value) for name, value in constants.items()]


def psi(r: Any, theta: Any, coupling: Any = 1.0, amplitude: Any = 0.5, omega: Any = 5.0) -> Array:
    """ψ(r, θ) = r² + κ (r - θ + a sin ωr)². [P 53] prints no constants; the defaults are ours [D].

    The valley is the curve θ = r + a sin ωr; along it ψ = r², and the only minimum is ψ(0, 0) = 0.

    Args: r, theta, numbers or arrays of one shape; coupling κ, amplitude a, omega ω.
    Returns: ψ, in the shape of r.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    r, theta, (kappa, a, speed) = _point(r, theta, coupling=coupling, amplitude=amplitude, omega=omega)
    return r**2 + kappa * (r - theta + a * np.sin(speed * r)) ** 2


def psi_gradient(r: Any, theta: Any, coupling: Any = 1.0, amplitude: Any = 0.5, omega: Any = 5.0) -> Array:
    """(∂ψ/∂r, ∂ψ/∂θ) = (2r + 2κ e (1 + aω cos ωr), -2κ e) with e = r - θ + a sin ωr, by hand.

    Args, Raises: as `psi`. Returns: the shape of r, and a last axis of 2.
    """
    r, theta, (kappa, a, speed) = _point(r, theta, coupling=coupling, amplitude=amplitude, omega=omega)
    error = r - theta + a * np.sin(speed * r)  # how far from the valley
    along_r = 2 * r + 2 * kappa * error * (1 + a * speed * np.cos(speed * r))
    return np.stack([along_r, -2 * kappa * error], axis=-1)
