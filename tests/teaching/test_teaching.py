"""What notebooks import: checks that raise, pictures with words, a folder of figures that is never half written."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import sympy as sp
import torch
from PIL import Image

from hope_ref import teaching
from hope_ref.teaching import checks, display, figures


def test_check_prints_a_bound_and_no_float(capsys: pytest.CaptureFixture[str]) -> None:
    teaching.check("a == b", np.array([1.0, 0.5]) + 1e-14, [1.0, 0.5])
    assert capsys.readouterr().out == "ok  a == b   max|Δ| < 1e-12\n"


@pytest.mark.parametrize(
    ("got", "want", "message"),
    [
        (
            [1.0, 2.0],
            [1.0, 2.0 + 1e-6],
            r"a == b: got\[1\] is 2, want 2\.000001: max\|Δ\| = 1e-06, allowed 2e-12, 1 of 2 entries differ$",
        ),
        (1.0, 0.5, r"a == b: got is 1, want 0\.5: max\|Δ\| = 0\.5, allowed 1e-12$"),
        ([1.0], [[1.0]], r"a == b: shapes differ, got \(1,\), want \(1, 1\)"),
        ([1.0, np.nan], [1.0, 1.0], r"a == b: got\[1\] is nan, an overflow or an undefined number$"),
        ([np.nan], [np.nan], r"a == b: got\[0\] is nan"),
        ([np.inf], [np.inf], r"a == b: got\[0\] is inf"),
        ([0.0], [np.inf], r"a == b: want\[0\] is inf"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_check_raises_when_two_things_differ(got: Any, want: Any, message: str) -> None:
    with pytest.raises(checks.CheckFailed, match=message):
        teaching.check("a == b", got, want)


def test_check_takes_tensors_and_sympy() -> None:
    teaching.check("tensor", torch.ones(2, requires_grad=True), np.ones(2))
    teaching.check("matrix", sp.eye(2), np.eye(2))


def test_check_scales_with_large_values_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    teaching.check("large", np.array([1e6 + 5e-7]), np.array([1e6]))
    assert capsys.readouterr().out == "ok  large   max|Δ| < 1e-06 (1e-12 of the largest, 1e+06)\n"
    with pytest.raises(checks.CheckFailed):
        teaching.check("large", np.array([1e6 + 1e-3]), np.array([1e6]))


@pytest.mark.parametrize("want", [2.6, 2.96, 1e4, -3.5])
def test_a_difference_that_is_refused_reads_larger_than_what_is_allowed(want: float) -> None:
    for excess in (1.0, 1.02, 1.2, 3.0):
        got = want + excess * 1e-12 * max(1.0, abs(want))
        try:
            teaching.check("near", got, want)
        except checks.CheckFailed as error:
            by, limit = (float(x) for x in re.findall(r"max\|Δ\| = (\S+), allowed (\S+)", str(error))[0])
            assert by >= limit
            one, other = re.findall(r"got is (\S+), want (\S+):", str(error))[0]
            assert one != other


def test_what_you_checked_lists_each_claim_once_and_the_exercises(capsys: pytest.CaptureFixture[str]) -> None:
    teaching.reset()
    for _ in range(3):
        teaching.check_true("one", True)
    with pytest.raises(checks.CheckFailed, match="two: false"):
        teaching.check_true("two", False)
    capsys.readouterr()
    teaching.what_you_checked()
    assert capsys.readouterr().out == "1 claims checked in this notebook:\n  · one\n"
    solution = teaching.exercise("01.1").solution
    teaching.attempt("01.1", solution)
    teaching.attempt("01.1", ...)
    teaching.attempt("01.2", ...)
    with pytest.raises(AssertionError):
        teaching.attempt("01.3", lambda pairs, d_k: 0.0)
    capsys.readouterr()
    teaching.what_you_checked()
    assert capsys.readouterr().out.startswith("1 of 3 exercises solved: 01.1\n1 claims checked")


def test_failures_show_without_a_stack_of_frames() -> None:
    assert checks.CheckFailed("a == b")._render_traceback_() == ["check failed: a == b"]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], Any]]:
    seen: list[tuple[dict[str, Any], Any]] = []
    monkeypatch.setattr(display, "_publish", lambda bundle, metadata=None: seen.append((bundle, metadata)))
    return seen


@pytest.mark.parametrize(
    ("name", "shown", "hidden"),
    [
        ("linear_attention.gradient", r"\;=\;", r"\begin{aligned}"),
        ("delta_rule.gradient", r"\begin{aligned}", r"\qquad"),
        ("delta_rule.one_shot", r"M_t k = v \qquad \underbrace{\left[\begin{matrix}0\\0", r"k_{1}"),
    ],
)
def test_prove_shows_what_sympy_found(
    name: str, shown: str, hidden: str, published: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    teaching.prove(name)
    latex = published[0][0]["text/latex"]
    assert shown in latex
    assert hidden not in latex
    assert latex.count("{") == latex.count("}")
    assert capsys.readouterr().out.startswith(f"ok  {name} [")


def test_prove_raises_when_the_identity_fails(published: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hope_ref.symbolic.identity.residual", lambda sides: sp.ones(1, 1))
    with pytest.raises(checks.CheckFailed):
        teaching.prove("delta_rule.one_shot")


def test_symbols_come_from_the_notation(published: list[Any]) -> None:
    teaching.symbols("eta", "memory")
    assert "| `eta` |" in published[0][0]["text/markdown"]
    with pytest.raises(KeyError, match="no symbol named"):
        teaching.symbols("nothing")


def test_what_a_cell_draws_is_shown_in_house_style_with_its_words(published: list[Any]) -> None:
    before = plt.rcParams["axes.spines.top"]
    figure, axes = teaching.subplots(1, 2, figsize=(4, 2))
    assert plt.rcParams["axes.spines.top"] == before
    assert not axes[0].spines["top"].get_visible()
    axes[0].plot([0, 1])
    alt = "A line from zero to one, and an empty panel on its right; look at the line."
    teaching.shown(figure, alt=alt, caption="A line.")
    (picture, metadata), (caption, _) = published
    assert picture["image/png"][:4] == b"\x89PNG"
    assert metadata == {"image/png": {"alt": alt}}
    assert picture["text/plain"] == f"<figure drawn here: {alt}>"
    assert caption["text/markdown"] == "*A line.*"
    assert not plt.fignum_exists(figure.number)
    for wrong in ("short", 251 * "x"):
        with pytest.raises(ValueError, match=f"alt must have 40 to 250 characters, got {len(wrong)}"):
            teaching.shown(figure, alt=wrong, caption="")


def test_publishing_reaches_the_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    display._publish({"text/plain": "shown"})
    assert "shown" in capsys.readouterr().out


GALLERY = figures.gallery()
AT_ONCE = ("ladder", "interference", "results_recall")  # the notebooks draw nearly all of them as well


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in AT_ONCE else pytest.mark.slow) for name in GALLERY]
)
def test_every_figure_is_drawn_shown_and_saved_with_its_words(
    name: str, tmp_path: Path, published: list[Any]
) -> None:
    drawing = GALLERY[name]()
    path = figures.save(drawing, tmp_path / "new")
    picture = Image.open(path)
    assert picture.info["Description"] == drawing.alt
    assert picture.width <= 1100, "too wide for a page"
    assert [file.name for file in path.parent.iterdir()] == [f"{name}.png"]
    assert drawing.caption.endswith(".")
    teaching.show(drawing)
    (image, metadata), (words, _) = published
    assert image["image/png"].startswith(b"\x89PNG")
    assert metadata == {"image/png": {"alt": drawing.alt}}
    assert drawing.caption in words["text/markdown"]
    assert not plt.get_fignums()


LONGEST_ALT = 250  # as in `teaching.shown`


def wordless(draw: Callable[..., figures.Drawing]) -> str | None:
    """What is wrong with the alternative text of a registered figure, read without drawing it; None if nothing is."""
    alt = inspect.getclosurevars(draw).nonlocals["alt"]
    if not alt.strip():
        return "no alternative text"
    if len(alt) > LONGEST_ALT:
        return f"an alternative text of {len(alt)} characters, at most {LONGEST_ALT} are allowed"
    return None


@pytest.mark.parametrize("name", GALLERY)
def test_every_alternative_text_can_be_listened_to(name: str) -> None:
    assert wordless(GALLERY[name]) is None


def test_an_alternative_text_that_is_empty_or_too_long_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_registry", {})
    found = [
        wordless(figures.figure(f"of {len(alt)}", alt=alt, caption="A line.")(plt.figure))
        for alt in (" " * 50, "a" * LONGEST_ALT, "a" * (LONGEST_ALT + 1))
    ]
    assert found == [
        "no alternative text",
        None,
        "an alternative text of 251 characters, at most 250 are allowed",
    ]


def test_a_failed_save_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = GALLERY["ladder"]()
    path = figures.save(drawing, tmp_path)
    before = path.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    broken = figures.Drawing("ladder", plt.figure(), drawing.alt, drawing.caption)
    monkeypatch.setattr(broken.figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        figures.save(broken, tmp_path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_figure_needs_words_and_a_new_name() -> None:
    with pytest.raises(ValueError, match="alt must be a sentence"):
        figures.figure("x", alt="A plot.", caption="")
    with pytest.raises(ValueError, match="name must be new, got 'interference'"):
        figures.figure("interference", alt="a" * 50, caption="")(lambda: plt.figure())
