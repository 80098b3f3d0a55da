r"""One gain for five memories, in chunks. Equal to `hope_ref.reference.shared_gain`. Source: [P 83-88], [P 93], VisionHOPE, [D].

Linear memories without the skip that share η, α and the boundary all move by one matrix, W_t = W_b G_t, with

    G_t = α_t G_{t-1} - η_t (G_{t-1} k_t - u_t) k_tᵀ,   G_b = I,   u_t = v_t - k_t ("l2") or v_t ("dot").

Between two boundaries k, v, η and α of all tokens are known, so G is the rank-one recurrence of `hope_ref.parallel.chunks` with φ = k
and q as its queries: one solve for all memories, and W_memory,b after it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hope_ref.common.validation import one_of, positive_integer, same_names, scalar
from hope_ref.parallel import checks, chunks, states
from hope_ref.parallel.memory_network import unit
from hope_ref.parallel.ops import apply

MEMORIES = ("w_k", "w_v", "w_eta", "w_alpha", "w_memory")
OBJECTIVES = ("l2", "dot")
READOUTS = ("vector", "matrix")
READS = ("post", "boundary")
Tensors = dict[str, Tensor]


class State(NamedTuple):
    """All that a later token can see of earlier ones.

    Attributes:
        memories: W_b of the five memories, from the boundary, (..., d, d), vectors (..., d).
        gain: G, (..., d, d): the memories now are W_b G, see `current`.
        position: tokens seen so far.
    """

    memories: Tensors
    gain: Tensor
    position: int


def current(state: State) -> Tensors:
    """The memories as they are now: W_t = W_b G_t, a vector as the row wᵀ G; equals `reference.shared_gain.current`."""

    def moved(weight: Tensor) -> Tensor:
        if weight.ndim == state.gain.ndim:
            return weight @ state.gain
        return (weight[..., None, :] @ state.gain)[..., 0, :]

    return {name: moved(weight) for name, weight in state.memories.items()}


def bounded_rate(k: Tensor, u: Tensor, eta: Tensor, alpha: Tensor, gain_bound: float) -> Tensor:
    """A rate below η with η‖u‖‖k‖ <= ϱ (1 - α) and η‖k‖² <= 2α, (..., T); equals `reference.shared_gain.bounded_rate`.

    Nothing is divided by zero, so keys and pairs of zero length have gradients, too.
    """
    if gain_bound == 0:
        return eta
    square, most = k.square().sum(-1), gain_bound * (1 - alpha)  # ‖k‖², ϱ (1 - α), (..., T)
    injected = square * u.square().sum(-1)  # (‖u‖‖k‖)²
    some = injected > 0
    injected = torch.where(some, injected, 1.0).sqrt()
    bent = -most / injected * torch.expm1(-eta * injected / most.clamp_min(torch.finfo(most.dtype).tiny))
    eta = torch.where(some, bent, eta)
    binds = eta * square > 2 * alpha
    return torch.where(binds, 2 * alpha / torch.where(binds, square, 1.0), eta)


def shared_gain(
    x: Tensor,
    parameters: Tensors,
    *,
    chunk_size: int = 16,
    objective: str = "l2",
    readout: str = "vector",
    read: str = "post",
    eta_max: float = 1.0,
    gain_bound: float = 1.0,
    state: State | None = None,
    block_size: int = 64,
) -> tuple[Tensor, State]:
    """G_t = α_t G_{t-1} - η_t (G_{t-1} k_t - u_t) k_tᵀ, o_t = W_b G_t q_t; equals `reference.shared_gain`.

    On every leading index (batch, heads). Half-precision tokens are computed in float32, and autocast is off inside.

    Args:
        x: tokens, (..., T, d).
        parameters: w_k, w_v, w_memory, w_query (..., d, d); w_eta, w_alpha (..., d), or (..., d, d) with eta_readout, alpha_readout
            (..., d) for "matrix"; eta_bias, alpha_bias (...). Their leading axes broadcast against those of x.
        chunk_size: C, tokens between two boundaries, part of the model.
        objective: "l2" or "dot". readout: "vector" or "matrix". read: "post" or "boundary".
        eta_max: >= 0. gain_bound: ϱ in [0, 1]; 0 is no bound.
        state: what the last call returned; None starts from the parameters.
        block_size: tokens computed at once; changes speed and memory, not the result.
    Returns:
        outputs, (..., T, d), in the dtype of x, and the final state, differentiable too.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    chunk_size, block_size = (
        positive_integer("chunk_size", chunk_size),
        positive_integer("block_size", block_size),
    )
    one_of("objective", objective, OBJECTIVES)
    one_of("read", read, READS)
    eta_max, gain_bound = scalar("eta_max", eta_max, low=0), scalar("gain_bound", gain_bound, low=0, high=1)
    _check(x, parameters, readout)
    with checks.no_autocast(x.device.type):
        dtype = torch.promote_types(parameters["w_k"].dtype, torch.float32)
        start = initial_state({n: w.to(dtype) for n, w in parameters.items()}, x.shape[:-2])
        if state is not None:
            start = states.checked(state, start._replace(position=None))  # type: ignore[arg-type]
        given = {n: w.to(dtype) for n, w in parameters.items() if n not in MEMORIES}
        outputs, end = [x[..., :0, :].to(dtype)], start
        first = min(-start.position % chunk_size, x.shape[-2])  # what is left of an open chunk
        for tokens in (x[..., :first, :], *x[..., first:, :].split(chunk_size, -2)):
            if tokens.shape[-2]:
                if end.position % chunk_size == 0:
                    end = State(current(end), _identity(end.gain), end.position)
                q, k, u, eta, alpha = _tokens(
                    tokens.to(dtype), given, end.memories, objective, eta_max, gain_bound
                )
                answers, gain = chunks.recurrence(
                    q, k, u, eta, alpha, end.gain, block_size, erase="before_decay"
                )  # G_t q_t
                outputs.append(apply(end.memories["w_memory"], answers if read == "post" else q))
                end = State(end.memories, gain, end.position + tokens.shape[-2])
    return torch.cat(outputs, -2).to(x.dtype), end


