"""The identities of gradient descent beyond "it holds": what is wrong by how much, and what the proofs rest on."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
import torch

from hope_ref import symbolic
from hope_ref.symbolic import gradient_descent
from hope_ref.symbolic.algebra import gradient, matrix, vector
from hope_ref.symbolic.identity import Sides, residual


@pytest.mark.parametrize("name", ["gradient_descent.wrong_sign", "gradient_descent.wrong_sign_paper"])
def test_the_printed_minimiser_is_off_by_twice_the_step(name: str) -> None:
    identity = symbolic.named(name)
    assert identity.holds()
    step, printed = identity.printed_proof()
    width = step.shape[1]
    write = gradient_descent.ETA * gradient_descent.G * vector("x", width).T
    assert residual(Sides(step - printed, -2 * write)).is_zero_matrix is True
    assert not identity.printed_residual().is_zero_matrix


def test_the_chain_rule_knows_nothing_of_the_loss() -> None:
    """The unknown loss must carry both of its slopes: with one forgotten, the identity would not hold."""
    y = gradient_descent.W * gradient_descent.X
    slopes = gradient(gradient_descent._Loss(*y), gradient_descent.W).atoms(sp.core.function.AppliedUndef)
    assert {type(s).__name__ for s in slopes} == {"_Loss_1", "_Loss_2"}


def test_the_second_surprise_contains_the_first() -> None:
    """Differentiating the value written at step 2 by the target of step 1 gives -η_1 x_1ᵀ x_2, not 0."""
    said = gradient_descent.training_statement()
    x, targets, eta = (said.arguments[name] for name in ("inputs", "targets", "eta"))
    slope = sp.diff(said.results["surprises"][1], targets[0])
    assert sp.expand(slope + eta[0] * (x.row(0) * x.row(1).T)[0]) == 0
    assert sp.diff(said.results["surprises"][0], targets[1]) == 0  # and the first knows nothing of the second


@pytest.mark.parametrize(("d_out", "hidden", "d_in"), [(1, 1, 1), (3, 4, 2), (2, 7, 9)])
def test_two_layers_at_other_sizes(d_out: int, hidden: int, d_in: int) -> None:
    """The stated side of `two_layers` in numbers, against autograd, for a loss that is no quadratic."""
    generator = torch.Generator().manual_seed(d_in)
    w1, w2, x = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((d_out, hidden), (hidden, d_in), (d_in,))
    )
    y = w1 @ torch.nn.functional.silu(w2 @ x)
    y.retain_grad()
    y.cosh().log().sum().backward()
    z = (w2 @ x).detach().numpy()
    gate = 1 / (1 + np.exp(-z))
    assert y.grad is not None
    assert w1.grad is not None
    assert w2.grad is not None
    u_1 = -y.grad.numpy()
    u_2 = (w1.detach().numpy().T @ u_1) * gate * (1 + z * (1 - gate))
    np.testing.assert_allclose(w1.grad.numpy(), -np.outer(u_1, z * gate), rtol=0, atol=1e-12)
    np.testing.assert_allclose(w2.grad.numpy(), -np.outer(u_2, x.detach().numpy()), rtol=0, atol=1e-12)


def test_the_statements_are_differentiated_not_typed() -> None:
    """The symbolic surprise of the lower layer equals (W1ᵀ u) ⊙ σ′(W2 x) with SymPy's own σ′."""
    said = gradient_descent.surprises_statement()
    w1, w2, g, z = matrix("P", 2, 2), matrix("Q", 2, 2), vector("g", 2), sp.Symbol("z")
    slope = sp.diff(z / (1 + sp.exp(-z)), z)
    hidden = w2 * vector("x", 2)
    wanted = (w1.T * -g).multiply_elementwise(hidden.applyfunc(lambda entry: slope.subs(z, entry)))
    assert residual(Sides(said.results["w2_surprise"], wanted)).is_zero_matrix is True
