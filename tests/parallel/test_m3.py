"""M3 in PyTorch against the NumPy step over many steps, every option; the optimiser's groups, states, closure and refusals."""

from __future__ import annotations

import copy
import io
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from selection import some_slow
from torch import Tensor, nn

from hope_ref import reference
from hope_ref.parallel.m3 import M3, M3State, initial_state, m3_step

OPTIONS = list(product(("ema", "sum"), ("update", "gradient", "none"), ("quintic", "cubic", "none")))
every_option = pytest.mark.parametrize(("accumulate", "second_moment", "newton_schulz"), OPTIONS)
WINDOWS = {
    "4, wide": (4, (3, 5), 22),
    "4, tall": (4, (5, 3), 50),
    "1, wide": (1, (3, 5), 50),
    "50, wide": (50, (3, 5), 50),
}
RATES: dict[str, Any] = {
    "lr": 0.05,
    "beta1": 0.8,
    "beta2": 0.95,
    "beta3": 0.7,
    "slow_weight": 0.6,
    "steps": 3,
}


def draws(steps: int, shape: tuple[int, ...] = (3, 5)) -> tuple[np.ndarray, np.ndarray]:
    """A weight and that many gradients."""
    rng = np.random.default_rng(0)
    return rng.normal(size=shape), rng.normal(size=(steps, *shape))


def numpy_run(w: np.ndarray, gradients: np.ndarray, **options: Any) -> tuple[list[np.ndarray], Any]:
    path, state = [], None
    for g in gradients:
        w, state = reference.m3.m3_step(w, g, state, **options)
        path.append(w)
    return path, state


def of_optimizer(options: dict[str, Any]) -> dict[str, Any]:
    """The names of `m3_step` as the optimiser spells them."""
    given = {n: v for n, v in options.items() if n not in ("beta1", "beta2", "beta3", "epsilon")}
    given["betas"] = tuple(options.get(f"beta{i}", d) for i, d in ((1, 0.9), (2, 0.999), (3, 0.9)))
    return given | ({"eps": options["epsilon"]} if "epsilon" in options else {})


# --- the same numbers -------------------------------------------------------------------------------------------------


@every_option
@pytest.mark.parametrize(("f", "shape", "steps"), some_slow(WINDOWS, ["4, wide"]))
def test_many_steps_equal_numpy(
    accumulate: str, second_moment: str, newton_schulz: str, f: int, shape: tuple[int, int], steps: int
) -> None:
    options = RATES | {
        "accumulate": accumulate,
        "second_moment": second_moment,
        "newton_schulz": newton_schulz,
        "slow_every": f,
    }
    w, gradients = draws(steps, shape)
    path, want = numpy_run(w, gradients, **options)
    stepped, state = torch.from_numpy(w), None
    parameter = nn.Parameter(torch.from_numpy(w.copy()))
    optimizer = M3([parameter], **of_optimizer(options))
    for g, expected in zip(gradients, path, strict=True):
        stepped, state = m3_step(stepped, torch.from_numpy(g), state, **options)
        parameter.grad = torch.from_numpy(g)
        optimizer.step()
        np.testing.assert_allclose(stepped.numpy(), expected, rtol=0, atol=1e-10)
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=0, atol=1e-10)
    held = optimizer.state[parameter]
    for name in M3State._fields:
        np.testing.assert_allclose(np.asarray(getattr(state, name)), getattr(want, name), rtol=0, atol=1e-10)
        np.testing.assert_allclose(np.asarray(held[name]), getattr(want, name), rtol=0, atol=1e-10)


