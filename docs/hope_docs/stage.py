"""The repository as Sphinx wants it: one tree of Markdown pages, whose links stay inside the site.

`stage` copies the pages that stand in the repository's root, turns every notebook into a page, and writes the pages
that only the site has: the list of the course, that of its solutions, and the API. New notebooks and new pages are
found by themselves. Nothing is executed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from hope_docs import api, notebooks

ROOT = Path(__file__).resolve().parents[2]
FIRST_PAGES = (
    "RESULTS",
    "ERRATA",
    "NOTATION",
    "REFERENCES",
    "TEACHING",
    "FAQ",
    "CONTRIBUTING",
    "CHANGELOG",
)  # in the menu's order
DEEPER_PAGES = ("docs/README.md",)  # all other pages stand in the root
LINK = re.compile(
    r"(\]\(|^\[(?!\^)[^\]]+\]: )([^)\s]+)(\)|$)"
)  # in place, or a definition: [00]: notebooks/…
CODE_LINE = re.compile(r"\[`([^`\]]+)`\]\(([^)\s#]+\.py)#L(\d+)\)")  # [`name`](hope_ref/….py#L12)
PLACE = re.compile(r'<a id="([\w-]+)"></a>')  # which a page names so that links lead there
FENCE = re.compile(r"^\s*(`{3,}|~{3,})")


class BrokenLink(ValueError):
    """A link of a page or a notebook that leads nowhere."""


class Stage:
    """Writes pages under `target`, only where something changed, so that the next build is quick."""

    def __init__(self, root: Path, target: Path) -> None:
        self.root, self.target = root, target
        self.written: set[Path] = set()

    def write(self, path: str, text: str) -> None:
        file = self.target / path
        self.written.add(file)
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")

    def copy(self, path: str) -> None:
        file = self.target / path
        self.written.add(file)
        if not file.exists() or file.read_bytes() != (self.root / path).read_bytes():
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / path, file)

    def tidy(self) -> None:
        """Remove pages of an earlier build that have no source any more."""
        for file in [file for file in self.target.rglob("*") if file.is_file()]:
            if file not in self.written and file.suffix != ".png":
                file.unlink()

    def linked(self, text: str, source: str, page: str) -> str:
        """The text of `source` (a path in the repository) with links as they are from the staged `page`.

        The line of a function leads to its place in the API; a line of anything else to the page of its module. A place
        that a page names is named as MyST does it, so that links to it are checked.

        Raises:
            BrokenLink: naming the source and the link, if nothing is there.
        """

        def rewritten(found: re.Match[str]) -> str:
            target, mark, anchor = found[2].partition("#")
            if not target or re.match(r"[a-z]+:", target):
                return found[0]
            path = os.path.normpath(os.path.join(os.path.dirname(source), target))
            if path.startswith("..") or not (self.root / path).exists():
                raise BrokenLink(f"{source}: nothing is at {found[2]}")
            there = self._page_of(path)
            return f"{found[1]}{os.path.relpath(there, os.path.dirname(page) or '.')}{mark}{anchor}{found[3]}"

        def described(found: re.Match[str]) -> str:
            module = api.module_of(os.path.normpath(os.path.join(os.path.dirname(source), found[2])))
            name = api.name_at(module, int(found[3])) if module else None
            return f"{{py:obj}}`{found[1]} <{name}>`" if name else f"[`{found[1]}`]({found[2]})"

        return "\n".join(
            LINK.sub(rewritten, CODE_LINE.sub(described, PLACE.sub(r"[]{#\1}", line))) if prose else line
            for line, prose in _lines(text)
        )

    def _page_of(self, path: str) -> str:
        """Where the site has what the repository has at `path`; other files are copied."""
        if path == "README.md":
            return "index.md"
        if path.endswith(".ipynb"):
            return path.removesuffix(".ipynb") + ".md"
        if path in ("notebooks", "notebooks/solutions"):
            return f"{path}/index.md"
        if module := api.module_of(path):
            return f"api/{module}.rst"
        if (self.root / path).is_dir():
            raise BrokenLink(f"the site has no page for the folder {path}: link to a file in it")
        if not path.endswith(".md"):
            self.copy(path)
        elif "/" in path and path not in DEEPER_PAGES:
            raise BrokenLink(f"the site has no page for {path}: name it in DEEPER_PAGES")
        return path


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is prose: not within a fence."""
    fence = ""
    for line in text.split("\n"):
        mark = FENCE.match(line)
        if not fence and mark:
            fence = mark[1]
            yield line, False
        elif fence:
            if mark and mark[1].startswith(fence):
                fence = ""
            yield line, False
        else:
            yield line, True


def stage(target: Path, root: Path = ROOT) -> Path:
    """Write all pages under `target` and return it."""
    at = Stage(root, target)
    extra = [path.stem for path in sorted(root.glob("*.md")) if path.stem != "README"]
    pages = [name for name in FIRST_PAGES if name in extra] + [
        name for name in extra if name not in FIRST_PAGES
    ]
    pages += [path.removesuffix(".md") for path in DEEPER_PAGES if (root / path).exists()]
    for name in pages:
        text = (root / f"{name}.md").read_text(encoding="utf-8")
        at.write(f"{name}.md", at.linked(text, f"{name}.md", f"{name}.md"))
    home = at.linked((root / "README.md").read_text(encoding="utf-8"), "README.md", "index.md")
    course = [f"notebooks/{name}" for name in _notebooks(at, "notebooks")]
    _notebooks(at, "notebooks/solutions")
    menu = _menu("Course", ["notebooks/index", *course, "notebooks/solutions/index"])
    at.write("index.md", home + menu + _menu("Reference", [*pages, "api/index"]))
    for path, text in api.pages():
        at.write(path, text)
    at.tidy()
    return target


def _menu(caption: str, pages: list[str]) -> str:
    named = [f":caption: {caption}"] if caption else []
    return "\n".join(["", "```{toctree}", *named, ":hidden:", "", *pages, "```", ""])


def _notebooks(at: Stage, folder: str) -> list[str]:
    """Every notebook of a folder as a page, and a page that lists them; returns their names."""
    names, rows = [], []
    for path in sorted((at.root / folder).glob("*.ipynb")):
        source, page = f"{folder}/{path.name}", f"{folder}/{path.stem}.md"
        pictures = at.target / folder / "pictures"
        at.write(page, at.linked(notebooks.page(path, pictures), source, page))
        names.append(path.stem)
        rows.append(f"- [{notebooks.title(notebooks.read(path))}]({path.stem}.md)")
    if folder == "notebooks":
        head = (
            "# The course\n\nEvery notebook as it was executed: nothing here runs. To work through it, `make lab` in the "
            "repository.\nWho has tried the exercises may look at the [solutions](solutions/index.md).\n"
        )
        menu = ""
    else:
        head, menu = (
            "# Solutions\n\nTry first: each check in the notebook says what is off.\n",
            _menu("", names),
        )
    at.write(f"{folder}/index.md", f"{head}\n" + "\n".join(rows) + "\n" + menu)
    return names
