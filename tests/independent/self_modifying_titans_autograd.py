"""A second self-modifying Titans, written from the equations alone: it shares no line with hope_ref.

Where the reference types gradients, this one lets PyTorch differentiate the literal loss; where the reference carries
boundary copies and a momentum along, this one keeps the whole history of every weight and looks the boundary up, and
sums the momentum anew. Every result can be differentiated by every parameter (the outer gradient).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

Tensor = torch.Tensor


def unit(z: Tensor) -> Tensor:
    return z / (z.square().sum() + 1e-6).sqrt()


class Memory:
    """One memory: the history of its weights, W[0] first, and of what was written, η̃ u φᵀ."""

    def __init__(self, name: str, parameters: dict[str, Tensor], o: Any) -> None:
        layers = ["w1", "w2"] if o.architecture == "mlp" else ["w"]
        self.name, self.o = name, o
        self.labels = [f"{layer}_{name}" for layer in layers]
        self.history = [[parameters[label]] for label in self.labels]
        self.writes: list[list[Tensor]] = [[] for _ in layers]
        self.chunk = o.memory_chunk_size if name == "memory" else o.projection_chunk_size
        names = ["k", "v", "q", "eta", "alpha", "memory"]
        self.moves = name in (names if o.writing is None else o.writing)

    def weights(self, tokens_seen: int) -> list[Tensor]:
        return [states[tokens_seen] for states in self.history]

    def boundary(self, t: int) -> list[Tensor]:
        return self.weights(t - t % self.chunk)

    @staticmethod
    def branch(weights: list[Tensor], z: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """M(z) - z, then every layer's own input and its output before the activation; last layer first."""
        if len(weights) == 1:
            out = weights[0] @ z
            return out, [z], [out]
        before = weights[1] @ z
        after = functional.silu(before)
        out = weights[0] @ after
        return out, [after, z], [out, before]

    def __call__(self, t: int, z: Tensor) -> Tensor:
        return z + self.branch(self.boundary(t), z)[0]

    def learn(self, t: int, k: Tensor, v: Tensor, eta: Tensor, alpha: Tensor) -> None:
        o = self.o
        target = self(t, v) if o.target == "self" else v
        if o.target_gradient == "stop":
            target = target.detach()
        at = self.boundary(t)
        out, inputs, outputs = self.branch(at, k)
        prediction = k + out
        loss = -torch.dot(prediction, target)
        if o.objective == "l2":
            loss = (prediction - target).square().sum() / 2
        # The target depends on the weights, not on these outputs: it is held fixed.
        slopes = torch.autograd.grad(loss, outputs, create_graph=True)
        for layer, (phi, slope) in enumerate(zip(inputs, slopes, strict=True)):
            states = self.history[layer]
            if not self.moves:
                states.append(states[0])
                continue
            u = -slope
            if o.surprise_bound:
                u = u / (1 + u.square().sum() / o.surprise_bound**2).sqrt()
            length = phi.square().sum()
            rate = {"implicit": 1 / (1 / eta + length), "normalized": eta / (length + 1e-6), "explicit": eta}[
                o.step
            ]
            start, old, eye = states[0], states[t], torch.eye(len(phi), dtype=phi.dtype)
            along = torch.outer(phi, phi)
            self.writes[layer].append(rate * torch.outer(u, phi))
            written = sum(o.inner_momentum ** (t - s) * w for s, w in enumerate(self.writes[layer]))
            new = {
                "full": old @ (alpha * eye - rate * along),
                "deviation": old @ (alpha * eye - rate * along) + start @ (rate * along),
                "none": alpha * old,
            }[o.erase]
            new = new + written
            if o.retention_target == "initial":
                new = new + (1 - alpha) * start
            states.append(new)

    def momentum(self, length: int) -> list[Tensor]:
        """B_T = Σ_s μ^(T-1-s) η̃_s u_s φ_sᵀ of every layer."""
        mu = self.o.inner_momentum
        return [
            sum((mu ** (length - 1 - s) * w for s, w in enumerate(writes)), torch.zeros_like(states[0]))
            for writes, states in zip(self.writes, self.history, strict=True)
        ]


def run(x_key: Tensor, x_value: Tensor, x_query: Tensor, p: dict[str, Tensor], o: Any) -> dict[str, Tensor]:
    """Outputs (T, d) and the final weights and momenta, by the names that golden vectors use; ``o`` holds the options."""
    names = ["k", "v", "eta", "alpha", "memory", *(["q"] if o.adaptive_query else [])]
    memories = {name: Memory(name, p, o) for name in names}
    length, d = x_key.shape
    outputs = []
    for t in range(length):
        k, v = unit(memories["k"](t, x_key[t])), memories["v"](t, x_value[t])
        v = unit(v) if o.value_norm else v
        q = unit(memories["q"](t, x_query[t]) if o.adaptive_query else p["w_query"] @ x_query[t])
        eta_numbers, alpha_numbers = memories["eta"](t, x_value[t]), memories["alpha"](t, x_key[t])
        z = torch.dot(p["eta_readout"], eta_numbers) / d**0.5
        alpha = torch.sigmoid(torch.dot(p["alpha_readout"], alpha_numbers) / d**0.5 + p["alpha_bias"])
        for name, memory in memories.items():
            raw = z + p[f"eta_bias_{name}"]
            eta = (
                functional.softplus(raw, threshold=700)
                if o.step == "implicit"
                else o.eta_max * torch.sigmoid(raw)
            )
            forgets = name == "memory" or o.retention_scope == "all"
            memory.learn(t, k, v, eta, alpha if forgets else torch.ones_like(alpha))
        memory = memories["memory"]
        read = {"post": memory.weights(t + 1), "pre": memory.weights(t), "boundary": memory.boundary(t)}[
            o.read
        ]
        out = Memory.branch(read, q)[0]
        outputs.append(q + out if o.read_skip else out)
    found = {"outputs": torch.stack(outputs) if outputs else x_key.new_zeros(0, d)}
    for memory in memories.values():
        for label, states in zip(memory.labels, memory.history, strict=True):
            found[f"final_{label}"] = states[-1]
        if o.inner_momentum:
            for label, value in zip(memory.labels, memory.momentum(length), strict=True):
                found[f"final_b{label[1:]}"] = value
    return found
