"""Whole models with random options: the floors agree, bounded ones stay finite, and it would be said if not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hope_ref.__main__ import main
from hope_ref.agreement import random_configurations as random
from hope_ref.config import CHOICES, HopeConfig
from hope_ref.parallel.hope import Hope


def test_one_result_that_is_not_finite_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"logits": torch.ones(2), "state": torch.tensor([1.0, math.inf])}
    monkeypatch.setattr(random, "parallel_results", lambda problem, model: found)
    assert not random.stays_finite(0)


@pytest.mark.parametrize(
    "seed", [*range(12), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(12, 40))]
)
def test_the_floors_agree_on_a_random_model(seed: int) -> None:
    case = random.compared(seed)
    assert case.agrees(), (case, random.drawn(seed))


@pytest.mark.parametrize(
    "seeds",
    [range(1000, 1020), pytest.param(range(1020, 1500), marks=pytest.mark.slow)],
    ids=["20", "480 more"],
)
def test_bounded_models_stay_finite(seeds: range) -> None:
    broken = [seed for seed in seeds if not random.stays_finite(seed)]
    assert not broken, f"seeds {broken}"


def test_every_option_value_is_drawn() -> None:
    problems = [random.drawn(seed) for seed in range(300)]
    configs = [problem.config for problem in problems]
    for name, values in CHOICES.items():
        drawn = {getattr(config, name) for config in configs[: 60 if name == "mixer" else None]}
        assert drawn == set(random.MIXERS if name == "mixer" else values)
    for name in ("value_norm", "input_projection", "read_skip", "adaptive_query"):
        assert {getattr(config, name) for config in configs} == {True, False}
    assert {config.convolution_width for config in configs} == set(range(5))
    assert {config.heads for config in configs} == {1, 2, 3}
    assert any(config.writing == () for config in configs)
    assert {len(config.levels_chunk_sizes) for config in configs} == {1, 2, 3}
    lengths = {len(problem.tokens) for problem in problems}
    assert {0, 1, 25} <= lengths
    assert {config.blocks for config in configs} == {1, 2}


@pytest.mark.parametrize("seed", range(100))
def test_bounded_means_bounded(seed: int) -> None:
    config = random.drawn(seed, bounded=True).config
    assert config.value_norm
    assert config.surprise_bound > 0
    assert config.step != "explicit"
    assert config.level_rates[-1] <= 0.1 / (config.levels_chunk_sizes[-1] * config.width)


def test_plain_steps_of_the_continuum_memory_have_no_bound() -> None:
    """Far beyond C d η = 2 the levels overflow, whatever holds the self-modifying Titans: 0.4/C does at width 16, 0.1/(C d) does not."""
    tokens = torch.zeros(400, dtype=torch.int64)  # the same token again and again
    largest = {}
    for name, rate in (("steep", 0.4 / 8), ("gentle", 0.1 / (8 * 16))):
        config = HopeConfig(
            width=16, vocabulary=5, blocks=1, levels_chunk_sizes=(8,), signal="associative", cms_rate=rate
        )
        with torch.no_grad():
            _, state = Hope(config).double()(tokens)
        largest[name] = float(state.blocks[0].continuum.levels[0].w1.abs().max())
    assert not largest["steep"] < 1e6
    assert largest["gentle"] < 10


def test_printed_models_overflow() -> None:
    """What the sources print, at α = 0.999 and in chunks of 1, within 60 tokens on every seed (so a finite answer is news)."""
    for seed in range(3):
        sizes = {"width": 8, "vocabulary": 5, "blocks": 1, "seed": seed, "levels_chunk_sizes": (4,)}
        model = Hope(HopeConfig.printed(**sizes, memory_chunk_size=1, projection_chunk_size=1)).double()
        with torch.no_grad():
            logits, _ = model(torch.randint(5, (60,), generator=torch.Generator().manual_seed(seed)))
        finite = torch.isfinite(logits).all(-1)
        assert finite[0]
        assert not finite[-1]


def changed(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    whole = random.parallel_results

    def wrong(problem: Any, model: Any) -> Any:
        found = whole(problem, model)
        return found | {"logits": change(found["logits"])}

    monkeypatch.setattr(random, "parallel_results", wrong)


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: logits + 1e-8,
        lambda logits: logits * math.nan,
        lambda logits: logits.detach() + 0 * logits,
    ],
)
def test_what_is_wrong_is_seen(change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = next(s for s in range(20) if len(random.drawn(s).tokens) > 5)
    assert random.compared(seed).agrees()
    changed(monkeypatch, change)
    assert not random.compared(seed).agrees()


def test_a_missing_result_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "parallel_results", lambda problem, model: {})
    with pytest.raises(ValueError, match="results must hold logits"):
        random.compared(0)


def test_far_out_of_scale_means_nothing() -> None:
    assert random.Case(0, math.nan, math.nan, math.inf).agrees()
    assert not random.Case(0, math.nan, 0.0, 1.0).agrees()
    assert not random.Case(0, 0.0, math.nan, 1.0).agrees()


def test_the_command_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "report.json"
    assert main(["verify", "--random", "3", "--finite", "2", "--seed", "5", "--report", str(path)]) == 0
    report = json.loads(path.read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == report
    assert report["compared"]["cases"] == 3
    assert report["ran"] == 2
    assert report["not_finite"] == report["compared"]["disagree"] == []
    assert [file.name for file in path.parent.iterdir()] == ["report.json"]


def test_the_command_fails_where_something_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--random", "-1"]) == 2
    assert "--random must be >= 0, got -1" in capsys.readouterr().err
    changed(monkeypatch, lambda logits: logits * math.nan)
    seed = str(next(s for s in range(20) if len(random.drawn(s).tokens) > 5))
    assert main(["verify", "--random", "1", "--seed", seed]) == 1
    monkeypatch.setattr(random, "stays_finite", lambda seed: False)
    assert main(["verify", "--finite", "1"]) == 1


def test_a_report_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    random.write_json(path, {"a": 1})

    def full(*arguments: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("hope_ref.common.files.os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        random.write_json(path, {"a": 2})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_results_are_those_of_the_reference_and_nothing_is_left_out() -> None:
    problem = random.drawn(1)
    want = random.reference_results(problem)
    model = Hope.from_reference(problem.parameters, problem.config)
    got = random.parallel_results(problem, model)
    numbers = {name for name, array in want.items() if array.dtype.kind != "f"}
    assert set(want) - numbers == set(got)
    assert all(name.endswith("position") for name in numbers)
    assert np.shape(want["logits"]) == tuple(got["logits"].shape)
