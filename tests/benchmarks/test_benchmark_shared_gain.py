"""One gain beside five recurrences: all ways compute the same, and the record says how many times one gain the others take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hope_ref.benchmarks import command as benchmark
from hope_ref.benchmarks import runs as benchmark_runs
from hope_ref.benchmarks import shared_gain
from tests.benchmarks.test_benchmark import arguments


@pytest.fixture(autouse=True)
def as_before() -> object:
    threads = torch.get_num_threads()
    yield
    benchmark_runs.hold_pages(2**30)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def test_a_quick_run_writes_one_file_and_says_the_ratios(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(arguments("--gain", "--quick", "--results", str(tmp_path))) == 0
    (path,) = tmp_path.iterdir()
    assert path.name == "benchmark_gain.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    assert set(record) == {"what", "device", "versions", "settings", "widths"}
    said = capsys.readouterr().out
    for width, one in record["widths"].items():
        assert len(one["ratios"]) == 4
        for name, ratio in one["ratios"].items():
            (part,) = (part for part in ("forward and backward", "forward") if name.endswith(f", {part}"))
            ours, theirs = one["seconds"][f"one gain, {part}"], one["seconds"][name]
            assert ratio["median"] == pytest.approx(theirs[0] / ours[0])
            (line,) = (line for line in said.splitlines() if line.startswith(f"  d = {width}, {name}  "))
            assert f"{ratio['median']:.2f}" in line


def test_it_is_measured_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(arguments("--gain", "--device", "cuda")) == 2
    assert "--gain must be measured on cpu, got --device cuda" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["stacked", "separate"])
def test_all_ways_have_the_same_outputs_memories_and_gradients(name: str) -> None:
    found = []
    for way in (shared_gain.one_gain, shared_gain.WAYS[name]):
        given = [x.detach().double().requires_grad_() for x in shared_gain.inputs(6, 19)]
        outputs, weights = way(*given, 4)
        slopes = torch.autograd.grad((outputs**2).sum() + weights.sum(), given)
        found.append([outputs, weights, *slopes])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_one_gain_is_what_a_loop_over_five_memories_computes() -> None:
    q, k, v, eta, alpha, weights = (x.detach().double() for x in shared_gain.inputs(5, 11))
    want, boundary = [], weights
    now = weights
    for t in range(11):
        boundary = now if t % 4 == 0 else boundary
        slip = now @ k[t] + boundary @ (k[t] - v[t])  # (5, d)
        now = alpha[t] * now - eta[t] * slip[..., None] * k[t]
        want.append(now[-1] @ q[t])
    outputs, moved = shared_gain.one_gain(q, k, v, eta, alpha, weights, 4)
    torch.testing.assert_close(outputs, torch.stack(want), rtol=0, atol=1e-12)
    torch.testing.assert_close(moved, now, rtol=0, atol=1e-12)
