r"""Self-modifying Titans in chunks. Equal to `hope_ref.reference.self_modifying_titans`. Source: [S 25-34], [P 83-93].

Every memory □ rewrites each of its weight matrices W at each token toward its own target,

    W_t = α_t W_{t-1} + (1 - α_t) R - η̃_t ((W_{t-1} - E) φ_t - u_t) φ_tᵀ,        o_t = M_memory,t(q_t),

and makes k, v, q, η, α, φ and u from its state at the chunk's boundary b(t) = C ⌊t/C⌋. So within a chunk all of these
are known for all tokens at once, and what is left is the rank-one recurrence of `hope_ref.parallel.chunks`: a few large
matrix products and one triangular solve per layer and chunk. Memories with the same chunk size are computed as one
stack. No decays are needed where α = 1: for all memories but `memory`, unless ``retention_scope`` is "all".
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from hope_ref.common.validation import same_names, shape_is
from hope_ref.config import HopeConfig, eta_bias, logit, weight_names, weight_shapes
from hope_ref.parallel import checks, chunks, compiling, layers, states
from hope_ref.parallel.memory_network import (
    Matrix,
    Moving,
    Retention,
    Weights,
    answer,
    associations,
    moved,
    reading,
    unit,
    write,
)
from hope_ref.parallel.memory_states import (
    Group,
    Stack,
    State,
    groups,
    initial_state,
    projections,
    stacked,
    stacks,
    unstacked,
)
from hope_ref.parallel.ops import apply, product

__all__ = ["SelfModifyingTitans", "State", "Token", "self_modifying_titans", "stream", "titans_layer"]

Tensors = dict[str, Tensor]
Stacks = tuple[Stack, ...]


class Token(NamedTuple):
    """What the tokens of a chunk make of themselves, all from the boundary states."""

    k: Tensor  # (..., C, d)
    v: Tensor  # (..., C, d)
    q: Tensor  # (..., C, d)
    eta: tuple[Tensor, ...]  # learning rates (..., M, C) for each group
    alpha: Tensor  # one retention for all, (..., C)


class Start(NamedTuple):
    """The parameters, as the chunks use them."""

    weights: tuple[Weights, ...]  # W_0 of each group, one (..., M, rows, columns) per layer
    returning: tuple[Weights, ...]  # the same of those of each group that forget, the last ones
    readouts: Tensor  # r_η and r_α over √d, (..., 2, 1, d)
    eta_bias: Tensor  # c_□ in the order of the groups, (..., M of all, 1)
    alpha_bias: Tensor  # (..., 1)


def self_modifying_titans(
    x_key: Tensor,
    x_value: Tensor,
    x_query: Tensor,
    parameters: Tensors,
    config: HopeConfig,
    state: State | None = None,
    *,
    recompute: bool = False,
    backend: str = "torch",
) -> tuple[Tensor, State]:
    """M_□,t = DGD step on ℓ(M_□(k_t), M_□(v_t)), o_t = M_memory(q_t); equals `reference.self_modifying_titans`.

    On every leading index (batch, heads). A split at any token gives the same outputs and the same final state. An
    overflow is not hidden: inf and NaN pass into outputs and state. Half-precision tokens are computed in float32, and
    autocast is off inside: a recurrence over thousands of writes does not survive eight bits.

    Args:
        x_key, x_value, x_query: the token's three views, (..., T, d) each.
        parameters: by the names of the reference: w1_□ (..., d, h) and w2_□ (..., h, d), or w_□ (..., d, d) if linear,
            for □ in ``config.memories``; w_query (..., d, d) unless adaptive_query; eta_readout (..., d), eta_bias_□ (...),
            alpha_readout (..., d), alpha_bias (...). Their leading axes broadcast against those of x: with x
            (batch, heads, T, d), w1_k is (heads, d, h). eta_max is ``config.eta_max``.
        config: the options; ``target_gradient`` matters here, the sizes come from the tensors.
        state: what the last call returned; None starts from the parameters.
        recompute: keep only the states between chunks for the backward pass and compute the rest again.
        backend: "torch", "triton", "compiled" or "auto": what writes and reads within a chunk, see
            `hope_ref.parallel.kernels` and `hope_ref.parallel.compiling`.
    Returns:
        outputs, (..., T, d), in the dtype of x, and the final state, differentiable too.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
        RuntimeError: a backend that cannot run here, with the reason.
    """
    _check(x_key, x_value, x_query, parameters, config, state)
    return stream(x_key, x_value, x_query, parameters, config, state, recompute=recompute, backend=backend)


def stream(
    x_key: Tensor,
    x_value: Tensor,
    x_query: Tensor,
    parameters: Tensors,
    config: HopeConfig,
    state: State | None,
    *,
    recompute: bool = False,
    backend: str = "torch",
) -> tuple[Tensor, State]:
    """What `self_modifying_titans` computes, with nothing checked: for a layer whose arguments are its own."""
    with checks.no_autocast(x_key.device.type):
        x, start, state = _arguments(x_key, x_value, x_query, parameters, config, state)
        backend = _chosen(backend, x["k"], config)
        outputs, end = _run(x, start, config, state, recompute, backend)
    return outputs.to(x_key.dtype), end


def _chosen(backend: str, like: Tensor, config: HopeConfig) -> str:
    """ "torch", "triton" or "compiled". Raises: as `hope_ref.parallel.kernels.chosen`."""
    if backend == "torch":
        return backend
    from hope_ref.parallel import kernels

    return kernels.chosen(backend, like, kernels.unsupported(config, like.dtype, like.shape[-1]))


def _run(
    x: dict[str, Tensor], start: Start, config: HopeConfig, state: State, recompute: bool, backend: str
) -> tuple[Tensor, State]:
    """Stretches of tokens, each from one boundary of any group to the next."""
    of_groups, position = stacks(state, config), state.position
    views = torch.stack([x[name] for name in config.memories if name != "memory"], -3)  # (..., P, T, d)
    length, chunk_size = views.shape[-2], min(config.memory_chunk_size, config.projection_chunk_size)
    sizes = stretches(position, length, chunk_size)
    queries = x["unit_query"].split(sizes, -2) if "unit_query" in x else [None] * len(sizes)
    outputs = [x["k"][..., :0, :]]  # so that T = 0 gives an empty tensor of the right shape and dtype
    for place, (view, q) in enumerate(zip(views.split(sizes, -2), queries, strict=True)):
        if recompute and torch.is_grad_enabled():
            read, of_groups = checkpoint(
                stretch, view, q, of_groups, start, config, position, True, backend,
                use_reentrant=False, preserve_rng_state=False,
            )  # fmt: skip
        else:
            last = place == len(sizes) - 1
            read, of_groups = stretch(view, q, of_groups, start, config, position, last, backend)
        outputs.append(read)
        position += view.shape[-2]
    return torch.cat(outputs, -2), unstacked(of_groups, config, position)


def stretches(position: int, length: int, chunk_size: int) -> list[int]:
    """How many tokens lie between boundaries: what is left of an open chunk, whole chunks, and the rest."""
    first = min(-position % chunk_size, length)
    whole, rest = (
        (length - first) // chunk_size,
        (length - first) % chunk_size,
    )  # divmod takes no symbolic integers
    return [size for size in (first, *[chunk_size] * whole, rest) if size]


def stretch(
    views: Tensor,
    q: Tensor | None,
    of_groups: Stacks,
    start: Start,
    config: HopeConfig,
    position: int,
    last: bool = True,
    backend: str = "torch",
) -> tuple[Tensor, Stacks]:
    """Tokens with no boundary between them: their outputs, (..., C, d), and the state after them.

    Where neither a gradient nor a later token (``last``) will ask for the old weights, they are overwritten.
    """
    of_groups = at_boundary(of_groups, config, position)
    if backend == "triton":
        from hope_ref.parallel.kernels import memories

        token = generate(views, q, start, config, of_groups)
        answers, after_all = memories.stretch(token, of_groups, start.weights, groups(config), config)
        return (read(token, [], of_groups[-1], config) if answers is None else answers), after_all
    if backend == "compiled":
        kept = (False,) * len(of_groups)
        return compiling.compiled(within)(views, q, of_groups, start, config, kept)
    overwrite = []
    for group, stack in zip(groups(config), of_groups, strict=True):
        ends_here = (position + views.shape[-2]) % group.chunk_size == 0
        unneeded = ends_here or not stack.begins  # else they are the boundary's to the chunk's end
        overwrite.append(unneeded and not (last or torch.is_grad_enabled()))
    return within(views, q, of_groups, start, config, tuple(overwrite))


def within(
    views: Tensor,
    q: Tensor | None,
    of_groups: Stacks,
    start: Start,
    config: HopeConfig,
    overwrite: tuple[bool, ...],
) -> tuple[Tensor, Stacks]:
    """`stretch` from the state at its boundary on: tensors in, tensors out, so that one graph serves all chunks."""
    token = generate(views, q, start, config, of_groups)
    moving = write_all(token, start, config, of_groups)
    outputs = read(token, moving[-1], of_groups[-1], config)
    after = []
    for stack, matrices, in_place in zip(of_groups, moving, overwrite, strict=True):
        ends = [moved(matrix, config, in_place) for matrix in matrices]
        if ends:
            weights, momenta = zip(*ends, strict=True)
            stack = stack._replace(weights=weights, momentum=momenta if config.inner_momentum > 0 else ())
        after.append(stack)
    return outputs, tuple(after)


def at_boundary(of_groups: Stacks, config: HopeConfig, position: int) -> Stacks:
    """The state with the weights at b(t): a group whose chunk begins here takes its current ones, others keep theirs."""
    return tuple(
        stack._replace(boundary=stack.weights, begins=True)
        if position % group.chunk_size == 0
        else stack._replace(begins=False)
        for group, stack in zip(groups(config), of_groups, strict=True)
    )


def generate(views: Tensor, q: Tensor | None, start: Start, config: HopeConfig, of_groups: Stacks) -> Token:
    """k = unit(M_k(x^k)), v = M_v(x^v), q = unit(W_q x^q), η_□ from M_η(x^v), α from M_α(x^k) [P 83, D].

    v is made unit with ``value_norm``; q = unit(M_q(x^q)) with ``adaptive_query``. The read-outs r turn a memory's d
    numbers into one: r·W1 σ(W2 x) meets W1 with r alone. η goes through `rate`, α through a sigmoid.
    ``views`` is what k, v, q (if adaptive), eta and alpha look at, (..., P, C, d); q is given if it is not adaptive.
    """
    count = views.shape[-3]
    hidden, weights = views, projections(of_groups, config)
    if len(weights) == 2:
        hidden = functional.silu(apply(weights[1].split([count, weights[1].shape[-3] - count], -3)[0], views))
    sizes = [count - 2, 2]
    of_vectors, of_numbers, _ = weights[0].split([*sizes, weights[0].shape[-3] - count], -3)
    (vectors, numbers), (x_vectors, x_numbers) = hidden.split(sizes, -3), views.split(sizes, -3)
    vectors_out = x_vectors + apply(of_vectors, vectors)  # (..., P - 2, C, d)
    directions = unit(vectors_out)
    k, v = directions[..., 0, :, :], (directions if config.value_norm else vectors_out)[..., 1, :, :]
    inner = product(start.readouts, of_numbers)  # (W1ᵀ r)ᵀ, (..., 2, 1, h)
    z = product(start.readouts, x_numbers.mT) + product(inner, numbers.mT)  # (..., 2, 1, C)
    z_eta, z_alpha = z[..., 0, :].split([1, 1], -2)  # (..., 1, C) each
    eta = rate(z_eta + start.eta_bias, config).split([len(group.names) for group in groups(config)], -2)
    alpha = torch.sigmoid(z_alpha[..., 0, :] + start.alpha_bias)
    return Token(k, v, directions[..., 2, :, :] if q is None else q, eta, alpha)


def rate(z: Tensor, config: HopeConfig) -> Tensor:
    """η = softplus(z) for implicit steps, eta_max · sigmoid(z) for the others [D]."""
    if config.step == "implicit":
        return functional.softplus(z, threshold=40.0)  # beyond 40 it is z to the last digit
    return config.eta_max * torch.sigmoid(z)


def write_all(token: Token, start: Start, config: HopeConfig, of_groups: Stacks) -> list[list[Moving]]:
    """Move every memory that writes: its target is its own answer to v (or v itself) [P 84-88].

    Gradients are taken at the boundary, the erase term and the retention act on the moving state. Returns the layers
    of every group on their way through the chunk; none for a group that does not write.
    """
    k, v = token.k[..., None, :, :], token.v[..., None, :, :]  # (..., 1, C, d)
    gram = product(k, k.mT)  # (..., 1, C, C), of all memories
    moving: list[list[Moving]] = []
    for index, (group, stack) in enumerate(zip(groups(config), of_groups, strict=True)):
        moving.append([])
        if not group.writes:
            continue
        retention = retention_of(token.alpha[..., None, :], group, config)
        for layer, association in enumerate(associations(stack.boundary, k, v, config)):
            weight, phi = stack.weights[layer], association.phi
            if not stack.begins:  # the chunk has begun earlier: W_0 is not the boundary's
                association = association._replace(answer=apply(weight, phi))
            matrix = Matrix(
                weight,
                parts(weight, group),
                start.weights[index][layer],
                start.returning[index][layer],
                stack.momentum[layer] if stack.momentum else None,
                retention,
            )
            own_gram = product(phi, phi.mT) if layer == 0 and config.architecture == "mlp" else gram
            moving[-1].append(write(matrix, association, own_gram, token.eta[index], config))
    return moving


def parts(weight: Tensor, group: Group) -> tuple[Tensor, ...]:
    """The memories that keep everything, if there are any, and those that forget, if there are any."""
    sizes = [size for size in (len(group.names) - group.forgetting, group.forgetting) if size]
    return weight.split(sizes, -3) if len(sizes) == 2 else (weight,)


def retention_of(alpha: Tensor, group: Group, config: HopeConfig) -> Retention:
    """What the retentions α (..., 1, C) make of a chunk for the memories of a group, 1 for those that do not forget."""
    mu = config.inner_momentum
    if group.forgetting == 0:
        ones = torch.ones_like(alpha)
        return Retention(0, None, chunks.reaches(mu, chunks.decays(ones)) if mu > 0 else None)
    decay = chunks.decays(alpha, keeping=len(group.names) - group.forgetting)
    return Retention(group.forgetting, decay, chunks.reaches(mu, decay) if mu > 0 else None)


def read(token: Token, moving: list[Moving], stack: Stack, config: HopeConfig) -> Tensor:
    """o_t = M_memory(q_t), (..., C, d), with the state after token t's write, before it, or at the boundary."""
    q = token.q[..., None, :, :]  # (..., 1, C, d)
    if config.read == "boundary" or not moving:
        weights = stack.boundary if config.read == "boundary" else stack.weights
        own = tuple(weight[..., -1:, :, :] for weight in weights)
        return answer(own, q, skip=config.read_skip)[..., 0, :, :]
    after = config.read == "post"
    branch = q
    for place, layer in enumerate(reversed(moving)):  # W2 first
        branch = reading(layer, functional.silu(branch) if place else q, config, after)
    return (q + branch if config.read_skip else branch)[..., 0, :, :]


