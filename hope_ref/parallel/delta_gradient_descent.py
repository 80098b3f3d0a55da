"""Delta Gradient Descent with leading axes, and as an optimiser for linear layers. Source: [S 17-21], [P 56-57].

The functions equal those of `hope_ref.reference.delta_gradient_descent` on every leading index. The optimiser takes
the same exact step for a whole batch, on every `torch.nn.Linear` of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hope_ref.common.validation import one_of, shape_is
from hope_ref.parallel import checks
from hope_ref.parallel.options import number


def effective_step(eta: Tensor | float, x: Tensor) -> Tensor:
    """η' = η / (1 + η ‖x‖²); equals `reference.delta_gradient_descent.effective_step` on every leading index. Half precision: float32 inside.

    Args:
        eta: inner learning rate >= 0, a number or (...).
        x: inputs, (..., d_in).
    Returns:
        the step along each input, (...).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    checks.tensors(x=x)
    shape_is("x", tuple(x.shape[-1:]), ("d_in",))
    checks.values(x=x)
    eta = _rate(eta, x.shape[:-1], x=x)
    return _effective_step(eta, _wide(x)).to(x.dtype)


def _effective_step(eta: Tensor, x: Tensor) -> Tensor:
    return eta / (1 + eta * (x * x).sum(-1))


def delta_gradient_descent_step(w: Tensor, x: Tensor, grad_y: Tensor, eta: Tensor | float) -> Tensor:
    """W (I - η' x xᵀ) - η' ∇_y L xᵀ; equals `reference.delta_gradient_descent.delta_gradient_descent_step` on every leading index.

    Computed as W - η' (W x + ∇_y L) xᵀ, which needs no d_in × d_in matrix; half precision in float32.

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
    checks.values(w=w, x=x, grad_y=grad_y)
    eta = _rate(eta, lead, x=x)
    wide_w, wide_x = _wide(w), _wide(x)
    eta_prime = _effective_step(eta, wide_x)  # (...)
    with checks.no_autocast(w.device.type):
        residual = (wide_w @ wide_x[..., None])[..., 0] + _wide(grad_y)  # W x - u, (..., d_out)
    return (wide_w - eta_prime[..., None, None] * residual[..., :, None] * wide_x[..., None, :]).to(w.dtype)


def delta_gradient_descent_chunk(w: Tensor, x: Tensor, u: Tensor, eta: Tensor | float) -> Tensor:
    """(Uᵀ X + W/η)(Xᵀ X + I/η)⁻¹; equals `reference.delta_gradient_descent.delta_gradient_descent_chunk` on every leading index.

    Computed as W plus a correction along the inputs, from the smaller of two systems with the same solution
    (Woodbury): W + η (U - X Wᵀ)ᵀ (I + η X Xᵀ)⁻¹ X with C × C, or W + η (U - X Wᵀ)ᵀ X (I + η Xᵀ X)⁻¹ with d_in × d_in.
    Half precision is computed in float32.

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
    checks.values(w=w, x=x, u=u)
    eta, dtype = _rate(eta, lead, w=w)[..., None, None], w.dtype
    w, x, u = _wide(w), _wide(x), _wide(u)
    with checks.no_autocast(w.device.type):
        residual = u - x @ w.mT  # (..., C, d_out)
        if x.shape[-2] <= x.shape[-1]:
            correction = _solve(eta * (x @ x.mT), residual).mT @ x  # through (..., C, C)
        else:
            correction = _solve(eta * (x.mT @ x), x.mT @ residual).mT  # through (..., d_in, d_in)
    return (w + eta * correction).to(dtype)


def _solve(gram: Tensor, right: Tensor) -> Tensor:
    """(I + gram)⁻¹ right. The system is positive definite, so a GPU need not report back to the host (`solve_ex`)."""
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve_ex(identity + gram, right)[0]


