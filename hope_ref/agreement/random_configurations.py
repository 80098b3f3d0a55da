"""Whole models with every option drawn at random: NumPy against PyTorch, values and derivatives; and do they stay finite?

``python -m hope_ref verify --random N`` compares N of them, ``--finite N`` only runs N bounded ones.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from hope_ref.agreement.comparison import BOUND, GRADIENT_BOUND, derivative_error
from hope_ref.common.files import write_json
from hope_ref.common.outputs import replaceable
from hope_ref.common.validation import Array
from hope_ref.config import CHOICES, HopeConfig
from hope_ref.parallel.hope import Hope
from hope_ref.parallel.states import flattened
from hope_ref.reference import hope as literal
from hope_ref.reference import states as literal_states
from hope_ref.reference.parameters import MIXERS

VOCABULARY = 5
MOST = 1e6  # beyond, the states have left every scale that a bound of 1e-10 could mean


class Drawn(NamedTuple):
    """One random problem."""

    config: HopeConfig
    tokens: npt.NDArray[np.int64]
    parameters: dict[str, Array]


class Case(NamedTuple):
    """What came of it; errors relative to max(1, largest entry)."""

    seed: int
    error: float  # of logits and final state
    derivative_error: float  # of one directional derivative
    largest: float  # entry of the reference's results

    def agrees(self) -> bool:
        """Within the bounds, or beyond the range in which they mean anything."""
        return self.largest > MOST or (self.error < BOUND and self.derivative_error < GRADIENT_BOUND)


def random_config(rng: np.random.Generator, *, bounded: bool = False) -> HopeConfig:
    """Every option of `HopeConfig` at random, at small sizes; ``bounded``: what is proved or found to stay finite.

    That is unit values, a bound on the surprise, and a step other than the explicit one, for the self-modifying Titans;
    and for the continuum memory, whose plain steps add up over a chunk, a rate below 0.1/(C d): its inputs have
    ‖n‖² of about d, so that η Σ n nᵀ over C tokens that point the same way is C d η, and beyond 2 a layer
    overshoots further at every step.
    """
    options: dict[str, Any] = {
        name: str(rng.choice(values)) for name, values in CHOICES.items() if name != "mixer"
    }
    for name in ("value_norm", "input_projection", "read_skip", "adaptive_query"):
        options[name] = bool(rng.integers(2))
    heads = int(rng.integers(1, 4))
    options |= {
        "heads": heads,
        "width": 2 * heads * int(rng.integers(1, 3)),
        "hidden": int(rng.integers(1, 6)),
    }
    small, times = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    pair = [small, small * times]
    rng.shuffle(pair)
    options["memory_chunk_size"], options["projection_chunk_size"] = pair
    levels = np.cumprod([int(rng.integers(1, 5)), *rng.integers(1, 4, size=rng.integers(3))])
    options["levels_chunk_sizes"] = tuple(map(int, levels))
    options["cms_rate"] = float(rng.uniform(0, 0.05))
    options["nested_rate"] = float(rng.uniform())
    options["convolution_width"] = int(rng.integers(5))
    options["eta_max"] = float(rng.uniform(0.8, 1.0))
    options["surprise_bound"] = float(rng.choice([0.0, rng.uniform(0.3, 3)]))
    options["inner_momentum"] = float(rng.choice([0.0, rng.uniform(0, 0.9)]))
    options["memory_w1_std"] = float(rng.choice([0.0, 0.5]))
    if bounded:
        options |= {"value_norm": True, "surprise_bound": float(rng.uniform(0.3, 3))}
        options["step"] = str(rng.choice(["implicit", "normalized"]))
        options["cms_rate"] *= 2 / (options["levels_chunk_sizes"][-1] * options["width"])
    config = HopeConfig(**options)
    if rng.integers(3) == 0:
        config = config.replace(writing=tuple(name for name in config.memories if rng.integers(2)))
    return config


def drawn(seed: int, *, bounded: bool = False) -> Drawn:
    """A configuration, a model of one or two blocks shaken out of its symmetric start, and up to 25 tokens."""
    rng = np.random.default_rng(seed)
    config = random_config(rng, bounded=bounded)
    mixer, blocks = MIXERS[int(rng.integers(8) == 0)], int(rng.integers(1, 3))
    config = config.replace(mixer=mixer, blocks=blocks, vocabulary=VOCABULARY, seed=seed)
    start = literal.init(config)
    parameters = {name: array + 0.2 * rng.normal(size=array.shape) for name, array in start.items()}
    for name in parameters:
        if name.endswith("alpha_bias"):
            parameters[name] = np.array(rng.uniform(1, 5))
    tokens = rng.integers(VOCABULARY, size=rng.integers(26))
    if mixer == "softmax_attention":
        config = config.replace(window=int(rng.integers(8)))
    return Drawn(config, tokens, parameters)


def reference_results(problem: Drawn, parameters: dict[str, Array] | None = None) -> dict[str, Array]:
    """Logits and every number of the final state, by the reference's names."""
    parameters = problem.parameters if parameters is None else parameters
    logits, state = literal.hope(problem.tokens, parameters, problem.config)
    return {"logits": logits} | {
        name: np.asarray(leaf)
        for name, leaf in literal_states.flattened(state).items()
        if not isinstance(leaf, HopeConfig)
    }