# --- the layer ------------------------------------------------------------------------------------------------------


def titans_layer(
    x: Tensor,
    parameters: Tensors,
    config: HopeConfig,
    state: layers.MixerState,
    *,
    recompute: bool = False,
    backend: str = "torch",
) -> tuple[Tensor, layers.MixerState]:
    """y = x + W_o RMSNorm_head(Titans(x^k, x^v, x^q)) [P 94-97, D]; equals `reference.hope.titans_layer`.

    All of W_q stands before the convolution, so a head's own query projection is the identity. Nothing here looks at
    values: an overflow is seen in the results.
    """
    n = layers.rms_norm(x, parameters["norm"])
    key, value, query, state = layers.views(n, parameters, config.heads, state)
    own = {name: parameters[name] for name in head_names(config)}
    if not config.adaptive_query:
        own["w_query"] = torch.eye(key.shape[-1], dtype=x.dtype, device=x.device)
    answers, memories = stream(
        key, value, query, own, config, state.memory, recompute=recompute, backend=backend
    )
    return layers.output(x, answers, parameters), state._replace(memory=memories)


def head_names(config: HopeConfig) -> list[str]:
    """Names of the parameters that each head has for itself, in the order of the reference."""
    weights = [name for memory in config.memories for name in weight_names(memory, config)]
    biases = [f"eta_bias_{memory}" for memory in config.memories]
    return [*weights, *biases, "eta_readout", "alpha_readout", "alpha_bias"]