def _wide(tensor: Tensor) -> Tensor:
    """At least float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _weight(w: Tensor, **others: Tensor) -> None:
    checks.tensors(w=w, **others)
    if w.ndim < 2:
        raise ValueError(f"w must have shape (..., d_out, d_in), got {tuple(w.shape)}")


def _rate(eta: Tensor | float, lead: torch.Size, **like: Tensor) -> Tensor:
    """Eta as a checked tensor of the shape of the leading axes, at least float32; a tensor has the dtype of ``like``."""
    (other,) = like.values()
    if isinstance(eta, Tensor):
        checks.tensors(**like, eta=eta)
        rate = _wide(eta)
    else:
        rate = checks.as_tensor(eta, _wide(other))
    if rate.ndim:
        shape_is("eta", tuple(rate.shape), tuple(lead))
    checks.values(low=0, eta=rate)
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
        rows = _wide(x.detach().reshape(-1, x.shape[-1]))
        self.waiting.append(rows if self.bias is None else nn.functional.pad(rows, (0, 1), value=1.0))

    def commit(self, _: Tensor | None = None) -> None:
        """The gradient has been added to ``weight.grad``: so the inputs count."""
        for rows in self.waiting:
            with checks.no_autocast(rows.device.type):
                gram = rows.mT @ rows
            self.gram = gram if self.gram is None else self.gram + gram
            self.rows += len(rows)
        self.waiting = []

    def decay(self, reduction: str) -> Tensor:
        """S Xᵀ X of this process; 0 if the layer was not used in it."""
        if self.gram is None:
            size = self.weight.shape[1] + (self.bias is not None)
            return _wide(self.weight).new_zeros(size, size)
        return self.gram / self.rows if reduction == "mean" and self.rows else self.gram


class _Watch:
    """Forward hook: if a gradient can reach the output, wait for it. On a copy of the module it does nothing."""

    def __init__(self, layer: _Layer | None) -> None:
        self.layer = layer

    def __call__(self, _: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> None:
        if self.layer is not None and output.requires_grad and self.layer.weight.requires_grad:
            x = args[0] if args else named["input"]
            output.register_hook(partial(self.layer.see, x.detach()))

    def __reduce__(self) -> tuple[type[_Watch], tuple[None]]:
        return _Watch, (None,)  # for copy and pickle: the copy of an optimiser puts its own hooks on


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
    with it, so clear after that too. A copy, by `copy` or `pickle`, watches the copied layers and starts, as they do, without
    gradients. Beyond lr ‖X‖² of about 1/eps rounding takes over: prefer float64 there. Half precision is solved in float32.

    DistributedDataParallel averages G over the P processes, so the loss is the mean of theirs, and an input of process p
    counts s_p/P. Hence s Xᵀ X becomes the mean over p of s_p X_pᵀ X_p, which `step` computes if ``process_group`` is
    DDP's. With equal shares of a batch and "mean" this is the step of one process with the whole batch; with
    unequal shares it is that of DDP's loss, in which an input of a small share counts more.

    Args:
        modules: a module, an iterable of modules, or groups ``{"modules": …, "lr": …, "reduction": …}``. Every
            parameter in them must belong to an ``nn.Linear``.
        lr: learning rate η >= 0.
        reduction: "mean" or "sum", what the loss does over the inputs of a batch, in each process.
        process_group: the group that gradients are averaged over, ``torch.distributed.group.WORLD`` for DDP's default; or
            "alone" if this process trains by itself. None will do where there is one process; among several `step`
            refuses it, since it cannot tell which of both is true.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """

    def __init__(
        self,
        modules: nn.Module | Iterable[nn.Module] | Iterable[dict[str, Any]],
        lr: float | Tensor,
        reduction: str = "mean",
        process_group: dist.ProcessGroup | Literal["alone"] | None = None,
    ) -> None:
        self._linears: list[tuple[str, nn.Linear]] = []
        self._layers: dict[Tensor, _Layer] = {}
        self._handles: list[Any] = []
        if not (process_group is None or process_group == "alone" or _is_group(process_group)):
            raise ValueError(
                f"process_group must be a torch.distributed.ProcessGroup, 'alone' or None, got {process_group!r}"
            )
        self.process_group = process_group
        named: list[Any] = [modules] if isinstance(modules, nn.Module) else list(modules)
        groups = named if named and isinstance(named[0], dict) else [{"modules": named}]
        number("lr", lr)
        super().__init__(groups, {"lr": lr, "reduction": _reduction(reduction)})

    def __getstate__(self) -> dict[str, Any]:
        group = self.process_group if self.process_group == "alone" else None  # of this process alone
        return {**super().__getstate__(), "process_group": group, "linears": self._linears}

    def __setstate__(self, state: dict[str, Any]) -> None:
        linears = state.pop("linears", None)  # absent when a state is loaded
        super().__setstate__(state)
        if linears is not None:
            self._linears, self._layers, self._handles = [], {}, []
            self._watch(linears, _records(linears))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add ``{"modules": …}`` with, if wanted, its own "lr" and "reduction"; hooks are put on its layers."""
        group = dict(param_group)
        if "modules" not in group:
            raise ValueError(f"modules must be named in every group, got {sorted(group)}")
        number("lr", group.get("lr", self.defaults["lr"]))
        _reduction(group.get("reduction", self.defaults["reduction"]))
        modules = group.pop("modules")
        linears = _linear_layers([modules] if isinstance(modules, nn.Module) else list(modules))
        for name, linear in linears:
            if not linear.weight.requires_grad:
                raise ValueError(f"modules must have weights that require a gradient, got {name!r} frozen")
        layers = _records(linears)
        parameters = [p for layer in layers.values() for p in (layer.weight, layer.bias) if p is not None]
        super().add_param_group({**group, "params": parameters})
        self._watch(linears, layers)

    def _watch(self, linears: list[tuple[str, nn.Linear]], layers: dict[Tensor, _Layer]) -> None:
        for _, linear in linears:
            hook = _Watch(layers[linear.weight])
            self._handles.append(linear.register_forward_hook(hook, with_kwargs=True))
        for layer in layers.values():
            if not layer.weight.requires_grad:  # frozen after it was added, and then copied
                continue
            self._handles.append(layer.weight.register_post_accumulate_grad_hook(layer.commit))
        self._layers.update(layers)
        self._linears += linears

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
        together = _together(self.process_group)
        for group in self.param_groups:
            lr = number("lr", group["lr"])
            for weight in group["params"]:
                layer = self._layers.get(weight)
                if layer is not None:  # a bias is moved together with its weight
                    with checks.no_autocast(weight.device.type):
                        _move(layer, lr, group["reduction"], together)
        return loss


def _is_group(group: object) -> bool:
    return dist.is_available() and isinstance(group, dist.ProcessGroup)


def _together(group: dist.ProcessGroup | str | None) -> dist.ProcessGroup | None:
    """The group to average over, if there is one; ValueError if nobody said what the other processes are."""
    if _is_group(group):
        return group  # type: ignore[return-value]
    if group is None and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        raise ValueError(
            f"process_group must be named among {dist.get_world_size()} processes, got None: "
            "torch.distributed.group.WORLD if DistributedDataParallel averages the gradients, 'alone' if nobody does"
        )
    return None


def _move(layer: _Layer, lr: float, reduction: str, together: dist.ProcessGroup | None) -> None:
    """W ← (W - lr G)(I + lr s Xᵀ X)⁻¹, with [W b] in the place of W, in the eigenvectors of s Xᵀ X.

    There it is the rank-one step once per direction: an eigenvalue s Λ takes the step lr' = lr / (1 + lr s Λ), written
    like `delta_gradient_descent_step` as W - lr' (G + s Λ W). At lr = 0 nothing moves, not even by rounding.
    """
    gradients = [p.grad for p in (layer.weight, layer.bias) if p is not None]
    if all(grad is None for grad in gradients):
        return
    if any(grad is None for grad in gradients):
        raise ValueError(
            f"{layer.name!r} must have a gradient for its weight and its bias, got only one of them"
        )
    matrix, seen = layer.decay(reduction), layer.gram is not None  # s Xᵀ X, (d_in [+ 1], d_in [+ 1])
    if together is not None:
        matrix, seen = _averaged(matrix, seen, together)
    if not seen:
        raise ValueError(
            f"{layer.name!r} must have seen inputs before step(), got a gradient without any: was the layer called "
            "through its forward, with the hooks in place, and the gradient made by backward()?"
        )
    weight = layer.weight if layer.bias is None else torch.cat([layer.weight, layer.bias[:, None]], 1)
    grad = torch.cat([g.reshape(len(weight), -1) for g in gradients if g is not None], 1)
    spectrum, vectors = torch.linalg.eigh(matrix)
    decay = spectrum.clamp_min(0)  # s Λ, (d_in [+ 1],)
    weight, grad = weight.to(vectors.dtype) @ vectors, grad.to(vectors.dtype) @ vectors  # (d_out, d_in [+ 1])
    moved = (lr / (1 + lr * decay) * (grad + decay * weight)) @ vectors.mT
    layer.weight.sub_(moved[:, : layer.weight.shape[1]])
    if layer.bias is not None:
        layer.bias.sub_(moved[:, -1])


def _averaged(matrix: Tensor, seen: bool, together: dist.ProcessGroup) -> tuple[Tensor, bool]:
    """The mean over all processes, as DDP's of the gradients, and whether the layer was used in any of them."""
    packed = torch.cat([matrix.flatten(), matrix.new_tensor([float(seen)])])
    dist.all_reduce(packed, group=together)
    return packed[:-1].view_as(matrix) / dist.get_world_size(together), bool(packed[-1] > 0)


def _records(linears: list[tuple[str, nn.Linear]]) -> dict[Tensor, _Layer]:
    """One record for every weight; ValueError if one is shared without its bias."""
    layers: dict[Tensor, _Layer] = {}
    for name, linear in linears:
        layer = layers.setdefault(linear.weight, _Layer(name, linear.weight, linear.bias))
        if layer.bias is not linear.bias:
            raise ValueError(
                f"modules must not share a weight without the bias, got {layer.name!r} and {name!r}"
            )
    return layers


def _linear_layers(modules: list[Any]) -> list[tuple[str, nn.Linear]]:
    """Every linear layer in the modules by name; ValueError if there is none, or a parameter of anything else."""
    linears: dict[str, nn.Linear] = {}
    foreign: list[str] = []
    for place, module in enumerate(modules):
        if not isinstance(module, nn.Module):
            raise ValueError(f"modules must be torch.nn.Module, got {type(module).__name__}")
        prefix = f"{place}." if len(modules) > 1 else ""
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
    return list(linears.items())


def _reduction(reduction: Any) -> str:
    one_of("reduction", reduction, ("mean", "sum"))
    return str(reduction)
