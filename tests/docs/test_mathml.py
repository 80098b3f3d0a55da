"""Every equation becomes MathML, or the build says which one does not."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hope_docs.mathml import UnknownLatex, mathml


def test_an_equation_is_one_element_with_its_latex() -> None:
    element = mathml(r"M_t = \tfrac12 \|k\|^2 < 1", display=True)
    tree = ElementTree.fromstring(element)
    assert tree.tag.endswith("math")
    assert tree.get("display") == "block"
    assert tree.get("alttext") == r"M_t = \tfrac12 \|k\|^2 < 1"


@pytest.mark.parametrize(
    ("latex", "words"),
    [
        (r"\nosuch x", r"unknown \\nosuch"),
        (r"\frac{a}", "mfrac"),
        (r"a_{b", "an open brace"),
        (r"\left( x", r"\\left\( x"),
        (r"\begin{nosuch} a & b \end{nosuch}", "nosuch"),
        ("", "nothing to show"),
        ("a $ b", "unknown"),
    ],
)
def test_what_cannot_be_converted_is_named(latex: str, words: str) -> None:
    with pytest.raises(UnknownLatex, match=words):
        mathml(latex)


def test_what_the_converter_does_not_know_is_said_otherwise() -> None:
    assert "arg" in mathml(r"\arg\min_W x")
    assert "\\" not in ElementTree.fromstring(mathml(r"\arg x")).itertext().__next__()
    aligned = ElementTree.fromstring(mathml(r"\begin{aligned} & a \\ = \; & b \end{aligned}"))
    assert len([node for node in aligned.iter() if node.tag.endswith("mtr")]) == 2
    assert "□" in mathml(r"M_{\square}")


def test_nested_braces_become_brackets_from_the_inside() -> None:
    element = mathml(r"\underbrace{a + \underbrace{b}_{\text{in}}}_{\text{out}}")
    tree = ElementTree.fromstring(element)
    assert "⏟" not in "".join(tree.itertext())
    assert "".join(tree.itertext()) == "a+binout"
    assert element.count('class="underbrace"') == 2