class SelfModifyingTitans(layers.Convolved):
    """HOPE's own mixer: memories that make their own keys, values, rates and targets. `titans_layer` [P 83-97]."""

    def __init__(self, config: HopeConfig, generator: torch.Generator | None = None) -> None:
        super().__init__(config, generator)
        d, hidden, heads = config.head_width, config.hidden_width, config.heads
        for name, shape in weight_shapes(config, d, hidden).items():
            layer, memory = name.split("_", 1)
            drawn = torch.empty(heads, *map(int, shape))
            if layer == "w2":
                for one in drawn:
                    nn.init.orthogonal_(one, gain=2.0, generator=generator)
            else:
                std = config.memory_w1_std if memory == "memory" else 0.5 / math.sqrt(drawn.shape[-1])
                nn.init.normal_(drawn, std=std, generator=generator)
            setattr(self, name, nn.Parameter(drawn))
        of_memory, of_others = (eta_bias(eta, config) for eta in config.eta_init)
        for memory in config.memories:
            start = of_memory if memory == "memory" else of_others
            setattr(self, f"eta_bias_{memory}", nn.Parameter(torch.full((heads,), start)))
        self.eta_readout = nn.Parameter(torch.zeros(heads, d))
        self.alpha_readout = nn.Parameter(torch.zeros(heads, d))
        self.alpha_bias = nn.Parameter(torch.full((heads,), logit(config.alpha_init)))

    def projections(self) -> tuple[str, ...]:
        """W_q unless queries are adaptive, P_k and P_v with ``input_projection``."""
        own = {"p_key": self.config.input_projection, "p_value": self.config.input_projection}
        return tuple(name for name in layers.PROJECTIONS if own.get(name, not self.config.adaptive_query))

    def initial_memory(self, lead: tuple[int, ...], *, copy: bool = True) -> State:
        """W_0 everywhere."""
        return initial_state(self.tensors(), self.config, lead, copy=copy)

    def forward(
        self,
        x: Tensor,
        state: layers.MixerState | None = None,
        *,
        recompute: bool = False,
        backend: str = "torch",
    ) -> tuple[Tensor, layers.MixerState]:
        """As `layers.Mixer.forward`."""
        state = self.initial_state(x.shape[:-2]) if state is None else state
        return titans_layer(x, self.tensors(), self.config, state, recompute=recompute, backend=backend)


