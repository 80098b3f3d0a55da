"""What the kernels are held against, by name: run by the tests on a GPU, and in a process of its own in the interpreter.

``TRITON_INTERPRET=1 python tests/shared/kernel_cases.py [quick | slow]`` prints, as JSON, for every case and every array in it
the error of the kernels in float32, and that of PyTorch's own float32 where it is the yardstick; both against float64.
"""

from __future__ import annotations

import itertools
import json
import sys
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hope_ref import golden
from hope_ref.agreement import golden_parallel
from hope_ref.config import HopeConfig
from hope_ref.parallel import chunks, delta_rule, linear_attention
from hope_ref.parallel import self_modifying_titans as memories
from hope_ref.reference.parameters import init_memories

Errors = dict[
    str, list[float]
]  # name of an array: the kernels' error, and (or only) that of float32 in PyTorch

# --- the recurrence, against a loop over tokens in float64 ----------------------------------------------------------

ERASES = ("before_decay", "after_decay", "none")
GRID = [
    (erase, read, length, size)
    for erase, read in itertools.product(ERASES, ("post", "pre"))
    for length, size in ((1, 4), (3, 4), (4, 4), (5, 4), (9, 4), (35, 17), (40, 64))
]
NAMES = ("answers", "state", "by q", "by phi", "by u", "by eta", "by alpha", "by state")
SHAPES = [
    ((), 5, 3),
    ((2, 3), 18, 33),
    ((2,), 17, 18),
]  # leading axes, d_in, d_out: within a tile, in three blocks of rows, in two


def loop(
    q: Tensor, phi: Tensor, u: Tensor, eta: Tensor, alpha: Tensor, state: Tensor, erase: str, read: str
) -> tuple[Tensor, Tensor]:
    """The recurrence as it is written, token by token."""
    answers = []
    for t in range(phi.shape[-2]):
        x, rate, keep = phi[..., t, :, None], eta[..., t, None, None], alpha[..., t, None, None]
        erased = {"before_decay": state @ x, "after_decay": keep * state @ x, "none": 0 * (state @ x)}[erase]
        before, state = state, keep * state + rate * (u[..., t, :, None] - erased) @ x.mT
        answers.append(((state if read == "post" else before) @ q[..., t, :, None])[..., 0])
    return torch.stack(answers, -2), state


def drawn(length: int, lead: tuple[int, ...], d_in: int, d_out: int, device: str) -> list[Tensor]:
    """q, φ, u, η, α and S_0; one α is near 0 and one token is quiet."""
    rng = np.random.default_rng(length)

    def normal(*shape: int) -> Tensor:
        return torch.tensor(rng.normal(size=(*lead, *shape)), device=device)

    phi = functional.normalize(normal(length, d_in), dim=-1)
    eta, alpha = normal(length).sigmoid(), normal(length).sigmoid() ** 0.1
    if length > 2:
        alpha[..., 1] = 1e-3
        eta[..., 2] = 0
    return [normal(length, d_in), phi, normal(length, d_out), eta, alpha, normal(d_out, d_in)]


def recurrence(erase: str, read: str, length: int, size: int, shape: int, device: str) -> Errors:
    """Answers, final state and all six gradients."""
    from hope_ref.parallel.kernels import launch

    exact = [x.requires_grad_() for x in drawn(length, *SHAPES[shape], device)]
    single = [x.detach().float().requires_grad_() for x in exact]
    want = loop(*exact, erase, read)
    got = launch.recurrence(*single, size, erase, read)
    return compared(NAMES, [*want, *gradients(want, exact)], [*got, *gradients(got, single)])


