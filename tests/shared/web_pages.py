"""A web page as its readers' programs see it: what it names, what it asks for, what it says."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

UNSPOKEN = {"script", "style", "pre", "code", "math", "title"}
ASKS = {
    "link": "href",
    "script": "src",
    "img": "src",
    "source": "src",
    "iframe": "src",
    "object": "data",
    "embed": "src",
}
CSS_FOREIGN = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])\s*(?:https?:)?//[^)'"\s]+""")


class WebPage(HTMLParser):
    """One page, read once."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.ids: list[str] = []
        self.links: list[str] = []  # a[href]
        self.asked: list[str] = []  # what a browser loads by itself
        self.without_alt: list[str] = []
        self.headings: list[int] = []  # levels, in order, of the article where there is one
        self.equations = 0
        self.language, self.title, self.styles = "", "", ""
        self.said: list[str] = []
        self._within: list[str] = []
        self._source = file.read_text(encoding="utf-8")
        self._article = "<article" in self._source
        self.feed(self._source)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attributes}
        if "id" in known:
            self.ids.append(known["id"])
        if tag == "html":
            self.language = known.get("lang", "")
        if tag == "a" and "href" in known:
            self.links.append(known["href"])
        if tag in ASKS and ASKS[tag] in known and known.get("rel") not in ("next", "prev", "index", "search"):
            self.asked.append(known[ASKS[tag]])
        if tag == "img" and not known.get("alt", "").strip():
            self.without_alt.append(known.get("src", "?"))
        if re.fullmatch(r"h[1-6]", tag) and (not self._article or "article" in self._within):
            self.headings.append(int(tag[1]))
        if tag == "math":
            self.equations += 1
        self.styles += known.get("style", "")
        if tag in UNSPOKEN or tag == "article":
            self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._within:
            while self._within.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._within[-1:] == ["title"]:
            self.title += data
        elif self._within[-1:] == ["style"]:
            self.styles += data
        elif not UNSPOKEN & set(self._within):
            self.said.append(data)


def foreign(address: str) -> bool:
    """Whether an address leads to another host."""
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme in ("http", "https", "ftp")


def broken(pages: dict[Path, WebPage]) -> list[str]:
    """Every link and every request of the pages that leads to no file, or to no place in one."""
    found = []
    for file, page in pages.items():
        for address in page.links + page.asked:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.is_file():
                found.append(f"{file.name} -> {address}: no such file")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                found.append(f"{file.name} -> {address}: no such place")
    return found


def out_of_order(levels: list[int]) -> bool:
    """Headings begin with one of the first level and never skip one on the way down."""
    return levels[:1] != [1] or levels.count(1) != 1 or any(b > a + 1 for a, b in pairwise(levels))


def asks_elsewhere(folder: Path, pages: dict[Path, WebPage]) -> list[str]:
    """What pages and style sheets would load from another host."""
    found = [
        f"{file.name}: {address}"
        for file, page in pages.items()
        for address in page.asked
        if foreign(address)
    ]
    found += [
        f"{file.name}: {hit}" for file, page in pages.items() for hit in CSS_FOREIGN.findall(page.styles)
    ]
    for sheet in folder.rglob("*.css"):
        found += [f"{sheet.name}: {hit}" for hit in CSS_FOREIGN.findall(sheet.read_text(encoding="utf-8"))]
    return found


def unconverted(page: WebPage) -> list[str]:
    """Pieces of prose that still hold LaTeX."""
    return [text.strip() for text in page.said if re.search(r"\$[^$\s][^$]*\$|\\[(\[]|\\[a-zA-Z]{2,}", text)]