# --- the door -------------------------------------------------------------------------------------------------------


def _check(
    x_key: Tensor,
    x_value: Tensor,
    x_query: Tensor,
    parameters: Tensors,
    config: HopeConfig,
    state: State | None,
) -> None:
    """Views, parameters and state."""
    if not isinstance(config, HopeConfig):
        raise ValueError(f"config must be a HopeConfig, got {type(config).__name__}")
    checks.tensors(x_key=x_key, x_value=x_value, x_query=x_query)
    if x_key.ndim < 2 or x_key.shape[-1] == 0:
        raise ValueError(f"x_key must have shape (..., T, d) with d >= 1, got {tuple(x_key.shape)}")
    shape_is("x_value", tuple(x_value.shape), tuple(x_key.shape))
    shape_is("x_query", tuple(x_query.shape), tuple(x_key.shape))
    checks.values(x_key=x_key, x_value=x_value, x_query=x_query)
    _check_parameters(parameters, config, x_key)
    if state is not None:
        start = initial_state(parameters, config, x_key.shape[:-2], copy=False)
        states.checked(state, start._replace(position=None))  # type: ignore[arg-type]
    else:  # a state in hand says that they have been looked at before
        for name, tensor in parameters.items():
            checks.values(-torch.inf, torch.inf, **{f"parameters['{name}']": tensor})


