"""Make a golden vector for any options, and all that are shipped."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hope_ref.common.files import one_line
from hope_ref.config import HopeConfig
from hope_ref.golden import archive, expressive_optimisers
from hope_ref.golden.components import Arrays, Component, Options, Sizes, checked_sizes
from hope_ref.golden.files import Vector, check_place, save
from hope_ref.golden.manifest import LARGEST_SEED
from hope_ref.golden.registry import component
from hope_ref.golden.self_modifying import of_config
from hope_ref.reference.chunks import ERASE
from hope_ref.reference.expressive_optimisers import SIDES
from hope_ref.reference.momentum import WRITES

FOLDER = Path(__file__).parent / "vectors"
DEFAULT = Sizes(11, 4, 5)
MEMORY = 8 * archive.MOST  # bytes that `make` may need: the arrays, their copies, and what is between them
SECONDS = 600.0  # that it may take, by a rough estimate


def make(
    name: str,
    options: Options | None = None,
    seed: int = 0,
    tokens: int = DEFAULT.tokens,
    width: int = DEFAULT.width,
    hidden: int = DEFAULT.hidden,
) -> Vector:
    """Draw inputs from the seed, run our reference, keep both.

    Args:
        name: of the component.
        options: those that are not at their defaults, draws included.
        seed: of the generator, an integer in [0, 2^128).
        tokens: T, an integer >= 0.
        width, hidden: sizes, integers >= 1.
    Returns:
        the vector.
    Raises:
        ValueError: naming the argument, what it got and what it wants, before anything is computed; so, too,
            for a size that needs more than `MEMORY` or `SECONDS`; or naming the first token that is not
            finite.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be an integer >= 0, got {seed!r}")
    if seed > LARGEST_SEED:
        raise ValueError(f"seed must be below 2^128, got {one_line(seed, 60)}")
    sizes = checked_sizes(tokens, width, hidden)
    chosen = component(name)
    settled, draws = chosen.completed(options or {})
    check_cost(chosen, settled, draws, sizes)
    inputs = chosen.draw({**settled, **draws}, sizes, seed)
    with np.errstate(over="ignore", invalid="ignore"):  # `_finite` tells
        results = chosen.run(inputs, settled)
    _finite(results)
    return Vector(name, chosen.equations, settled, draws, seed, *sizes, inputs, results)


def check_cost(chosen: Component, options: Options, draws: Options, sizes: Sizes) -> None:
    """Raise a ValueError that names a size if the vector would need too much memory or time.

    It names an option if our reference refuses it.
    """

    def memory(at: Sizes) -> float:
        arrays = sum(archive.total(part) for part in chosen.shapes(options, draws, at))
        return 8 * arrays + 32 * (at.width + at.hidden) ** 2  # some rules have a square matrix between

    def seconds(at: Sizes) -> float:
        inputs, _ = chosen.shapes(options, draws, at._replace(tokens=1))
        return at.tokens * chosen.seconds(sum(math.prod(shape) for shape in inputs.values()))

    for cost, most, unit, scale in ((memory, MEMORY, "GB", 2**30), (seconds, SECONDS, "minutes", 60)):
        if (need := cost(sizes)) > most:
            largest = _to_blame(cost, sizes, chosen.unit(options))
            got = getattr(sizes, largest)
            raise ValueError(
                f"{largest} must be smaller, got {got}: {chosen.name} with {_words(sizes)} "
                f"would need about {need / scale:,.3g} {unit}, at most {most / scale:g} are allowed"
            )


def _to_blame(cost: Callable[[Sizes], float], sizes: Sizes, unit: int) -> str:
    """The size that makes the cost what it is: at its default the rest would cost least."""
    default = DEFAULT._replace(width=math.ceil(DEFAULT.width / unit) * unit)
    smaller = {
        name: cost(sizes._replace(**{name: min(getattr(sizes, name), getattr(default, name))}))
        for name in Sizes._fields
    }
    return min(smaller, key=lambda name: smaller[name])


def _words(sizes: Sizes) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes._asdict().items())


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
    "shared_gain": [
        ("", {}),
        ("_dot_matrix", {"objective": "dot", "readout": "matrix", "read": "boundary", "gain_bound": 0.0}),
    ],
    "preconditioner_step": [("", {})],
    "feature_momentum_step": [
        ("", {}),
        ("_cube", {"feature": "cube"}),
        ("_muon", {"feature": "tanh", "output": "newton_schulz"}),
    ],
    "deep_momentum_step": [("", {})],
    "shampoo_step": [("_" + sides, {"sides": sides}) for sides in SIDES],
}
_TOKENS = {"hope_adaptation": 7}  # which differentiates numerically, and is slow
_TOKENS |= {one.name: 3 for one in expressive_optimisers.COMPONENTS}  # each carries a state


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
        tokens = _TOKENS.get(name, 11)
        every += [Shipped(name + what, name, options, tokens) for what, options in variants]
    return every


def make_shipped(folder: Path) -> list[Path]:
    """Write all shipped vectors into the folder; returns their paths.

    Raises: ValueError, before any is made, if one of them cannot be written there; OSError.
    """
    from tqdm import tqdm

    every = shipped()
    written = [folder / f"{item.file}.npz" for item in every]
    for path in written:
        check_place(path)
    for seed, (path, item) in enumerate(
        zip(tqdm(written, unit="vector", leave=False, disable=None), every, strict=True)
    ):
        save(path, make(item.component, item.options, seed, item.tokens))
    return written
