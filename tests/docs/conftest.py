"""Site, slides and student notebooks are made once for all tests, into a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import browser
import pytest
from web_pages import WebPage

ROOT = Path(__file__).parents[2]


def make(what: str, folder: Path) -> Path:
    call = [sys.executable, str(ROOT / "docs" / "make.py"), what, "--out", str(folder / what)]
    done = subprocess.run(
        call, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "200"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / what


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("site", tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("slides", tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def site_pages(site: Path) -> dict[Path, WebPage]:
    return {file: WebPage(file) for file in sorted(site.resolve().rglob("*.html"))}


@pytest.fixture(scope="session")
def slide_pages(slides: Path) -> dict[Path, WebPage]:
    return {file: WebPage(file) for file in sorted(slides.resolve().rglob("*.html"))}


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def served(site: Path, slides: Path) -> Iterator[dict[str, str]]:
    """The addresses of site and slides, on this machine alone."""
    servers = {
        name: ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(folder)))
        for name, folder in (("site", site), ("slides", slides))
    }
    for server in servers.values():
        Thread(target=server.serve_forever, daemon=True).start()
    yield {name: f"http://127.0.0.1:{server.server_port}/" for name, server in servers.items()}
    for server in servers.values():
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[browser.Browser]:
    if browser.found() is None:
        pytest.skip("no Chromium here: make browser")
    with browser.Browser() as one:
        yield one
