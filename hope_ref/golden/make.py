"""Make a golden vector for any options, and all that are shipped."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from hope_ref.common.validation import positive_integer
from hope_ref.config import HopeConfig
from hope_ref.golden.components import Arrays, Options, Sizes
from hope_ref.golden.files import Vector, save
from hope_ref.golden.registry import component
from hope_ref.golden.self_modifying import of_config
from hope_ref.reference.chunks import ERASE, count
from hope_ref.reference.momentum import WRITES

FOLDER = Path(__file__).parent / "vectors"


def make(
    name: str,
    options: Options | None = None,
    seed: int = 0,
    tokens: int = 11,
    width: int = 4,
    hidden: int = 5,
) -> Vector:
    """Draw inputs from the seed, run our reference, keep both.

    Args:
        name: of the component.
        options: those that are not at their defaults, draws included.
        seed: of the generator, an integer >= 0.
        tokens: T, an integer >= 0.
        width, hidden: sizes, integers >= 1.
    Returns:
        the vector.
    Raises:
        ValueError: naming the argument, what it got and what it wants; or naming the first token that is not finite.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be an integer >= 0, got {seed!r}")
    sizes = Sizes(
        count("tokens", tokens),
        positive_integer("width", width),
        positive_integer("hidden", hidden),
    )
    chosen = component(name)
    settled, draws = chosen.completed(options or {})
    inputs = chosen.draw({**settled, **draws}, sizes, seed)
    with np.errstate(over="ignore", invalid="ignore"):  # `_finite` tells
        results = chosen.run(inputs, settled)
    _finite(results)
    return Vector(name, chosen.equations, settled, draws, seed, *sizes, inputs, results)


def _finite(results: Arrays) -> None:
    """Raise a ValueError that names the first bad token, or the array if only what is left after the last is bad."""
    outputs = results.get("outputs")
    if outputs is not None and not np.isfinite(outputs).all():
        bad = ~np.isfinite(outputs).all(axis=tuple(range(1, outputs.ndim)))
        raise ValueError(
            f"outputs must be finite, got NaN or infinite entries first at token {int(np.argmax(bad))} of "
            f"{len(outputs)} (counted from 0): take fewer tokens, or options that stay bounded"
        )
    for name, array in results.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, got NaN or infinite entries after the last token")


class Shipped(NamedTuple):
    """One vector that comes with the package; its seed is its place in the list."""

    file: str
    component: str
    options: Options
    tokens: int = 11


_SMALL = {
    "memory_chunk_size": 4,
    "projection_chunk_size": 2,
}  # several chunks, and a last one that is not full
_SELF: dict[str, Options] = {
    "architecture_linear": {"architecture": "linear"},
    "objective_dot": {"objective": "dot"},
    "step_explicit": {"step": "explicit", "eta_max": 0.5},
    "step_normalized": {"step": "normalized", "eta_max": 0.75},
    "retention_all": {"retention_scope": "all"},
    "retention_zero": {"retention_target": "zero"},
    "erase_full": {"erase": "full"},
    "erase_none": {"erase": "none"},
    "target_shared": {"target": "shared", "target_gradient": "stop"},
    "read_pre": {"read": "pre"},
    "read_boundary": {"read": "boundary"},
    "read_skip": {"read_skip": True},
    "adaptive_query": {"adaptive_query": True},
    "no_bound": {"surprise_bound": 0.0},
    "no_value_norm": {"value_norm": False},
    "inner_momentum": {"inner_momentum": 0.5},
    "writing_memory": {"writing": ("memory",)},
    "chunks_of_one": {"memory_chunk_size": 1, "projection_chunk_size": 1},
}
_OTHERS: dict[str, list[tuple[str, Options]]] = {
    "linear_attention": [("", {})],
    "delta_rule": [("", {})],
    "gated_delta_rule": [("", {})],
    "titans": [("_matrix", {"chunk_size": 1}), ("_mlp", {"architecture": "mlp", "chunk_size": 4})],
    "continuum_memory": [
        ("", {}),
        ("_nested_dgd", {"variant": "nested", "rule": "dgd", "cms_rate": (0.2, 0.1)}),
        ("_independent_dot", {"variant": "independent", "objective": "dot", "cms_rate": 0.05}),
        ("_slow_to_fast", {"order": "slow_to_fast", "cms_rate": 0.1}),
        ("_task", {"signal": "task"}),
        ("_none", {"signal": "none"}),
    ],
    "delta_gradient_descent_step": [("", {})],
    "memory_step": [
        ("_dot_explicit", {}),
        ("_l2_implicit", {"objective": "l2", "step": "implicit"}),
        ("_l2_without_half_normalized", {"objective": "l2_without_half", "step": "normalized"}),
    ],
    "newton_schulz": [("_quintic", {}), ("_cubic", {"coefficients": "cubic", "steps": 10})],
    "m3": [
        ("", {"slow_every": 3}),
        ("_printed", {"slow_every": 3, "accumulate": "sum", "second_moment": "gradient"}),
        ("_cubic", {"slow_every": 2, "newton_schulz": "cubic", "second_moment": "none", "slow_weight": 0.5}),
        ("_momentum_only", {"slow_every": 4, "newton_schulz": "none"}),
    ],
    "recurrence": [("_" + erase, {"erase": erase}) for erase in ERASE],
    "momentum_recurrence": [("_" + erase, {"erase": erase}) for erase in ERASE],
    "gradient_descent_step": [("", {})],
    "momentum_step": [("", {})],
    "ema_step": [("", {})],
    "delta_momentum_step": [("_" + write, {"write": write}) for write in WRITES],
    "adam_step": [("", {})],
    "hope": [
        ("", {**_SMALL}),
        ("_two_heads", {**_SMALL, "heads": 2, "signal": "associative"}),
        ("_bare", {**_SMALL, "input_projection": False, "convolution_width": 0, "adaptive_query": True}),
        ("_attention", {"mixer": "softmax_attention", "signal": "none"}),
    ],
    "hope_adaptation": [("", {**_SMALL, "architecture": "linear", "cms_rate": 0.2})],
}


def shipped() -> list[Shipped]:
    """All vectors of the package: `HopeConfig` and `HopeConfig.printed` as they are, then one option at a time."""
    name = "self_modifying_titans"
    every = [
        Shipped(f"{name}_default", name, of_config(HopeConfig()), tokens=19),
        Shipped(f"{name}_printed", name, of_config(HopeConfig.printed()), tokens=19),  # other seeds overflow
    ]
    every += [Shipped(f"{name}_{what}", name, {**_SMALL, **options}) for what, options in _SELF.items()]
    every.append(Shipped(f"{name}_no_tokens", name, _SMALL, tokens=0))  # empty outputs, an unchanged state
    for name, variants in _OTHERS.items():
        tokens = 7 if name == "hope_adaptation" else 11  # which differentiates numerically, and is slow
        every += [Shipped(name + what, name, options, tokens) for what, options in variants]
    return every


def make_shipped(folder: Path) -> list[Path]:
    """Write all shipped vectors into the folder; returns their paths."""
    written = []
    for seed, (file, name, options, tokens) in enumerate(shipped()):
        written.append(folder / f"{file}.npz")
        save(written[-1], make(name, options, seed, tokens))
    return written
