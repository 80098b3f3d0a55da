"""A training step through the updates beside an ordinary one: both read the same, and one of them moves levels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hope_ref.benchmarks import command as benchmark
from hope_ref.benchmarks import runs as benchmark_runs
from hope_ref.benchmarks import steps
from hope_ref.experiments import amnesia
from hope_ref.parallel.hope import Hope
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
    assert benchmark.main(arguments("--updates", "--quick", "--results", str(tmp_path))) == 0
    (path,) = tmp_path.iterdir()
    assert path.name == "benchmark_updates.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    assert set(record) == {"what", "device", "versions", "settings", "models"}
    assert set(record["models"]) == set(steps.MODELS)
    said = capsys.readouterr().out
    for name, one in record["models"].items():
        ordinary, through = (one["seconds"][key] for key in ("ordinary", "through the updates"))
        assert len(ordinary) == len(through) == record["settings"]["repeats"] == 1
        assert one["ratio"]["median"] == pytest.approx(through[0] / ordinary[0])
        assert f"{one['ratio']['median']:.2f}" in next(line for line in said.splitlines() if name in line)


def test_it_is_measured_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(arguments("--updates", "--device", "cuda")) == 2
    assert "--updates must be measured on cpu, got --device cuda" in capsys.readouterr().err


@pytest.mark.parametrize("name", steps.MODELS)
def test_an_ordinary_step_reads_and_asks_all_and_moves_no_level(name: str) -> None:
    config = amnesia.config().replace(width=8, **steps.MODELS[name])
    model, faster = (Hope(config.replace(cms_rate=rate)).double() for rate in (0.1, 0.5))
    given = amnesia.episode(amnesia.LANGUAGES, 3, 0)
    loss = steps.ordinary_loss(model, given)
    assert float(loss.detach()) == float(steps.ordinary_loss(faster, given).detach())
    assert float(amnesia.loss_of(model, given).detach()) != float(amnesia.loss_of(faster, given).detach())
    # Literally, pupil by pupil and word by word: two lessons and the questions, a third each.
    parts: list[list[torch.Tensor]] = [[], [], []]
    with torch.no_grad():
        for pupil in range(3):
            for part, lesson in zip(parts, given.lessons, strict=False):
                shares = model(lesson[pupil])[0].log_softmax(-1)
                part += [-shares[at, lesson[pupil, at + 1]] for at in range(len(lesson[pupil]) - 1)]
            for asked, answer in zip(given.questions[pupil], given.answers[pupil], strict=True):
                parts[2].append(-model(asked)[0][-1].log_softmax(-1)[answer])
    wanted = sum(float(torch.stack(part).mean()) for part in parts) / 3
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-12)