def test_the_defaults_are_those_of_numpy() -> None:
    w, gradients = draws(205)
    path, _ = numpy_run(w, gradients)
    parameter, stepped, state = nn.Parameter(torch.from_numpy(w.copy())), torch.from_numpy(w), None
    optimizer = M3([parameter])
    for g in gradients:
        stepped, state = m3_step(stepped, torch.from_numpy(g), state)
        parameter.grad = torch.from_numpy(g)
        optimizer.step()
    np.testing.assert_allclose(stepped.numpy(), path[-1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(parameter.detach().numpy(), path[-1], rtol=0, atol=1e-12)


@every_option
def test_every_leading_index_is_a_matrix_of_its_own(
    accumulate: str, second_moment: str, newton_schulz: str
) -> None:
    options = {"accumulate": accumulate, "second_moment": second_moment, "newton_schulz": newton_schulz}
    w, gradients = draws(6, (2, 2, 3, 4))
    stepped, state = torch.from_numpy(w), initial_state(torch.from_numpy(w))
    for g in gradients:
        stepped, state = m3_step(stepped, torch.from_numpy(g), state, slow_every=2, **options)
    for index in np.ndindex(2, 2):
        path, _ = numpy_run(w[index], gradients[(slice(None), *index)], slow_every=2, **options)
        np.testing.assert_allclose(stepped[index].numpy(), path[-1], rtol=0, atol=1e-12)


def test_a_step_is_differentiable() -> None:
    """The third step, in the weight, the gradient and the whole state."""
    w, gradients = draws(3)
    given, state = torch.from_numpy(w), None
    for g in gradients[:2]:
        given, state = m3_step(given, torch.from_numpy(g), state, slow_every=3)
    assert state is not None
    parts = [
        given,
        torch.from_numpy(gradients[2]),
        state.m1,
        state.m2,
        state.window,
        state.o2,
        state.second_moment,
    ]

    def step(w: Tensor, gradient: Tensor, *held: Tensor) -> tuple[Tensor, ...]:
        moved, after = m3_step(w, gradient, M3State(*held, 2), slow_every=3, lr=0.1)
        return moved, *after[:-1]

    assert torch.autograd.gradcheck(step, [p.clone().requires_grad_() for p in parts])


def with_zeros(shape: tuple[int, ...]) -> Tensor:
    """A gradient with one entry, one column and, in a stack, one matrix of zeros."""
    gradient = torch.from_numpy(draws(1, shape)[1][0])
    gradient[..., 0, 1] = 0
    gradient[..., :, 2] = 0
    if len(shape) > 2:
        gradient[0] = 0
    return gradient


@pytest.mark.parametrize(
    ("accumulate", "second_moment", "newton_schulz"),
    [
        ("ema", "update", "quintic"),
        ("sum", "update", "none"),
        ("ema", "gradient", "quintic"),
        ("sum", "gradient", "none"),
    ],
)
def test_zeros_have_the_derivatives_of_the_limit(
    accumulate: str, second_moment: str, newton_schulz: str
) -> None:
    """By central differences, which give the mean of both sides at the bend of |g|. Two steps, the slow momentum acting."""
    options: dict[str, Any] = {"lr": 1.0, "slow_every": 1, "steps": 2, "epsilon": 1.0}
    options |= {
        "newton_schulz": newton_schulz,
        "second_moment": second_moment,
        "accumulate": accumulate,
    }

    w = torch.from_numpy(draws(1, (2, 3))[0])

    def steps(gradient: Tensor) -> Tensor:
        moved, state = m3_step(w, gradient, **options)
        return m3_step(moved, -0.3 * gradient, state, **options)[0]

    gradient = with_zeros((2, 3)).requires_grad_()
    assert torch.autograd.gradcheck(steps, gradient, atol=2e-5)
    if second_moment != "gradient":  # there the first derivative jumps
        assert torch.autograd.gradgradcheck(steps, gradient, atol=2e-5)


@every_option
def test_zeros_give_no_nan_in_any_derivative(accumulate: str, second_moment: str, newton_schulz: str) -> None:
    """One zero matrix of two, zero columns, a zero state: first and second derivatives, at the usual epsilon."""
    options = {"accumulate": accumulate, "second_moment": second_moment, "newton_schulz": newton_schulz}
    w, gradient = (torch.from_numpy(a) for a in (draws(1, (2, 3, 4))[0], with_zeros((2, 3, 4)).numpy()))
    parts = [w, gradient, *initial_state(w)[:-1]]
    parts = [part.clone().requires_grad_() for part in parts]
    moved, after = m3_step(*parts[:2], M3State(*parts[2:], 0), slow_every=1, **options)
    total = sum(tensor.sin().sum() for tensor in (moved, *after[:-1]))
    first = torch.autograd.grad(total, parts, create_graph=True, materialize_grads=True)
    assert all(bool(torch.isfinite(one).all()) for one in first)
    probe = sum((one * torch.linspace(1, 2, one.numel()).reshape(one.shape)).sum() for one in first)
    second = torch.autograd.grad(probe, parts, materialize_grads=True)
    assert all(bool(torch.isfinite(one).all()) for one in second)


def test_at_a_zero_second_moment_the_derivative_is_that_of_the_update_over_epsilon() -> None:
    gradient = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    w = torch.ones_like(gradient).detach()
    moved, _ = m3_step(w, gradient, lr=0.5, beta1=0.75, newton_schulz="none", epsilon=1e-4)
    (slope,) = torch.autograd.grad(moved.sum(), gradient)
    torch.testing.assert_close(slope, torch.full_like(slope, -0.5 * 0.25 / 1e-4), rtol=1e-12, atol=0)


def test_fresh_states_share_no_memory() -> None:
    state = initial_state(torch.ones(2, 3))
    state.m1.add_(1)
    assert [float(tensor.sum()) for tensor in state[:-1]] == [6, 0, 0, 0, 0]
    _, state = m3_step(torch.ones(2, 3), torch.ones(2, 3), slow_every=1, newton_schulz="none")
    assert len({tensor.data_ptr() for tensor in state[:-1]}) == 5


def test_float32_stays_near_numpy() -> None:
    w, gradients = draws(50)
    path, _ = numpy_run(w, gradients, lr=0.05, slow_every=7)
    parameter = nn.Parameter(torch.from_numpy(w).float())
    optimizer = M3([parameter], lr=0.05, slow_every=7)
    for g in gradients:
        parameter.grad = torch.from_numpy(g).float()
        optimizer.step()
    assert optimizer.state[parameter]["m1"].dtype == torch.float32
    assert np.abs(parameter.detach().numpy() - path[-1]).max() < 1e-4 * np.abs(path[-1]).max()


@every_option
def test_nothing_reads_a_value_back(accumulate: str, second_moment: str, newton_schulz: str) -> None:
    """Tensors without values: a look at one (.item(), a branch) raises."""
    parameter = nn.Parameter(torch.empty(3, 5, device="meta"))
    options = {"accumulate": accumulate, "second_moment": second_moment, "newton_schulz": newton_schulz}
    optimizer = M3([parameter], slow_every=2, eps=0.0, **options)
    for _ in range(3):
        parameter.grad = torch.empty_like(parameter)
        optimizer.step()
    assert optimizer.state[parameter]["steps"] == 3


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda() -> None:
    w, gradients = draws(9)
    path, _ = numpy_run(w, gradients, slow_every=4)
    parameter = nn.Parameter(torch.from_numpy(w).cuda())
    optimizer = M3([parameter], slow_every=4)
    for g in gradients:
        parameter.grad = torch.from_numpy(g).cuda()
        optimizer.step()
    np.testing.assert_allclose(parameter.detach().cpu().numpy(), path[-1], rtol=0, atol=1e-10)


# --- an optimiser like the others -------------------------------------------------------------------------------------


def model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8, bias=False), nn.Tanh(), nn.Linear(8, 2, bias=False)).double()


