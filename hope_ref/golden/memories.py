"""Matrix memories, Titans and the continuum memory as golden components."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hope_ref.common.validation import one_of
from hope_ref.config import CHOICES
from hope_ref.golden.components import Arrays, Component, Mistake, Options, Sizes
from hope_ref.reference.chunks import ERASE, momentum_recurrence, recurrence
from hope_ref.reference.continuum_memory import Level, continuum_memory
from hope_ref.reference.delta_rule import delta_rule, gated_delta_rule
from hope_ref.reference.linear_attention import linear_attention
from hope_ref.reference.shared_gain import (
    OBJECTIVES,
    READOUTS,
    READS,
    current,
    random_parameters,
    shared_gain,
)
from hope_ref.reference.titans import start, titans


def _pairs(sizes: Sizes, seed: int, names: str) -> Arrays:
    """q, k (T, width) and v (T, hidden), so that no array is square; per-token rates; memory (hidden, width)."""
    rng = np.random.default_rng(seed)
    tokens, width, hidden = sizes
    drawn = {
        "q": rng.normal(size=(tokens, width)),
        "k": rng.normal(size=(tokens, width)) / math.sqrt(width),
        "v": rng.normal(size=(tokens, hidden)),
        "eta": rng.uniform(0.1, 0.8, size=tokens),
        "alpha": rng.uniform(0.6, 1.0, size=tokens),
        "mu": rng.uniform(0.2, 0.8, size=tokens),
        "memory": rng.normal(size=(hidden, width)) / math.sqrt(width),
    }
    return {name: drawn[name] for name in names.split()}


def _renamed(arrays: Arrays) -> Arrays:
    """A key is an input φ to the recurrence, a value a wanted output u, the memory its state."""
    names = {"k": "phi", "v": "u", "memory": "state"}
    return {names.get(name, name): array for name, array in arrays.items()}


def _matrix(result: tuple[Any, Any]) -> Arrays:
    return dict(zip(("outputs", "final_memory"), result, strict=True))


def _changed(function: Any, **changes: Any) -> Any:
    """Our reference on inputs that were changed first: changes are functions of the inputs, None leaves one out."""

    def run(inputs: Arrays, options: Options) -> Arrays:
        return dict(
            function({**inputs, **{name: change(inputs) for name, change in changes.items()}}, options)
        )

    return run


def _recurrence(erase: str) -> Any:
    def run(inputs: Arrays, options: Options) -> Arrays:
        given = {"alpha": 1.0, **inputs}
        return _matrix(
            recurrence(
                inputs["q"], inputs["k"], inputs["v"], given["eta"], given["alpha"], inputs["memory"], erase
            )
        )

    return run


def _rank_one(inputs: Arrays, options: Options) -> Arrays:
    given: dict[str, Any] = {**inputs, **options}
    return dict(zip(("outputs", "final_state"), recurrence(**given), strict=True))


def _rank_one_with_momentum(inputs: Arrays, options: Options) -> Arrays:
    given: dict[str, Any] = {**inputs, **options}
    names = ("outputs", "final_state", "final_momentum")
    return dict(zip(names, momentum_recurrence(**given), strict=True))


def _linear_attention(inputs: Arrays, options: Options) -> Arrays:
    return _matrix(linear_attention(**inputs, **options))


def _delta_rule(inputs: Arrays, options: Options) -> Arrays:
    return _matrix(delta_rule(**inputs, **options))


def _gated_delta_rule(inputs: Arrays, options: Options) -> Arrays:
    return _matrix(gated_delta_rule(**inputs, **options))


def _titans_draw(options: Options, sizes: Sizes, seed: int) -> Arrays:
    """A matrix memory, or w1 (width, hidden) and w2 (hidden, width) with values as wide as the keys."""
    one_of("architecture", options["architecture"], ("matrix", "mlp"))
    if options["architecture"] == "matrix":
        return _pairs(sizes, seed, "q k v eta alpha mu memory")
    arrays = _pairs(sizes._replace(hidden=sizes.width), seed, "q k v eta alpha mu")
    rng = np.random.default_rng([seed, 1])
    w1 = rng.normal(size=(sizes.width, sizes.hidden)) * math.sqrt(0.25 / sizes.hidden)
    return {**arrays, "w1": w1, "w2": rng.normal(size=w1.shape[::-1]) / math.sqrt(sizes.width)}


def _titans(inputs: Arrays, options: Options) -> Arrays:
    names = ("memory",) if "memory" in inputs else ("w1", "w2")
    rest: dict[str, Any] = {name: array for name, array in inputs.items() if name not in names}
    outputs, state = titans(**rest, state=start(*(inputs[name] for name in names)), **options)
    moved = {f"final_{name}": w for name, w in zip(names, state.weights, strict=True)}
    momentum = [name.replace("w", "b") if name != "memory" else "momentum" for name in names]
    moved |= {f"final_{name}": b for name, b in zip(momentum, state.momentum, strict=True)}
    return {"outputs": outputs, **moved}


def _continuum_draw(options: Options, sizes: Sizes, seed: int) -> Arrays:
    """x, and per level ℓ from 0: w1_ℓ (d, h), w2_ℓ (h, d), gain_ℓ (d,), value_ℓ (d, d), weight_ℓ ()."""
    rng = np.random.default_rng(seed)
    tokens, width, hidden = sizes
    arrays = {"x": rng.normal(size=(tokens, width))}
    for level in range(len(options["levels_chunk_sizes"])):
        arrays |= {
            f"w1_{level}": rng.normal(size=(width, hidden)) * math.sqrt(0.25 / hidden),
            f"w2_{level}": rng.normal(size=(hidden, width)) / math.sqrt(width),
            f"gain_{level}": rng.uniform(0.5, 1.5, size=width),
            f"value_{level}": rng.normal(size=(width, width)) / math.sqrt(width),
            f"weight_{level}": np.array(rng.uniform(0.5, 1.5)),
        }
    return arrays


def _continuum(inputs: Arrays, options: Options) -> Arrays:
    count = sum(name.startswith("w1_") for name in inputs)
    levels = [Level(*(inputs[f"{part}_{index}"] for part in Level._fields)) for index in range(count)]
    outputs, state = continuum_memory(inputs["x"], levels, **options)
    parts = ("w1", "w2", "sum1", "sum2", *(("start1", "start2") if options["variant"] == "nested" else ()))
    final = {
        f"final_{part}_{index}": getattr(level, part)
        for index, level in enumerate(state.levels)
        for part in parts
    }
    return {"outputs": outputs, **final}


def _shared_gain_draw(options: Options, sizes: Sizes, seed: int) -> Arrays:
    """x, and the parameters of either kind of read-out; hidden is not used."""
    drawn = random_parameters(sizes.width, options["readout"], seed)
    return {"x": np.random.default_rng([seed, 1]).normal(size=sizes[:2]), **drawn}


def _shared_gain(inputs: Arrays, options: Options) -> Arrays:
    parameters = {name: array for name, array in inputs.items() if name != "x"}
    readout = "matrix" if "eta_readout" in inputs else "vector"
    outputs, state = shared_gain(inputs["x"], parameters, readout=readout, **options)
    return {"outputs": outputs, **{f"final_{name}": weight for name, weight in current(state).items()}}


COMPONENTS = (
    Component(
        "linear_attention",
        ("S 2-3", "P 15-18", "P 64"),
        {},
        lambda options, sizes, seed: _pairs(sizes, seed, "q k v alpha memory"),
        _linear_attention,
        mistakes=(
            Mistake("nothing decays: alpha is not used", _changed(_linear_attention, alpha=lambda i: 1.0)),
            Mistake(
                "alpha decays the write, too",
                _changed(_linear_attention, v=lambda i: i["alpha"][:, None] * i["v"]),
            ),
        ),
    ),
    Component(
        "delta_rule",
        ("S 4-5",),
        {},
        lambda options, sizes, seed: _pairs(sizes, seed, "q k v eta memory"),
        _delta_rule,
        mistakes=(
            Mistake("nothing is erased: the error leaves out M k", _recurrence("none")),
            Mistake("the loss has no 1/2: eta acts twice", _changed(_delta_rule, eta=lambda i: 2 * i["eta"])),
        ),
    ),
    Component(
        "gated_delta_rule",
        ("P 65",),
        {},
        lambda options, sizes, seed: _pairs(sizes, seed, "q k v eta alpha memory"),
        _gated_delta_rule,
        mistakes=(
            Mistake("the error is measured before the decay", _recurrence("before_decay")),
            Mistake("nothing is erased: the error leaves out M k", _recurrence("none")),
            Mistake("nothing decays: alpha is not used", _changed(_gated_delta_rule, alpha=lambda i: 1.0)),
        ),
    ),
    Component(
        "recurrence",
        ("P 8.2",),
        {"erase": ERASE},
        lambda options, sizes, seed: _renamed(_pairs(sizes, seed, "q k v eta alpha memory")),
        _rank_one,
    ),
    Component(
        "momentum_recurrence",
        ("P 8.2",),
        {"erase": ERASE},
        lambda options, sizes, seed: _renamed(_pairs(sizes, seed, "q k v eta alpha mu memory")),
        _rank_one_with_momentum,
    ),
    Component(
        "titans",
        ("S 22-24", "S 28", "Titans"),
        {"chunk_size": (1, 2, 3, 4, 8, 16)},
        _titans_draw,
        _titans,
        draws={"architecture": ("matrix", "mlp")},
        mistakes=(
            Mistake(
                "alpha is read as Titans prints it, 1 - alpha",
                _changed(_titans, alpha=lambda i: 1 - i["alpha"]),
            ),
            Mistake("the loss has no 1/2: eta acts twice", _changed(_titans, eta=lambda i: 2 * i["eta"])),
            Mistake("there is no momentum: mu is not used", _changed(_titans, mu=lambda i: 0.0)),
        ),
    ),
    Component(
        "continuum_memory",
        ("S 14-15", "P 70-74"),
        {
            "levels_chunk_sizes": ((2, 4), (1, 1)),
            "cms_rate": (None, 0.1),
            "nested_rate": (0.1, 0.0, 1.0),
            "variant": CHOICES["variant"],
            "order": CHOICES["order"],
            "signal": ("associative", *(signal for signal in CHOICES["signal"] if signal != "associative")),
            "rule": CHOICES["rule"],
            "objective": CHOICES["objective"],
        },
        _continuum_draw,
        _continuum,
    ),
    Component(
        "shared_gain",
        ("P 83-88", "P 93", "VisionHOPE"),
        {
            "chunk_size": (4, 1, 2, 3, 8, 16),
            "objective": OBJECTIVES,
            "read": READS,
            "eta_max": (1.0, 0.5, 2.0),
            "gain_bound": (1.0, 0.0, 0.5),
        },
        _shared_gain_draw,
        _shared_gain,
        draws={"readout": READOUTS},
    ),
)
