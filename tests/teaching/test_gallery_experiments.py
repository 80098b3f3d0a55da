"""The figures of RESULTS.md show the records, every seed, and say so where nothing was run."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib import pyplot as plt
from selection import some_slow

from hope_ref.experiments import NAMES, Record, Records, experiment
from hope_ref.experiments.words import FIGURES
from hope_ref.teaching import figures
from hope_ref.teaching.gallery import experiments as gallery
from hope_ref.teaching.gallery import experiments_learning as learning

DRAWN = {name: figures.gallery()[f"results_{name}"] for name in NAMES}


def made_up(name: str, measure: str, start: float) -> Records:
    """Every full cell of an experiment with one number that counts up."""
    cells = experiment(name).cells("full", range(3))
    return Records(Record(cell, {measure: start + number / 1000}, 1.0) for number, cell in enumerate(cells))


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_has_a_figure_also_before_it_was_run(name: str) -> None:
    drawing = DRAWN[name](Records([]))
    assert any("not run yet" in text.get_text() for axes in drawing.figure.axes for text in axes.texts)
    assert FIGURES[name] == (drawing.alt, drawing.caption)
    plt.close(drawing.figure)


@pytest.mark.parametrize("name", some_slow({name: name for name in NAMES}, {"ablations", "chunk_size"}))
def test_the_committed_records_can_be_drawn(name: str, tmp_path: Path) -> None:
    data = gallery.found(name)
    drawing = DRAWN[name](data)
    empty = any("not run yet" in text.get_text() for axes in drawing.figure.axes for text in axes.texts)
    if not len(data):
        assert empty
    assert figures.save(drawing, tmp_path).stat().st_size > 5000


def test_ablations_are_differences_to_the_default_of_the_same_seed() -> None:
    data = made_up("ablations", "bits_per_byte", 2.0)
    places = {(r.cell.model, r.cell.seed): r.measures["bits_per_byte"] for r in data.all}
    name = "adaptive q"
    wanted = [places[name, seed] - places["default", seed] for seed in range(3)]
    assert gallery.differences(data, name) == pytest.approx(wanted)
    picture = gallery.results_ablations(data).figure
    axes = picture.axes[0]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    row = labels.index(name)
    marks = [line for line in axes.lines if len(line.get_xdata()) == 3 and line.get_ydata()[0] == row]
    assert list(marks[0].get_xdata()) == pytest.approx([1000 * d for d in wanted])
    plt.close(picture)


def test_optimizers_show_every_seed() -> None:
    data = made_up("optimizers", "bits", 3.0)
    picture = learning.results_optimizers(data).figure
    axes = picture.axes[0]
    marks = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert len(marks) == len(axes.get_yticklabels())
    shown = sorted(x for line in marks for x in line.get_xdata())
    assert shown == pytest.approx(sorted(r.measures["bits"] for r in data.of("text")))
    plt.close(picture)


def test_names_at_the_ends_of_lines_do_not_overlap() -> None:
    picture, axes = plt.subplots()
    axes.set_ylim(0, 1)
    gallery.labelled_lines(axes, [(name, [0, 1], [0, 0.5]) for name in "abc"], 0.1)
    heights = sorted(text.xy[1] for text in axes.texts)
    assert heights == pytest.approx([0.5, 0.6, 0.7])
    plt.close(picture)
