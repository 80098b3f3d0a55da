r"""LaTeX to MathML while the pages are made: a reader's browser then needs no script.

Every equation of the repository goes through `mathml`. One that the converter does not understand is an error that
shows the equation, and never a page with a bare ``\command`` in it.
"""

from __future__ import annotations

import html
import re
from functools import cache
from xml.etree import ElementTree

from latex2mathml.converter import convert

# What the converter does not know, said in words that it knows.
SAID_OTHERWISE = (
    (r"\\arg(?![a-zA-Z])", r"\\operatorname{arg}"),
    (r"\{aligned\}", "{align*}"),
    (r"\\square(?![a-zA-Z])", "□"),
)
# Browsers draw a brace as wide as an equation badly, or not at all: math.css draws a bracket under what has this class.
BRACE = re.compile(r"<mo>&#x23DF;</mo></munder>")
CHILDREN = dict.fromkeys(("mfrac", "mroot", "msub", "msup", "munder", "mover"), 2) | {
    "msubsup": 3,
    "munderover": 3,
}


class UnknownLatex(ValueError):
    """An equation that cannot be converted; the message shows it and says why."""


@cache
def mathml(latex: str, display: bool = False) -> str:
    """The equation as one ``<math>`` element, with its LaTeX as ``alttext``.

    Raises:
        UnknownLatex: naming the equation, if a command is unknown, an argument is missing, a brace is open, or
            nothing comes out.
    """
    source = said = " ".join(latex.split())
    if not source:
        raise UnknownLatex("an equation with nothing to show")
    for words, known in SAID_OTHERWISE:
        said = re.sub(words, known, said)
    try:
        element = convert(said, display="block" if display else "inline")
        problems = _problems(said, ElementTree.fromstring(element))
    except Exception as error:  # the converter has a class for each accident; one of its own makes broken XML
        raise UnknownLatex(
            f"cannot convert the equation {source}: {error or type(error).__name__}"
        ) from error
    if problems:
        raise UnknownLatex(f"{', '.join(problems)} in the equation {source}")
    return _without_braces(element).replace("<math ", f'<math alttext="{html.escape(source)}" ', 1)


def _without_braces(element: str) -> str:
    """``<munder>X<mo>⏟</mo></munder>`` becomes X in an ``<mrow class="underbrace">``, from the innermost outward."""
    while end := BRACE.search(element):
        start, depth = end.start(), 1
        while depth:
            start = max(element.rfind("<munder>", 0, start), element.rfind("</munder>", 0, start))
            depth += 1 if element.startswith("</", start) else -1
        inner = element[start + len("<munder>") : end.start()]
        element = f'{element[:start]}<mrow class="underbrace">{inner}</mrow>{element[end.end() :]}'
    return element


def _problems(latex: str, tree: ElementTree.Element) -> list[str]:
    """What the converter let pass in silence."""
    nodes = [(node.tag.rsplit("}", 1)[1], node) for node in tree.iter()]
    bare = re.sub(r"\\[{}]", "", latex)
    found = [
        f"unknown {node.text.strip()}" for _, node in nodes if node.text and re.search(r"[\\$]", node.text)
    ]
    found += [
        f"a missing argument ({tag})" for tag, node in nodes if len(node) != CHILDREN.get(tag, len(node))
    ]
    if bare.count("{") != bare.count("}"):
        found.append("an open brace")
    if not any(node.text and node.text.strip() for _, node in nodes):
        found.append("nothing to show")
    return found
