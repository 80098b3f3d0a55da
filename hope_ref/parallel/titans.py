r"""Titans with leading axes, in blocks. Equal to `hope_ref.reference.titans`. Source: [S 22-24], [S 28], [Titans].

    B_t = μ_t B_{t-1} + w_t φ_tᵀ,    M_t = α_t M_{t-1} + B_t,    w_t = η_t u_t, -∇ℓ(M_{b(t)}; k_t, v_t) = u_t φ_tᵀ

Within a block of tokens let γ_t = Π_{s≤t} α_s, D_{t,s} = γ_t/γ_s, and m_t, F_{t,s} the same of μ. Unrolling both lines,

    M_t = γ_t M_0 + r_t B_0 + Σ_{s≤t} c_{t,s} w_s φ_sᵀ,        r_t = Σ_{j≤t} D_{t,j} m_j,    c_{t,s} = Σ_{j=s..t} D_{t,j} F_{j,s}:

two products of triangular matrices, and no division by α or μ. [D] What is left are the writes w_t.

- A matrix memory is linear, so M_{b(t)} k_t is a sum over the writes before b(t), and all writes of a block, across
  any number of boundaries, are the solution of one unit triangular system (for C = 1 too, momentum and all):
  w_t + η_t Σ_{s<b(t)} c_{b(t)-1,s} (k_sᵀ k_t) w_s = η_t (v_t - γ_{b(t)-1} M_0 k_t - r_{b(t)-1} B_0 k_t).
- A perceptron (w1, w2) is not: σ stands between a write and the next gradient, so nothing but a loop over chunks is exact
  (for C = 1 over tokens). Within a chunk the gradients are frozen, and everything is a matrix product.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from hope_ref.common.validation import positive_integer, shape_is
from hope_ref.config import HopeConfig
from hope_ref.parallel import checks, layers
from hope_ref.parallel.chunks import decays
from hope_ref.parallel.ops import whole

Weights = tuple[Tensor, ...]  # (memory,) or (w1, w2)


class TitansState(NamedTuple):
    """All that a memory carries from one call to the next; `start` makes the first one."""

    weights: Weights  # M_{t-1}, (..., d_v, d_k), or W1 (..., d, h) and W2 (..., h, d)
    momentum: Weights  # B_{t-1}, in the same shapes
    boundary: Weights  # M_{b}, where the open chunk takes its gradients
    position: int  # tokens seen


def start(*weights: Tensor) -> TitansState:
    """The state before the first token, ``start(memory)`` or ``start(w1, w2)``, B_0 = 0; equals `reference.titans.start`.

    Args: memory, (..., d_v, d_k); or w1, (..., d, h), and w2, (..., h, d). Returns: `TitansState`.
    Raises: ValueError naming the argument, what it got and what it wants.
    """
    return initial_state(_weights("weights", weights))


def initial_state(weights: Weights, *, copy: bool = True) -> TitansState:
    """`start`, with nothing checked; without ``copy`` the weights are those given, not copies of them."""
    momentum = tuple(torch.zeros_like(w) for w in weights)
    weights, boundary = (
        (tuple(w.clone(memory_format=torch.contiguous_format) for w in weights) for _ in range(2))
        if copy
        else (weights, weights)
    )
    return TitansState(weights, momentum, boundary, 0)


def memory_read(weights: Weights, z: Tensor) -> Tensor:
    """M(z): M z for a matrix, z + W1 σ(W2 z) for a perceptron [S 28]; equals `reference.titans.memory_read` on every leading index.

    Args: weights, (memory,) or (w1, w2); z, (..., d_k). Returns: (..., d_v).
    Raises: ValueError naming the argument, what it got and what it wants.
    """
    weights = _weights("weights", weights)
    _vectors(weights, z=(z, weights[-1].shape[-1]))
    return _read(weights, z[..., None, :])[..., 0, :]


def memory_gradients(weights: Weights, k: Tensor, v: Tensor) -> Weights:
    """∇ of ½‖M(k) - v‖² by hand [D]; equals `reference.titans.memory_gradients` on every leading index.

    Args: weights, (memory,) or (w1, w2); k, (..., d_k); v, (..., d_v). Returns: one gradient per weight, in its shape.
    Raises: ValueError naming the argument, what it got and what it wants.
    """
    weights = _weights("weights", weights)
    _vectors(weights, k=(k, weights[-1].shape[-1]), v=(v, weights[0].shape[-2]))
    if len(weights) == 1:
        pairs = [(k, v - _read(weights, k[..., None, :])[..., 0, :])]
    else:
        pairs = [
            (phi[..., 0, :], u[..., 0, :]) for phi, u in _asked(weights, k[..., None, :], v[..., None, :])
        ]
    return tuple(-u[..., :, None] * phi[..., None, :] for phi, u in pairs)


def titans(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    eta: Tensor | float,
    alpha: Tensor | float,
    mu: Tensor | float,
    state: TitansState,
    chunk_size: int = 1,
    block_size: int = 64,
) -> tuple[Tensor, TitansState]:
    """B_t = μ_t B_{t-1} - η_t ∇½‖M(k_t) - v_t‖², M_t = α_t M_{t-1} + B_t, y_t = M_t(q_t); equals `reference.titans`.

    The gradient is taken at M_{b(t)}, b(t) = C ⌊t/C⌋, with t counted over all calls. Tokens in half precision are computed
    in float32; the state may be in either. In blocks of more than one token α and μ below 1e-30 count as 1e-30.

    Args:
        q, k: queries and keys, (..., T, d_k); the leading axes are those of the state.
        v: values, (..., T, d_v); an (w1, w2) memory has d_v = d_k.
        eta: inner learning rate >= 0, a number or (..., T).
        alpha: retention in [0, 1], a number or (..., T): 1 keeps, 0 erases.
        mu: momentum decay in [0, 1], a number or (..., T).
        state: from `start` or from the last call.
        chunk_size: C, an integer >= 1, part of the model: the same in every call.
        block_size: tokens computed at once; changes speed and memory, not the result.
    Returns:
        outputs y, (..., T, d_v), and the state after the last token.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    state = _state(state)
    _tokens(state.weights, q, k, v)
    eta = checks.per_token("eta", eta, k, low=0, high=torch.inf)
    alpha = checks.per_token("alpha", alpha, k, low=0, high=1)
    mu = checks.per_token("mu", mu, k, low=0, high=1)
    chunk_size = positive_integer("chunk_size", chunk_size)
    block_size = positive_integer("block_size", block_size)
    return stream(q, k, v, eta, alpha, mu, state, chunk_size, block_size)


