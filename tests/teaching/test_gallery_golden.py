"""Appendix A2's figure: where each mistake begins, and what golden vectors say of the same mistakes."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hope_ref import golden
from hope_ref.golden.self_modifying import of_config, run
from hope_ref.reference.parameters import random_parameters
from hope_ref.reference.self_modifying_titans import self_modifying_titans
from hope_ref.teaching.gallery import golden as gallery

FIRST = {
    "read before the write": 0,
    "nothing is erased": 1,
    "copies never renewed": 4,
    "α on all memories": 4,
}


def test_each_mistake_begins_where_the_words_say() -> None:
    errors = gallery.fingerprints_data().errors
    assert set(FIRST) == set(gallery.MISTAKES)
    for name, first in FIRST.items():
        assert (errors[name][:first] == 0).all(), name
        assert (errors[name][first:] > 1e-6).all(), name
    assert 1e-6 < errors["α on all memories"][5] < 3e-6


def test_float32_is_small_everywhere() -> None:
    errors = gallery.fingerprints_data().errors["float32"]
    assert errors.min() > 1e-10
    assert errors.max() < 1e-6


@pytest.mark.parametrize(
    ("mistake", "cause"),
    [
        ("read before the write", "read='pre'"),
        ("nothing is erased", "erase='none'"),
        ("α on all memories", "retention_scope='all'"),
    ],
)
def test_a_vector_names_the_mistake(mistake: str, cause: str) -> None:
    vector = golden.make("self_modifying_titans", of_config(gallery.BASE), seed=3)
    wrong = {**vector.options, **gallery.MISTAKES[mistake]}
    report = golden.check(vector, lambda **named: run({name: named[name] for name in vector.inputs}, wrong))
    assert report.cause == cause
    assert f"token {FIRST[mistake]} of" in report.findings[0].note


def test_the_picture_has_a_row_for_each_and_dots_where_nothing_differs() -> None:
    drawing = gallery.fingerprints()
    axes = drawing.figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [*gallery.MISTAKES, "float32"]
    dots = [line.get_xdata() for line in axes.lines if line.get_marker() == "o"]
    assert [len(np.asarray(row)) for row in dots] == [0, 1, 4, 4, 0]
    plt.close(drawing.figure)


def test_copies_never_renewed_are_makers_that_never_move() -> None:
    """The same by another way: only the answering memory writes, and all that makes its writes stays at the start."""
    never = gallery.BASE.replace(writing=("memory",), memory_chunk_size=gallery.NEVER)
    parameters = random_parameters(gallery.BASE, gallery.WIDTH, gallery.HIDDEN, 0)
    x = np.random.default_rng([0, 1]).normal(size=(gallery.LENGTH, gallery.WIDTH))
    outputs = [self_modifying_titans(x, x, x, parameters, config)[0] for config in (never, gallery.BASE)]
    want = np.abs(outputs[0] - outputs[1]).max(axis=1) / max(1.0, np.abs(outputs[1]).max())
    np.testing.assert_allclose(
        gallery.fingerprints_data().errors["copies never renewed"], want, rtol=0, atol=1e-12
    )
