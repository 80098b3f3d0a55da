"""M3, as one step on tensors and as a PyTorch optimiser. Source: [S 36-37], [P Alg. 1], [P 75].

`m3_step` equals `hope_ref.reference.m3.m3_step` on every leading index; `M3` takes the same step on the parameters of a model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from hope_ref.common.validation import one_of, positive_integer, shape_is
from hope_ref.parallel import checks
from hope_ref.parallel.newton_schulz import iterate
from hope_ref.parallel.options import number

NewtonSchulz = Literal["quintic", "cubic", "none"]
Accumulate = Literal["ema", "sum"]
SecondMoment = Literal["update", "gradient", "none"]


class M3State(NamedTuple):
    """What M3 remembers between two steps; every tensor has the shape of the weight, in float32 if that is half."""

    m1: Tensor  # fast momentum
    m2: Tensor  # slow momentum, moves every f steps
    window: Tensor  # sum of the gradients since m2 moved last: a partial window is carried, not lost
    o2: Tensor  # Newton–Schulz of m2, what acts; 0 until the first window is full
    second_moment: Tensor  # V
    steps: int  # steps taken


@dataclass(frozen=True)
class M3Options:
    """The options of M3, validated; `m3_step` and `M3` have their defaults from here.

    Attributes:
        lr, slow_weight, epsilon: η, a and ε, >= 0.
        beta1, beta2, beta3: decays of m1, V and m2, in [0, 1).
        slow_every: f, the steps between two moves of the slow momentum, >= 1.
        steps: Newton–Schulz steps, >= 1.
        newton_schulz: "quintic", "cubic", or "none": O = m.
        accumulate: "ema" or "sum", as printed, where nothing decays.
        second_moment: "update", "gradient" (as printed) or "none".
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    beta3: float = 0.9
    slow_weight: float = 1.0
    slow_every: int = 100
    steps: int = 5
    newton_schulz: NewtonSchulz = "quintic"
    accumulate: Accumulate = "ema"
    second_moment: SecondMoment = "update"
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        one_of("newton_schulz", self.newton_schulz, get_args(NewtonSchulz))
        one_of("accumulate", self.accumulate, get_args(Accumulate))
        one_of("second_moment", self.second_moment, get_args(SecondMoment))
        for name in ("slow_every", "steps"):
            object.__setattr__(self, name, positive_integer(name, getattr(self, name)))
        for name in ("lr", "slow_weight", "epsilon"):
            object.__setattr__(self, name, number(name, getattr(self, name)))
        for name in ("beta1", "beta2", "beta3"):
            object.__setattr__(self, name, number(name, getattr(self, name), below=1))


def initial_state(w: Tensor) -> M3State:
    """The state before the first step, zeros in the shape of the weight, (..., rows, columns); equals `reference.m3.initial_state`."""
    _matrix(w)
    return _fresh(w)


