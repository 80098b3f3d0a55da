"""Other people's functions behind the contract of the golden vectors: ``--implementation hope_ref.agreement.third_party``.

These are the plain PyTorch loops of flash-linear-attention (``pip install -c constraints.txt '.[peers]'``), which its
authors judge their kernels by. They are loaded from their files, because importing the package asks for Triton. They
take (batch, …) axes, scale queries by d_k^(-1/2), keep the memory transposed, (d_k, d_v), take retention as its
logarithm, and compute in float32 whatever they are given; so `golden check` is to allow ``--tolerance 1e-6``.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from hope_ref.common.validation import Array


def loaded(concept: str) -> ModuleType:
    """fla/ops/<concept>/naive.py as a module. Raises: ImportError if fla-core is not installed."""
    package = importlib.util.find_spec("fla")
    places = [] if package is None else package.submodule_search_locations or []
    for place in places:
        path = Path(place) / "ops" / concept / "naive.py"
        spec = importlib.util.spec_from_file_location(f"fla_naive_{concept}", path) if path.exists() else None
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise ImportError("fla-core is not installed: pip install -c constraints.txt '.[peers]'")


def _results(outputs: Any, state: Any) -> dict[str, Array]:
    """One batch, one head, and the memory as (d_v, d_k)."""
    return {"outputs": outputs.squeeze().numpy(), "final_memory": state.squeeze().mT.numpy()}


def delta_rule(q: Array, k: Array, v: Array, eta: Array, memory: Array) -> dict[str, Array]:
    """`delta_rule_recurrence`: axes (batch, head, token, channel); its β is our η."""
    q = q * np.sqrt(q.shape[1])
    head = [torch.tensor(array)[None, None] for array in (q, k, v, eta, memory.T)]
    return _results(*loaded("delta_rule").delta_rule_recurrence(*head[:4], initial_state=head[4].float()))


def gated_delta_rule(
    q: Array, k: Array, v: Array, eta: Array, alpha: Array, memory: Array
) -> dict[str, Array]:
    """`naive_recurrent_gated_delta_rule`: axes (batch, token, head, channel); its β is our η, its g is log α."""
    tokens = [torch.tensor(array)[None, :, None] for array in (q, k, v, eta, np.log(alpha))]
    state = torch.tensor(memory.T)[None, None]
    theirs = loaded("gated_delta_rule").naive_recurrent_gated_delta_rule
    return _results(*theirs(*tokens, scale=1.0, initial_state=state, output_final_state=True))


def linear_attention(q: Array, k: Array, v: Array, alpha: Array, memory: Array) -> dict[str, Array]:
    """`naive_chunk_simple_gla`: axes (batch, token, head, channel); its g is log α."""
    tokens = [torch.tensor(array)[None, :, None] for array in (q, k, v, np.log(alpha))]
    state = torch.tensor(memory.T)[None, None].float()
    theirs = loaded("simple_gla").naive_chunk_simple_gla
    return _results(*theirs(*tokens, initial_state=state, output_final_state=True, scale=1.0))