def stream(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    eta: Tensor,
    alpha: Tensor,
    mu: Tensor,
    state: TitansState,
    chunk_size: int,
    block_size: int,
) -> tuple[Tensor, TitansState]:
    """What `titans` computes, with nothing checked and one η, α and μ per token, (..., T)."""
    dtypes = v.dtype, state.weights[0].dtype
    q, k, v, eta, alpha, mu = whole(q, k, v, eta, alpha, mu)
    weights, momentum, boundary, position = state
    state = TitansState(whole(*weights), whole(*momentum), whole(*boundary), position)
    block = _matrix_block if len(state.weights) == 1 else _perceptron_block
    outputs, at = [v[..., :0, :]], 0
    while at < k.shape[-2]:
        end = at + block_size
        if block is _perceptron_block:  # one chunk at a time: the next gradients wait for its writes
            end = min(end, at + chunk_size - state.position % chunk_size)
        part = slice(at, end)
        q_c, k_c, v_c = q[..., part, :], k[..., part, :], v[..., part, :]
        y, state = block(
            q_c, k_c, v_c, eta[..., part], _reach(alpha[..., part], mu[..., part]), state, chunk_size
        )
        outputs.append(y)
        at += k_c.shape[-2]
    weights, momentum, boundary = (tuple(w.to(dtypes[1]) for w in tensors) for tensors in state[:3])
    return torch.cat(outputs, -2).to(dtypes[0]), TitansState(weights, momentum, boundary, state.position)