def _tokens(
    x: Tensor, given: Tensors, memories: Tensors, objective: str, eta_max: float, gain_bound: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q, k and u, (..., C, d), η and α, (..., C), of tokens with no boundary between them."""

    def number(name: str) -> Tensor:
        row, readout = memories[f"w_{name}"], given.get(f"{name}_readout")
        if readout is not None:  # a fixed read-out makes a vector of the matrix
            row = (readout[..., None, :] @ row)[..., 0, :] / math.sqrt(x.shape[-1])
        return (x @ row[..., :, None])[..., 0] + given[f"{name}_bias"][..., None]

    k, v = unit(apply(memories["w_k"], x)), apply(memories["w_v"], x)
    eta, alpha = eta_max * torch.sigmoid(number("eta")), torch.sigmoid(number("alpha"))
    u = v - k if objective == "l2" else v
    q = unit(apply(given["w_query"], x))
    return q, k, u, bounded_rate(k, u, eta, alpha, gain_bound), alpha


def initial_state(parameters: Tensors, lead: tuple[int, ...] = ()) -> State:
    """W_0 on every leading index, in storage of its own; G = I, nothing seen."""
    d = parameters["w_k"].shape[-1]
    shapes = _shapes(d, "vector" if "eta_readout" not in parameters else "matrix")
    memories = {name: parameters[name].expand(*lead, *shapes[name]).clone() for name in MEMORIES}
    return State(memories, _identity(memories["w_k"]), 0)


def _identity(like: Tensor) -> Tensor:
    """I on every leading index, (..., d, d)."""
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device).expand(like.shape).clone()


def _shapes(d: int, readout: str) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter, without leading axes."""
    one_of("readout", readout, READOUTS)
    of_rates = (d,) if readout == "vector" else (d, d)
    found: dict[str, tuple[int, ...]] = {name: (d, d) for name in ("w_k", "w_v", "w_memory", "w_query")}
    found |= {"w_eta": of_rates, "w_alpha": of_rates, "eta_bias": (), "alpha_bias": ()}
    return found if readout == "vector" else found | {"eta_readout": (d,), "alpha_readout": (d,)}


def _check(x: Any, parameters: Any, readout: str) -> None:
    """Tokens, and exactly the needed parameters, of one dtype on the device of x, whose leading axes broadcast against those of x."""
    checks.tensors(x=x)
    if x.ndim < 2 or x.shape[-1] == 0:
        raise ValueError(f"x must have shape (..., T, d) with d >= 1, got {tuple(x.shape)}")
    checks.values(x=x)
    wanted, lead = _shapes(x.shape[-1], readout), x.shape[:-2]
    same_names("parameters", parameters, wanted, "tensors")
    named = {f"parameters['{name}']": parameters[name] for name in wanted}
    checks.tensors(**named)
    for (name, tensor), shape in zip(named.items(), wanted.values(), strict=True):
        axes = tensor.ndim - len(shape)
        own = tensor.shape[: max(axes, 0)]
        fits = all(mine in (1, other) for mine, other in zip(own[::-1], lead[::-1], strict=False))
        if axes < 0 or axes > len(lead) or not fits or tuple(tensor.shape[axes:]) != shape:
            wants = f"(..., {', '.join(map(str, shape))})" if shape else "(...)"
            raise ValueError(
                f"{name} must have shape {wants} with leading axes that broadcast to {tuple(lead)}, got {tuple(tensor.shape)}"
            )
        if tensor.device != x.device:
            raise ValueError(f"{name} must be on the device of x, {x.device}, got {tensor.device}")
    checks.values(**named)
