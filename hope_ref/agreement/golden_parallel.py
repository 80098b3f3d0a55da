"""Our parallel floor behind the contract of the golden vectors: ``--implementation hope_ref.agreement.golden_parallel``.

One function for each component, named like it: float64 arrays in, chunks, float64 arrays out. Chunks are kept short, so that
the vectors' few tokens meet a boundary. Two components have no function of their own on that floor and are put
together from what it has: `memory_step` is one token of the recurrence, `momentum_recurrence` the closed form of a chunk. Adam
is PyTorch's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.golden.models import configured
from hope_ref.parallel import chunks
from hope_ref.parallel import continuum_memory as levels
from hope_ref.parallel import delta_gradient_descent as delta
from hope_ref.parallel import delta_rule as rules
from hope_ref.parallel import expressive_optimisers as expressive
from hope_ref.parallel import gradient_descent as descent
from hope_ref.parallel import hope as model
from hope_ref.parallel import hope_adaptation as adaptation
from hope_ref.parallel import linear_attention as linear
from hope_ref.parallel import m3 as optimiser
from hope_ref.parallel import momentum as momenta
from hope_ref.parallel import newton_schulz as schulz
from hope_ref.parallel import self_modifying_titans as memories
from hope_ref.parallel import shared_gain as gains
from hope_ref.parallel import titans as surprised

CHUNK_SIZE = 4  # where it changes speed and not the result
Arrays = dict[str, Array]


def _tensors(**arrays: Array) -> dict[str, Any]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _arrays(**tensors: Tensor) -> Arrays:
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}


# --- matrix memories --------------------------------------------------------------------------------------------------


def linear_attention(**inputs: Array) -> Arrays:
    """`parallel.linear_attention` in chunks."""
    outputs, memory = linear.linear_attention(**_tensors(**inputs), chunk_size=CHUNK_SIZE)
    return _arrays(outputs=outputs, final_memory=memory)


def delta_rule(**inputs: Array) -> Arrays:
    """`parallel.delta_rule` in chunks."""
    outputs, memory = rules.delta_rule(**_tensors(**inputs), chunk_size=CHUNK_SIZE)
    return _arrays(outputs=outputs, final_memory=memory)


def gated_delta_rule(**inputs: Array) -> Arrays:
    """`parallel.delta_rule.gated_delta_rule` in chunks."""
    outputs, memory = rules.gated_delta_rule(**_tensors(**inputs), chunk_size=CHUNK_SIZE)
    return _arrays(outputs=outputs, final_memory=memory)


def recurrence(*, erase: str, **inputs: Array) -> Arrays:
    """`parallel.chunks.recurrence`."""
    outputs, state = chunks.recurrence(**_tensors(**inputs), chunk_size=CHUNK_SIZE, erase=erase)
    return _arrays(outputs=outputs, final_state=state)


def momentum_recurrence(*, erase: str, **inputs: Array) -> Arrays:
    """S_t = γ_t S_0 + b_t B_0 + Σ_{s≤t} η_s (c_{t,s} u_s - D_{t,s} p_s) φ_sᵀ, from the decays of `parallel.chunks` [D].

    What is erased, p, is one triangular solve; "after_decay" has D_{t,s} in the place of D_{t-1,s}, "none" p = 0.
    """
    given = _tensors(**inputs)
    state = given.pop("state")
    momentum, outputs = torch.zeros_like(state), [given["u"][:0]]
    for start in range(0, len(given["u"]), CHUNK_SIZE):
        part = {name: tensor[start : start + CHUNK_SIZE] for name, tensor in given.items()}
        q, phi, u, eta, alpha, mu = (part[name] for name in ("q", "phi", "u", "eta", "alpha", "mu"))
        decay, fade = chunks.decays(alpha), chunks.decays(mu)
        gamma, ratio = decay.gamma_before, decay.ratio_before
        if erase == "after_decay":
            gamma, ratio = decay.gamma, decay.ratio.tril(-1)
        gram = eta * (phi @ phi.mT)  # η_s (φ_tᵀ φ_s), (C, C)
        wanted = gamma[:, None] * (phi @ state.mT) + (ratio @ fade.gamma)[:, None] * (phi @ momentum.mT)
        wanted = wanted + ((ratio @ fade.ratio) * gram) @ u
        erased = chunks.unit_lower_solve(ratio * gram, wanted) * (erase != "none")  # p, (C, d_out)
        reach, reached = decay.ratio @ fade.gamma, decay.ratio @ fade.ratio  # b_t and c_{t,s}
        scores = eta * (q @ phi.mT)
        carried = decay.gamma[:, None] * (q @ state.mT) + reach[:, None] * (q @ momentum.mT)
        outputs.append(carried + (reached * scores) @ u - (decay.ratio * scores) @ erased)
        moved = eta[:, None] * (reached[-1, :, None] * u - decay.ratio[-1, :, None] * erased)
        state = decay.gamma[-1] * state + reach[-1] * momentum + moved.mT @ phi
        momentum = fade.gamma[-1] * momentum + ((eta * fade.ratio[-1])[:, None] * u).mT @ phi
    return _arrays(outputs=torch.cat(outputs), final_state=state, final_momentum=momentum)


def titans(*, chunk_size: int, **inputs: Array) -> Arrays:
    """`parallel.titans`, a matrix memory or a perceptron."""
    given = _tensors(**inputs)
    names = ("memory",) if "memory" in given else ("w1", "w2")
    start = surprised.start(*(given.pop(name) for name in names))
    outputs, state = surprised.titans(**given, state=start, chunk_size=chunk_size, block_size=CHUNK_SIZE)
    kept = ("momentum",) if len(names) == 1 else ("b1", "b2")
    final = dict(zip((*names, *kept), (*state.weights, *state.momentum), strict=True))
    return _arrays(outputs=outputs, **{f"final_{name}": tensor for name, tensor in final.items()})


# --- memories that move in chunks -------------------------------------------------------------------------------------


def continuum_memory(*, x: Array, **named: Any) -> Arrays:
    """`parallel.continuum_memory`."""
    count = sum(name.startswith("w1_") for name in named)
    parts = (
        _tensors(**{part: named.pop(f"{part}_{i}") for part in levels.Level._fields}) for i in range(count)
    )
    outputs, state = levels.continuum_memory(torch.from_numpy(x), [levels.Level(**p) for p in parts], **named)
    wanted = ("w1", "w2", "sum1", "sum2", *(("start1", "start2") if named["variant"] == "nested" else ()))
    final = {f"final_{p}_{i}": getattr(level, p) for i, level in enumerate(state.levels) for p in wanted}
    return _arrays(outputs=outputs, **final)


def self_modifying_titans(*, x: Array, eta_max: Array, **named: Any) -> Arrays:
    """`parallel.self_modifying_titans`, with one view of the token for key, value and query."""
    parameters = _tensors(**{name: named.pop(name) for name in list(named) if _is_array(named[name])})
    config, view = HopeConfig.from_dict({**named, "eta_max": float(eta_max)}), torch.from_numpy(x)
    outputs, state = memories.self_modifying_titans(view, view, view, parameters, config)
    final = {f"final_{name}": tensor for name, tensor in {**state.weights, **state.momentum}.items()}
    return _arrays(outputs=outputs, **final)


def shared_gain(*, x: Array, **named: Any) -> Arrays:
    """`parallel.shared_gain`, in blocks of two tokens within a chunk."""
    parameters = _tensors(**{name: named.pop(name) for name in list(named) if _is_array(named[name])})
    named["readout"] = "matrix" if "eta_readout" in parameters else "vector"
    outputs, state = gains.shared_gain(torch.from_numpy(x), parameters, **named, block_size=2)
    final = {f"final_{name}": tensor for name, tensor in gains.current(state).items()}
    return _arrays(outputs=outputs, **final)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic)


def _model(named: dict[str, Any]) -> tuple[Tensor, model.Hope]:
    """The tokens, and the model with the parameters and options that are named."""
    parameters = {name: value for name, value in named.items() if _is_array(value)}
    options = {name: value for name, value in named.items() if name not in parameters}
    tokens = torch.from_numpy(np.rint(parameters.pop("tokens")).astype(np.int64))
    hidden = parameters.get("blocks.0.heads.0.w1_k", parameters["norm"][None]).shape[1]
    config = configured(options, len(parameters["norm"]), hidden)
    return tokens, model.Hope.from_reference(parameters, config)


def _of_model(logits: Tensor, state: model.HopeState) -> Arrays:
    """The logits, and W1 and W2 of every level of the one block."""
    found = enumerate(state.blocks[0].continuum.levels)
    final = {f"final_{part}_{i}": getattr(level, part) for i, level in found for part in ("w1", "w2")}
    return _arrays(outputs=logits, **final)


def hope(**named: Any) -> Arrays:
    """The model `parallel.hope.Hope`."""
    tokens, whole = _model(named)
    return _of_model(*whole(tokens))


def hope_adaptation(**named: Any) -> Arrays:
    """The model that learns while it reads, `parallel.hope_adaptation.adapt`."""
    tokens, whole = _model(named)
    logits, state = adaptation.adapt(whole, tokens)
    return _of_model(logits, state.now)


# --- steps and optimisers ---------------------------------------------------------------------------------------------


def gradient_descent_step(**inputs: Array) -> Arrays:
    """`parallel.gradient_descent.gradient_descent_step` on a batch of one."""
    given = _tensors(**inputs)
    one = {name: given[name][None] for name in ("x", "grad_y")}
    return _arrays(final_w=descent.gradient_descent_step(given["w"], eta=given["eta"], **one))


def delta_gradient_descent_step(**inputs: Array) -> Arrays:
    """`parallel.delta_gradient_descent.delta_gradient_descent_step`."""
    return _arrays(final_w=delta.delta_gradient_descent_step(**_tensors(**inputs)))


def memory_step(*, objective: str, step: str, **inputs: Array) -> Arrays:
    """M ← M (α I - η̃ k kᵀ) + η̃ u kᵀ [P 88, P 92-93]: one token of `parallel.chunks.recurrence`."""
    given = _tensors(**inputs)
    memory, k, v, eta, alpha = (given[name] for name in ("memory", "k", "v", "eta", "alpha"))
    u = v if objective == "dot" else {"l2": 1, "l2_without_half": 2}[objective] * (v - memory @ k)
    if step == "implicit":
        eta = delta.effective_step(eta, k)
    elif step == "normalized":
        eta = eta / (k @ k + 1e-6)
    row = k[None]
    _, memory = chunks.recurrence(row, row, u[None], eta[None], alpha[None], memory, 1, "before_decay")
    return _arrays(final_memory=memory)


def momentum_step(**inputs: Array) -> Arrays:
    """`parallel.momentum.momentum_step`."""
    w, m = momenta.momentum_step(**_tensors(**inputs))
    return _arrays(final_w=w, final_m=m)


def ema_step(**inputs: Array) -> Arrays:
    """`parallel.momentum.ema_step`."""
    return _arrays(final_m=momenta.ema_step(**_tensors(**inputs)))


def delta_momentum_step(*, write: str, **inputs: Array) -> Arrays:
    """`parallel.momentum.delta_momentum_step`."""
    given: dict[str, Any] = _tensors(**inputs)
    w, m = momenta.delta_momentum_step(**given, write=write)
    return _arrays(final_w=w, final_m=m)


def newton_schulz(*, x: Array, **options: Any) -> Arrays:
    """`parallel.newton_schulz`."""
    return _arrays(o=schulz.newton_schulz(torch.from_numpy(x), **options))


def adam_step(*, w: Array, gradient: Array, eta: float, beta1: float, beta2: float, epsilon: float) -> Arrays:
    """`torch.optim.Adam`, one step for each gradient."""
    weight = torch.nn.Parameter(torch.from_numpy(w.copy()))
    adam = torch.optim.Adam([weight], lr=eta, betas=(beta1, beta2), eps=epsilon)
    outputs = np.zeros_like(gradient)
    for step, slope in enumerate(torch.from_numpy(gradient)):
        weight.grad = slope
        adam.step()
        outputs[step] = weight.detach().numpy()
    names = {"final_m": "exp_avg", "final_second_moment": "exp_avg_sq"}
    held = adam.state[weight]
    return {"outputs": outputs, **_arrays(**{ours: held[theirs] for ours, theirs in names.items() if held})}


def m3(*, w: Array, gradient: Array, **options: Any) -> Arrays:
    """`parallel.m3.m3_step`, once for each gradient."""
    weight, state, outputs = torch.from_numpy(w), None, np.zeros_like(gradient)
    for step, slope in enumerate(torch.from_numpy(gradient)):
        weight, state = optimiser.m3_step(weight, slope, state, **options)
        outputs[step] = weight.numpy()
    remembered = {} if state is None else state._asdict()
    remembered.pop("steps", None)
    return {"outputs": outputs, **_arrays(**{f"final_{name}": t for name, t in remembered.items()})}


def preconditioner_step(*, p: Array, g_hat: Array, gradient: Array, zeta: Array) -> Arrays:
    """`parallel.expressive_optimisers.preconditioner_step`, once for each pair."""
    memory = torch.from_numpy(p)
    for asked, told in zip(torch.from_numpy(g_hat), torch.from_numpy(gradient), strict=True):
        memory = expressive.preconditioner_step(memory, asked, told, float(zeta))
    return _arrays(final_p=memory)


def feature_momentum_step(*, w: Array, gradient: Array, **named: Any) -> Arrays:
    """`parallel.expressive_optimisers.feature_momentum_step`, once for each gradient."""
    weight, outputs = torch.from_numpy(w), np.zeros_like(gradient)
    given: dict[str, Any] = dict(named)
    given |= _tensors(**{name: value for name, value in named.items() if _is_array(value)})
    m = torch.zeros_like(weight)
    for step, slope in enumerate(torch.from_numpy(gradient)):
        weight, m = expressive.feature_momentum_step(weight, m, slope, **given)
        outputs[step] = weight.numpy()
    return {"outputs": outputs, **_arrays(final_m=m)}


def deep_momentum_step(*, gradient: Array, eta: Array, mu: Array, **inputs: Array) -> Arrays:
    """`parallel.expressive_optimisers.deep_momentum_step`, once for each gradient."""
    w, w1, w2 = (torch.from_numpy(inputs[name]) for name in ("w", "w1", "w2"))
    outputs = np.zeros_like(gradient)
    for step, slope in enumerate(torch.from_numpy(gradient)):
        w, w1, w2 = expressive.deep_momentum_step(w, w1, w2, slope, float(eta), float(mu))
        outputs[step] = w.numpy()
    return {"outputs": outputs, **_arrays(final_w1=w1, final_w2=w2)}


def shampoo_step(*, w: Array, gradient: Array, **options: Any) -> Arrays:
    """`parallel.expressive_optimisers.shampoo_step`, once for each gradient."""
    weight, outputs = torch.from_numpy(w), np.zeros_like(gradient)
    state = expressive.ShampooState(*(weight.new_zeros(length, length) for length in weight.shape))
    for step, slope in enumerate(torch.from_numpy(gradient)):
        weight, state = expressive.shampoo_step(weight, slope, state, **options)
        outputs[step] = weight.numpy()
    return {"outputs": outputs, **_arrays(final_left=state.left, final_right=state.right)}