def m3_step(
    w: Tensor,
    gradient: Tensor,
    state: M3State | None = None,
    *,
    lr: float = M3Options.lr,
    beta1: float = M3Options.beta1,
    beta2: float = M3Options.beta2,
    beta3: float = M3Options.beta3,
    slow_weight: float = M3Options.slow_weight,
    slow_every: int = M3Options.slow_every,
    steps: int = M3Options.steps,
    newton_schulz: NewtonSchulz = M3Options.newton_schulz,
    accumulate: Accumulate = M3Options.accumulate,
    second_moment: SecondMoment = M3Options.second_moment,
    epsilon: float = M3Options.epsilon,
) -> tuple[Tensor, M3State]:
    """W' = W - η U/(√V̂ + ε), U = O_1 + a O_2, [P Alg. 1] corrected; equals `reference.m3.m3_step` on every leading index.

    Differentiable, twice, in every tensor. Where an entry of V is exactly 0 its root counts as a constant, so that the
    derivative is that of U/ε: the limit, where there is one. Half precision is computed in float32, and the weight rounded.

    Args:
        w, gradient: the weight and the loss gradient at it, (..., rows, columns).
        state: what the last call returned; None starts from nothing.
        lr, beta1, …, epsilon: see `M3Options`.
    Returns:
        the new weight and the new state.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    _matrix(w)
    checks.tensors(w=w, gradient=gradient)
    shape_is("gradient", tuple(gradient.shape), tuple(w.shape))
    checks.values(w=w, gradient=gradient)
    options = M3Options(
        lr=lr,
        beta1=beta1,
        beta2=beta2,
        beta3=beta3,
        slow_weight=slow_weight,
        slow_every=slow_every,
        steps=steps,
        newton_schulz=newton_schulz,
        accumulate=accumulate,
        second_moment=second_moment,
        epsilon=epsilon,
    )
    change, state = update(gradient.to(_wide(w)), _checked(state, w), options)
    return (w - change).to(w.dtype), state


def _mixed(memory: Tensor, new: Tensor, beta: float, accumulate: str) -> Tensor:
    """β m + (1 - β) g for "ema" [S 36]; m + β g for "sum", as [P Alg. 1] prints it: nothing decays."""
    return beta * memory + (1 - beta) * new if accumulate == "ema" else memory + beta * new


def update(gradient: Tensor, state: M3State, options: M3Options) -> tuple[Tensor, M3State]:
    """What the weight is to lose, and the new state; all in the dtype of the state, nothing checked."""
    m1, m2, window, o2, v, count = state

    def ns(m: Tensor) -> Tensor:
        return (
            m.clone() if options.newton_schulz == "none" else iterate(m, options.steps, options.newton_schulz)
        )

    count = count + 1
    m1 = _mixed(m1, gradient, options.beta1, options.accumulate)
    combined = ns(m1) + options.slow_weight * o2  # o2 is of an earlier window
    change = options.lr * combined
    if options.second_moment != "none":
        squared = (combined if options.second_moment == "update" else gradient).square()
        v = _mixed(v, squared, options.beta2, options.accumulate)
        corrected = options.second_moment == "update" and options.accumulate == "ema"
        scale = _root(v / (1 - options.beta2**count) if corrected else v) + options.epsilon
        if options.epsilon == 0 and checks.has_values(scale) and bool((scale == 0).any()):
            raise ValueError("epsilon must be > 0 where the second moment is 0, got 0")
        change = change / scale
    window = window + gradient
    if count % options.slow_every == 0:
        m2 = _mixed(m2, window, options.beta3, options.accumulate)
        o2, window = ns(m2), torch.zeros_like(window)  # acts from the next step on
    return change, M3State(m1, m2, window, o2, v, count)


def _root(v: Tensor) -> Tensor:
    """√v, with the derivative 0 at 0, where it is infinite and `where` would make NaN of it, were it not masked twice."""
    zero = v == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, v).sqrt())


# --- the optimiser --------------------------------------------------------------------------------------------------


class M3(torch.optim.Optimizer):
    """M3 for the matrices of a model: `m3_step` on every parameter that has a gradient. [P Alg. 1], corrected.

    A parameter is a matrix or a stack of matrices, (..., rows, columns), each orthogonalised on its own. So the filters
    of a convolution, (out, in, height, width), are not flattened: they would be stepped as out · in matrices. Give
    vectors (gains, biases) and embeddings to another optimiser, AdamW say. Slow windows count a parameter's own steps.
    The state of a half-precision parameter is float32, also after `load_state_dict`. Nothing is read back from the
    device, unless an option is a tensor there.

    Args:
        params: parameters or groups, as every PyTorch optimiser takes them; every option may differ by group.
        betas: (β1, β2, β3), decays of m1, V and m2, in [0, 1).
        eps: ε >= 0.
        lr, slow_weight, slow_every, steps, newton_schulz, accumulate, second_moment: see `M3Options`.
    Raises:
        ValueError: naming the argument, what it got and what it wants; a parameter that is no matrix by its shape.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = M3Options.lr,
        betas: tuple[float, float, float] = (M3Options.beta1, M3Options.beta2, M3Options.beta3),
        slow_weight: float = M3Options.slow_weight,
        slow_every: int = M3Options.slow_every,
        eps: float = M3Options.epsilon,
        *,
        steps: int = M3Options.steps,
        newton_schulz: NewtonSchulz = M3Options.newton_schulz,
        accumulate: Accumulate = M3Options.accumulate,
        second_moment: SecondMoment = M3Options.second_moment,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "slow_weight": slow_weight,
            "slow_every": slow_every,
            "eps": eps,
            "steps": steps,
            "newton_schulz": newton_schulz,
            "accumulate": accumulate,
            "second_moment": second_moment,
        }
        _options(defaults)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of matrices, with its own options if wanted."""
        _options({**self.defaults, **param_group})
        super().add_param_group(param_group)
        try:
            for parameter in self.param_groups[-1]["params"]:
                if parameter.ndim < 2 or not parameter.is_floating_point():
                    raise ValueError(
                        "params must be real matrices of shape (..., rows, columns), "
                        f"got {parameter.dtype} of shape {tuple(parameter.shape)}: give it to another optimiser"
                    )
        except ValueError:
            del self.param_groups[-1]  # a refused group leaves no trace
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step on every parameter that has a gradient; returns the closure's loss, if one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            options = _options(group)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter.grad.is_sparse:
                    raise ValueError(
                        f"gradients must be dense, got a sparse one of shape {tuple(parameter.shape)}"
                    )
                before = self.state.get(parameter)
                state = M3State(**before) if before else _fresh(parameter)
                change, state = update(parameter.grad.to(_wide(parameter)), state, options)
                parameter.sub_(change)  # rounded once, if the parameter is half
                # A new dictionary: what `state_dict` returned stays as it was.
                self.state[parameter] = state._asdict()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, in the state's own dtype: PyTorch would round it to the parameter's."""
        contents: list[dict[str, Any]] = []  # after all other hooks
        handle = self.register_load_state_dict_pre_hook(lambda _, content: contents.append(content))
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        numbers = [index for group in contents[0]["param_groups"] for index in group["params"]]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, parameter in zip(numbers, parameters, strict=True):
            for name, value in contents[0]["state"].get(index, {}).items():
                if isinstance(value, Tensor):
                    own = torch.empty_like(value, dtype=_wide(parameter), device=parameter.device)
                    self.state[parameter][name] = own.copy_(value)