def loss_of(network: nn.Module, step: int) -> Tensor:
    x = torch.randn(16, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
    return (network(x) - torch.stack([torch.tanh(x[:, 0] - x[:, 1]), x[:, 2]], 1)).square().mean()


def train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss_of(network, step).backward()
        optimizer.step()


STOPPED = {"-".join((*option, str(split))): (*option, split) for split in (1, 3, 4, 7) for option in OPTIONS}
# Every option at the end of a window; elsewhere two that differ in all.
SOME = [
    n for n in STOPPED if n.endswith("-4") or n.startswith(("ema-update-quintic-", "sum-gradient-cubic-"))
]


@pytest.mark.parametrize(("accumulate", "second_moment", "newton_schulz", "split"), some_slow(STOPPED, SOME))
def test_a_loaded_state_goes_on_to_the_last_bit(
    accumulate: str, second_moment: str, newton_schulz: str, split: int
) -> None:
    """Through a file; f = 4, so that windows are open, just closed, and open again."""
    options = {"accumulate": accumulate, "second_moment": second_moment, "newton_schulz": newton_schulz}
    whole = model()
    optimizer = M3(whole.parameters(), lr=0.01, slow_every=4, **options)
    train(whole, optimizer, range(split))
    file = io.BytesIO()
    torch.save([whole.state_dict(), optimizer.state_dict()], file)
    train(whole, optimizer, range(split, 10))
    file.seek(0)
    weights, state = torch.load(file)
    resumed = model(1)
    other = M3(resumed.parameters())  # with other options: those of the file count
    resumed.load_state_dict(weights)
    other.load_state_dict(state)
    train(resumed, other, range(split, 10))
    for mine, want in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, want)


