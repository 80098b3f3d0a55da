"""The benchmark runs, writes what it measured, and its ratios follow from its times. No duration is asserted."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from hope_ref.benchmarks import command as benchmark
from hope_ref.benchmarks import runs as benchmark_runs
from hope_ref.config import HopeConfig


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    return parser.parse_args(list(given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--width", "0"), "--width must be >= 1, got 0"),
        (("--tokens", "-5"), "--tokens must be >= 1, got -5"),
        (("--chunk-size", "0"), "--chunk-size must be >= 1, got 0"),
        (("--repeats", "0"), "--repeats must be >= 1, got 0"),
        (("--threads", "0"), "--threads must be >= 1, got 0"),
    ],
)
def test_bad_options_are_named(
    given: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(arguments(*given)) == 2
    assert message in capsys.readouterr().err


def test_the_first_turn_is_not_counted() -> None:
    called: list[str] = []
    runs = {name: partial(called.append, name) for name in "ab"}
    found = benchmark.in_turns(runs, 2, "cpu")
    assert called == list("ababab")
    assert [len(seconds) for seconds in found.values()] == [2, 2]


def first_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the processes that measure memory the first one is started; the others, which are alike, run here."""
    started, real = [], subprocess.run

    def run(call: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        started.append(call)
        if len(started) == 1:
            return real(call, **options)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(call[2], {})
        return subprocess.CompletedProcess(call, 0, said.getvalue())

    monkeypatch.setattr("hope_ref.benchmarks.runs.subprocess.run", run)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """The exit status of one quick run, and the folder that it wrote to."""
    folder = tmp_path_factory.mktemp("results") / "new"
    threads = torch.get_num_threads()
    try:
        with pytest.MonkeyPatch.context() as patch:
            first_in_a_process(patch)
            return benchmark.main(arguments("--quick", "--full", "--results", str(folder))), folder
    finally:
        benchmark_runs.hold_pages(2**30)
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def record(quick: tuple[int, Path]) -> dict[str, Any]:
    return json.loads((quick[1] / "benchmark_cpu_16.json").read_text(encoding="utf-8"))


def test_a_quick_run_succeeds_and_leaves_one_file(quick: tuple[int, Path]) -> None:
    assert quick[0] == 0
    assert [file.name for file in quick[1].iterdir()] == ["benchmark_cpu_16.json"]


def test_a_long_stream_is_compared_with_a_short_one(record: dict[str, Any]) -> None:
    found = record["long_stream"]
    assert (found["short"], found["long"]) == (64, 256)
    assert 0 < found["ratio_per_token"]["min"] <= found["ratio_per_token"]["median"]


def test_the_record_says_what_was_measured_and_where(record: dict[str, Any]) -> None:
    assert set(record) == {
        "what", "device", "versions", "settings", "flops", "timed", "ratios", "by_tokens", "by_chunk_size", "memory",
        "long_stream",
    }  # fmt: skip
    assert set(record["device"]) == {"kind", "name", "threads"}
    assert record["device"]["name"]
    assert record["versions"]["torch"] == torch.__version__
    settings = record["settings"]
    assert (settings["width"], settings["tokens"], settings["chunk_size"]) == (16, 64, 16)
    assert set(record["timed"]) == {
        "ceiling", "forward", "forward and backward", "attention forward", "attention forward and backward",
        "NumPy loop",
    }  # fmt: skip
    for found in record["timed"].values():
        assert len(found["seconds"]) == settings["repeats"]
        assert 0 < found["min"] <= found["median"] <= found["max"]
    assert [row["tokens"] for row in record["by_tokens"]] == [16, 32, 64]
    assert [row["chunk_size"] for row in record["by_chunk_size"]] == [1, 4, 16, 64]
    rows = [*record["by_tokens"], *record["by_chunk_size"]]
    assert all(value > 0 for row in rows for value in row.values())
    assert set(record["memory"]) == {"how", "plain_bytes", "recompute_bytes"}
    assert min(record["memory"][name] for name in ("plain_bytes", "recompute_bytes")) >= 0


def test_ratios_follow_from_the_times(record: dict[str, Any]) -> None:
    (ceiling,), (forward,), (both,), (attention,), (attention_both,), (loop,) = (
        found["seconds"] for found in record["timed"].values()
    )
    want = {
        "forward, share of the ceiling": ceiling / forward,
        "forward and backward, share of the ceiling": 3 * ceiling / both,
        "NumPy loop over forward": loop / forward,
        "forward over attention": forward / attention,
        "forward and backward over attention": both / attention_both,
    }
    assert set(record["ratios"]) == set(want)
    for name, ratio in want.items():
        assert record["ratios"][name]["median"] == pytest.approx(ratio, rel=1e-9)
    assert record["flops"]["forward and backward"] == 3 * record["flops"]["forward"]


def test_ratios_of_several_turns_are_taken_turn_by_turn() -> None:
    timed = {name: [1.0, 2.0, 4.0] for name in ("forward", "forward and backward", "attention forward")}
    timed |= {
        "attention forward and backward": [1.0, 1.0, 1.0],
        "NumPy loop": [3.0, 2.0, 8.0],
        "ceiling": [0.5, 1.0, 1.0],
    }
    found = benchmark.ratios(timed, 8)
    assert found["forward, share of the ceiling"] == {"median": 0.5, "min": 0.25, "max": 0.5}
    assert found["forward and backward, share of the ceiling"]["median"] == 1.5
    assert found["NumPy loop over forward"] == {"median": 2.0, "min": 1.0, "max": 3.0}


def test_the_ceiling_does_the_work_of_the_large_products() -> None:
    """Of 96 C d² for h = d the big products are the sum; what grows with C² is scores, solves and reads."""
    hope = benchmark.Hope(64, 16, "cpu")
    work = hope.flops(32)
    large = 96 * 32 * 64 * 64
    assert large < work < 1.25 * large
    assert hope.flops(16) + hope.flops(16) == work
    assert hope.flops(16) < hope.flops(23) < work
    assert hope.config == HopeConfig(width=64, memory_chunk_size=16, projection_chunk_size=16)


def test_attention_is_causal() -> None:
    layer = benchmark.Attention(8, "cpu")
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    before = layer.forward(x)
    x[3] += 1
    after = layer.forward(x)
    assert torch.equal(before[:3], after[:3])
    assert not torch.equal(before[3], after[3])


def test_the_table_shows_every_number_that_matters(record: dict[str, Any]) -> None:
    text = benchmark.table(record | {"compiled": {"eager_us": 1234.0, "compiled_us": 567.0}})
    for name in (
        *record["timed"],
        *record["ratios"],
        "T = 64",
        "C = 1 ",
        "recompute",
        "1234 µs, compiled 567 µs",
    ):
        assert name in text


def test_a_failed_write_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = benchmark.write_json(tmp_path / "benchmark_cpu_16.json", {"old": 1})
    with pytest.raises(TypeError):
        benchmark.write_json(path, {"new": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"old": 1}


def test_what_was_measured_is_on_the_disk_when_the_next_measurement_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: argparse.Namespace) -> dict[str, Any]:
        raise RuntimeError("no memory to weigh")

    monkeypatch.setattr(benchmark, "memory", fails)
    threads = torch.get_num_threads()
    try:
        with pytest.raises(RuntimeError, match="no memory to weigh"):
            benchmark.main(arguments("--quick", "--results", str(tmp_path)))
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
    held = json.loads((tmp_path / "benchmark_cpu_16.json").read_text(encoding="utf-8"))
    assert set(held) >= {"timed", "ratios", "by_tokens", "by_chunk_size"}
    assert "memory" not in held


def test_a_missing_device_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert benchmark.main(arguments("--device", "cuda")) == 2
    assert "no CUDA device" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        arguments("--device", "abacus")


def test_without_glibc_the_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert benchmark.hold_pages(2**20) is False


@pytest.mark.parametrize("recompute", [0, 1])
def test_the_peak_is_a_number_of_bytes(recompute: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here in this process; the benchmark asks a fresh one."""
    monkeypatch.setattr("hope_ref.benchmarks.runs.hold_pages", lambda largest: True)
    found = benchmark_runs.peak(8, 32, 8, recompute, torch.get_num_threads(), "cpu")
    assert isinstance(found, int)
    assert found >= 0
    assert benchmark_runs.largest_resident() > 2**20


def test_compiled_and_eager_are_timed_on_the_same_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a compiler that returns what it is given: the real one takes minutes."""
    monkeypatch.setattr(torch, "compile", lambda function: function)
    found = benchmark.compiled(8, arguments("--repeats", "1"))
    assert set(found) == {"eager_us", "compiled_us"}
    assert min(found.values()) > 0