def _options(group: dict[str, Any]) -> M3Options:
    """The options of a parameter group, validated: schedulers may have changed them."""
    betas = group["betas"]
    if not isinstance(betas, tuple | list) or len(betas) != 3:
        raise ValueError(f"betas must be three numbers (beta1, beta2, beta3), got {betas!r}")
    beta1, beta2, beta3 = betas
    same = {one.name: group[one.name] for one in fields(M3Options) if one.name in group}
    return M3Options(**same, beta1=beta1, beta2=beta2, beta3=beta3, epsilon=number("eps", group["eps"]))


def _wide(w: Tensor) -> torch.dtype:
    return torch.promote_types(w.dtype, torch.float32)


def _fresh(w: Tensor) -> M3State:
    m1, m2, window, o2, v = (torch.zeros_like(w, dtype=_wide(w), requires_grad=False) for _ in range(5))
    return M3State(m1, m2, window, o2, v, 0)


def _matrix(w: Any) -> None:
    checks.tensors(w=w)
    if w.ndim < 2:
        raise ValueError(f"w must have shape (..., rows, columns), got {tuple(w.shape)}")
    checks.values(w=w)


def _checked(state: M3State | None, w: Tensor) -> M3State:
    """Validate what the last call returned; None is the state before the first step."""
    if state is None:
        return _fresh(w)
    if not isinstance(state, M3State):
        raise ValueError(f"state must be an M3State or None, got {type(state).__name__}")
    tensors = {}
    for name in M3State._fields[:-1]:
        tensor = getattr(state, name)
        checks.state_tensors("w", w, **{f"state.{name}": tensor})
        shape_is(f"state.{name}", tuple(tensor.shape), tuple(w.shape))
        checks.values(**{f"state.{name}": tensor})
        tensors[name] = tensor.to(_wide(w))
    count = state.steps if state.steps == 0 else positive_integer("state.steps", state.steps)
    return M3State(**tensors, steps=count)
