r"""Gradient descent derived as a memory: key = input, value = surprise, and a value that the memory computes itself."""

from __future__ import annotations

from typing import Any

import sympy as sp

from hope_ref.symbolic.algebra import gradient, inner, matrix, minimiser, positive, real, squared_norm, vector
from hope_ref.symbolic.identity import Identity, Sides
from hope_ref.symbolic.statement import Statement

W, START = matrix("W", 2, 3), matrix("A", 2, 3)  # d_out = 2, d_in = 3; A is W_t where W is the unknown
X, G = vector("x", 3), vector("g", 2)  # g stands for the gradient of the loss at the output
ETA = positive("eta")


class _Loss(sp.Function):
    """A loss about which nothing is known but that it can be differentiated; ∂/∂y_i is the unknown function L_i."""

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        return sp.Function(f"{self.func.__name__}_{argindex}")(*self.args)


def _name_slopes(expression: sp.Matrix, y: sp.Matrix, names: sp.Matrix) -> sp.Matrix:
    """Write g_i for ∂L/∂y_i at the output y: what a layer is told, whatever the loss is."""
    at_output = {_Loss(*y).fdiff(i + 1): name for i, name in enumerate(names)}
    return expression.xreplace(at_output)


def _silu(z: sp.Expr) -> sp.Expr:
    return z / (1 + sp.exp(-z))


def statement() -> Statement:
    """`reference.gradient_descent.gradient_descent_step` on a batch of two, d_out = 2, d_in = 3, as one product Gᵀ X."""
    x, grad_y = matrix("x", 2, 3), matrix("g", 2, 2)
    return Statement({"w": W, "x": x, "grad_y": grad_y, "eta": ETA}, {"w": W - ETA * grad_y.T * x})


def training_statement() -> Statement:
    """Three steps of `reference.gradient_descent.train_linear`, d_out = 1, d_in = 2, each by differentiating ½‖W x - target‖²."""
    start, inputs, targets = matrix("W", 1, 2), matrix("x", 3, 2), matrix("y", 3, 1)
    eta = positive("eta_1:4")
    state, surprises = start, []
    for t in range(3):
        x, target = inputs.row(t).T, targets.row(t).T
        surprises.append((target - state * x).T)
        state = state - eta[t] * _squared_loss_gradient(state, x, target)
    return Statement(
        {"w": start, "inputs": inputs, "targets": targets, "eta": eta},
        {"w": state, "surprises": sp.Matrix.vstack(*surprises)},
    )


def surprises_statement() -> Statement:
    """`reference.gradient_descent.mlp_surprises` for one input, d_out = h = d_in = 2.

    The surprises are differentiated: minus the gradient of ⟨∇_y L, y⟩ with respect to each layer's output.
    """
    w1, w2, x, grad_y = matrix("P", 2, 2), matrix("Q", 2, 2), vector("x", 2), vector("g", 2)
    hidden = vector("z", 2)  # stands for W2 x while differentiating
    at_hidden = dict(zip(hidden, w2 * x, strict=True))
    return Statement(
        {"w1": w1, "w2": w2, "x": tuple(x), "grad_y": tuple(grad_y)},
        {
            "w1_surprise": -grad_y,
            "w1_input": hidden.applyfunc(_silu).subs(at_hidden),
            "w2_surprise": -gradient(inner(grad_y, w1 * hidden.applyfunc(_silu)), hidden).subs(at_hidden),
            "w2_input": x,
        },
    )


def _squared_loss_gradient(state: sp.Matrix, x: sp.Matrix, target: sp.Matrix) -> sp.Matrix:
    """∇_W ½‖W x - target‖² at W = state: differentiated at fresh symbols, because the state is an expression."""
    fresh = matrix("N", *state.shape)
    return gradient(squared_norm(fresh * x - target) / 2, fresh).subs(dict(zip(fresh, state, strict=True)))


def _chain_rule() -> Sides:
    """∂L/∂W_ij = Σ_k ∂L/∂y_k ∂(Σ_l W_kl x_l)/∂W_ij = ∂L/∂y_i x_j, at every size and for every loss."""
    y = W * X
    return Sides(_name_slopes(gradient(_Loss(*y), W), y, G), G * X.T)


def _proximal(score: sp.Expr) -> sp.Matrix:
    """argmin_W score + ‖W - A‖² / (2 η)."""
    return minimiser(score + squared_norm(W - START) / (2 * ETA), W)


def _proximal_step() -> Sides:
    """The objective is separable in the entries of W, so the size does not matter.

    With u = -g the first term is -⟨W x, u⟩, and a projection Φ [P 19-20] has the same objective.
    """
    return Sides(_proximal(inner(W * X, G)), START - ETA * G * X.T)


