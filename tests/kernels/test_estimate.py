"""What is said to be multiplied and moved, against a count of every product and every address in the interpreter."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from kernel_process import interpreted

from hope_ref.parallel.kernels.configurations import KERNELS, Configuration
from hope_ref.parallel.kernels.estimate import ROOFLINES, Work, lines, work

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is there on Linux alone"
)
CASES = [
    (16, 16, 16, "before_decay", "post"),
    (16, 48, 40, "before_decay", "post"),
    (64, 20, 33, "after_decay", "pre"),
    (5, 32, 16, "none", "post"),
    (16, 32, 64, "before_decay", "none"),
    (16, 32, 32, "before_decay", "pre"),
]
COUNT = """
import json
import numpy as np, torch
from triton.runtime import interpreter
from hope_ref.parallel.kernels import launch

counted, running = {}, []
builder = interpreter.InterpreterBuilder


def counting(name, count):
    own = getattr(builder, name)
    def wrapped(self, *given, **more):
        if running:
            count(counted[running[-1]], *given)
        return own(self, *given, **more)
    setattr(builder, name, wrapped)


def of_product(found, a, b, *rest):
    (rows, inner), columns = a.data.shape, b.data.shape[1]
    found["flops"] += 2 * rows * inner * columns


def of_memory(found, where, *rest):
    mask = next(x for x in rest if getattr(getattr(x, "data", None), "dtype", None) == np.bool_)
    found["addresses"].update(np.broadcast_to(where.data, mask.data.shape)[mask.data].ravel().tolist())


counting("create_dot", of_product)
counting("create_masked_load", of_memory)
counting("create_masked_store", lambda found, where, value, mask, *rest: of_memory(found, where, mask))


def named(kernel, name):
    class Launched:
        def __getitem__(self, grid):
            def run(*given, **how):
                running.append(name)
                kernel[grid](*given, **how)
                running.pop()
            return run
    return Launched()


for name in ("forward", "backward", "gradients"):
    setattr(launch, name, named(getattr(launch, name), name))
answer = []
for chunk, d_in, d_out, erase, read in CASES:
    counted.clear()
    counted.update({name: {"flops": 0, "addresses": set()} for name in ("forward", "backward", "gradients")})
    tokens = 2 * min(chunk, 16)
    drawn = [torch.rand(tokens, n, requires_grad=True) for n in (d_in, d_in, d_out)]
    numbers = [torch.rand(tokens, requires_grad=True) for _ in range(2)]
    state = torch.rand(d_out, d_in, requires_grad=True)
    y, end = launch.recurrence(*drawn, *numbers, state, chunk, erase, read)
    (y.sum() + end.sum()).backward()
    answer.append({n: (one["flops"] / tokens, 4 * len(one["addresses"]), tokens) for n, one in counted.items()})
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def counted() -> list[dict[str, tuple[float, int, int]]]:
    found = interpreted(f"CASES = {CASES!r}\n{COUNT}")
    assert found.returncode == 0, found.stderr[-3000:]
    return json.loads(found.stdout)  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda case: str(CASES[case]))
def test_the_counts_are_what_the_kernels_do(
    kernel: str, case: int, counted: list[dict[str, tuple[float, int, int]]]
) -> None:
    chunk, d_in, d_out, erase, read = CASES[case]
    flops, moved, tokens = counted[case][kernel]
    stated = work(Configuration(kernel, 80, chunk, d_in, d_out, "float32", erase, read))
    assert stated.flops == pytest.approx(
        3 * flops, rel=1e-12
    )  # float32 is three products; the interpreter makes one
    ends = 0 if kernel == "gradients" else 2  # the first and the last state, which the estimate leaves out
    assert stated.moved * tokens == pytest.approx(moved - ends * 4 * d_in * d_out, rel=1e-12)


def test_half_the_digits_move_fewer_bytes_and_multiply_once() -> None:
    single, half = (
        work(Configuration("forward", 90, 16, 64, 64, dtype)) for dtype in ("float32", "bfloat16")
    )
    assert single.flops == 3 * half.flops
    assert single.moved / 2 < half.moved < single.moved  # states and w stay float32


def test_the_table_says_what_it_is_and_which_bound_is_lower() -> None:
    table = lines()
    assert "an estimate" in table[0]
    assert "not a measurement" in table[0]
    assert len(table) == 2 + len(KERNELS) * 6
    assert len(lines(quick=True)) == 2 + len(KERNELS)
    for name, (flops, moved) in ROOFLINES.items():
        assert f"{name} (ridge {flops / moved:.0f})" in table[1]
    assert Work(6.0, 2.0).intensity == 3.0
    assert any(line.endswith("memory, memory, memory") for line in table)
    for line in table[
        2:
    ]:  # FLOP/B, then what binds on each GPU, whose name is in brackets in the head of the table
        *_, intensity, first, second, third = line.replace(",", "").split()
        ridges = [flops / moved for flops, moved in ROOFLINES.values()]
        wanted = ["memory" if float(intensity) < ridge else "products" for ridge in ridges]
        assert [first, second, third] == wanted, line


@pytest.mark.parametrize(
    ("chunk", "dtype", "tile"),
    [(1, "float32", 16), (9, "float32", 16), (64, "float32", 16), (16, "bfloat16", 16), (17, "bfloat16", 32)],
)
def test_doublings_reach_the_end_of_a_tile(chunk: int, dtype: str, tile: int) -> None:
    from hope_ref.parallel.kernels.launch import tiles

    found = tiles(chunk, 32, getattr(torch, dtype))
    assert found.TILE == 2**found.LEVELS == tile
    assert found.chunk_size == min(chunk, 32 if dtype == "bfloat16" else 16) <= tile