def test_it_trains() -> None:
    network = model()
    optimizer = M3(network.parameters(), lr=0.005, slow_every=10)
    first = float(loss_of(network, 0).detach())
    train(network, optimizer, range(300))
    assert float(loss_of(network, 0).detach()) < 0.1 * first


def test_groups_have_their_own_options_and_schedulers_may_change_them() -> None:
    network, (w0, w1) = model(), [p.detach().clone() for p in model().parameters()]
    groups = [{"params": [network[0].weight], "lr": 0.1}, {"params": [network[2].weight], "slow_every": 1}]
    optimizer = M3(groups, lr=0.01, newton_schulz="cubic")
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    states: list[Any] = [None, None]
    for step in range(3):
        optimizer.zero_grad()
        loss_of(network, step).backward()
        grads = [network[0].weight.grad, network[2].weight.grad]
        optimizer.step()
        scheduler.step()
        w0, states[0] = m3_step(w0, grads[0], states[0], lr=0.1 * 0.5**step, newton_schulz="cubic")
        w1, states[1] = m3_step(
            w1, grads[1], states[1], lr=0.01 * 0.5**step, slow_every=1, newton_schulz="cubic"
        )
        torch.testing.assert_close(network[0].weight.detach(), w0, rtol=0, atol=1e-12)
        torch.testing.assert_close(network[2].weight.detach(), w1, rtol=0, atol=1e-12)


def test_a_stack_is_stepped_as_its_slices_alone() -> None:
    w, gradients = (torch.from_numpy(a) for a in draws(7, (2, 3, 4, 5)))
    stack = nn.Parameter(w.clone())
    slices = [nn.Parameter(one.clone()) for one in w.flatten(0, 1)]
    ours, theirs = (M3(p, lr=0.05, slow_every=3) for p in ([stack], slices))
    for gradient in gradients:
        stack.grad = gradient
        for one, own in zip(slices, gradient.flatten(0, 1), strict=True):
            one.grad = own
        ours.step()
        theirs.step()
    torch.testing.assert_close(stack.detach().flatten(0, 1), torch.stack(slices).detach(), rtol=0, atol=1e-12)


def test_parameters_without_a_gradient_are_left_alone() -> None:
    network = model()
    optimizer, before = M3(network.parameters()), copy.deepcopy(network.state_dict())
    network[0].weight.grad = torch.ones_like(network[0].weight)
    optimizer.step()
    assert not torch.equal(network[0].weight, before["0.weight"])
    assert torch.equal(network[2].weight, before["2.weight"])
    assert network[2].weight not in optimizer.state


def test_a_closure_is_asked_once_and_with_gradients() -> None:
    network, other = model(), model()
    ours, theirs = M3(network.parameters()), M3(other.parameters())
    calls = []

    def closure() -> Tensor:
        ours.zero_grad()
        loss = loss_of(network, 0)
        loss.backward()
        calls.append(loss)
        return loss

    got = ours.step(closure)
    train(other, theirs, range(1))
    assert got is calls[0]
    assert len(calls) == 1
    for mine, want in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, want)
    assert ours.step() is None


def test_a_nan_is_seen() -> None:
    network = model()
    optimizer = M3(network.parameters())
    network[0].weight.grad = torch.full_like(network[0].weight, torch.nan)
    optimizer.step()
    assert network[0].weight.isnan().all()


def test_a_refused_group_leaves_no_trace() -> None:
    network = model()
    optimizer = M3(network.parameters())
    with pytest.raises(ValueError, match=r"got torch.float32 of shape \(4,\)"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(4))]})
    assert len(optimizer.param_groups) == 1


# --- bad input --------------------------------------------------------------------------------------------------------