def _arguments(
    x_key: Tensor,
    x_value: Tensor,
    x_query: Tensor,
    parameters: Tensors,
    config: HopeConfig,
    state: State | None,
) -> tuple[dict[str, Tensor], Start, State]:
    """What every memory looks at, parameters and state, in the dtype of the parameters or float32, if finer."""
    dtype = torch.promote_types(parameters["alpha_bias"].dtype, torch.float32)
    parameters = {name: tensor.to(dtype) for name, tensor in parameters.items()}
    key, value, query = (x.to(dtype) for x in (x_key, x_value, x_query))
    state = initial_state(parameters, config, x_key.shape[:-2]) if state is None else state
    names = [name for group in groups(config) for name in group.names]
    root = math.sqrt(x_key.shape[-1])
    weights = tuple(stacked(parameters, group, config) for group in groups(config))
    start = Start(
        weights,
        tuple(
            tuple(parts(w, g)[-1] for w in stack) for g, stack in zip(groups(config), weights, strict=True)
        ),
        torch.stack([parameters["eta_readout"], parameters["alpha_readout"]], -2)[..., None, :] / root,
        torch.stack([parameters[f"eta_bias_{name}"] for name in names], -1)[..., None],
        parameters["alpha_bias"][..., None],
    )
    x = {"k": key, "v": value, "q": query, "eta": value, "alpha": key}
    if not config.adaptive_query:
        x["unit_query"] = unit(apply(parameters["w_query"], query))
    return x, start, state