# --- one block ------------------------------------------------------------------------------------------------------


class _Reach(NamedTuple):
    """How much of M_0, of B_0 and of each write is in the memory after t tokens of a block of n, t = 0 … n."""

    kept: Tensor  # γ_t, 1 at t = 0, (..., n + 1)
    momentum: Tensor  # r_t, 0 at t = 0, (..., n + 1)
    written: Tensor  # c_{t,s}, 0 for s >= t, (..., n + 1, n)
    fade: Tensor  # m_n, how much of B_0 is in B_n, (...)
    fading: Tensor  # F_{n,s}, (..., n)

    def read(self, rows: Any, x: Tensor, phi: Tensor, write: Tensor, w: Tensor, b: Tensor) -> Tensor:
        """W after ``rows[i]`` tokens, applied to x_i: (..., i, d_in) to (..., i, d_out)."""
        scores = self.written[..., rows, :] * (x @ phi.mT)  # c_{t,s} (φ_sᵀ x_t), (..., i, n)
        carried = self.kept[..., rows, None] * (x @ w.mT) + self.momentum[..., rows, None] * (x @ b.mT)
        return carried + scores @ write

    def weight(self, row: int, phi: Tensor, write: Tensor, w: Tensor, b: Tensor) -> Tensor:
        """W after ``row`` tokens, (..., d_out, d_in)."""
        added = (self.written[..., row, :, None] * write).mT @ phi
        return self.kept[..., row, None, None] * w + self.momentum[..., row, None, None] * b + added

    def final_momentum(self, phi: Tensor, write: Tensor, b: Tensor) -> Tensor:
        """B after all n tokens, (..., d_out, d_in)."""
        return self.fade[..., None, None] * b + (self.fading[..., None] * write).mT @ phi


def _reach(alpha: Tensor, mu: Tensor) -> _Reach:
    keep, fade = decays(alpha), decays(mu)
    momentum = (keep.ratio @ fade.gamma[..., None])[..., 0]  # r_t, (..., n)
    written = keep.ratio @ fade.ratio  # c_{t,s}, (..., n, n)
    return _Reach(
        torch.cat([torch.ones_like(momentum[..., :1]), keep.gamma], -1),
        torch.cat([torch.zeros_like(momentum[..., :1]), momentum], -1),
        torch.cat([torch.zeros_like(written[..., :1, :]), written], -2),
        fade.gamma[..., -1],
        fade.ratio[..., -1, :],
    )


def _matrix_block(
    q: Tensor, k: Tensor, v: Tensor, eta: Tensor, reach: _Reach, state: TitansState, chunk_size: int
) -> tuple[Tensor, TitansState]:
    """Any number of tokens of a matrix memory, across boundaries, by one triangular solve."""
    (memory,), (momentum,), (frozen,), position = state
    length = k.shape[-2]
    opened = min(-position % chunk_size, length)  # tokens whose boundary lies before the block
    seen = torch.arange(position + opened, position + length, device=k.device)
    rows = seen // chunk_size * chunk_size - position  # b(t), counted from the start of the block
    later = k[..., opened:, :]
    kept = reach.kept[..., rows, None] * (later @ memory.mT)
    answers = torch.cat(
        [k[..., :opened, :] @ frozen.mT, kept + reach.momentum[..., rows, None] * (later @ momentum.mT)], -2
    )
    share = torch.cat([torch.zeros_like(reach.written[..., :opened, :]), reach.written[..., rows, :]], -2)
    system = eta[..., None] * (share * (k @ k.mT))  # c_{b(t)-1,s} = 0 for s >= b(t): strictly lower
    target = eta[..., None] * (v - answers)
    write = torch.linalg.solve_triangular(
        system, target, upper=False, unitriangular=True
    )  # w_t, (..., n, d_v)
    stream_parts = (k, write, memory, momentum)
    last = (position + length - 1) // chunk_size * chunk_size - position  # b of the block's last token
    return reach.read(slice(1, None), q, *stream_parts), TitansState(
        (reach.weight(length, *stream_parts),),
        (reach.final_momentum(k, write, momentum),),
        (frozen if last < 0 else reach.weight(last, *stream_parts),),
        position + length,
    )


