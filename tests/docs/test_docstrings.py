"""Docstrings of this house as reStructuredText: signs stay what they are."""

from __future__ import annotations

from hope_docs import api

from hope_ref.config import HopeConfig


def test_signs_stay_what_they_are() -> None:
    assert api.inline("M_t = a * b_, |x| and f(*args)") == r"M_t = a \* b\_, \|x\| and f(\*args)"
    assert api.inline("`name`s and ``*x*``") == r"`name`\ s and ``*x*``"
    assert api.inline("the *Titans* paper, 2*3*4") == r"the *Titans* paper, 2\*3\*4"


def test_blocks_lists_and_tables() -> None:
    lines = [
        "Claim:",
        "",
        "    y = M q",
        "",
        "Of two kinds:",
        "- one",
        "- two",
        "",
        "| a | b |",
        "|---|---|",
        "| 1 | 2* |",
    ]
    rst = api.to_rst(lines)
    assert ".. code-block:: text" in rst
    assert "   y = M q" in rst
    assert rst[rst.index("- one") - 1] == ""
    assert "   * - a" in rst
    assert r"     - 2\*" in rst


def test_a_line_that_starts_with_a_bar_is_no_table() -> None:
    assert api.to_rst(["|slope - numeric| / max(scale, |numeric|)"]) == [
        r"\|slope - numeric\| / max(scale, \|numeric\|)"
    ]


def test_sections_are_left_to_napoleon() -> None:
    assert api.to_rst(["Claim.", "", "Args:", "    q, k: keys, (T, d_k).", "        more of it"])[2:] == [
        "Args:",
        "    q, k: keys, (T, d_k).",
        "        more of it",
    ]


def test_fields_come_with_their_comments() -> None:
    fields = dict(api.fields_of(HopeConfig))
    assert fields["heads"].startswith("each has its own memories")


def test_modules_are_found_by_path() -> None:
    assert api.module_of("hope_ref/parallel/chunks.py") == "hope_ref.parallel.chunks"
    assert api.module_of("hope_ref/golden/__init__.py") == "hope_ref.golden"
    assert api.module_of("README.md") is None
