"""Every concept as a `Component`: which functions state it on each floor, and on which arguments they are compared."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from hope_ref import parallel, reference, symbolic
from hope_ref.agreement.comparison import Component
from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig

BOXES = ("k", "v", "eta", "alpha", "memory")


def _tokens(rng: np.random.Generator, **gates: float) -> dict[str, Any]:
    """37 tokens with unit keys, d_k = 5, d_v = 3, a random state, and gates uniform between 0 and the given end."""
    k = rng.normal(size=(37, 5))
    arguments = {
        "q": rng.normal(size=(37, 5)),
        "k": k / np.linalg.norm(k, axis=1, keepdims=True),
        "v": rng.normal(size=(37, 3)),
        "memory": rng.normal(size=(3, 5)),
    }
    return arguments | {name: rng.uniform(0, end, size=37) for name, end in gates.items()}


def _recurrence(rng: np.random.Generator) -> dict[str, Any]:
    """`_tokens` under the names of the rank-one recurrence."""
    names = {"q": "q", "k": "phi", "v": "u", "memory": "state", "eta": "eta", "alpha": "alpha"}
    return {names[name]: array for name, array in _tokens(rng, eta=1.9, alpha=1).items()}


def _titans(floor: Any, **arguments: Any) -> tuple[Any, ...]:
    """`titans` of either floor with its state taken apart: outputs, weights, momentum."""
    weights = [arguments.pop(name) for name in ("memory", "w1", "w2") if name in arguments]
    y, state = floor.titans.titans(**arguments, state=floor.titans.start(*weights))
    return (y, *state.weights, *state.momentum)


def _titans_sample(rng: np.random.Generator, perceptron: bool) -> dict[str, Any]:
    """`_tokens` with a momentum; for a perceptron values as wide as keys, and W1 (5, 6) and W2 (6, 5)."""
    arguments = _tokens(rng, eta=0.9, alpha=1, mu=0.9)
    if perceptron:
        del arguments["memory"]
        arguments |= {"v": rng.normal(size=(37, 5)), "w1": rng.normal(size=(5, 6)) / 3}
        arguments |= {"w2": rng.normal(size=(6, 5)) / 3}
    return arguments


def _layer(rng: np.random.Generator) -> dict[str, Any]:
    """A linear layer, d_in = 5, d_out = 3, and a batch of 37 inputs with their gradients and learning rates."""
    return {
        "w": rng.normal(size=(3, 5)),
        "x": rng.normal(size=(37, 5)),
        "grad_y": rng.normal(size=(37, 3)),
        "eta": rng.uniform(0, 0.2, size=37),
    }


def _gradients(rng: np.random.Generator) -> dict[str, Any]:
    """Weights, momentum and a gradient of four rows and six columns."""
    return {name: rng.normal(size=(4, 6)) for name in ("w", "m", "gradient")}


def _chunk(rng: np.random.Generator, length: int) -> dict[str, Any]:
    """A linear layer, d_in = 5, d_out = 3, and a chunk of inputs with their wanted outputs."""
    sizes = {"w": (3, 5), "x": (length, 5), "u": (length, 3)}
    return {name: rng.normal(size=size) for name, size in sizes.items()} | {"eta": rng.uniform(0, 10)}


def _shampoo(floor: Any, sides: str, a: Any, b: Any, **arguments: Any) -> tuple[Any, ...]:
    """`shampoo_step` of either floor, with L = A Aᵀ and R = B Bᵀ: weights and whole state."""
    state = floor.expressive_optimisers.ShampooState(a @ a.T, b @ b.T)
    w, state = floor.expressive_optimisers.shampoo_step(**arguments, state=state, sides=sides)
    return (w, *state)


ONE_CUBIC_STEP: dict[str, Any] = {"output": "newton_schulz", "steps": 1, "coefficients": "cubic"}


def _general(floor: Any, loss: str, x: Any, u: Any, a: Any, b: Any, rates: Any) -> Any:
    """`general_step` of either floor with two anchors."""
    return floor.expressive_optimisers.general_step(loss, [(rates[0], a), (rates[1], b)], x, u)


def _general_sample(rng: np.random.Generator) -> dict[str, Any]:
    """d_in = 5, d_out = 3."""
    sizes = {"x": (5,), "u": (3,), "a": (3, 5), "b": (3, 5)}
    return {name: rng.normal(size=size) for name, size in sizes.items()} | {"rates": rng.uniform(1, 2, 2)}


def _deep_sample(rng: np.random.Generator) -> dict[str, Any]:
    """Five parameters, a memory of hidden width 3, and a target of its own."""
    sizes = {"w": (5,), "w1": (5, 3), "w2": (3, 5), "gradient": (5,), "target": (5,)}
    return {name: rng.normal(size=size) for name, size in sizes.items()} | {"eta": 0.3, "mu": 0.9}


def _m3(floor: Any, **arguments: Any) -> tuple[Any, ...]:
    """`m3` of either floor at its second step, with a window of 2 and one Newton–Schulz step: weights and whole state."""
    m1, m2, window, o2, second = (arguments.pop(n) for n in ("m1", "m2", "window", "o2", "second_moment"))
    state = floor.m3.M3State(m1, m2, window, o2, second, 1)
    w, state = floor.m3.m3_step(**arguments, state=state, slow_every=2, steps=1)
    return (w, *state)


def _m3_sample(rng: np.random.Generator) -> dict[str, Any]:
    """A weight, a gradient and a state, (4, 6) each; a second moment >= 0."""
    names = ("w", "gradient", "m1", "m2", "window", "o2")
    arguments: dict[str, Any] = {name: rng.normal(size=(4, 6)) for name in names}
    return arguments | {"second_moment": rng.uniform(0.5, 1, size=(4, 6)), "lr": 0.1}


def _level(floor: Any, rule: str, **arguments: Any) -> tuple[Any, ...]:
    """`continuum_memory` of either floor with one level in chunks of 2: outputs and the level's weights."""
    level = floor.continuum_memory.Level(*(arguments[name] for name in ("w1", "w2", "gain", "value")))
    y, state = floor.continuum_memory.continuum_memory(
        arguments["x"],
        [level],
        levels_chunk_sizes=(2,),
        cms_rate=arguments["cms_rate"],
        signal="associative",
        rule=rule,
    )
    return y, state.levels[0].w1, state.levels[0].w2