ONE = torch.ones(2, 3, dtype=torch.float64)
STATE = initial_state(ONE)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((ONE[0], ONE[0]), {}, r"w must have shape \(\.\.\., rows, columns\), got \(3,\)"),
        ((ONE.numpy(), ONE), {}, "w must be a torch.Tensor, got ndarray"),
        ((ONE.int(), ONE), {}, "w must have a floating-point dtype, got torch.int32"),
        ((ONE, ONE.T), {}, r"gradient must have shape \(2, 3\), got \(3, 2\)"),
        ((ONE, ONE * torch.nan), {}, "gradient must be finite, got 6 NaN"),
        ((ONE, ONE.float()), {}, "gradient must have the dtype of w, torch.float64, got torch.float32"),
        ((ONE, ONE, STATE[:5]), {}, "state must be an M3State or None, got tuple"),
        ((ONE, ONE, STATE._replace(m1=ONE.T)), {}, r"state.m1 must have shape \(2, 3\), got \(3, 2\)"),
        ((ONE, ONE, STATE._replace(o2=ONE.float())), {}, "state.o2 must have the dtype of w, torch.float64"),
        ((ONE, ONE, STATE._replace(window=ONE * torch.inf)), {}, "state.window must be finite, got 6 NaN"),
        ((ONE, ONE, STATE._replace(steps=-1)), {}, "state.steps must be an integer >= 1, got -1"),
        ((ONE, ONE), {"lr": -0.1}, "lr must be a number >= 0, got -0.1"),
        ((ONE, ONE), {"beta1": 1.0}, r"beta1 must be a number in \[0, 1\), got 1.0"),
        ((ONE, ONE), {"beta2": 1.0}, r"beta2 must be a number in \[0, 1\), got 1.0"),
        ((ONE, ONE), {"beta3": -0.1}, r"beta3 must be a number in \[0, 1\), got -0.1"),
        ((ONE, ONE), {"slow_weight": -1}, "slow_weight must be a number >= 0, got -1"),
        ((ONE, ONE), {"slow_every": 0}, "slow_every must be an integer >= 1, got 0"),
        ((ONE, ONE), {"steps": 0}, "steps must be an integer >= 1, got 0"),
        ((ONE, ONE), {"newton_schulz": "septic"}, "newton_schulz must be one of 'quintic', 'cubic', 'none', got 'septic'"),
        ((ONE, ONE), {"accumulate": "mean"}, "accumulate must be one of 'ema', 'sum', got 'mean'"),
        ((ONE, ONE), {"second_moment": "v"}, "second_moment must be one of 'update', 'gradient', 'none', got 'v'"),
        ((ONE, ONE), {"epsilon": -1}, "epsilon must be a number >= 0, got -1"),
        ((ONE, 0 * ONE), {"epsilon": 0}, "epsilon must be > 0 where the second moment is 0, got 0"),
    ],
)  # fmt: skip
def test_bad_input_is_named(arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        m3_step(*arguments, **options)


def matrix(*shape: int, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape, dtype=dtype), requires_grad=dtype.is_floating_point)


@pytest.mark.parametrize(
    ("parameter", "options", "message"),
    [
        (matrix(3), {}, r"params must be real matrices of shape \(..., rows, columns\), got torch.float32 of shape \(3,\)"),
        (matrix(2, 3, dtype=torch.int64), {}, r"got torch.int64 of shape \(2, 3\)"),
        (matrix(2, 3), {"lr": -1.0}, "lr must be a number >= 0, got -1.0"),
        (matrix(2, 3), {"betas": (0.9, 0.99)}, r"betas must be three numbers \(beta1, beta2, beta3\), got \(0.9, 0.99\)"),
        (matrix(2, 3), {"betas": (0.9, 1.0, 0.9)}, r"beta2 must be a number in \[0, 1\), got 1.0"),
        (matrix(2, 3), {"eps": -1e-8}, "eps must be a number >= 0, got -1e-08"),
        (matrix(2, 3), {"slow_every": 1.5}, "slow_every must be an integer >= 1, got 1.5"),
        (matrix(2, 3), {"newton_schulz": "no"}, "newton_schulz must be one of 'quintic', 'cubic', 'none', got 'no'"),
    ],
)  # fmt: skip
def test_bad_parameters_are_named(parameter: nn.Parameter, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        M3([parameter], **options)
    with pytest.raises(ValueError, match=message):
        M3([{"params": [parameter], **options}])


def test_a_sparse_gradient_is_refused() -> None:
    embedding = nn.Embedding(4, 3, sparse=True)
    optimizer = M3(embedding.parameters())
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match=r"gradients must be dense, got a sparse one of shape \(4, 3\)"):
        optimizer.step()
