"""A notebook as a Markdown page: its cells and its stored outputs, with nothing executed."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

FOLDED = re.compile(r"<details>\s*<summary>(.*?)</summary>\s*(.*?)\s*</details>", re.DOTALL)
PICTURE = re.compile(r"!\[([^]]+)\]\((?![a-z]+:|#)([^)\s]+)\)")  # from a file: its words, its place


class UnknownOutput(ValueError):
    """A stored output of a kind that no page can show, or a picture without words."""


def read(path: Path) -> Any:
    """The notebook, in the current format."""
    return nbformat.read(path, as_version=4)


def title(book: Any) -> str:
    """Its first heading of the first level, in Markdown."""
    for cell in book.cells:
        if cell.cell_type == "markdown" and (found := re.search(r"^# (.+)$", cell.source, re.MULTILINE)):
            return found[1].strip()
    raise ValueError("the notebook has no heading of the first level")


def spaced(source: str) -> str:
    """Blank lines around what is folded, so that Markdown and equations in there are read, too."""
    return FOLDED.sub(r"<details><summary>\1</summary>\n\n\2\n\n</details>", source)


def fenced(directive: str, text: str, **options: str) -> str:
    """A directive of MyST around any text, however many backticks that has."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    words = "".join(f":{name}: {value}\n" for name, value in options.items())
    return f"{fence}{directive}\n{words}\n{text.rstrip()}\n{fence}"


def page(path: Path, pictures: Path) -> str:
    """The notebook as MyST Markdown; its pictures are written into the folder `pictures`, beside the page.

    Raises:
        UnknownOutput: naming the notebook and the cell.
    """
    parts = []
    for number, cell in enumerate(read(path).cells):
        if cell.cell_type == "markdown":
            parts.append(spaced(cell.source))
        elif cell.cell_type == "code" and cell.source.strip():
            exercise = "exercise" in cell.metadata.get("tags", [])
            parts.append(
                fenced("{code-block} python", cell.source, **{"class": "exercise" if exercise else "input"})
            )
            try:
                parts += _outputs(cell.outputs, pictures, f"{path.stem}-{number:02d}")
            except UnknownOutput as error:
                raise UnknownOutput(f"{path.name}, cell {number}: {error}") from error
    return "\n\n".join(parts) + "\n"


def _outputs(outputs: list[Any], pictures: Path, name: str) -> Iterator[str]:
    """Each output in its best form; what is printed piecemeal is joined, and a caption goes to its picture."""
    printed, waiting = "", list(outputs)
    while waiting:
        output = waiting.pop(0)
        if output.output_type == "stream" and output.name == "stdout":
            printed += output.text
            if waiting and waiting[0].output_type == "stream":
                continue
            yield fenced("{code-block} text", printed, **{"class": "output"})
            printed = ""
            continue
        data = output.get("data", {})
        if "image/png" in data:
            alt = output.metadata.get("image/png", {}).get("alt")
            if not alt:
                raise UnknownOutput("a picture without alternative text")
            caption = ""
            if waiting and (text := waiting[0].get("data", {}).get("text/markdown", "")).startswith("*"):
                caption = text.strip().strip("*")
                waiting.pop(0)
            yield _figure(data["image/png"], alt, caption, pictures / f"{name}-{len(waiting)}.png")
        elif "text/latex" in data:
            yield fenced("{math}", data["text/latex"].strip().strip("$"))
        elif "text/markdown" in data:
            yield data["text/markdown"]
        elif "text/plain" in data:
            yield fenced("{code-block} text", data["text/plain"], **{"class": "output"})
        else:
            raise UnknownOutput(
                f"an output of kind {output.output_type}, with {', '.join(data) or 'no data'}"
            )


def _figure(png: str, alt: str, caption: str, file: Path) -> str:
    picture = base64.b64decode(png)
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or file.read_bytes() != picture:
        file.write_bytes(picture)
    return fenced(
        f"{{figure}} {file.parent.name}/{file.name}",
        caption,
        alt=json.dumps(alt, ensure_ascii=False),
        scale="100",
    )
