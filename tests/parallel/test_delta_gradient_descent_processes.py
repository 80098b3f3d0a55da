"""Two processes under DistributedDataParallel take one step: that of the whole batch. And nobody diverges in silence."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hope_ref.parallel.delta_gradient_descent import DeltaGradientDescent

ROOT = Path(__file__).parents[2]
SHARES = {"equal": 4, "unequal": 6, "the other has none": 8}  # rows of the first process, of eight
# All cases in one start, which takes seconds.
WORKER = """
import sys
from datetime import timedelta
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from hope_ref.parallel.delta_gradient_descent import DeltaGradientDescent

folder, rank = sys.argv[1], int(sys.argv[2])
torch.set_default_dtype(torch.float64)
patience = timedelta(seconds=200)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=patience)
shares, x, target = torch.load(f"{folder}/input.pt")
found = {}
for name, first in shares.items():
    for reduction in ("mean", "sum"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2, bias=False))
        optimizer = DeltaGradientDescent(model, 0.7, reduction, process_group=dist.group.WORLD)
        copies = DistributedDataParallel(model)
        rows = slice(0, first) if rank == 0 else slice(first, None)
        for _ in range(2):
            optimizer.zero_grad()
            each = 0.5 * ((copies(x[rows]) - target[rows]) ** 2).sum(-1)
            (each.mean() if reduction == "mean" and len(each) else each.sum()).backward()
            optimizer.step()
        found[name, reduction] = [p.detach() for p in model.parameters()]
silent, alone = (DeltaGradientDescent(nn.Linear(3, 4), 0.7, process_group=group) for group in (None, "alone"))
alone.step()
try:
    silent.step()
except ValueError as error:
    found["refused"] = str(error)
silent.process_group = dist.group.WORLD
for parameter in silent.param_groups[0]["params"]:
    parameter.grad = torch.ones_like(parameter)
try:
    silent.step()
except ValueError as error:
    found["unseen"] = str(error)
torch.save(found, f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = (8, 3), (8, 2)
    x, target = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return x, target


def network() -> nn.Sequential:
    """As the worker makes it."""
    torch.manual_seed(0)
    double = {"dtype": torch.float64}
    return nn.Sequential(nn.Linear(3, 4, **double), nn.Tanh(), nn.Linear(4, 2, bias=False, **double))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    """What each of two processes came to, the first of which is this one: to start another takes seconds."""
    folder = tmp_path_factory.mktemp("processes")
    torch.save([SHARES, *batch()], folder / "input.pt")
    worker = folder / "worker.py"
    worker.write_text(WORKER)
    with (
        subprocess.Popen(
            [sys.executable, str(worker), str(folder), "1"],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
            stderr=subprocess.PIPE,
            text=True,
        ) as other,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", [str(worker), str(folder), "0"])
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        before = torch.get_default_dtype()
        try:
            runpy.run_path(str(worker), run_name="__main__")
        finally:
            torch.set_default_dtype(before)
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
            errors = other.communicate(timeout=300)[1]
        assert other.returncode == 0, errors[-4000:]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def literal(first: int, reduction: str) -> list[Tensor]:
    """Two steps of one process down DDP's loss: every input weighted as the mean over processes weights it, by inversion."""
    x, target = batch()
    share = (torch.arange(8) < first).double()
    if reduction == "mean":
        weights = 0.5 * (share / first + (1 - share) / max(8 - first, 1))
    else:
        weights = torch.full((8,), 0.5, dtype=torch.float64)
    model = network()
    for _ in range(2):
        model.zero_grad()
        hidden = torch.tanh(model[0](x))
        (weights * 0.5 * ((model[2](hidden) - target) ** 2).sum(-1)).sum().backward()
        ones = torch.ones(8, 1, dtype=torch.float64)
        for layer, rows in ((model[0], torch.cat([x, ones], 1)), (model[2], hidden.detach())):
            whole, gradient = layer.weight.detach(), layer.weight.grad
            if layer.bias is not None:
                whole = torch.cat([whole, layer.bias.detach()[:, None]], 1)
                gradient = torch.cat([gradient, layer.bias.grad[:, None]], 1)
            system = torch.eye(rows.shape[1], dtype=torch.float64) + 0.7 * rows.T @ (weights[:, None] * rows)
            moved = (whole - 0.7 * gradient) @ torch.linalg.inv(system)
            layer.weight.data = moved[:, : layer.weight.shape[1]].clone()
            if layer.bias is not None:
                layer.bias.data = moved[:, -1].clone()
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("share", SHARES)
def test_replicas_are_equal_and_equal_to_one_process(
    share: str, reduction: str, found: list[dict[Any, Any]]
) -> None:
    ours, theirs = (one[share, reduction] for one in found)
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))
    for mine, want in zip(ours, literal(SHARES[share], reduction), strict=True):
        torch.testing.assert_close(mine, want, rtol=0, atol=1e-12)


def test_equal_shares_are_the_whole_batch(found: list[dict[Any, Any]]) -> None:
    x, target = batch()
    model = network()
    optimizer = DeltaGradientDescent(model, 0.7)
    for _ in range(2):
        optimizer.zero_grad()
        (0.5 * ((model(x) - target) ** 2).sum(-1)).mean().backward()
        optimizer.step()
    for mine, want in zip(found[0]["equal", "mean"], model.parameters(), strict=True):
        torch.testing.assert_close(mine, want.detach(), rtol=0, atol=1e-12)


def test_what_would_diverge_in_silence_is_refused(found: list[dict[Any, Any]]) -> None:
    for one in found:
        assert one["refused"].startswith("process_group must be named among 2 processes, got None: ")
        assert one["unseen"].startswith("'Linear' must have seen inputs before step()")
