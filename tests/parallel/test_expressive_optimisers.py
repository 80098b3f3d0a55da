"""The batched expressive optimisers against the NumPy steps, torch.optim, autograd, and bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hope_ref import reference
from hope_ref.parallel import expressive_optimisers as expressive

theirs = reference.expressive_optimisers
LEADS = [(), (5,), (2, 3)]


def draw(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]


def on_every_index(lead: tuple[int, ...], got: Any, want: Any, *tensors: Any) -> None:
    """``got`` is a tuple of batched results; ``want`` the NumPy function of the members of the tensors."""
    for index in np.ndindex(lead):
        members = [t[index].numpy() if isinstance(t, Tensor) else t for t in tensors]
        results = want(*members)
        for one, other in zip(got, results if isinstance(results, tuple) else (results,), strict=True):
            np.testing.assert_allclose(one[index].numpy(), other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("lead", LEADS)
def test_every_step_equals_numpy_on_every_leading_index(lead: tuple[int, ...]) -> None:
    rate, decay = torch.rand(lead, dtype=torch.float64), torch.rand(lead, dtype=torch.float64)
    p, asked, told = draw(1, (*lead, 3, 5), (*lead, 5), (*lead, 3))
    got: Any = (expressive.preconditioner_step(p, asked, told, rate),)
    on_every_index(lead, got, theirs.preconditioner_step, p, asked, told, rate)

    w, m, g = draw(2, *((*lead, 3, 5),) * 3)
    (target,) = draw(3, (*lead, 3, 3))
    for feature, output in (("identity", "identity"), ("cube", "newton_schulz"), ("tanh", "identity")):
        named = (target, feature, output)
        got = expressive.feature_momentum_step(w, m, g, rate, decay, *named, scale=rate)
        on_every_index(lead, got, theirs.feature_momentum_step, w, m, g, rate, decay, *named, rate)

    v, w1, w2, u, own = draw(4, (*lead, 5), (*lead, 5, 3), (*lead, 3, 5), (*lead, 5), (*lead, 5))
    for chosen in (None, own):
        got = expressive.deep_momentum_step(v, w1, w2, u, rate, decay, chosen)
        on_every_index(lead, got, theirs.deep_momentum_step, v, w1, w2, u, rate, decay, chosen)

    gradients, wanted = draw(5, (*lead, 7, 5), (*lead, 2))
    got = (expressive.outer_product_memory(gradients, wanted, rate + 0.1),)
    on_every_index(lead, got, theirs.outer_product_memory, gradients, wanted, rate + 0.1)

    (directions,) = draw(6, (*lead, 2, 5))
    held, moved = expressive.stale_motion(m, directions, decay, 4)
    on_every_index(lead, (held, moved), theirs.stale_motion, m, directions, decay, 4)


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("sides", expressive.SIDES)
def test_three_shampoo_steps_equal_numpy(lead: tuple[int, ...], sides: str) -> None:
    w, *gradients = draw(7, *((*lead, 3, 5),) * 4)
    got, state = w, None
    for g in gradients:
        got, state = expressive.shampoo_step(got, g, state, 0.3, 1e-3, sides)

    def loop(w: Any, *gradients: Any) -> Any:
        state = None
        for g in gradients:
            w, state = theirs.shampoo_step(w, g, state, 0.3, 1e-3, sides)
        return (w, *state)  # type: ignore[misc]

    assert state is not None
    on_every_index(lead, (got, *state), loop, w, *gradients)


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("loss", expressive.LOSSES)
def test_the_closed_form_solves_the_linear_system(lead: tuple[int, ...], loss: str) -> None:
    x, u, a, b = draw(8, (*lead, 5), (*lead, 3), (*lead, 3, 5), (*lead, 3, 5))
    rate = 1 + torch.rand(lead, dtype=torch.float64)
    got = expressive.general_step(loss, [(rate, a), (-0.4, b)], x, u)

    def solved(x: Any, u: Any, a: Any, b: Any, rate: Any) -> Any:
        return theirs.general_step(loss, [(rate, a), (-0.4, b)], x, u)

    on_every_index(lead, (got,), solved, x, u, a, b, rate)


@pytest.mark.parametrize("count", [1, 6])
def test_diagonal_shampoo_on_one_by_one_weights_is_torch_adagrad(count: int) -> None:
    """Each weight a matrix of its own: W - η g/√(Σ g² + ε); AdaGrad adds its ε outside the root."""
    w, *gradients = draw(9, *((count, 1, 1),) * 5)
    parameter = torch.nn.Parameter(w.clone())
    optimiser = torch.optim.Adagrad([parameter], lr=0.1, eps=0.0)
    state = None
    for g in gradients:
        w, state = expressive.shampoo_step(w, g, state, 0.1, 1e-14, "left")
        parameter.grad = g
        optimiser.step()
    torch.testing.assert_close(w, parameter.detach(), rtol=0, atol=1e-10)


def test_the_layers_move_down_autograds_gradient() -> None:
    w, u, w1, w2 = draw(10, (5,), (5,), (5, 3), (3, 5))
    for layer in (w1, w2):
        layer.requires_grad_()
    loss = w1 @ torch.nn.functional.silu(w2 @ u) @ u
    first, second = torch.autograd.grad(loss, (w1, w2))
    got = expressive.deep_momentum_step(w, w1, w2, u, 0.3, 0.9)
    torch.testing.assert_close(got[1], 0.9 * w1 - 0.3 * first, rtol=0, atol=1e-14)
    torch.testing.assert_close(got[2], 0.9 * w2 - 0.3 * second, rtol=0, atol=1e-14)


def test_differentiable_in_every_argument() -> None:
    check = torch.autograd.gradcheck
    eta, mu = (torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True) for _ in range(2))
    w, m, g = (t.requires_grad_() for t in draw(11, *((2, 3, 2),) * 3))
    target, a, b = (t.requires_grad_() for t in draw(12, (2, 3, 3), (2, 3, 3), (2, 2, 2)))
    v, u, w1, w2 = (t.requires_grad_() for t in draw(13, (2, 3), (2, 3), (2, 3, 2), (2, 2, 3)))
    (told,) = (t.requires_grad_() for t in draw(14, (2, 2)))
    assert check(lambda *t: expressive.preconditioner_step(*t), (w2, v, told, eta))
    for feature in expressive.FEATURES:
        assert check(
            lambda *t, feature=feature: expressive.feature_momentum_step(*t, feature),
            (w, m, g, eta, mu, target),
        )
    assert check(lambda *t: expressive.deep_momentum_step(*t), (v, w1, w2, u, eta, mu))
    assert check(lambda *t: expressive.outer_product_memory(*t), (w, told, eta))
    for loss in expressive.LOSSES:
        assert check(
            lambda x, y, r, one, two, loss=loss: expressive.general_step(loss, [(r, one), (1.0, two)], x, y),
            (told, v, eta, w, g),
        )
    assert check(lambda *t: expressive.stale_motion(*t, 3), (w, w2[..., :2].detach().requires_grad_(), mu))
    for sides in expressive.SIDES:

        def step(w: Tensor, g: Tensor, a: Tensor, b: Tensor, eta: Tensor, sides: str = sides) -> Any:
            state = expressive.ShampooState(a @ a.mT, b @ b.mT)
            new, after = expressive.shampoo_step(w, g, state, eta, 0.1, sides)
            return new, *after

        assert check(step, (w, g, a, b, eta))


@pytest.mark.parametrize("sides", expressive.SIDES)
def test_equal_eigenvalues_have_a_derivative(sides: str) -> None:
    """A zero gradient leaves ε I, and a gradient of rank one ε many times: no quotient may vanish."""
    w = torch.zeros(3, 2, dtype=torch.float64)
    for value in (0.0, 1.0):
        g = torch.full((3, 2), value, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda g: expressive.shampoo_step(w, g, None, 0.3, 0.1, sides)[0], (g,)
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_the_dtype(dtype: torch.dtype) -> None:
    w, m, g = (t.to(dtype) for t in draw(15, *((3, 5),) * 3))
    u, told = (t.to(dtype) for t in draw(16, (5,), (3,)))
    new, state = expressive.shampoo_step(w, g)
    assert state.left.dtype == torch.float32
    again, _ = expressive.shampoo_step(new, g, state)
    results = (
        new,
        again,
        expressive.preconditioner_step(w, u, told, 0.1),
        *expressive.feature_momentum_step(w, m, g, 0.1, 0.9, output="newton_schulz"),
        *expressive.deep_momentum_step(u, m.mT, g, u, 0.1, 0.9),
        expressive.outer_product_memory(g, told, 0.1),
        expressive.general_step("l2", [(1.0, w)], u, told),
        *expressive.stale_motion(m, g[:2], 0.9, 3),
    )
    assert all(result.dtype == dtype for result in results)
    assert all(bool(result.isfinite().all()) for result in results)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda() -> None:
    w, g = draw(17, *((4, 3, 5),) * 2)
    want, _ = expressive.shampoo_step(w, g)
    got, _ = expressive.shampoo_step(w.cuda(), g.cuda())
    torch.testing.assert_close(got.cpu(), want, rtol=0, atol=1e-12)


ONE = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("preconditioner_step", (ONE, ONE[0], ONE[0], 0.1), r"gradient must have shape \(2,\), got \(3,\)"),
        ("preconditioner_step", (ONE[0], ONE[0], ONE[0], 0.1), r"p must have shape \(\.\.\., rows, columns\), got \(3,\)"),
        ("preconditioner_step", (ONE, ONE[0], ONE[:, 0].double(), 0.1), "gradient must have the dtype of p, torch.float32, got torch.float64"),
        ("feature_momentum_step", (ONE, ONE[:1], ONE, 0.1, 0.9), r"m must have shape \(2, 3\), got \(1, 3\)"),
        ("feature_momentum_step", (ONE, ONE, ONE, -0.1, 0.9), "eta must be >= 0, got min -0.1"),
        ("feature_momentum_step", (ONE, ONE, ONE, ONE[0], 0.9), r"eta must have shape \(\), got \(3,\)"),
        ("feature_momentum_step", (ONE, ONE, ONE, 0.1, 0.9, ONE), r"target must have shape \(2, 2\), got \(2, 3\)"),
        ("feature_momentum_step", (ONE, ONE, ONE, 0.1, 0.9, 1.0, "square"), "feature must be one of 'identity', 'cube', 'tanh', got 'square'"),
        ("deep_momentum_step", (ONE[0], ONE.mT, ONE.mT, ONE[0], 0.1, 0.9), r"w2 must have shape \(2, 3\), got \(3, 2\)"),
        ("deep_momentum_step", (ONE[0, 0], ONE, ONE, ONE[0, 0], 0.1, 0.9), r"w must have shape \(\.\.\., d\), got \(\)"),
        ("outer_product_memory", (ONE, ONE[0], 0.0), "lam must be > 0 and n >= 1, got lam 0.0 and n 2"),
        ("shampoo_step", (ONE, ONE, None, 0.1, 0.0), "epsilon must be > 0, got 0"),
        ("shampoo_step", (ONE, ONE * torch.nan), "gradient must be finite, got 6 NaN"),
        ("shampoo_step", (ONE, ONE, (torch.eye(3), torch.eye(3))), r"state.left must have shape \(2, 2\), got \(3, 3\)"),
        ("general_step", ("l1", [(1.0, ONE)], ONE[0], ONE[:, 0]), "loss must be one of 'dot', 'l2', got 'l1'"),
        ("general_step", ("l2", [(1.0, ONE), (-1.0, ONE)], ONE[0], ONE[:, 0]), "retention must have rates that add up to more than 0, got 0"),
        ("general_step", ("l2", [], ONE[0], ONE[:, 0]), "retention must have rates that add up to more than 0, got 0"),
        ("stale_motion", (ONE, ONE[:, :2], 0.9, 3), r"directions must have shape \(n, 3\), got \(2, 2\)"),
    ],
)  # fmt: skip
def test_bad_input_is_named(function: str, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(expressive, function)(*arguments)
