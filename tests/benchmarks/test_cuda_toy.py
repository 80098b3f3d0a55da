"""`make cuda TOY=1`, once: every line of it, at toy sizes on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hope_ref.benchmarks.cuda import PARTS

ROOT = Path(__file__).parents[2]
NAMES = [part.name for part in PARTS]
Toy = tuple[subprocess.CompletedProcess[str], Path]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """`make cuda TOY=1`, once."""
    folder = tmp_path_factory.mktemp("toy") / "new"
    call = ["make", "--no-print-directory", "cuda", "TOY=1", f"FOLDER={folder}", f"PYTHON={sys.executable}"]
    surroundings = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")
    }
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=600, env=surroundings)
    return done, folder


def test_every_part_comes_to_its_end(toy: Toy) -> None:
    done, folder = toy
    record = json.loads((folder / "cuda_cpu.json").read_text(encoding="utf-8"))
    assert {name: part["why"] for name, part in record["parts"].items()} == dict.fromkeys(NAMES, "")
    assert done.returncode == 0, done.stderr[-2000:]
    assert record["toy"] is True
    assert all(part["versions"]["torch"] for part in record["parts"].values())


def test_what_each_part_has_found(toy: Toy) -> None:
    results = {
        name: part["result"]
        for name, part in json.loads((toy[1] / "cuda_cpu.json").read_text(encoding="utf-8"))["parts"].items()
    }
    assert results["tests"]["skipped"] > 100
    assert results["tests"]["failed"] == results["tests"]["error"] == 0
    assert set(results["ceilings"]["per_second"]) == {
        "float32 product", "TF32 product", "bfloat16 product", "copy",
    }  # fmt: skip
    for name in ("kernels", "fla", "compiled"):
        assert results[name]["seconds"].keys() == results[name]["errors"].keys()
        for dtype, bound in (("float32", 1e-5), ("bfloat16", 0.02)):
            assert 0 < results[name]["errors"][f"eager, {dtype}, forward and backward"] < bound
    assert any(
        name.startswith("flash-linear-attention")
        for name in results["fla"]["without"] | results["fla"]["seconds"]
    )
    assert "memory" in results["titans"]
    assert "kernels" not in results["titans"]
    for name in ("training hope", "training gated_delta_rule"):
        curve = results[name]["curve"]
        assert [step for step, _, _ in curve] == sorted({step for step, _, _ in curve})
        assert 0 < curve[-1][2] < 12
        assert results[name]["tokens_per_second"]["torch"] > 0
        assert results[name]["validation_bits_per_byte"] > 0


def test_the_table_has_every_part_and_says_that_toys_mean_nothing(
    toy: Toy,
) -> None:
    said = toy[0].stdout
    assert "no number means anything" in said
    rows = [line for line in said.splitlines() if " complete " in line]
    assert [row[:28].strip() for row in rows] == NAMES
