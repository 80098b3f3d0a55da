"""Cells, records, the runner, the report and the command, on an experiment of one millisecond."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from hope_ref import __main__ as hope_ref_command
from hope_ref import experiments
from hope_ref.config import HopeConfig
from hope_ref.experiments import (
    Cell,
    Experiment,
    Record,
    Records,
    Table,
    fitting,
    records,
    report,
    runner,
    spread,
)
from hope_ref.parallel.hope import Hope
from hope_ref.training import TrainingSettings


def toy_cells(scale: str, seeds: Sequence[int]) -> list[Cell]:
    steps = 2 if scale == "quick" else 3
    return [Cell("toy", "a task", model, seed, {"steps": steps}) for model in ("A", "B|b") for seed in seeds]


def toy_measure(cell: Cell) -> dict[str, float]:
    if cell.model == "B|b" and cell.seed == 2:
        raise RuntimeError("seed 2 of B is cursed")
    return {"score": float(torch.rand(())) + cell.settings["steps"]}


def toy_tables(found: Records) -> list[Table]:
    rows = tuple((model, found.text("a task", model, "score", 2)) for model in ("A", "B|b"))
    return [Table("Scores", ("model", "score"), rows, "Higher is better.")]


TOY = Experiment(
    "toy", "Which is better?", toy_cells, toy_measure, toy_tables, lambda found: f"{len(found)} were run."
)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"toy": TOY}
    for place in (experiments, "hope_ref.experiments.command", "hope_ref.experiments.report"):
        name = "hope_ref.experiments" if place is experiments else place
        monkeypatch.setattr(f"{name}.NAMES", ("toy",))
        monkeypatch.setattr(f"{name}.experiment", known.__getitem__)


def quietly(cell: Cell, seconds: float, wrong: str) -> None:
    pass


def test_keys_are_file_names_and_checksums_follow_the_settings() -> None:
    one = Cell("text", "a^n b^n / (aa)*", "gated delta rule, β < 2", 7, {"lr": 1e-3})
    assert one.key == "text/a_n_b_n_aa_--gated_delta_rule_2--7".replace("_aa_--", "_aa--")
    other = Cell("text", one.task, one.model, 7, {"lr": 1e-2})
    assert one.checksum != other.checksum
    assert one.checksum == Cell(**one.to_dict()).checksum


def test_a_record_comes_back_only_for_the_settings_it_was_made_with(tmp_path: Path) -> None:
    cell = Cell("toy", "t", "m", 0, {"steps": 1})
    assert records.load(tmp_path, cell) is None
    path = records.save(tmp_path, cell, {"score": 0.5}, 1.25)
    assert records.load(tmp_path, cell) == Record(cell, {"score": 0.5}, 1.2)
    assert records.load(tmp_path, Cell("toy", "t", "m", 0, {"steps": 2})) is None
    written = json.loads(path.read_text())
    assert written["settings"] == {"steps": 1}
    assert written["versions"]["torch"] == torch.__version__
    path.write_text("{")
    with pytest.raises(
        ValueError, match=r"t--m--0\.json must be JSON.*; move it elsewhere to run toy/t--m--0 again"
    ):
        records.load(tmp_path, cell)


def test_values_over_seeds() -> None:
    found = Records(
        Record(Cell("e", "t", "m", seed, {}), {"bin": {"score": value}}, 1.0)
        for seed, value in enumerate((0.1, 0.2, 0.6))
    )
    assert found.values("t", "m", "bin.score") == [0.1, 0.2, 0.6]
    assert found.values("t", "m", "bin.other") == []
    assert found.text("t", "m", "bin.score", 1, 100) == "30.0 ± 26.5"
    assert found.text("t", "other", "bin.score") == "–"
    assert (found.tasks(), found.models(), len(found)) == (["t"], ["m"], 3)
    assert spread([1.0]) == "1.0 (1 seed)"
    assert spread([1.0, 3.0], 2) == "2.00 ± 1.41 (2 seeds)"


def test_only_what_is_missing_is_run_and_a_failure_stops_nothing(toy: None, tmp_path: Path) -> None:
    said: list[tuple[str, str]] = []
    cells = toy_cells("full", range(3))
    failed = runner.run(cells, tmp_path, 1, lambda cell, _, wrong: said.append((cell.key, wrong)))
    assert failed == 1
    assert [wrong for _, wrong in said] == [""] * 5 + ["RuntimeError('seed 2 of B is cursed')"]
    assert sorted(path.name for path in (tmp_path / "toy").iterdir()) == sorted(
        f"{cell.key.split('/')[1]}.json" for cell in cells[:5]
    )
    before = {path: path.read_bytes() for path in (tmp_path / "toy").iterdir()}
    said.clear()
    assert runner.run(cells, tmp_path, 1, lambda cell, _, wrong: said.append((cell.key, wrong))) == 1
    assert len(said) == 1
    assert before == {path: path.read_bytes() for path in (tmp_path / "toy").iterdir()}


def test_a_cell_gives_the_same_whatever_ran_before(toy: None, tmp_path: Path) -> None:
    cells = toy_cells("quick", [0, 1])
    runner.run(cells, tmp_path / "all", 1, quietly)
    torch.rand(5)
    runner.run(cells[1:2], tmp_path / "one", 1, quietly)
    one, other = (records.load(tmp_path / name, cells[1]) for name in ("all", "one"))
    assert one is not None
    assert other is not None
    assert one.measures == other.measures


def test_a_cell_leaves_the_process_as_it_was(toy: None, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for cell in (toy_cells("quick", [0])[0], toy_cells("quick", [2])[1]):  # the second one fails
            runner.run([cell], tmp_path, 1, quietly)
            assert torch.get_num_threads() == 2
            assert float(torch.tensor(1e-310, dtype=torch.float64) / 2) > 0, "denormals are kept"
    finally:
        torch.set_num_threads(threads)


def without_times(found: Any) -> Any:
    """Measures without what no second run repeats."""
    if not isinstance(found, dict):
        return found
    return {name: without_times(value) for name, value in found.items() if "second" not in name}


@pytest.mark.slow
def test_side_by_side_in_processes_of_their_own(tmp_path: Path) -> None:
    cells = experiments.experiment("optimizers").cells("quick", [0])[:2]
    start = time.perf_counter()
    assert runner.run(cells, tmp_path, 2, quietly) == 0
    assert time.perf_counter() > start
    alone = tmp_path / "alone"
    assert runner.run(cells[:1], alone, 1, quietly) == 0
    one, other = (records.load(folder, cells[0]) for folder in (tmp_path, alone))
    assert one is not None
    assert other is not None
    assert without_times(one.measures) == without_times(other.measures)


def test_the_command_runs_reports_and_goes_on(
    toy: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--records", str(tmp_path / "r"), "--results", str(tmp_path / "RESULTS.md")]
    assert hope_ref_command.main(["experiment", "toy", "--full", "--jobs", "1", "--only=--A--", *place]) == 0
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "3 of 6 trainings run · seeds 0, 1, 2" in text
    assert "* **[Toy](#toy)**: 3 were run." in text
    assert "| B\\|b | – |" in text
    assert (
        hope_ref_command.main(["experiment", "toy", "--full", "--jobs", "1", *place]) == 1
    )  # the cursed one
    assert "FAILED toy/a_task--B_b--2" in capsys.readouterr().err
    assert "5 of 6 trainings run" in (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    before = (tmp_path / "RESULTS.md").read_bytes()
    assert hope_ref_command.main(["experiment", "all", "--report", *place]) == 0
    assert (tmp_path / "RESULTS.md").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["toy", "--seeds", "0"], 2, "seeds must be in [1, 1000], got 0"),
        (["toy", "--jobs", "0"], 2, "jobs must be in [1, 256], got 0"),
        (["toy", "--only", "nothing"], 2, "only must be a part of a cell's name, got 'nothing'"),
    ],
)
def test_wrong_input(
    toy: None,
    arguments: list[str],
    status: int,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert hope_ref_command.main(["experiment", *arguments, "--records", str(tmp_path)]) == status
    assert words in capsys.readouterr().err


def test_ctrl_c_and_damaged_records_have_their_own_status(
    toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--records", str(tmp_path)]
    assert hope_ref_command.main(["experiment", "toy", *place]) == 0
    next((tmp_path / "toy").iterdir()).write_text("[]")
    assert hope_ref_command.main(["experiment", "toy", *place]) == 2
    assert "must be one JSON object, got list; move it elsewhere" in capsys.readouterr().err

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", interrupted)
    monkeypatch.setattr(records, "load", lambda *_: None)
    assert hope_ref_command.main(["experiment", "toy", *place]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_what_is_not_installed_is_left_out(
    toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runner.lacking(("json", "no_such_module")) == ["no_such_module"]
    monkeypatch.setattr(runner, "lacking", lambda needs: ["no_such_module"])
    assert hope_ref_command.main(["experiment", "toy", "--records", str(tmp_path)]) == 0
    assert "toy is left out: it needs no_such_module" in capsys.readouterr().err


def test_a_table_with_a_short_row_is_refused() -> None:
    crooked = Experiment(
        "e",
        "?",
        toy_cells,
        toy_measure,
        lambda found: [Table("Crooked", ("a", "b"), (("1",),))],
        lambda found: "",
    )
    with pytest.raises(ValueError, match="rows of 'Crooked' must have 2 entries, got 1"):
        report.section(Records([]), crooked)


@pytest.mark.parametrize("name", experiments.NAMES)
@pytest.mark.parametrize("scale", ["quick", "full"])
def test_every_experiment_has_cells_of_its_own(name: str, scale: str) -> None:
    own = experiments.experiment(name)
    cells = own.cells(scale, range(3))
    assert {cell.experiment for cell in cells} == {name}
    assert len({cell.key for cell in cells}) == len(cells)
    for cell in cells:
        assert Cell(**json.loads(json.dumps(cell.to_dict()))).checksum == cell.checksum
    assert own.question.endswith("?")
    assert own.sentence(Records([]))
    report.section(Records([]), own)


def test_an_unknown_experiment_is_refused() -> None:
    with pytest.raises(ValueError, match="name must be one of 'formal_languages'"):
        experiments.experiment("nothing")


# --- fitting ---------------------------------------------------------------------------------------------------------

SMALL = HopeConfig(
    width=8,
    heads=2,
    vocabulary=4,
    blocks=1,
    memory_chunk_size=4,
    projection_chunk_size=4,
    levels_chunk_sizes=(16,),
)


def test_fit_is_the_training_loop(tmp_path: Path) -> None:
    """The same steps as `hope_ref.training.train` takes, to the bit."""
    from hope_ref.training import Run, data, train
    from hope_ref.training.processes import Objective

    (tmp_path / "text").write_text("hope and memory, memory and hope; " * 40, encoding="utf-8")
    run = Run(
        SMALL.replace(vocabulary=256),
        TrainingSettings(steps=5, batch=4, tokens=12, device="cpu", evaluate_every=0),
        text=str(tmp_path / "text"),
    )
    wanted = train(run, tmp_path / "run").model
    run, parts = data.prepared(run)
    model = run.model()
    objective = Objective(model, run.training)
    found = fitting.fit(model, lambda step: objective(data.batch(run, parts, step)), run.training)
    assert found.steps == 5
    for (name, one), other in zip(model.named_parameters(), wanted.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_fit_stops_before_a_step_that_is_not_finite() -> None:
    model = Hope(SMALL)
    before = [p.detach().clone() for p in model.parameters()]

    def loss(step: int) -> torch.Tensor:
        return sum(p.sum() for p in model.parameters()) * (float("nan") if step == 1 else 1.0)  # type: ignore[return-value]

    found = fitting.fit(model, loss, TrainingSettings(steps=3, schedule="constant", warmup=0.0, lr=1e-3))
    assert (found.steps, len(found.losses)) == (1, 1)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_fit_wants_a_stepper_for_other_models() -> None:
    line = torch.nn.Linear(2, 1)
    with pytest.raises(ValueError, match="stepper must be given for a model that is no Hope, got Linear"):
        fitting.fit(line, lambda step: line.weight.sum(), TrainingSettings(steps=1))
    stepper = torch.optim.SGD(line.parameters(), lr=1.0)
    settings = TrainingSettings(steps=4, lr=0.1, schedule="constant", warmup=0.0, clip=0.0)
    before = line.weight.detach().clone()
    fitting.fit(line, lambda step: line.weight.sum(), settings, stepper)
    torch.testing.assert_close(line.weight, before - 0.4)


@pytest.mark.parametrize("name", fitting.MODELS)
@pytest.mark.parametrize("width", [32, pytest.param(64, marks=pytest.mark.slow)])
def test_models_have_equal_sizes(name: str, width: int) -> None:
    config = HopeConfig(width=width, heads=2, vocabulary=64, levels_chunk_sizes=(128, 512))
    with torch.device("meta"):
        hope = fitting.parameters(Hope(config.replace(seed=None)))
    own = fitting.build(name, config)
    assert abs(fitting.parameters(own) / hope - 1) < 0.05
    assert own.config.heads == config.heads
    same, other = fitting.build(name, config), fitting.build(name, config.replace(seed=1))
    assert all(torch.equal(p, q) for p, q in zip(own.parameters(), same.parameters(), strict=True))
    assert not torch.equal(own.embedding, other.embedding)


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match="name must be one of 'HOPE', 'Titans'"):
        fitting.build("LSTM", SMALL)
    with pytest.raises(ValueError, match=r"config must be that of a HOPE, .* got 'titans'"):
        fitting.build("HOPE", SMALL.replace(mixer="titans"))


def test_labels_are_counted() -> None:
    model = Hope(SMALL)
    tokens = torch.randint(0, 4, (7, 5), generator=torch.Generator().manual_seed(0))
    logits = model(tokens)[0]
    labels = logits.argmax(-1)
    labels[0, 0] = -1
    labels[1, 2] = (labels[1, 2] + 1) % 4
    found = fitting.labelled_accuracy(model, tokens, labels, batch=3)
    assert found.tokens == pytest.approx(33 / 34)
    assert found.sequences == pytest.approx(6 / 7)
    by_hand = [
        -logits[b, t].log_softmax(-1)[labels[b, t]] for b in range(7) for t in range(5) if labels[b, t] >= 0
    ]
    torch.testing.assert_close(fitting.labelled_loss(model, tokens, labels), torch.stack(by_hand).mean())


def test_the_time_of_a_step_changes_nothing() -> None:
    model = Hope(SMALL)
    before = [p.detach().clone() for p in model.parameters()]
    tokens = torch.zeros(2, 6, dtype=torch.int64)
    assert fitting.seconds_of_a_step(model, lambda step: fitting.labelled_loss(model, tokens, tokens)) > 0
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert all(p.grad is None for p in model.parameters())