def _perceptron_block(
    q: Tensor, k: Tensor, v: Tensor, eta: Tensor, reach: _Reach, state: TitansState, chunk_size: int
) -> tuple[Tensor, TitansState]:
    """Tokens of a perceptron memory that share one boundary: gradients, writes and reads are matrix products."""
    weights, momentum, frozen, position = state
    if position % chunk_size == 0:
        frozen = weights  # M_{b(t)}
    pairs = [(phi, eta[..., None] * u) for phi, u in _asked(frozen, k, v)]
    one, two = ((phi, write, w, b) for (phi, write), w, b in zip(pairs, weights, momentum, strict=True))
    after = slice(1, None)
    y = q + reach.read(
        after, silu(reach.read(after, q, *two)), *one
    )  # W2 moves with every token, and so does W1
    length = k.shape[-2]
    return y, TitansState(
        (reach.weight(length, *one), reach.weight(length, *two)),
        tuple(reach.final_momentum(phi, write, b) for phi, write, _, b in (one, two)),
        frozen,
        position + length,
    )


# --- the memory -----------------------------------------------------------------------------------------------------


def _silu_derivative(z: Tensor) -> Tensor:
    return torch.sigmoid(z) * (1 + z * torch.sigmoid(-z))


def _read(weights: Weights, z: Tensor) -> Tensor:
    """M(z) of every token, (..., T, d_k) to (..., T, d_v)."""
    if len(weights) == 1:
        return z @ weights[0].mT
    w1, w2 = weights
    return z + silu(z @ w2.mT) @ w1.mT


