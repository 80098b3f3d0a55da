"""What is there for speed alone, against the plain formula: values, derivatives of first and second order, in both modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.nn import functional

from hope_ref.parallel import ops


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


# --- products -------------------------------------------------------------------------------------------------------

LEADS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "none": ((), ()),
    "one": ((3,), (3,)),
    "two": ((2, 3), (2, 3)),
    "first broadcast": ((1,), (3,)),
    "second broadcast": ((3,), (1,)),
    "no entry": ((0,), (1,)),
    "fewer axes": ((3,), (2, 3)),
    "both broadcast": ((2, 1), (1, 3)),
}
leads = pytest.mark.parametrize(("first", "second"), LEADS.values(), ids=LEADS)


@leads
def test_a_product_is_a_product(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    left, right = random(*first, 2, 4), random(*second, 4, 5, seed=1)
    got = ops.product(left, right)
    assert got.shape == (*torch.broadcast_shapes(first, second), 2, 5)
    torch.testing.assert_close(got, left @ right, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("first", "second"), [((2,), (3,)), ((0,), (3,)), ((2, 1), (3, 3))])
def test_leading_axes_that_do_not_fit_are_refused(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError, match=r"expand|must match"):
        ops.product(random(*first, 2, 4), random(*second, 4, 5))


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (0,), (2, 0)])
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_a_sum_with_a_product(lead: tuple[int, ...], shared: bool) -> None:
    start, right = random(*lead, 2, 5), random(*lead, 4, 5, seed=2)
    left = random(*(1,) * len(lead) if shared else lead, 2, 4, seed=1)
    want = start + left @ right
    torch.testing.assert_close(ops.plus_product(start, left, right), want, rtol=0, atol=1e-14)
    if not lead:
        return
    copy = start.clone()
    assert ops.plus_product_(copy, left, right) is copy, "in the place of start"
    torch.testing.assert_close(copy, want, rtol=0, atol=1e-14)


def test_half_precision_is_made_whole() -> None:
    half = torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.float16)
    assert [t.dtype for t in ops.whole(*half, torch.ones(2), random(2))] == 3 * [torch.float32] + [
        torch.float64
    ]
    (same,) = ops.whole(half[0].float())
    assert same.dtype == torch.float32


# --- derivatives written by hand --------------------------------------------------------------------------------------


def applied(weight: Tensor, z: Tensor) -> Tensor:
    return z @ weight.mT


def through_silu(g: Tensor, z: Tensor) -> Tensor:
    """g ⊙ σ′(z), from the derivative that PyTorch has of SiLU."""
    return torch.func.vjp(functional.silu, z)[1](g)[0]


def solved(system: Tensor, target: Tensor) -> Tensor:
    whole = torch.eye(system.shape[-1], dtype=system.dtype) + system.tril(-1)
    return torch.linalg.inv(whole) @ target


Pair = tuple[tuple[int, ...], tuple[int, ...]]
Case = tuple[Callable[..., Tensor], Callable[..., Tensor], Pair]
CASES: dict[str, Case] = {
    "apply": (ops.apply, applied, ((3, 4), (5, 4))),
    "apply, leading axes": (ops.apply, applied, ((2, 3, 4), (2, 5, 4))),
    "apply, shared weight": (ops.apply, applied, ((3, 4), (2, 5, 4))),
    "apply, shared tokens": (ops.apply, applied, ((2, 3, 4), (1, 5, 4))),
    "apply, both broadcast": (ops.apply, applied, ((2, 1, 3, 4), (1, 2, 2, 4))),
    "through_silu": (ops.through_silu, through_silu, ((3,), (3,))),
    "through_silu, leading axes": (ops.through_silu, through_silu, ((2, 2, 3), (2, 2, 3))),
    "solve": (ops.unit_lower_solve, solved, ((4, 4), (4, 2))),
    "solve, one token": (ops.unit_lower_solve, solved, ((1, 1), (1, 2))),
    "solve, leading axes": (ops.unit_lower_solve, solved, ((2, 3, 3), (2, 3, 2))),
    "solve, shared system": (ops.unit_lower_solve, solved, ((3, 3), (2, 3, 2))),
    "solve, shared target": (ops.unit_lower_solve, solved, ((2, 3, 3), (1, 3, 2))),
    "solve, both broadcast": (ops.unit_lower_solve, solved, ((2, 1, 3, 3), (1, 2, 3, 2))),
}
cases = pytest.mark.parametrize(("function", "plain", "shapes"), CASES.values(), ids=CASES)


def arguments(shapes: Pair, gradient: bool = False, seed: int = 0) -> tuple[Tensor, Tensor]:
    first, second = shapes
    return random(*first, seed=seed).requires_grad_(gradient), random(*second, seed=seed + 1).requires_grad_(gradient)  # fmt: skip


def near(got: Any, want: Any) -> None:
    torch.testing.assert_close(got, want, rtol=0, atol=1e-11)


@cases
def test_values_are_those_of_the_plain_formula(function: Any, plain: Any, shapes: Pair) -> None:
    """With a gradient in sight, where the handwritten form serves, and without one."""
    one, other = arguments(shapes, True)
    near(function(one, other), plain(one, other))
    with torch.no_grad():
        near(function(one, other), plain(one, other))


@cases
def test_derivatives_of_first_and_second_order(function: Any, plain: Any, shapes: Pair) -> None:
    """Against differences: in reverse mode, in forward mode, forward over reverse, and all of these in batches."""
    given = arguments(shapes, True)
    assert gradcheck(function, given, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)  # fmt: skip
    assert gradgradcheck(function, given, check_fwd_over_rev=True, check_rev_over_rev=True)


@cases
@pytest.mark.parametrize("place", [0, 1])
def test_one_argument_may_be_constant(function: Any, plain: Any, shapes: Pair, place: int) -> None:
    """What is not asked for stays away, and changes nothing of the rest."""
    one, other = arguments(shapes), arguments(shapes)
    weight = random(*plain(*one).shape, seed=7)
    if shapes[0] == (1, 1) and place == 0:
        assert not function(one[0].requires_grad_(), one[1]).requires_grad, "a single token solves nothing"
        return
    gradients = []
    for f, given in ((function, one), (plain, other)):
        given[place].requires_grad_()
        gradients.append(torch.autograd.grad((f(*given) * weight).sum(), given[place], create_graph=True)[0])
        assert given[1 - place].grad_fn is None
    near(*gradients)


@cases
def test_forward_mode_equals_that_of_the_plain_formula(function: Any, plain: Any, shapes: Pair) -> None:
    """With a tangent of both arguments and of each alone."""
    given, ways = arguments(shapes), arguments(shapes, seed=5)
    found = torch.func.jvp(function, given, ways)
    near(found, torch.func.jvp(plain, given, ways))
    for place in (0, 1):
        moved = list(given)
        with forward_ad.dual_level():
            moved[place] = forward_ad.make_dual(given[place], ways[place])
            tangents = [forward_ad.unpack_dual(f(*moved)).tangent for f in (function, plain)]
        if tangents[0] is None:  # a single token solves nothing
            tangents[0] = torch.zeros_like(tangents[1])
        near(*tangents)


@cases
def test_under_vmap(function: Any, plain: Any, shapes: Pair) -> None:
    """Over both arguments, over each alone, and over gradients of every one."""
    many = [torch.stack([argument, -argument, 2 * argument]) for argument in arguments(shapes)]
    few = arguments(shapes, seed=3)
    for axes in ((0, 0), (0, None), (None, 0)):
        given = [stack if axis == 0 else one for stack, one, axis in zip(many, few, axes, strict=True)]
        want = torch.stack([plain(*(g[i] if a == 0 else g for g, a in zip(given, axes, strict=True))) for i in range(3)])  # fmt: skip
        near(torch.func.vmap(function, axes)(*given), want)
        by_each = [
            torch.func.vmap(torch.func.grad(lambda *x, f=f: f(*x).square().sum(), (0, 1)), axes)(*given)
            for f in (function, plain)
        ]
        near(*by_each)


@pytest.mark.parametrize("name", ["apply, shared weight", "through_silu", "solve, shared system"])
def test_the_hessian_in_both_orders(name: str) -> None:
    function, plain, shapes = CASES[name]
    given = arguments(shapes)

    def scalar(f: Any) -> Any:
        return lambda *x: f(*x).square().sum()

    want = torch.func.jacrev(torch.func.jacrev(scalar(plain), (0, 1)), (0, 1))(*given)
    for outer in (torch.func.jacrev, torch.func.jacfwd):
        near(outer(torch.func.jacrev(scalar(function), (0, 1)), (0, 1))(*given), want)


def test_what_stands_on_and_above_the_diagonal_is_no_matter_to_the_solve() -> None:
    system, target = arguments(((4, 4), (4, 2)), True)
    got = ops.unit_lower_solve(system, target)
    near(got, ops.unit_lower_solve(system.tril(-1) + 7 * torch.ones_like(system).triu(), target))
    (gradient,) = torch.autograd.grad(got.square().sum(), system)
    assert torch.equal(gradient.triu(), torch.zeros(4, 4, dtype=torch.float64))


def test_the_gradient_by_a_weight_comes_in_its_layout() -> None:
    """So adding several costs no transposition."""
    weight, z = arguments(((3, 4), (5, 4)), True)
    (gradient,) = torch.autograd.grad(ops.apply(weight, z).square().sum(), weight)
    assert gradient.stride() == weight.stride()


def test_the_compiler_makes_its_own_derivatives() -> None:
    """No graph break, and the same numbers and gradients."""

    def all_of_them(w: Tensor, z: Tensor) -> Tensor:
        solution = ops.unit_lower_solve(w @ w.mT, ops.apply(w, z)[..., : w.shape[0], :])
        return ops.through_silu(solution, solution).sum()

    given = arguments(((3, 4), (5, 4)), True)
    want = torch.autograd.grad(all_of_them(*given), given)
    got = torch.autograd.grad(torch.compile(all_of_them, backend="eager", fullgraph=True)(*given), given)
    for one, other in zip(got, want, strict=True):
        near(one, other)