def _check_parameters(parameters: Tensors, config: HopeConfig, x: Tensor) -> None:
    """Exactly the needed names, of one dtype on the device of x, whose leading axes broadcast against those of x."""
    d, lead = x.shape[-1], x.shape[:-2]
    shapes: dict[str, tuple[int | str, ...]] = {} if config.adaptive_query else {"w_query": (d, d)}
    shapes |= {"eta_readout": (d,), "alpha_readout": (d,), "alpha_bias": ()}
    shapes |= {f"eta_bias_{memory}": () for memory in config.memories}
    same_names("parameters", parameters, [*shapes, *weight_shapes(config, d, "h")], "tensors")
    checks.tensors(**{f"parameters['{name}']": tensor for name, tensor in parameters.items()})
    hidden: int | str = parameters["w1_k"].shape[-1] if config.architecture == "mlp" else "h"
    for name, shape in (shapes | weight_shapes(config, d, hidden)).items():
        tensor = parameters[name]
        if tensor.device != x.device:
            raise ValueError(
                f"parameters['{name}'] must be on the device of x_key, {x.device}, got {tensor.device}"
            )
        axes = tensor.ndim - len(shape)
        own = tensor.shape[: max(axes, 0)]
        fits = all(mine in (1, other) for mine, other in zip(own[::-1], lead[::-1], strict=False))
        if axes < 0 or axes > len(lead) or not fits or tuple(tensor.shape[axes:]) != shape:
            raise ValueError(
                f"parameters['{name}'] must have shape (..., {', '.join(map(str, shape))}) with leading axes that "
                f"broadcast to {tuple(lead)}, got {tuple(tensor.shape)}"
            )