def _self_referential() -> Sides:
    """The gradient step on ½‖W x - y‖² against a write of v = y - W x: the state W stands inside the value.

    For any other loss the value is v = -∇_y L(W x), by `chain_rule`, and W stands inside it all the same.
    """
    state, x, target = matrix("W", 2, 2), vector("x", 2), vector("y", 2)
    surprise = target - state * x
    return Sides(
        state - ETA * gradient(squared_norm(state * x - target) / 2, state), state + ETA * surprise * x.T
    )


def _wrong_sign_printed() -> Sides:
    """The gradient step against the minimiser of what is printed, +⟨W x, u⟩ with u = -g: W_t + η g xᵀ."""
    return Sides(START - ETA * G * X.T, _proximal(inner(W * X, -G)))


def _projection(score: Any) -> tuple[sp.Matrix, sp.Matrix]:
    """argmin_Φ score(Φ x) + ‖Φ - Φ_t‖² / (2 η), and Φ_t, for the paper's name of the weight."""
    phi, start = matrix("Phi", 2, 2), matrix("Phi_t", 2, 2)
    x = vector("x", 2)
    return minimiser(score(phi * x) + squared_norm(phi - start) / (2 * ETA), phi), start


def _wrong_sign_paper_printed() -> Sides:
    """The gradient step against the minimiser with ⟨Φ x, -∇⟩."""
    best, start = _projection(lambda y: inner(y, -G))
    return Sides(start - ETA * G * vector("x", 2).T, best)


def _sum_of_surprises() -> Sides:
    """Two steps, differentiated one after the other; unrolling gives the sum at every T by induction.

    Targets are written as W_0 x_1 + v_1 and W_0 x_2 + r, which is no restriction: r is what W_0 gets wrong about x_2.
    The second surprise is r minus the part of v_1 that x_2 reads, so v_1 stands in v_2. Each output is a row of its own.
    """
    state, v_1, r = matrix("W", 1, 2), real("v_1"), real("r")
    first, second = matrix("x", 2, 2).row(0).T, matrix("x", 2, 2).row(1).T
    eta_1, eta_2 = positive("eta_1 eta_2")
    once = state - eta_1 * _squared_loss_gradient(state, first, state * first + sp.Matrix([v_1]))
    twice = once - eta_2 * _squared_loss_gradient(once, second, state * second + sp.Matrix([r]))
    v_2 = r - eta_1 * v_1 * inner(first, second)
    return Sides(twice.T.expand(), state.T + eta_1 * v_1 * first + eta_2 * v_2 * second)


def _two_layers() -> Sides:
    """Both gradients of any loss of y = W1 σ(W2 x), side by side, against minus surprise ⊗ input.

    The chain rule runs through one layer at a time, so the same two lines hold at every width and, repeated, at
    every depth.
    """
    w1, w2, x, g = matrix("P", 2, 2), matrix("Q", 2, 2), vector("x", 2), vector("g", 2)
    hidden = w2 * x
    activation = hidden.applyfunc(_silu)
    y = w1 * activation
    derived = _name_slopes(gradient(_Loss(*y), w1).row_join(gradient(_Loss(*y), w2)), y, g)
    gate = hidden.applyfunc(lambda z: 1 / (1 + sp.exp(-z)))
    slope = sp.Matrix([s * (1 + z * (1 - s)) for s, z in zip(gate, hidden, strict=True)])  # σ′(W2 x)
    u_1 = -g
    u_2 = (w1.T * u_1).multiply_elementwise(slope)
    return Sides(derived, (-u_1 * activation.T).row_join(-u_2 * x.T))


def _batch() -> Sides:
    """Three samples, each with its own unknown loss: differentiation is linear, so any number of them add up."""
    w, inputs, slopes = matrix("W", 2, 2), matrix("x", 3, 2), matrix("g", 3, 2)
    total = sp.zeros(2, 2)
    for n in range(3):
        y = w * inputs.row(n).T
        total += _name_slopes(gradient(_Loss(*y), w), y, slopes.row(n).T)
    return Sides(total, slopes.T * inputs)