def long_stretch(length: int, device: str) -> Errors:
    """Many chunks that forget next to nothing, so that what each one loses adds up: against PyTorch's chunks in float64."""
    from hope_ref.parallel.kernels import launch

    exact = drawn(length, (), 16, 16, device)
    exact[4] = 1 - 1e-4 * torch.rand(
        length, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).to(device)
    exact = [x.requires_grad_() for x in exact]
    kernels, theirs = ([x.detach().float().requires_grad_() for x in exact] for _ in range(2))
    found = [
        chunks.recurrence(*exact, 16, "before_decay"),
        launch.recurrence(*kernels, 16, "before_decay"),
        chunks.recurrence(*theirs, 16, "before_decay"),
    ]
    pairs = zip(found, (exact, kernels, theirs), strict=True)
    return compared(NAMES, *([*results, *gradients(results, by)] for results, by in pairs))


ZEROS = ((6,), (0, 10), (5, 6), (4, 5, 9), tuple(range(11)))  # tokens; chunks of 5 begin at 0, 5 and 10


def forgetting(erase: str, read: str, zeros: tuple[int, ...], device: str) -> Errors:
    """As `recurrence`, 11 tokens in chunks of 5, where some retentions are exactly 0.

    The gradients by these stand apart: against the loop, against differences of it, which is linear in each retention, and
    against PyTorch's chunks. Those read "post" alone; there their own error in float32 is the yardstick.
    """
    from hope_ref.parallel.kernels import launch

    exact = drawn(11, (), 5, 3, device)
    exact[4][list(zeros)] = 0.0
    exact = [x.requires_grad_() for x in exact]
    single, again = ([x.detach().float().requires_grad_() for x in exact] for _ in range(2))
    want, got = loop(*exact, erase, read), launch.recurrence(*single, 5, erase, read)
    by_loop, by_kernels = gradients(want, exact), gradients(got, single)
    there = torch.zeros(11, dtype=torch.bool, device=device)
    there[list(zeros)] = True
    others = [[*by[:4], by[4][~there], by[5]] for by in (by_loop, by_kernels)]
    errors = compared(NAMES, [*want, *others[0]], [*got, *others[1]])
    of_zeros = {"loop": by_loop[4][there], "differences": differences(exact, erase, read, zeros)}
    own = [by_kernels[4][there]]
    if read == "post":
        of_chunks = [gradients(chunks.recurrence(*x, 5, erase), x)[4][there] for x in (exact, again)]
        of_zeros["chunks"], theirs = of_chunks
        own.append(theirs)
    names = [f"by alpha of 0, {way}" for way in of_zeros]
    return errors | compared(names, list(of_zeros.values()), *([one] * len(names) for one in own))


@torch.no_grad()
def differences(given: list[Tensor], erase: str, read: str, tokens: tuple[int, ...]) -> Tensor:
    """What `gradients` says of these tokens' retentions, as differences of the loop in float64."""
    totals = []
    for token, change in itertools.product(tokens, (-0.5, 0.5)):
        alpha = given[4].clone()
        alpha[token] += change
        results = loop(*given[:4], alpha, given[5], erase, read)
        totals.append(sum((x * weighting(x)).sum() for x in results))
    return torch.stack(totals).reshape(-1, 2).diff(dim=-1)[:, 0]


def gradients(found: tuple[Tensor, ...], by: list[Tensor]) -> list[Tensor | None]:
    """Of a sum in which every entry has a weight of its own."""
    total = sum(((x * weighting(x)).sum() for x in found), torch.zeros((), device=by[0].device))
    return list(torch.autograd.grad(total, by, allow_unused=True))


def weighting(x: Tensor) -> Tensor:
    """Numbers in [-1, 1], no two alike."""
    return torch.arange(1, x.numel() + 1, device=x.device).double().sin().to(x.dtype).reshape(x.shape)


def compared(names: Any, want: list[Tensor | None], *found: list[Tensor | None]) -> Errors:
    """Largest error of each array, relative to its largest entry."""
    errors: Errors = {}
    for name, exact, *others in zip(names, want, *found, strict=True):
        assert all((other is None) == (exact is None) for other in others), name
        if exact is not None:
            assert all(other.shape == exact.shape for other in others), name
            if exact.numel() == 0:
                errors[name] = [0.0] * len(others)
                continue
            scale = float(exact.detach().abs().max()) + 1e-6
            errors[name] = [float((exact - other).detach().abs().max()) / scale for other in others]
    return errors


