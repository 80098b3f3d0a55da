"""Delta Gradient Descent with leading axes, and as an optimiser for linear layers. Source: [S 17-21], [P 56-57].

The functions equal those of `hope_ref.reference.delta_gradient_descent` on every leading index. The optimiser takes
the same exact step for a whole batch, on every `torch.nn.Linear` of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hope_ref.parallel import doors
from hope_ref.validation import one_of, scalar, shape_is


def effective_step(eta: Tensor | float, x: Tensor) -> Tensor:
    """η' = η / (1 + η ‖x‖²); equals `reference.effective_step` on every leading index.

    Args:
        eta: inner learning rate >= 0, a number or (...).
        x: inputs, (..., d_in).
    Returns:
        the step along each input, (...).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    doors.tensors(x=x)
    shape_is("x", tuple(x.shape[-1:]), ("d_in",))
    doors.values(x=x)
    eta = _rate(eta, x.shape[:-1], x=x)
    return eta / (1 + eta * (x * x).sum(-1))


def delta_gradient_descent_step(w: Tensor, x: Tensor, grad_y: Tensor, eta: Tensor | float) -> Tensor:
    """W (I - η' x xᵀ) - η' ∇_y L xᵀ; equals `reference.delta_gradient_descent_step` on every leading index.

    Computed as W - η' (W x + ∇_y L) xᵀ, which needs no d_in × d_in matrix.

    Args:
        w: W_t, (..., d_out, d_in).
        x: the layer's input, (..., d_in).
        grad_y: gradient of the loss at the layer's output, (..., d_out).
        eta: inner learning rate >= 0, a number or (...).
    Returns:
        W_{t+1}, (..., d_out, d_in).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    _weight(w, x=x, grad_y=grad_y)
    lead = w.shape[:-2]
    shape_is("x", tuple(x.shape), (*lead, w.shape[-1]))
    shape_is("grad_y", tuple(grad_y.shape), (*lead, w.shape[-2]))
    doors.values(w=w, grad_y=grad_y)
    eta_prime = effective_step(eta, x)  # (...)
    residual = (w @ x[..., None])[..., 0] + grad_y  # W x - u, (..., d_out)
    return w - eta_prime[..., None, None] * residual[..., :, None] * x[..., None, :]


def delta_gradient_descent_chunk(w: Tensor, x: Tensor, u: Tensor, eta: Tensor | float) -> Tensor:
    """(Uᵀ X + W/η)(Xᵀ X + I/η)⁻¹; equals `reference.delta_gradient_descent_chunk` on every leading index.

    Computed as W plus a correction along the inputs, from the smaller of two systems with the same solution
    (Woodbury): W + η (U - X Wᵀ)ᵀ (I + η X Xᵀ)⁻¹ X with C × C, or W + η (U - X Wᵀ)ᵀ X (I + η Xᵀ X)⁻¹ with d_in × d_in.

    Args:
        w: W_t, (..., d_out, d_in).
        x: the chunk's inputs, (..., C, d_in).
        u: the wanted outputs, (..., C, d_out); -∇_y L in [S 17].
        eta: inner learning rate >= 0, a number or (...), one for each chunk.
    Returns:
        W, (..., d_out, d_in).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    _weight(w, x=x, u=u)
    lead = w.shape[:-2]
    shape_is("x", tuple(x.shape), (*lead, "C", w.shape[-1]))
    shape_is("u", tuple(u.shape), (*x.shape[:-1], w.shape[-2]))
    doors.values(w=w, x=x, u=u)
    eta = _rate(eta, lead, w=w)[..., None, None]
    residual = u - x @ w.mT  # (..., C, d_out)
    if x.shape[-2] <= x.shape[-1]:
        correction = _solve(eta * (x @ x.mT), residual).mT @ x  # through (..., C, C)
    else:
        correction = _solve(eta * (x.mT @ x), x.mT @ residual).mT  # through (..., d_in, d_in)
    return w + eta * correction


def _solve(gram: Tensor, right: Tensor) -> Tensor:
    """(I + gram)⁻¹ right. The system is positive definite, so a GPU need not report back to the host (`solve_ex`)."""
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve_ex(identity + gram, right)[0]


def _weight(w: Tensor, **others: Tensor) -> None:
    doors.tensors(w=w, **others)
    if w.ndim < 2:
        raise ValueError(f"w must have shape (..., d_out, d_in), got {tuple(w.shape)}")


def _rate(eta: Tensor | float, lead: torch.Size, **like: Tensor) -> Tensor:
    """Eta as a checked tensor of the shape of the leading axes, in the dtype of the one tensor named in ``like``."""
    (other,) = like.values()
    rate = eta if isinstance(eta, Tensor) else torch.as_tensor(eta, dtype=other.dtype, device=other.device)
    doors.tensors(**like, eta=rate)
    if rate.ndim:
        shape_is("eta", tuple(rate.shape), tuple(lead))
    doors.values(low=0, eta=rate)
    return rate.expand(lead)