def _asked(weights: Weights, k: Tensor, v: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(φ, u) of W1 and of W2 for every token: minus the gradient is u φᵀ. e = M(k) - v, u1 = -e, u2 = -(W1ᵀe) ⊙ σ′(W2 k)."""
    w1, w2 = weights
    before = k @ w2.mT  # (..., T, h)
    phi = silu(before)
    error = k + phi @ w1.mT - v  # (..., T, d)
    return [(phi, -error), (k, -(error @ w1) * _silu_derivative(before))]


# --- the layer ------------------------------------------------------------------------------------------------------


class Titans(layers.Convolved):
    """A mixer with B_t = μ_t B_{t-1} - η_t ∇ℓ(M_{b(t)}; k_t, v_t), M_t = α_t M_{t-1} + B_t [S 22-24, Titans].

    The memory is a perceptron with ``architecture`` "mlp" and a matrix with "linear"; its chunks are ``memory_chunk_size``.
    All gradients of a chunk are taken at its start and add up, so η is at most 1/C, and 0.2/C where training starts [D]:
    with η = 0.5 a perceptron in chunks of 16 overflows on random tokens. See `hope_ref.parallel.layers`.
    """

    has_kernels = False

    def __init__(self, config: HopeConfig, generator: torch.Generator | None = None) -> None:
        super().__init__(config, generator)
        d, hidden, heads = config.head_width, config.hidden_width, config.heads
        if config.architecture == "mlp":
            self.w1 = nn.Parameter(torch.zeros(heads, d, hidden))
            drawn = torch.empty(heads, hidden, d)
            for one in drawn:
                nn.init.orthogonal_(one, gain=2.0, generator=generator)
            self.w2 = nn.Parameter(drawn)
        else:
            self.w = nn.Parameter(torch.zeros(heads, d, d))
        self.add_rate("eta", 0.2)
        self.add_rate("alpha", config.alpha_init)
        self.add_rate("mu", 0.1)

    def initial_memory(self, lead: tuple[int, ...], *, copy: bool = True) -> TitansState:
        """The memory at its parameters, without momentum."""
        weights = whole(*((self.w1, self.w2) if self.config.architecture == "mlp" else (self.w,)))
        return initial_state(tuple(w.expand(*lead, *w.shape[-2:]) for w in weights), copy=copy)

    def memory(
        self, n: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Any, backend: str
    ) -> tuple[Tensor, Any]:
        """The answers and the state after the last token."""
        eta, alpha, mu = (self.rate(name, n) for name in ("eta", "alpha", "mu"))
        chunk_size = self.config.memory_chunk_size
        return stream(q, k, v, eta / chunk_size, alpha, mu, state, chunk_size, layers.BLOCK)


# --- checks ----------------------------------------------------------------------------------------------------------


def _weights(name: str, weights: Any) -> Weights:
    """One matrix (..., d_v, d_k), or W1 (..., d, h) and W2 (..., h, d)."""
    if not isinstance(weights, tuple) or len(weights) not in (1, 2):
        got = f"{len(weights)} of them" if isinstance(weights, tuple) else type(weights).__name__
        raise ValueError(f"{name} must be a tuple (memory,) or (w1, w2), got {got}")
    named = {f"{name}[{place}]": w for place, w in enumerate(weights)}
    checks.tensors(**named)
    first = tuple(weights[0].shape)
    if len(first) < 2:
        sizes = "(..., d_v, d_k)" if len(weights) == 1 else "(..., d, h)"
        raise ValueError(f"{name}[0] must have shape {sizes}, got {first}")
    if len(weights) == 2:
        shape_is(f"{name}[1]", tuple(weights[1].shape), (*first[:-2], first[-1], first[-2]))
    checks.values(**named)
    return weights


def _vectors(weights: Weights, **named: tuple[Tensor, int]) -> None:
    """One vector of the named width for every leading index of the weights."""
    checks.tensors(weights=weights[0], **{name: value for name, (value, _) in named.items()})
    for name, (value, width) in named.items():
        shape_is(name, tuple(value.shape), (*weights[0].shape[:-2], width))
        checks.values(-torch.inf, torch.inf, **{name: value})


def _tokens(weights: Weights, q: Tensor, k: Tensor, v: Tensor) -> None:
    checks.tensors(k=k, q=q, v=v)
    checks.state_tensors("k", k, **{"state.weights": weights[0]})
    shape_is("k", tuple(k.shape), (*weights[0].shape[:-2], "T", weights[-1].shape[-1]))
    shape_is("q", tuple(q.shape), tuple(k.shape))
    shape_is("v", tuple(v.shape), (*k.shape[:-1], weights[0].shape[-2]))
    checks.values(k=k, q=q, v=v)


def _state(state: Any) -> TitansState:
    """Validate a state: three sets of weights in the same shapes, and a position."""
    if not isinstance(state, TitansState):
        raise ValueError(f"state must be a TitansState (see start), got {type(state).__name__}")
    weights, momentum, frozen = (_weights(f"state.{n}", getattr(state, n)) for n in TitansState._fields[:3])
    shapes = tuple(tuple(w.shape) for w in weights)
    for name, others in (("momentum", momentum), ("boundary", frozen)):
        got = tuple(tuple(w.shape) for w in others)
        if got != shapes:
            raise ValueError(f"state.{name} must have shapes {shapes}, got {got}")
        checks.tensors(**{"state.weights": weights[0], f"state.{name}": others[0]})
    position = state.position
    if isinstance(position, bool) or not isinstance(position, int) or position < 0:
        raise ValueError(f"state.position must be an integer >= 0, got {position!r}")
    return TitansState(weights, momentum, frozen, position)