# --- the self-modifying Titans, against PyTorch in float64; PyTorch in float32 is the yardstick ----------------------

TITANS: dict[str, dict[str, Any]] = {
    "default": {},
    "full": {"erase": "full"},
    "none": {"erase": "none"},
    "to zero": {"retention_target": "zero"},
    "full to zero": {"retention_target": "zero", "erase": "full"},
    "pre": {"read": "pre"},
    "boundary": {"read": "boundary"},
    "explicit": {"step": "explicit"},
    "normalized": {"step": "normalized"},
    "linear": {"architecture": "linear"},
    "all forget": {"retention_scope": "all"},
    "dot": {"objective": "dot"},
    "two clocks": {"memory_chunk_size": 8, "projection_chunk_size": 4},
    "adaptive query": {"adaptive_query": True},
    "no skip": {"read_skip": False, "surprise_bound": 0.0},
    "recompute": {},
}


def titans(name: str, device: str, batch: int = 2, length: int = 11) -> Errors:
    """Outputs, every final weight and every gradient, in two calls, the first of which ends within a chunk."""
    cut = (length + 1) // 2
    config = HopeConfig(**{"width": 6, "memory_chunk_size": 4, "projection_chunk_size": 4} | TITANS[name])
    rng = np.random.default_rng(7)
    arrays = {n: a + 0.2 * rng.normal(size=a.shape) for n, a in init_memories(config, 0).items()}
    views = rng.normal(size=(3, batch, length, 6))
    found = []
    for dtype, backend in ((torch.float64, "torch"), (torch.float32, "triton"), (torch.float32, "torch")):
        own = {n: torch.tensor(a, dtype=dtype, device=device, requires_grad=True) for n, a in arrays.items()}
        x = [torch.tensor(view, dtype=dtype, device=device, requires_grad=True) for view in views]
        given = {"backend": backend, "recompute": name == "recompute"}
        first, state = memories.self_modifying_titans(*(v[:, :cut] for v in x), own, config, **given)
        rest, state = memories.self_modifying_titans(*(v[:, cut:] for v in x), own, config, state, **given)
        results = (torch.cat([first, rest], -2), *state.weights.values())
        found.append([*results, *gradients(results, [*own.values(), *x])])
    names = ["outputs", *state.weights, *(f"by {n}" for n in own), "by x_key", "by x_value", "by x_query"]
    return compared(names, *found)


# --- the golden vectors that the kernels can compute ------------------------------------------------------------------


@cache
def golden_names() -> list[str]:
    """Shipped vectors of components with a ``backend``, but for inner momentum and for attention, which have no kernels."""
    known = (
        "linear_attention",
        "delta_rule",
        "gated_delta_rule",
        "recurrence",
        "self_modifying_titans",
        "hope",
    )
    found = []
    for path in golden.paths(golden.FOLDER):
        said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        attention = said["options"].get("mixer") == "softmax_attention"
        if said["component"] in known and not said["options"].get("inner_momentum", 0) and not attention:
            found.append(path.stem)
    return found


def golden_vector(name: str, device: str) -> Errors:
    """Every result of a vector that the kernels compute in float32, beside PyTorch's."""
    path = next(path for path in golden.paths(golden.FOLDER) if path.stem == name)
    vector = golden.load(path)
    found = [by_backend(vector, backend, device) for backend in ("triton", "torch")]
    want = [torch.from_numpy(np.asarray(vector.results[key])).to(device) for key in found[0]]
    return compared(list(found[0]), want, *[list(one.values()) for one in found])