@dataclass
class _Layer:
    """One linear layer and the Gram matrix Xᵀ X of the inputs that its present gradient comes from.

    A bias is the weight of an input that is always 1, so X has that column too.
    """

    name: str
    weight: Tensor
    bias: Tensor | None
    gram: Tensor | None = None  # (d_in, d_in), or one more with a bias
    rows: int = 0
    waiting: list[Tensor] = field(
        default_factory=list
    )  # inputs whose gradient has not reached the weight yet

    def clear(self) -> None:
        self.gram, self.rows, self.waiting = None, 0, []

    def see(self, x: Tensor, _: Tensor | None = None) -> None:
        """A gradient has reached an output of the layer: keep the inputs that made it."""
        if self.weight.grad is None and not self.waiting:
            self.clear()  # the gradient starts anew, by whatever call it was cleared
        rows = x.detach().reshape(-1, x.shape[-1]).to(torch.promote_types(x.dtype, torch.float32))
        self.waiting.append(rows if self.bias is None else nn.functional.pad(rows, (0, 1), value=1.0))

    def commit(self, _: Tensor | None = None) -> None:
        """The gradient has been added to ``weight.grad``: so the inputs count."""
        for rows in self.waiting:
            gram = rows.mT @ rows
            self.gram = gram if self.gram is None else self.gram + gram
            self.rows += len(rows)
        self.waiting = []


class DeltaGradientDescent(torch.optim.Optimizer):
    r"""Exact implicit steps for linear layers: W ← (W - lr G)(I + lr s Xᵀ X)⁻¹ [D], from [S 17] for a whole batch.

    G is ``weight.grad``, X the layer's inputs in rows. It is the minimiser of (s/2) Σ_n ‖W x_n - u_n‖² +
    ‖W - W_t‖²/(2 lr) with u_n = -∇_y ℓ_n held fixed, s = 1 if the loss is a sum over inputs ("sum") and s = 1/N if it is a
    mean over N ("mean"): the wanted outputs enter through G alone (identity ``delta_gradient_descent.optimizer_form``).
    For one input it is `delta_gradient_descent_step`. No lr carries W x_n beyond u_n. But the decay is real: up to
    O(lr²) this is gradient descent on the loss plus (s/2) Σ‖W x_n‖², so on a regression loss it comes to rest at *half*
    the least-squares solution (identity ``delta_gradient_descent.fixed_points``), not at the loss's minimum.

    Inputs are recorded by hooks on the layers, when a gradient reaches their output in ``backward``: a forward pass
    without ``backward`` does not count, a layer used twice counts both uses, and several backward passes add up, as
    their gradients do (for "mean", divide each of k losses by k, as always). A bias is the weight of a constant
    input 1 and is stepped together with the weight. What a layer recorded is forgotten when its gradient is
    cleared by `zero_grad`, or set to None; `torch.autograd.grad` through a layer records without a gradient to go
    with it, so clear after that too. Beyond lr ‖X‖² of about 1/eps rounding takes over: prefer float64 there.

    Args:
        modules: a module, an iterable of modules, or groups ``{"modules": …, "lr": …, "reduction": …}``. Every
            parameter in them must belong to an ``nn.Linear``.
        lr: learning rate η >= 0.
        reduction: "mean" or "sum", what the loss does over the inputs of a batch.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """

    def __init__(
        self,
        modules: nn.Module | Iterable[nn.Module] | Iterable[dict[str, Any]],
        lr: float,
        reduction: str = "mean",
    ) -> None:
        self._layers: dict[Tensor, _Layer] = {}
        self._handles: list[Any] = []
        given: list[Any] = [modules] if isinstance(modules, nn.Module) else list(modules)
        groups = given if given and isinstance(given[0], dict) else [{"modules": given}]
        super().__init__(groups, {"lr": _learning_rate(lr), "reduction": _reduction(reduction)})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add ``{"modules": …}`` with, if wanted, its own "lr" and "reduction"; hooks are put on its layers."""
        group = dict(param_group)
        if "modules" not in group:
            raise ValueError(f"modules must be named in every group, got {sorted(group)}")
        _learning_rate(group.get("lr", self.defaults["lr"]))
        _reduction(group.get("reduction", self.defaults["reduction"]))
        named = group.pop("modules")
        linears = _linear_layers([named] if isinstance(named, nn.Module) else list(named))
        layers: dict[Tensor, _Layer] = {}
        for name, linear in linears.items():
            if not linear.weight.requires_grad:
                raise ValueError(f"modules must have weights that require a gradient, got {name!r} frozen")
            layer = layers.setdefault(linear.weight, _Layer(name, linear.weight, linear.bias))
            if layer.bias is not linear.bias:
                raise ValueError(
                    f"modules must not share a weight without the bias, got {layer.name!r} and {name!r}"
                )
        parameters = [p for layer in layers.values() for p in (layer.weight, layer.bias) if p is not None]
        super().add_param_group({**group, "params": parameters})
        for linear in linears.values():
            hook = partial(_watch, layers[linear.weight])
            self._handles.append(linear.register_forward_hook(hook, with_kwargs=True))
        for layer in layers.values():
            self._handles.append(layer.weight.register_post_accumulate_grad_hook(layer.commit))
        self._layers.update(layers)

    def remove_hooks(self) -> None:
        """Take the hooks off the layers: nothing is recorded from now on."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, and the inputs that they came from."""
        super().zero_grad(set_to_none)
        for layer in self._layers.values():
            layer.clear()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step on every layer that has a gradient; returns the closure's loss, if one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                layer = self._layers.get(weight)
                if layer is not None:  # a bias is moved together with its weight
                    _move(layer, group["lr"], group["reduction"])
        return loss