def _level_sample(rng: np.random.Generator) -> dict[str, Any]:
    """37 tokens of width 5 and one level of hidden width 6."""
    sizes = {"x": (37, 5), "w1": (5, 6), "w2": (6, 5), "value": (5, 5)}
    arguments: dict[str, Any] = {name: rng.normal(size=size) / 2 for name, size in sizes.items()}
    return arguments | {"gain": rng.uniform(0.5, 1.5, size=5), "cms_rate": 0.05}


def _self_modifying_titans(floor: Any, config: HopeConfig, x: Any, **parameters: Any) -> tuple[Any, ...]:
    """`self_modifying_titans` of either floor: outputs and all final weights."""
    outputs, state = floor.self_modifying_titans.self_modifying_titans(x, x, x, parameters, config)
    return (outputs, *state.weights.values())


def _self_modifying_sample(rng: np.random.Generator) -> dict[str, Any]:
    """37 tokens of width 5, hidden width 6, and parameters in which everything matters."""
    drawn = reference.parameters.random_parameters(HopeConfig(), 5, 6, int(rng.integers(1000)))
    return {"x": rng.normal(size=(37, 5))} | drawn


def _shared_gain(floor: Any, x: Any, **given: Any) -> tuple[Any, ...]:
    """`shared_gain` of either floor in chunks of 2: outputs and the five memories after the last token."""
    options = {name: given.pop(name) for name in ("objective", "readout")}
    outputs, state = floor.shared_gain.shared_gain(x, given, chunk_size=2, **options)
    return (outputs, *floor.shared_gain.current(state).values())


def _shared_gain_sample(rng: np.random.Generator, readout: str) -> dict[str, Any]:
    """37 tokens of width 5, and parameters in which everything matters."""
    drawn = reference.shared_gain.random_parameters(5, readout, int(rng.integers(1000)))
    return {"x": rng.normal(size=(37, 5))} | drawn


HOPE = HopeConfig(
    width=4,
    heads=2,
    vocabulary=5,
    hidden=3,
    memory_chunk_size=2,
    projection_chunk_size=4,
    levels_chunk_sizes=(2, 4),
    signal="associative",
)


