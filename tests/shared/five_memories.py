"""Five separate linear memories that write their own targets, token by token in PyTorch: no gain stands in it.

Each loss is differentiated by autograd at the boundary, as the equations have it; read-outs and limits are written out again.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MEMORIES = ("w_k", "w_v", "w_eta", "w_alpha", "w_memory")


def slope(boundary: Tensor, k: Tensor, v: Tensor, objective: str) -> Tensor:
    """∇ of the loss of M(z) = W z at the boundary's weight, the target M_b(v) held fixed inside the write."""
    create = torch.is_grad_enabled()
    with torch.enable_grad():
        nudge = torch.zeros_like(boundary).requires_grad_()
        said, target = (boundary + nudge) @ k, boundary @ v
        loss = -said @ target if objective == "dot" else ((said - target) ** 2).sum() / 2
        (found,) = torch.autograd.grad(loss, nudge, create_graph=create)
    return found


def unit(z: Tensor) -> Tensor:
    return z / torch.sqrt((z * z).sum() + 1e-6)


def five_memories(
    x: Tensor,
    given: dict[str, Tensor],
    chunk_size: int,
    objective: str = "l2",
    read: str = "post",
    eta_max: float = 1.0,
    gain_bound: float = 1.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Outputs, (T, d), and the five memories after the last token; a vector memory is a matrix of one row."""
    weights = {name: given[name].reshape(-1, x.shape[1]) for name in MEMORIES}
    outputs, boundary = [x[:0]], weights

    def number(name: str, token: Tensor) -> Tensor:
        answer = boundary[f"w_{name}"] @ token
        if f"{name}_readout" in given:
            answer = given[f"{name}_readout"] @ answer / math.sqrt(len(token))
        return answer.reshape(()) + given[f"{name}_bias"]

    for t, token in enumerate(x):
        boundary = weights if t % chunk_size == 0 else boundary
        k, v = unit(boundary["w_k"] @ token), boundary["w_v"] @ token
        q = unit(given["w_query"] @ token)
        eta, alpha = eta_max * torch.sigmoid(number("eta", token)), torch.sigmoid(number("alpha", token))
        if gain_bound > 0:
            told = v - k if objective == "l2" else v
            limit = gain_bound * (1 - alpha) / (k.norm() * told.norm())
            eta = torch.minimum(limit * (1 - torch.exp(-eta / limit)), 2 * alpha / (k @ k))
        weights = {
            name: alpha * w - eta * torch.outer(w @ k, k) - eta * slope(boundary[name], k, v, objective)
            for name, w in weights.items()
        }
        outputs.append(((weights if read == "post" else boundary)["w_memory"] @ q)[None])
    return torch.cat(outputs), {name: w.reshape(given[name].shape) for name, w in weights.items()}
