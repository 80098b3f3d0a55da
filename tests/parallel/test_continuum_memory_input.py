"""What the continuum memory, its driver and its schedule refuse, and in which words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hope_ref.parallel.continuum_memory import (
    ContinuumState,
    adapt,
    continuum_memory,
    initial_state,
    random_levels,
    read,
)

SHORT: dict[str, Any] = {
    "levels_chunk_sizes": (2, 4, 8),
    "cms_rate": (0.05, 0.03, 0.02),
    "signal": "associative",
}

GOOD = random_levels(3, 3, 0, torch.float64)
X = torch.arange(12, dtype=torch.float64).reshape(4, 3)
START = initial_state(GOOD)


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.float64)


def with_state(**changes: Any) -> ContinuumState:
    return START._replace(levels=(START.levels[0]._replace(**changes), *START.levels[1:]))


@pytest.mark.parametrize(
    ("x", "parameters", "options", "message"),
    [
        (X[:, :2], GOOD, {}, r"x must have shape \(T, 3\), got \(4, 2\)"),
        (X[0], GOOD, {}, r"x must have shape \(T, 3\), got \(3,\)"),
        (X * torch.nan, GOOD, {}, "x must be finite, got 12 NaN"),
        (X.float(), GOOD, {}, r"x must have the dtype of parameters\[0\].w1, torch.float64, got torch.float32"),
        (X.numpy(), GOOD, {}, "x must be a torch.Tensor, got ndarray"),
        (X, (), {}, "parameters must have at least one level, got none"),
        (X, (GOOD[0]._replace(w1=ones(3)), *GOOD[1:]), {}, r"parameters\[0\].w1 must have shape \(d, h\), got \(3,\)"),
        (X, (GOOD[0], GOOD[1]._replace(w1=ones(2, 12)), GOOD[2]), {}, r"parameters\[1\].w1 must have shape \(3, h\), got \(2, 12\)"),
        (X, (GOOD[0]._replace(w2=ones(3, 12)), *GOOD[1:]), {}, r"parameters\[0\].w2 must have shape \(12, 3\), got \(3, 12\)"),
        (X, (GOOD[0]._replace(gain=ones(2)), *GOOD[1:]), {}, r"parameters\[0\].gain must have shape \(3,\), got \(2,\)"),
        (X, (GOOD[0]._replace(gain=ones(3).float()), *GOOD[1:]), {}, r"parameters\[0\].gain must have the dtype of parameters\[0\].w1"),
        (X, (GOOD[0]._replace(gain=ones(2, 3)), *GOOD[1:]), {}, r"parameters\[0\].gain must have leading axes that broadcast to \(\), got shape \(2, 3\)"),
        (X.expand(2, 4, 3), (GOOD[0]._replace(w2=ones(5, 12, 3)), *GOOD[1:]), {}, r"parameters\[0\].w2 must have leading axes that broadcast to \(2,\), got shape \(5, 12, 3\)"),
        (X, (GOOD[0]._replace(value=ones(2, 2)), *GOOD[1:]), {}, r"parameters\[0\].value must have shape \(3, 3\), got \(2, 2\)"),
        (X, (GOOD[0]._replace(value=None), *GOOD[1:]), {}, r"parameters\[0\].value must be given for signal='associative', got None"),
        (X, (GOOD[0]._replace(weight=np.inf), *GOOD[1:]), {}, r"parameters\[0\].weight must be finite"),
        (X, (GOOD[0]._replace(weight=ones(2)), *GOOD[1:]), {}, r"parameters\[0\].weight must have leading axes that broadcast to \(\), got shape \(2,\)"),
        (X, (GOOD[0]._replace(w2=GOOD[0].w2 * torch.nan), *GOOD[1:]), {}, r"parameters\[0\].w2 must be finite, got 36"),
        (X, GOOD, {"levels_chunk_sizes": (2, 4)}, r"levels_chunk_sizes must have one entry per level \(3\), got 2"),
        (X, GOOD, {"levels_chunk_sizes": (2, 0, 4)}, "levels_chunk_sizes must be an integer >= 1, got 0"),
        (X, GOOD, {"levels_chunk_sizes": (4, 2, 8)}, r"levels_chunk_sizes must be listed fast to slow \(rising\), got \(4, 2, 8\)"),
        (X, GOOD, {"levels_chunk_sizes": (2, 4, 6), "variant": "nested"}, r"levels_chunk_sizes must each be a multiple of the one before \(nested\), got \(2, 4, 6\)"),
        (X, GOOD, {"cms_rate": (0.1, 0.1)}, r"cms_rate must have shape \(3,\), got \(2,\)"),
        (X, GOOD, {"cms_rate": -0.1}, "cms_rate must be >= 0, got min -0.1"),
        (X, GOOD, {"nested_rate": 1.5}, "nested_rate must be <= 1, got max 1.5"),
        (X, GOOD, {"variant": "parallel"}, "variant must be one of 'sequential', 'nested', 'independent', got 'parallel'"),
        (X, GOOD, {"order": "any"}, "order must be one of 'fast_to_slow', 'slow_to_fast', got 'any'"),
        (X, GOOD, {"signal": "loss"}, "signal must be one of 'task', 'associative', 'none', got 'loss'"),
        (X, GOOD, {"rule": "sgd"}, "rule must be one of 'gd', 'dgd', got 'sgd'"),
        (X, GOOD, {"objective": "l1"}, "objective must be one of 'l2', 'dot', got 'l1'"),
        (X, GOOD, {"state": START.levels}, "state must be a ContinuumState, got tuple"),
        (X, GOOD, {"state": START._replace(levels=START.levels[:2])}, r"state.levels must have 3 entries, got 2"),
        (X, GOOD, {"state": with_state(sum1=ones(3, 3))}, r"state.levels\[0\].sum1 must have shape \(3, 12\), got \(3, 3\)"),
        (X.expand(2, 4, 3), GOOD, {"state": START}, r"state.levels\[0\].w1 must have shape \(2, 3, 12\), got \(3, 12\)"),
        (X, GOOD, {"state": with_state(w2=START.levels[0].w2.float())}, r"state.levels\[0\].w2 must be torch.float64, got torch.float32"),
        (X, GOOD, {"state": with_state(gram1=0.0)}, r"state.levels\[0\].gram1 must be a torch.Tensor, got float"),
        (X, GOOD, {"state": with_state(gram1=None)}, r"state.levels\[0\].gram1 must be a torch.Tensor, got NoneType"),
        (X, GOOD, {"state": START._replace(position=-2)}, "state.position must be an integer >= 0, got -2"),
    ],
)  # fmt: skip
def test_bad_input_is_named(x: Any, parameters: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        continuum_memory(x, parameters, **(SHORT | options))


# --- the driver -------------------------------------------------------------------------------------------------------


def forward(x: Tensor, weights: Any, state: Any, collect: Any) -> tuple[Tensor, Any]:
    return read(x, weights, GOOD, "sequential", "fast_to_slow", collect)[0], state


def forgets_to_collect(x: Tensor, weights: Any, state: Any, _: Any) -> tuple[Tensor, Any]:
    return forward(x, weights, state, None)


def collects_wrongly(x: Tensor, weights: Any, state: Any, collect: Any) -> tuple[Tensor, Any]:
    if collect is not None:
        collect(1, torch.ones(1, 4, 12).double(), torch.ones(1, 4, 3).double())
    return forward(x, weights, state, None)


def skips_a_level(x: Tensor, weights: Any, state: Any, _: Any) -> tuple[Tensor, Any]:
    return read(x, weights[:2], GOOD[:2], "sequential", "fast_to_slow")[0], state


def uses_no_level(x: Tensor, _: Any, state: Any, __: Any) -> tuple[Tensor, Any]:
    return x, state


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets) ** 2


@pytest.mark.parametrize(
    ("tokens", "model", "options", "message"),
    [
        (torch.tensor(3), forward, {}, r"tokens must be a tensor with a token axis 0, got \(\)"),
        (X, forward, {"token_axis": 2}, r"tokens must be a tensor with a token axis 2, got \(4, 3\)"),
        (X.numpy(), forward, {}, "tokens must be a tensor with a token axis 0, got ndarray"),
        (X, forward, {"levels_chunk_sizes": (2, 4, 7)}, r"levels_chunk_sizes must all be multiples of the smallest \(task\), got \(2, 4, 7\)"),
        (X, forward, {"rule": "adam"}, "rule must be one of 'gd', 'dgd', got 'adam'"),
        (X, forgets_to_collect, {"rule": "dgd"}, r"forward must hand collect on to read \(rule='dgd'\), got nothing of level 0"),
        (X, collects_wrongly, {"rule": "dgd"}, r"collect: φ of level 1 must have shape \(c, 12\), got \(1, 4, 12\)"),
        (X, skips_a_level, {}, "forward must use the weights of every level, got none of level 2"),
        (X, uses_no_level, {}, "loss must depend on the weights that forward was given, got a constant"),
    ],
)  # fmt: skip
def test_what_the_driver_refuses(tokens: Any, model: Any, options: dict[str, Any], message: str) -> None:
    given = {"levels_chunk_sizes": (2, 4, 8), "cms_rate": 0.1} | options
    with pytest.raises(ValueError, match=message):
        adapt(tokens, GOOD, model, squared, **given)