def by_backend(vector: golden.Vector, backend: str, device: str) -> dict[str, Tensor]:
    """A vector's results, float32."""
    given: dict[str, Any] = {
        name: torch.tensor(array, device=device).float() if np.asarray(array).dtype.kind == "f" else array
        for name, array in vector.inputs.items()
    }
    if vector.component in ("linear_attention", "delta_rule", "gated_delta_rule"):
        module = linear_attention if vector.component == "linear_attention" else delta_rule
        y, state = getattr(module, vector.component)(**given, chunk_size=4, backend=backend)
        return {"outputs": y, "final_memory": state}
    if vector.component == "recurrence":
        y, state = chunks.recurrence(**given, chunk_size=4, erase=vector.options["erase"], backend=backend)
        return {"outputs": y, "final_state": state}
    if vector.component == "self_modifying_titans":
        eta_max = float(vector.inputs["eta_max"])
        view = given.pop("x")
        own = {name: x for name, x in given.items() if name != "eta_max"}
        config = HopeConfig.from_dict({**vector.options, "eta_max": eta_max})
        y, end = memories.self_modifying_titans(view, view, view, own, config, backend=backend)
        return {"outputs": y} | {f"final_{name}": x for name, x in end.weights.items()}
    tokens, net = golden_parallel._model({**vector.inputs, **vector.options})
    return {"outputs": net.float().to(device)(tokens.to(device), backend=backend)[0]}


# --- all of them ------------------------------------------------------------------------------------------------------


def cases() -> dict[str, Any]:
    """Name of each case: a function of the device."""
    found: dict[str, Any] = {}
    for shape, (erase, read, length, size) in itertools.product(range(len(SHAPES)), GRID):
        if (shape == 1 and length not in (9, 35)) or (shape == 0 and length == 40):
            continue
        if shape == 2 and ((erase, read) != ("before_decay", "post") or length not in (5, 9)):
            continue
        name = f"recurrence {erase} {read} T={length} C={size} shape={shape}"
        found[name] = lambda device, a=(erase, read, length, size, shape): recurrence(*a, device)
    for erase, read, zeros in itertools.product(ERASES, ("post", "pre"), ZEROS):
        name = f"forgetting {erase} {read} {','.join(map(str, zeros))}"
        found[name] = lambda device, a=(erase, read, zeros): forgetting(*a, device)
    found["long stretch"] = lambda device: long_stretch(
        2048 if device == "cuda" else 128, device
    )  # interpreted: slow
    found |= {f"titans {name}": lambda device, n=name: titans(n, device) for name in TITANS}
    found |= {f"short titans {name}": lambda device, n=name: titans(n, device, 1, 7) for name in SHORT}
    found |= {f"golden {name}": lambda device, n=name: golden_vector(n, device) for name in golden_names()}
    return found


QUICK = (
    *(f"forgetting {erase} post 4,5,9" for erase in ERASES),  # all that a recurrence has, in chunks of 5
    "forgetting before_decay pre 5,6",
    "recurrence after_decay pre T=5 C=4 shape=0",
    "recurrence none pre T=5 C=4 shape=0",
    "recurrence before_decay post T=5 C=4 shape=2",
    "short titans adaptive query",
    "golden linear_attention",
    "golden delta_rule",
)
SHORT = ("default", "adaptive query")  # of the layer, once more with a few tokens


def quick(name: str) -> bool:
    """One case for each option, shape and layer: the rest, their combinations, runs in `make test-all`."""
    return name in QUICK


def close(errors: Errors) -> list[str]:
    """What is not right to float32: beyond 2e-6; where PyTorch's own error is told, beyond three times that and 1e-5.

    The second are whole layers, hundreds of roundings long: 1e-5 is 170 of them. There a number may come out nearer
    by luck, in one backend or the other. Or they hold log 1e-30, α's floor, whose last digit in float32 is worth 8e-6.
    """
    return [
        f"{name}: {ours:.1e}" + "".join(f", PyTorch {theirs:.1e}" for theirs in rest)
        for name, (ours, *rest) in errors.items()
        if not ours <= (1e-5 + 3 * rest[0] if rest else 2e-6)
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    part = sys.argv[1:] or ["quick", "slow"]
    chosen = [name for name in cases() if ("quick" if quick(name) else "slow") in part]
    json.dump({name: cases()[name]("cpu") for name in chosen}, sys.stdout)