IDENTITIES = (
    Identity(
        "gradient_descent.chain_rule",
        "S 6-7",
        "The gradient of any loss of y = W x is the gradient at the output times the input.",
        r"\nabla_W \mathcal{L}(W x) = \nabla_y \mathcal{L} \otimes x",
        r"\nabla_W \mathcal{L}(W x) = \nabla_y \mathcal{L} \, x^\top",
        _chain_rule,
        sizes="d_out = 2, d_in = 3; every size",
    ),
    Identity(
        "gradient_descent.proximal_step",
        "S 8, P 9",
        "A gradient step minimises the linearised loss plus the cost of moving, exactly.",
        r"W_{t+1} = \arg\min_W \langle W x_t, \nabla_{y_t} \mathcal{L} \rangle + \tfrac{1}{2\eta_t} \|W - W_t\|^2",
        r"\arg\min_W \langle W x_t, \nabla_{y_t} \mathcal{L} \rangle + \tfrac{1}{2\eta_t} \|W - W_t\|^2 = W_t - \eta_t \nabla_{y_t} \mathcal{L} \, x_t^\top",
        _proximal_step,
        sizes="d_out = 2, d_in = 3; every size",
    ),
    Identity(
        "gradient_descent.self_referential",
        "S 9-10, P 58",
        "Gradient descent writes like linear attention, and the weights stand inside the value that they write.",
        r"W_{t+1} = W_t + \eta_{t+1} v_t \otimes x_t, \quad v_t = f_{W_t}(x_t) = -\nabla_{y_t} \mathcal{L}(W_t; x_t)",
        r"W_{t+1} = W_t + \eta_t v_t x_t^\top, \quad v_t = -\nabla_{y_t} \mathcal{L}(W_t; x_t)",
        _self_referential,
        sizes="d_out = 2, d_in = 2; every size",
    ),
    Identity(
        "gradient_descent.wrong_sign",
        "S 16",
        "With u = -∇_y L the gradient step is the minimiser of minus the agreement with u; with plus it climbs the loss.",
        r"\arg\min_W \langle W x_t, u_t \rangle + \tfrac{1}{2\eta_t} \|W - W_t\|^2, \quad u_t = -\nabla_{y_t} \mathcal{L}",
        r"\arg\min_W -\langle W x_t, u_t \rangle + \tfrac{1}{2\eta_t} \|W - W_t\|^2 = W_t - \eta_t \nabla_{y_t} \mathcal{L} \, x_t^\top",
        _proximal_step,
        _wrong_sign_printed,
        sizes="d_out = 2, d_in = 3; every size",
        alias_of="gradient_descent.proximal_step",
    ),
    Identity(
        "gradient_descent.wrong_sign_paper",
        "P 19-20",
        "The score under the arg min takes the gradient itself; with minus the gradient the minimiser climbs the loss.",
        r"\arg\min_\Phi \langle \Phi x_t, -\nabla_{y_t} \mathcal{L} \rangle + \tfrac{1}{2\eta} \|\Phi - \Phi_t\|^2",
        r"\arg\min_\Phi \langle \Phi x_t, \nabla_{y_t} \mathcal{L} \rangle + \tfrac{1}{2\eta} \|\Phi - \Phi_t\|^2 = \Phi_t - \eta \nabla_{y_t} \mathcal{L} \, x_t^\top",
        _proximal_step,
        _wrong_sign_paper_printed,
        sizes="d_out = 2, d_in = 3; every size",
        alias_of="gradient_descent.proximal_step",
    ),
    Identity(
        "gradient_descent.sum_of_surprises",
        "D",
        "What two steps have written is the sum of two surprises at their inputs, and the second contains the first.",
        None,
        r"W_2 = W_0 + \eta_1 v_1 x_1^\top + \eta_2 v_2 x_2^\top, \quad v_2 = y_2 - W_0 x_2 - \eta_1 v_1 (x_1^\top x_2)",
        _sum_of_surprises,
        sizes="d_out = 1, d_in = 2, 2 steps; every size, every length by induction",
    ),
    Identity(
        "gradient_descent.two_layers",
        "P 29-31",
        "Back-propagation tells each layer a surprise: every weight's gradient is minus that surprise times its input.",
        r"\nabla_{W_\ell} \mathcal{L} = \delta_\ell \, \hat x_{\ell-1}^\top",
        r"\nabla_{W_1} \mathcal{L} = \nabla_y \mathcal{L} \, \sigma(W_2 x)^\top, \quad \nabla_{W_2} \mathcal{L} = \left( (W_1^\top \nabla_y \mathcal{L}) \odot \sigma'(W_2 x) \right) x^\top",
        _two_layers,
        sizes="d_out = 2, h = 2, d_in = 2; every size",
    ),
    Identity(
        "gradient_descent.batch",
        "D",
        "The gradient of a summed loss is the sum of the outer products: a batch is a memory of summed writes.",
        None,
        r"\nabla_W \sum_n \mathcal{L}_n(W x_n) = \sum_n \nabla_{y_n} \mathcal{L}_n \, x_n^\top",
        _batch,
        sizes="d_out = 2, d_in = 2, 3 samples; every size",
    ),
)
