"""Site and slides in a real browser, without a window: nothing fails, nothing is too wide, the keyboard works."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser import Browser
from web_pages import WebPage

pytestmark = pytest.mark.slow  # builds all pages

ROOT = Path(__file__).parents[2]
COURSE = sorted((ROOT / "notebooks").glob("*.ipynb"))
TOO_WIDE = """(() => {
  const page = document.documentElement, found = [];
  if (page.scrollWidth > page.clientWidth) found.push(`page ${page.scrollWidth} > ${page.clientWidth}`);
  for (const img of document.images) {
    if (!img.alt.trim()) found.push("no alt: " + img.src);
    if (!img.complete || !img.naturalWidth) found.push("no picture: " + img.src);
  }
  return found;
})()"""


def wrong(chromium: Browser, address: str) -> list[str]:
    """What is wrong with a page as it stands in the browser."""
    chromium.open(address)
    host = urlsplit(address).netloc
    elsewhere = [url for url in chromium.requested() if urlsplit(url).netloc not in ("", host)]
    return [*chromium.run(TOO_WIDE), *chromium.problems(), *(f"asks {url}" for url in elsewhere)]


def test_every_page_loads_whole_and_fits_a_narrow_screen(
    chromium: Browser, served: dict[str, str], site: Path, site_pages: dict[Path, WebPage]
) -> None:
    chromium.resize(400)
    sources = [file for file in site_pages if "_modules" in file.parts]
    found = {}
    for file in [file for file in site_pages if file not in sources] + sources[
        :5
    ]:  # those differ in their code only
        name = file.relative_to(site.resolve()).as_posix()
        if problems := wrong(chromium, served["site"] + name):
            found[name] = problems
    assert not found


def test_dark_and_light_differ(chromium: Browser, served: dict[str, str]) -> None:
    colours = []
    for dark in (False, True):
        chromium.resize(1280, dark=dark)
        chromium.open(served["site"] + "index.html")
        colours.append(chromium.run("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] == "rgb(255, 255, 255)"
    assert colours[1] != colours[0]
    chromium.resize(1280)


def test_the_keyboard_reaches_the_text(chromium: Browser, served: dict[str, str]) -> None:
    chromium.resize(1280)
    chromium.open(served["site"] + "RESULTS.html")
    chromium.press("Tab")
    seen = chromium.run(
        "(() => { const e = document.activeElement, r = e.getBoundingClientRect();"
        "return [e.className, r.top >= 0 && r.height > 0, getComputedStyle(e).outlineStyle]; })()"
    )
    assert "skip-to-content" in seen[0]
    assert seen[1:] == [True, "solid"]
    chromium.press("Enter")
    assert chromium.run("location.hash") == "#furo-main-content"


def test_the_menu_opens_from_the_keyboard(chromium: Browser, served: dict[str, str]) -> None:
    chromium.resize(400)
    chromium.open(served["site"] + "RESULTS.html")
    chromium.run("document.querySelector('label.nav-overlay-icon').focus()")
    state = "document.getElementById('__navigation').checked"
    assert chromium.run("document.activeElement.ariaLabel") == "Menu"
    for key, wanted in (("Enter", True), ("Escape", False), (" ", True)):
        chromium.press(key)
        assert chromium.run(state) is wanted, key
    chromium.run("document.activeElement.click()")


FIND = """new Promise(done => {
  const look = (left) => {
    const hits = [...document.querySelectorAll("#search-results li a")].map(a => a.getAttribute("href"));
    if (hits.length || !left) done(hits); else setTimeout(look, 100, left - 1);
  }; look(300);
})"""


@pytest.mark.parametrize("over", ["server", "file"])
def test_search_finds(over: str, chromium: Browser, served: dict[str, str], site: Path) -> None:
    chromium.open((served["site"] if over == "server" else site.as_uri() + "/") + "search.html?q=zigzag")
    hits = chromium.run(FIND)
    assert any("02_fix_interference" in hit for hit in hits), hits


def test_equations_are_drawn(chromium: Browser, served: dict[str, str]) -> None:
    chromium.resize(1280)
    chromium.open(served["site"] + "notebooks/02_fix_interference_with_the_delta_rule.html")
    sizes = chromium.run("[...document.querySelectorAll('math')].map(m => m.getBoundingClientRect().height)")
    assert len(sizes) > 30
    assert min(sizes) > 5
    font = "document.fonts.check('16px \"Latin Modern Math subset\"')"
    assert chromium.run(f"document.fonts.ready.then(() => {font})")


OVERFULL = """document.fonts.ready.then(() => {
  const found = [], page = document.querySelector(".slides").getBoundingClientRect();
  Reveal.getSlides().forEach((slide, index) => {
    const at = Reveal.getIndices(slide);
    Reveal.slide(at.h, at.v);
    for (const part of slide.querySelectorAll(":scope > :not(aside), math, img, pre")) {
      const box = part.getBoundingClientRect();
      const over = Math.round(Math.max(box.right - page.right, box.bottom - page.bottom) / Reveal.getScale());
      if (over > 2) found.push(`${index} ${slide.querySelector("h1, h2").textContent}: ${part.tagName} is ${over} over`);
    }
  });
  return found;
})"""


@pytest.mark.parametrize("name", [path.stem for path in COURSE])
def test_every_slide_fits(name: str, chromium: Browser, served: dict[str, str]) -> None:
    chromium.resize(1280, 720)
    assert wrong(chromium, f"{served['slides']}{name}.html") == []
    assert chromium.run(OVERFULL) == []
    chromium.run("Reveal.slide(0, 0)")
    chromium.press("ArrowRight")
    assert chromium.run("Reveal.getIndices().h") == 1


def test_the_checks_in_the_browser_can_fail(chromium: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<title>x</title><div style="width: 900px">wide</div><img src="no.png"><script>console.error("no")</script>',
        encoding="utf-8",
    )
    chromium.resize(400)
    found = " ".join(wrong(chromium, page.as_uri()))
    for words in ("page 9", "no alt", "no picture", "console", "failed"):
        assert words in found, (words, found)
