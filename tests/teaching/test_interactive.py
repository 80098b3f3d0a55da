"""Figures that a hand moves: every position draws, controls have names, the picture follows, and nothing is lost without them."""

from __future__ import annotations

import html
import importlib
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import pytest
from selection import some_slow

from hope_ref import teaching
from hope_ref.teaching.figures import gallery

module = importlib.import_module("hope_ref.teaching.interactive")
HAND = module.explorers()
each = pytest.mark.parametrize("name", HAND)
one = pytest.mark.parametrize("name", some_slow({name: name for name in HAND}, {"write"}))
two = pytest.mark.parametrize("name", some_slow({name: name for name in HAND}, {"write", "clocks"}))
ALONG = [
    (name, control.argument, position)
    for name, explorer in HAND.items()
    for control in explorer.controls
    for position in control.positions
]


def start(name: str) -> dict[str, Any]:
    return {control.argument: control.start for control in HAND[name].controls}


def test_sliders_and_lists_move_each_other_and_draw_once() -> None:
    drawn = []

    def counted(**setting: Any) -> Any:
        drawn.append(setting)
        return HAND["write"].data(**setting)

    panel = module.Panel(replace(HAND["write"], data=counted))
    chosen, slider = panel.box.children[0].children
    assert len(drawn) == 1
    slider.value = 1.5
    assert chosen.value == 1.5
    assert drawn[1:] == [{"eta": 1.5, "alpha": 1.0}]
    chosen.value = 0.1
    assert slider.value == 0.1
    assert len(drawn) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("name", "argument", "position"), ALONG)
def test_every_position_draws_and_speaks(name: str, argument: str, position: Any) -> None:
    picture, words = module.at(HAND[name], start(name) | {argument: position})
    assert picture.startswith(b"\x89PNG")
    assert words.endswith(".")
    assert not plt.get_fignums()


@one
def test_corners_draw_too(name: str) -> None:
    """The last corner only where `test_the_picture_follows_every_control` does not end in it."""
    ends_there = all(control.start != control.positions[-1] for control in HAND[name].controls)
    for corner in (0,) if ends_there else (0, -1):
        module.at(HAND[name], {c.argument: c.positions[corner] for c in HAND[name].controls})


@each
def test_controls_have_names_and_start_at_one_of_their_positions(name: str) -> None:
    for control in HAND[name].controls:
        assert control.start in control.positions
        assert len(control.label) > 3
        labels = [label for label, _ in control.options()]
        assert len(set(labels)) == len(labels) == len(control.positions)
        if isinstance(control.start, str):
            assert len({label[0] for label in labels}) == len(labels), "one letter is enough to choose"


@two
def test_the_still_picture_is_in_the_gallery(name: str) -> None:
    drawing = HAND[name].still()
    plt.close(drawing.figure)
    assert drawing.name == f"{name}_by_hand"
    assert drawing.name in gallery()
    assert 4 <= sum(1 for axes in drawing.figure.axes if axes.get_title(loc="left")) <= 6


@one
def test_the_picture_follows_every_control(name: str) -> None:
    panel = module.Panel(HAND[name])
    for control in HAND[name].controls:
        before = panel.picture.value, panel.words.value
        chosen = panel.lists[control.argument]
        assert chosen.description == control.label
        other = next(p for p in reversed(control.positions) if p != chosen.value)
        chosen.value = other
        now = {argument: widget.value for argument, widget in panel.lists.items()}
        words = html.escape(HAND[name].words(HAND[name].data(**now)))
        assert now[control.argument] == other
        assert panel.picture.value != before[0]
        assert panel.words.value == f'<p role="status">{words}</p>' != before[1]
        assert panel.picture.value.startswith(f'<img alt="{words}"')


def test_words_have_no_slider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "at", lambda *_: (b"", ""))  # the controls alone
    rows = module.Panel(HAND["stability"]).box.children
    assert [len(row.children) for row in rows[:3]] == [1, 1, 2]


def test_interactive_displays_the_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    teaching.interactive("write")
    (box,) = shown
    assert box.children[0].children[0].description == "learning rate η"


def test_without_ipywidgets_it_says_how_and_shows_the_still_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(module, "show", shown.append)
    teaching.interactive("chunk_size")
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert "pip install ipywidgets" in said[0]
    assert [drawing.name for drawing in shown] == ["chunk_size_by_hand"]
    plt.close(shown[0].figure)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="'nothing'; known: write, stability, chunk_size, clocks"):
        teaching.interactive("nothing")