def parallel_results(problem: Drawn, model: Hope) -> dict[str, torch.Tensor]:
    """The same of the parallel model, under the same names: its heads are one axis of each tensor."""
    logits, state = model(torch.from_numpy(problem.tokens))
    found = {"logits": logits}
    for name, leaf in flattened(state).items():
        if not isinstance(leaf, torch.Tensor):
            continue
        if ".mixer.memory." in name:
            for head in range(problem.config.heads):
                found[name.replace(".mixer.memory.", f".mixer.heads.{head}.")] = leaf[head]
        elif ".mixer.keys" in name or ".mixer.values" in name:
            found[name] = leaf.transpose(0, 1)  # (t, heads, d / heads)
        else:
            found[name] = leaf
    return found


def compared(seed: int, *, bounded: bool = False) -> Case:
    """Both floors on one random problem: outputs, final state, and one directional derivative of them.

    ``target_gradient="stop"`` changes no value and cuts a derivative that central differences see: "flow" is compared.
    """
    problem = drawn(seed, bounded=bounded)
    problem = problem._replace(config=problem.config.replace(target_gradient="flow"))
    with np.errstate(all="ignore"):
        want = reference_results(problem)
    largest = max(float(np.abs(array).max(initial=0)) for array in want.values())
    if not largest <= MOST:
        return Case(seed, math.nan, math.nan, math.inf)
    model = Hope.from_reference(problem.parameters, problem.config)
    got = parallel_results(problem, model)
    scale = max(1.0, largest)
    names = [name for name, array in want.items() if array.dtype.kind == "f"]
    if set(names) - set(got):
        raise ValueError(f"results must hold {', '.join(names)}, got {', '.join(got)}")
    error = max(float(np.abs(got[n].detach().numpy() - want[n]).max(initial=0)) for n in names)
    rng = np.random.default_rng([seed, 1])
    direction = {name: rng.normal(size=array.shape) for name, array in problem.parameters.items()}
    weight = {name: rng.normal(size=want[name].shape) for name in names}

    def along(far: float) -> float:
        moved = {name: array + far * direction[name] for name, array in problem.parameters.items()}
        found = reference_results(problem, moved)
        return float(sum((weight[name] * found[name]).sum() for name in names))

    total = sum(((got[name] * torch.from_numpy(weight[name])).sum() for name in names), torch.zeros(()))
    moving = Hope.from_reference(direction, problem.config)
    pairs = list(zip(model.parameters(), moving.parameters(), strict=True))
    gradients = torch.autograd.grad(total, [own for own, _ in pairs], allow_unused=True)
    slopes = [
        float((g * d.detach()).sum()) for g, (_, d) in zip(gradients, pairs, strict=True) if g is not None
    ]
    steepest = derivative_error(along, sum(slopes), max(1.0, sum(map(abs, slopes))))
    return Case(seed, error / scale, steepest, largest)


def stays_finite(seed: int) -> bool:
    """Run one bounded random model on the parallel floor, every value finite?"""
    problem = drawn(seed, bounded=True)
    with torch.no_grad():
        found = parallel_results(problem, Hope.from_reference(problem.parameters, problem.config))
    return all(bool(torch.isfinite(tensor).all()) for tensor in found.values())


def main(arguments: argparse.Namespace) -> int:
    """Compare, run, report; exit 1 if anything disagrees or is not finite, 2 on bad input."""
    for name in ("random", "finite", "seed"):
        if getattr(arguments, name) < 0:
            print(f"--{name} must be >= 0, got {getattr(arguments, name)}", file=sys.stderr)
            return 2
    if arguments.report is not None:
        replaceable("report", arguments.report, "first_seed", "compared")
    first = arguments.seed
    cases = [
        compared(seed)
        for seed in tqdm(range(first, first + arguments.random), desc="compare", unit="model", leave=False)
    ]
    broken = [
        seed
        for seed in tqdm(range(first, first + arguments.finite), desc="run", unit="model", leave=False)
        if not stays_finite(seed)
    ]
    found = {"first_seed": first, "compared": summary(cases), "ran": arguments.finite, "not_finite": broken}
    print(json.dumps(found, indent=2))
    if arguments.report is not None:
        write_json(arguments.report, found)
    return 1 if broken or found["compared"]["disagree"] else 0


def summary(cases: list[Case]) -> dict[str, Any]:
    """What a report says of the cases: how many were compared, the worst errors and where."""
    inside = [case for case in cases if case.largest <= MOST]
    worst = max(inside, key=lambda case: case.error, default=None)
    steepest = max(inside, key=lambda case: case.derivative_error, default=None)
    return {
        "cases": len(cases),
        "beyond_1e6": len(cases) - len(inside),
        "disagree": [case.seed for case in cases if not case.agrees()],
        "worst_error": worst.error if worst else None,
        "worst_error_seed": worst.seed if worst else None,
        "worst_derivative_error": steepest.derivative_error if steepest else None,
        "worst_derivative_error_seed": steepest.seed if steepest else None,
        "numpy": np.__version__,
        "torch": torch.__version__,
        "device": "cpu",
    }
