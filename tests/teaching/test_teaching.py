"""What notebooks import: checks that raise, pictures with words, a folder of figures that is never half written."""

from __future__ import annotations

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
    teaching.check("a == b", np.array([1.0, 2.0]) + 1e-14, [1.0, 2.0])
    assert capsys.readouterr().out == "ok  a == b   max|Δ| < 1e-12\n"


@pytest.mark.parametrize(
    ("got", "want", "message"),
    [
        ([1.0], [1.0 + 1e-6], r"a == b: max\|Δ\| = 1.0e-06, allowed 1e-12"),
        ([1.0], [[1.0]], r"a == b: shapes differ, got \(1,\), want \(1, 1\)"),
        ([np.nan], [1.0], "a == b"),
        ([np.nan], [np.nan], "a == b"),
        ([np.inf], [np.inf], "a == b"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_check_raises_when_two_things_differ(got: Any, want: Any, message: str) -> None:
    with pytest.raises(checks.CheckFailed, match=message):
        teaching.check("a == b", got, want)


def test_check_takes_tensors_and_sympy() -> None:
    teaching.check("tensor", torch.ones(2, requires_grad=True), np.ones(2))
    teaching.check("matrix", sp.eye(2), np.eye(2))


def test_check_scales_with_large_values() -> None:
    teaching.check("large", np.array([1e6 + 1e-8]), np.array([1e6]))
    with pytest.raises(checks.CheckFailed):
        teaching.check("large", np.array([1e6 + 1e-3]), np.array([1e6]))


def test_what_you_proved_lists_what_passed_only(capsys: pytest.CaptureFixture[str]) -> None:
    teaching.reset()
    teaching.check_true("one", True)
    with pytest.raises(checks.CheckFailed, match="two: false"):
        teaching.check_true("two", False)
    teaching.what_you_proved()
    assert capsys.readouterr().out.endswith("1 checks passed in this notebook:\n  · one\n")


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


def test_publishing_reaches_the_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    display._publish({"text/plain": "shown"})
    assert "shown" in capsys.readouterr().out


GALLERY = figures.gallery()
AT_ONCE = ("masked_scores", "interference", "results_recall")  # the notebooks draw nearly all of them as well


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


def test_a_failed_save_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = GALLERY["masked_scores"]()
    path = figures.save(drawing, tmp_path)
    before = path.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    broken = figures.Drawing("masked_scores", plt.figure(), drawing.alt, drawing.caption)
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
