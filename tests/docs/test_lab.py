"""`make lab`: the server reaches everything that the notebooks link to."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("**/*.ipynb"))
LINK = re.compile(r"\]\((?!https?:|mailto:|#|attachment:)([^)#\s]+)")


def command() -> list[str]:
    """What `make lab` runs."""
    said = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = (
        line for line in said.splitlines() if "jupyter lab" in line
    )  # a make within make says where it is
    return shlex.split(line)


def targets() -> set[Path]:
    """Every file that a notebook links to."""
    found = set()
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                found |= {
                    (path.parent / urllib.parse.unquote(link)).resolve() for link in LINK.findall(cell.source)
                }
    return found


def root() -> Path:
    (given,) = (word.split("=")[1] for word in command() if word.startswith("--ServerApp.root_dir="))
    return (ROOT / given).resolve()


def test_every_relative_link_lies_within_the_server() -> None:
    assert len(targets()) > 20
    outside = {path for path in targets() if not path.is_relative_to(root())}
    assert not outside
    assert not {path for path in targets() if not path.exists()}


def test_it_opens_a_notebook_that_is_there() -> None:
    (given,) = (word.split("=")[1] for word in command() if word.startswith("--LabApp.default_url="))
    assert given.startswith("/lab/tree/")
    assert (root() / given.removeprefix("/lab/tree/")).is_file()


def answered(url: str) -> int:
    request = urllib.request.Request(url, headers={"Authorization": "token course"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return int(answer.status)


@pytest.mark.slow
def test_the_server_hands_out_every_linked_file() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [word for word in command() if word.startswith("--ServerApp.root_dir")]
    options += [f"--ServerApp.port={port}", "--ServerApp.ip=127.0.0.1", "--no-browser", "--allow-root"]
    call = [
        sys.executable,
        "-m",
        "jupyterlab",
        *options,
        "--IdentityProvider.token=course",
        "--ServerApp.port_retries=0",
    ]
    with subprocess.Popen(call, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(240):
                try:
                    answered(f"http://127.0.0.1:{port}/api")
                    break
                except OSError:
                    assert server.poll() is None
                    time.sleep(0.25)
            for path in sorted(targets()):
                kind = "api/contents" if path.is_dir() else "files"
                place = urllib.parse.quote(path.relative_to(ROOT).as_posix())
                assert answered(f"http://127.0.0.1:{port}/{kind}/{place}") == 200, path
        finally:
            server.terminate()