def _watch(layer: _Layer, _: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> None:
    """Forward hook: if a gradient can reach the output, wait for it."""
    if output.requires_grad and layer.weight.requires_grad:
        x = args[0] if args else named["input"]
        output.register_hook(partial(layer.see, x.detach()))


def _move(layer: _Layer, lr: float, reduction: str) -> None:
    """W ← (W - lr G)(I + lr s Xᵀ X)⁻¹, with [W b] in the place of W, in the eigenvectors of Xᵀ X.

    There it is the rank-one step once per direction: an eigenvalue Λ takes the step lr' = lr / (1 + lr s Λ), written
    like `delta_gradient_descent_step` as W - lr' (G + s Λ W). At lr = 0 nothing moves, not even by rounding.
    """
    gradients = [p.grad for p in (layer.weight, layer.bias) if p is not None]
    if all(grad is None for grad in gradients):
        return
    if any(grad is None for grad in gradients):
        raise ValueError(
            f"{layer.name!r} must have a gradient for its weight and its bias, got only one of them"
        )
    if layer.gram is None:
        raise ValueError(
            f"{layer.name!r} must have seen inputs before step(), got a gradient without any: was the layer called "
            "through its forward, with the hooks in place, and the gradient made by backward()?"
        )
    weight = layer.weight if layer.bias is None else torch.cat([layer.weight, layer.bias[:, None]], 1)
    grad = torch.cat([g.reshape(len(weight), -1) for g in gradients if g is not None], 1)
    spectrum, vectors = torch.linalg.eigh(layer.gram)
    share = 1.0 if reduction == "sum" else 1.0 / max(layer.rows, 1)  # s
    decay = share * spectrum.clamp_min(0)  # s Λ, (d_in [+ 1],)
    weight, grad = weight.to(vectors.dtype) @ vectors, grad.to(vectors.dtype) @ vectors  # (d_out, d_in [+ 1])
    moved = (lr / (1 + lr * decay) * (grad + decay * weight)) @ vectors.mT
    layer.weight.sub_(moved[:, : layer.weight.shape[1]])
    if layer.bias is not None:
        layer.bias.sub_(moved[:, -1])


def _linear_layers(modules: list[Any]) -> dict[str, nn.Linear]:
    """Every linear layer in the modules by name; ValueError if there is none, or a parameter of anything else."""
    linears: dict[str, nn.Linear] = {}
    foreign: list[str] = []
    for number, module in enumerate(modules):
        if not isinstance(module, nn.Module):
            raise ValueError(f"modules must be torch.nn.Module, got {type(module).__name__}")
        prefix = f"{number}." if len(modules) > 1 else ""
        for name, part in module.named_modules():
            label = prefix + (name or type(part).__name__)
            if isinstance(part, nn.Linear):
                if part not in linears.values():
                    linears[label] = part
            else:
                foreign += [f"{label}.{own}" for own, _ in part.named_parameters(recurse=False)]
    if foreign:
        raise ValueError(
            f"modules must have no parameters outside nn.Linear, got {', '.join(foreign)}: give those to another optimiser"
        )
    if not linears:
        raise ValueError(
            f"modules must contain an nn.Linear, got {', '.join(type(m).__name__ for m in modules) or 'none'}"
        )
    return linears


def _learning_rate(lr: Any) -> float:
    return scalar("lr", lr, low=0)


def _reduction(reduction: Any) -> str:
    one_of("reduction", reduction, ("mean", "sum"))
    return str(reduction)