def _hope(mixer: str, tokens: Array, **parameters: Any) -> Any:
    """`reference.hope`: the logits."""
    return reference.hope.hope(tokens, parameters, HOPE.replace(mixer=mixer))[0]


def _hope_in_parallel(mixer: str, tokens: torch.Tensor, **parameters: Any) -> Any:
    """The model `parallel.hope.Hope`, called with the given tensors in the place of its parameters."""
    model = parallel.hope.Hope(HOPE.replace(mixer=mixer)).to(tokens.device, torch.float64)
    tensors = model.from_reference_names(parameters)
    return torch.func.functional_call(model, tensors, (tokens,))[0]


def _hope_sample(rng: np.random.Generator, mixer: str) -> dict[str, Any]:
    """19 tokens and two blocks, shaken out of their symmetric start."""
    start = reference.hope.init(HOPE.replace(mixer=mixer, seed=int(rng.integers(1000))))
    shaken = {name: array + 0.2 * rng.normal(size=array.shape) for name, array in start.items()}
    return {"tokens": rng.integers(5, size=19)} | shaken


def components() -> tuple[Component, ...]:
    """Every component, in the order of the course."""
    return (
        Component(
            "linear attention",
            "linear_attention",
            ("y", "memory"),
            symbolic.linear_attention.statement,
            reference.linear_attention.linear_attention,
            partial(parallel.linear_attention.linear_attention, chunk_size=8),
            lambda rng: _tokens(rng, alpha=1),
        ),
        Component(
            "delta rule",
            "delta_rule",
            ("y", "memory"),
            symbolic.delta_rule.statement,
            reference.delta_rule.delta_rule,
            partial(parallel.delta_rule.delta_rule, chunk_size=8),
            lambda rng: _tokens(rng, eta=1.9),
        ),
        Component(
            "gated delta rule",
            "delta_rule",
            ("y", "memory"),
            symbolic.delta_rule.gated_statement,
            reference.delta_rule.gated_delta_rule,
            partial(parallel.delta_rule.gated_delta_rule, chunk_size=8),
            lambda rng: _tokens(rng, eta=1.9, alpha=1),
        ),
        Component(
            "gradient descent",
            "gradient_descent",
            ("w",),
            symbolic.gradient_descent.statement,
            reference.gradient_descent.gradient_descent_step,
            parallel.gradient_descent.gradient_descent_step,
            _layer,
        ),
        Component(
            "online training",
            "gradient_descent",
            ("w", "surprises"),
            symbolic.gradient_descent.training_statement,
            reference.gradient_descent.train_linear,
        ),
        Component(
            "local surprises of an MLP",
            "gradient_descent",
            ("w1_surprise", "w1_input", "w2_surprise", "w2_input"),
            symbolic.gradient_descent.surprises_statement,
            reference.gradient_descent.mlp_surprises,
        ),
        Component(
            "Delta Gradient Descent",
            "delta_gradient_descent",
            ("w",),
            symbolic.delta_gradient_descent.statement,
            reference.delta_gradient_descent.delta_gradient_descent_step,
            parallel.delta_gradient_descent.delta_gradient_descent_step,
            lambda rng: {n: a[0] if n in ("x", "grad_y", "eta") else a for n, a in _layer(rng).items()},
        ),
        *(
            Component(
                f"Delta Gradient Descent, chunk of {length}",
                "delta_gradient_descent",
                ("w",),
                symbolic.delta_gradient_descent.chunk_statement,
                reference.delta_gradient_descent.delta_gradient_descent_chunk,
                parallel.delta_gradient_descent.delta_gradient_descent_chunk,
                partial(_chunk, length=length),
            )
            for length in (3, 37)  # fewer and more inputs than directions: two different systems
        ),
        *(
            Component(
                f"Delta Gradient Descent on a memory, {objective}, {step}",
                "delta_gradient_descent",
                ("memory",),
                partial(symbolic.delta_gradient_descent.memory_statement, objective, step),
                partial(reference.delta_gradient_descent.memory_step, objective=objective, step=step),
            )
            for objective, step in (
                ("dot", "implicit"),
                ("l2", "explicit"),
                ("l2_without_half", "normalized"),
            )
        ),
        Component(
            "momentum",
            "momentum",
            ("w", "m"),
            symbolic.momentum.statement,
            reference.momentum.momentum_step,
            parallel.momentum.momentum_step,
            lambda rng: _gradients(rng) | {"eta": 0.3, "mu": 0.9},
        ),
        Component(
            "running mean",
            "momentum",
            ("m",),
            symbolic.momentum.ema_statement,
            reference.momentum.ema_step,
            parallel.momentum.ema_step,
            lambda rng: {n: a for n, a in _gradients(rng).items() if n != "w"} | {"beta": 0.9},
        ),
        *(
            Component(
                f"delta momentum, {write} write",
                "momentum",
                ("w", "m"),
                partial(symbolic.momentum.delta_statement, write),
                partial(reference.momentum.delta_momentum_step, write=write),
                partial(parallel.momentum.delta_momentum_step, write=write),
                lambda rng: _gradients(rng) | {"eta": 0.3, "mu": 0.9, "target": rng.normal(size=(4, 4))},
            )
            for write in parallel.momentum.WRITES
        ),
        Component(
            "Adam's regression",
            "momentum",
            ("m",),
            symbolic.momentum.regression_statement,
            reference.momentum.adam_regression,
        ),
        *(
            Component(
                f"Newton–Schulz, {coefficients}",
                "newton_schulz",
                ("o",),
                partial(symbolic.newton_schulz.statement, coefficients),
                partial(reference.newton_schulz.newton_schulz, steps=2, coefficients=coefficients),
                partial(parallel.newton_schulz.newton_schulz, steps=2, coefficients=coefficients),
                lambda rng: {"x": rng.normal(size=(4, 6))},
            )
            for coefficients in parallel.newton_schulz.COEFFICIENTS
        ),
        Component(
            "preconditioner as a memory",
            "expressive_optimisers",
            ("p",),
            symbolic.expressive_optimisers.preconditioner_statement,
            reference.expressive_optimisers.preconditioner_step,
            parallel.expressive_optimisers.preconditioner_step,
            lambda rng: (
                {"p": rng.normal(size=(3, 5)), "g_hat": rng.normal(size=5)}
                | {"gradient": rng.normal(size=3), "zeta": 0.3}
            ),
        ),
        *(
            Component(
                name,
                "expressive_optimisers",
                ("w", "m"),
                partial(symbolic.expressive_optimisers.feature_statement, feature, coefficients),
                partial(reference.expressive_optimisers.feature_momentum_step, feature=feature, **output),
                partial(parallel.expressive_optimisers.feature_momentum_step, feature=feature, **output),
                lambda rng: (
                    _gradients(rng) | {"eta": 0.3, "mu": 0.9, "scale": 0.5, "target": rng.normal(size=(4, 4))}
                ),
            )
            for name, feature, coefficients, output in (
                ("preconditioned momentum", "identity", "identity", {}),
                ("momentum of cubed gradients", "cube", "identity", {}),
                ("momentum of bounded gradients", "tanh", "identity", {}),
                ("Muon, one cubic step", "identity", "cubic", ONE_CUBIC_STEP),
            )
        ),
        Component(
            "deep momentum",
            "expressive_optimisers",
            ("w", "w1", "w2"),
            symbolic.expressive_optimisers.deep_statement,
            reference.expressive_optimisers.deep_momentum_step,
            parallel.expressive_optimisers.deep_momentum_step,
            _deep_sample,
        ),
        Component(
            "outer-product memory",
            "expressive_optimisers",
            ("m",),
            symbolic.expressive_optimisers.outer_statement,
            reference.expressive_optimisers.outer_product_memory,
            parallel.expressive_optimisers.outer_product_memory,
            lambda rng: {"gradients": rng.normal(size=(7, 5)), "target": rng.normal(size=3), "lam": 0.5},
        ),
        *(
            Component(
                f"Shampoo, {sides}",
                "expressive_optimisers",
                ("w", "left", "right"),
                partial(symbolic.expressive_optimisers.shampoo_statement, sides),
                partial(_shampoo, reference, sides),
                partial(_shampoo, parallel, sides),
                lambda rng: (
                    {"a": rng.normal(size=(4, 4)), "b": rng.normal(size=(6, 6))}
                    | {n: g for n, g in _gradients(rng).items() if n != "m"}
                    | {"eta": 0.3, "epsilon": 0.1}
                ),
            )
            for sides in parallel.expressive_optimisers.SIDES
        ),
        *(
            Component(
                f"general step, {loss}",
                "expressive_optimisers",
                ("w",),
                partial(symbolic.expressive_optimisers.general_statement, loss),
                partial(_general, reference, loss),
                partial(_general, parallel, loss),
                _general_sample,
            )
            for loss in parallel.expressive_optimisers.LOSSES
        ),
        Component(
            "stale motion",
            "expressive_optimisers",
            ("held", "moved"),
            symbolic.expressive_optimisers.stale_statement,
            partial(reference.expressive_optimisers.stale_motion, steps=3),
            partial(parallel.expressive_optimisers.stale_motion, steps=3),
            lambda rng: {"m": rng.normal(size=(4, 6)), "directions": rng.normal(size=(2, 6)), "mu": 0.9},
        ),
        Component(
            "Titans, matrix memory",
            "titans",
            ("y", "memory", "momentum"),
            symbolic.titans.statement,
            partial(_titans, reference),
            partial(_titans, parallel),
            partial(_titans_sample, perceptron=False),
        ),
        Component(
            "Titans, perceptron memory, chunks of 2",
            "titans",
            ("y", "w1", "w2", "momentum1", "momentum2"),
            partial(symbolic.titans.perceptron_statement, chunk_size=2),
            partial(_titans, reference, chunk_size=2),
            partial(_titans, parallel, chunk_size=2),
            partial(_titans_sample, perceptron=True),
        ),
        *(
            Component(
                f"rank-one recurrence, erase {erase.replace('_', ' ')}",
                "chunks",
                ("y", "state"),
                partial(symbolic.chunks.statement, erase),
                partial(reference.chunks.recurrence, erase=erase),
                partial(parallel.chunks.recurrence, chunk_size=8, erase=erase),
                _recurrence,
            )
            for erase in parallel.chunks.ERASE
        ),
        Component(
            "rank-one recurrence with momentum",
            "chunks",
            ("y", "state", "momentum"),
            symbolic.chunks.momentum_statement,
            reference.chunks.momentum_recurrence,
        ),
        Component(
            "M3",
            "m3",
            ("w", *reference.m3.M3State._fields),
            symbolic.m3.statement,
            partial(_m3, reference),
            partial(_m3, parallel),
            _m3_sample,
        ),
        *(
            Component(
                f"continuum memory, one level, {rule}",
                "continuum_memory",
                ("y", "w1", "w2"),
                partial(symbolic.continuum_memory.statement, rule),
                partial(_level, reference, rule),
                partial(_level, parallel, rule),
                _level_sample,
            )
            for rule in ("gd", "dgd")
        ),
        *(
            Component(
                name,
                "self_modifying_titans",
                ("outputs", *(f"final_{layer}_{box}" for box in BOXES for layer in ("w1", "w2"))),
                partial(symbolic.self_modifying_titans.statement, config.objective, config.erase),
                partial(_self_modifying_titans, reference, config),
                partial(_self_modifying_titans, parallel, config),
                _self_modifying_sample,
            )
            for name, config in (
                ("self-modifying Titans, l2", HopeConfig()),
                ("self-modifying Titans, dot", HopeConfig(objective="dot")),
                ("self-modifying Titans, l2, erase full", HopeConfig(erase="full")),
            )
        ),
        *(
            Component(
                f"shared gain, {objective}, {readout} read-outs",
                "shared_gain",
                ("outputs", *(f"final_w_{box}" for box in BOXES)),
                partial(symbolic.shared_gain.statement, objective, readout),
                partial(_shared_gain, reference, objective=objective, readout=readout),
                partial(_shared_gain, parallel, objective=objective, readout=readout),
                partial(_shared_gain_sample, readout=readout),
            )
            for objective, readout in (("l2", "vector"), ("dot", "matrix"))
        ),
        *(
            Component(
                name,
                "hope",
                ("logits",),
                None,
                partial(_hope, mixer),
                partial(_hope_in_parallel, mixer),
                partial(_hope_sample, mixer=mixer),
            )
            for name, mixer in (("HOPE", "self_modifying_titans"), ("HOPE-Attention", "softmax_attention"))
        ),
    )
