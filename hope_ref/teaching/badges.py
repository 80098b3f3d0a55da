"""``python -m hope_ref badges``: notebooks that open on Binder and Colab, once `[project.urls]` names a public repository.

Each notebook then begins with two badges, and its first code cell installs hope_ref from there if it is missing, as on
Colab; where it is installed the cell does nothing and shows nothing. Without an address nothing is changed, and badges
can be taken away again: what remains is the file as it was, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hope_ref.common.files import replacing

BADGES, INSTALL = "badges", "install"  # the ids of the two cells, and the tag of the second
GITHUB = re.compile(
    r"https://github\.com/([A-Za-z0-9-]+/[A-Za-z0-9._-]+?)(?:\.git)?/?"
)  # which Colab reads from

CODE = """# Only where hope_ref is missing, as on Colab; elsewhere this cell does nothing.
from importlib.util import find_spec

if find_spec("hope_ref") is None:
    import subprocess
    import sys

    source = "hope_ref @ git+https://github.com/{repository}"
    print("hope_ref is missing here; installing", source)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", source], check=True)"""


def repository(project: Path) -> str | None:
    """``owner/name`` of the first address in ``[project.urls]`` that is a repository on GitHub; None if there is none."""
    urls = tomllib.loads(project.read_text(encoding="utf-8"))["project"].get("urls", {})
    found = (GITHUB.fullmatch(url) for url in urls.values())
    return next((match[1] for match in found if match), None)


def cells(repository: str, notebook: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two cells for a notebook at that path of the repository."""
    path = quote(notebook)
    binder = f"https://mybinder.org/v2/gh/{repository}/HEAD?labpath={path}"
    colab = f"https://colab.research.google.com/github/{repository}/blob/HEAD/{path}"
    text = (
        f"[![Open this notebook on Binder](https://mybinder.org/badge_logo.svg)]({binder})\n"
        f"[![Open this notebook on Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})"
    )
    return (
        {"cell_type": "markdown", "id": BADGES, "metadata": {}, "source": text.splitlines(keepends=True)},
        {
            "cell_type": "code",
            "execution_count": 1,
            "id": INSTALL,
            "metadata": {"tags": [INSTALL]},
            "outputs": [],
            "source": CODE.format(repository=repository).splitlines(keepends=True),
        },
    )


def written(book: dict[str, Any]) -> bytes:
    """A notebook as nbformat writes it."""
    return (
        json.dumps(book, ensure_ascii=False, indent=1, sort_keys=True, separators=(",", ": ")) + "\n"
    ).encode()


def without_badges(book: dict[str, Any]) -> None:
    """Take the two cells away; the executed ones are counted from 1 again."""
    ours = {BADGES, INSTALL}
    had = any(cell.get("id") == INSTALL for cell in book["cells"])
    book["cells"] = [cell for cell in book["cells"] if cell.get("id") not in ours]
    if had:
        counted(book, -1)


def with_badges(book: dict[str, Any], repository: str, notebook: str) -> None:
    """Put badges first and the installation before the first code cell, in the place of any that are there."""
    without_badges(book)
    counted(book, 1)
    badges, install = cells(repository, notebook)
    kinds = [cell["cell_type"] for cell in book["cells"]]
    book["cells"].insert(kinds.index("code") if "code" in kinds else len(kinds), install)
    book["cells"].insert(0, badges)


def counted(book: dict[str, Any], by: int) -> None:
    """Shift the numbers of all executed cells, and of their results."""
    for cell in book["cells"]:
        for numbered in (cell, *cell.get("outputs", [])):
            if numbered.get("execution_count") is not None:
                numbered["execution_count"] += by


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a notebook would change"
    )
    parser.add_argument("--remove", action="store_true", help="take the badges away")
    parser.add_argument(
        "--folder", type=Path, default=Path(), metavar="FOLDER", help="the repository (default: here)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Give every notebook its badges, or take them away; exit 1 if ``--check`` finds one that is not as it should be."""
    folder: Path = arguments.folder
    address = repository(folder / "pyproject.toml")
    if address is None and not arguments.remove:
        print("[project.urls] in pyproject.toml names no repository on GitHub: no badges, nothing is changed")
        if not arguments.check:
            return 0
    stale = []
    notebooks = sorted((folder / "notebooks").rglob("*.ipynb"))
    for path in (p for p in notebooks if ".ipynb_checkpoints" not in p.parts):
        before = path.read_bytes()
        book = json.loads(before)
        name = path.relative_to(folder).as_posix()
        if address is None or arguments.remove:
            without_badges(book)
        else:
            with_badges(book, address, name)
        if book != json.loads(before):
            stale.append(name)
            if not arguments.check:
                with replacing(path) as file:
                    file.write(written(book))
    if arguments.check and stale:
        print(f"badges are not as they should be in {', '.join(stale)}", file=sys.stderr)
        return 1
    print(f"changed: {', '.join(stale)}" if stale else "every notebook is as it should be")
    return 0
