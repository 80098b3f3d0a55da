"""Output on terminals that lack letters, in folders with any name: no command ends for that."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hope_ref.__main__ import main

ROOT = Path(__file__).parents[1]
QUICK = [
    "anatomy",
    "anatomy m3",
    "anatomy hope --markdown",
    "verify --component 'delta rule'",
    "stability --tokens 4 --seeds 1 --option read",
    "golden list",
    "train --describe",
    "generate --count 3 --prompt '日本語 Привет ∞'",
    "generate --count 3 --temperature 50",
    "evaluate --text {text}",
    "completion zsh",
    "--help",
    *(
        f"{name} --help"
        for name in ("train", "evaluate", "generate", "experiment", "stability", "soak", "bench")
    ),
]


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize("words", QUICK)
def test_a_letter_that_the_terminal_lacks_ends_no_command(
    words: str, encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("naïve ∞ 日本語\n" * 20, encoding="utf-8")
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    try:
        status = main(shlex.split(words.format(text=tmp_path / "text")))
    except SystemExit as ended:  # of --help
        status = int(ended.code or 0)
    out.flush()
    err.flush()
    assert status == 0, err.buffer.getvalue()  # type: ignore[attr-defined]
    assert len(out.buffer.getvalue()) > 5  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_an_error_may_hold_any_letter(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stderr", err)
    assert main(["evaluate", "日本語/∞.pt"]) == 2
    err.flush()
    assert err.buffer.getvalue().startswith(b"error: checkpoint must be a file that exists")  # type: ignore[attr-defined]


def test_a_reader_that_has_seen_enough_ends_a_command_quietly() -> None:
    call = f"{shlex.quote(sys.executable)} -m hope_ref anatomy hope --markdown | head -1"
    done = subprocess.run(["bash", "-c", call], capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert done.stdout.startswith("| component")
    assert done.stderr == ""


# The commands of the README, each as it stands there but for what would take minutes.
SHORTER = {
    "run": "--steps 1 --figures figures",
    "train": "--steps 2 --batch 2 --tokens 32 --evaluate_every 0 --quiet",
    "soak": "--tokens 300 --twins 0",
    "verify": "--random 1",
    "bench": "--quick --results results",
    "figures": "ladder --figures figures",
    "stability": "--tokens 4 --seeds 1 --option read",
    "kernels": "--quick",
}


def readme_commands() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", text, re.S)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("python -m hope_ref ")]


def test_the_readme_has_its_commands() -> None:
    assert len(readme_commands()) >= 15


@pytest.mark.slow
def test_every_command_of_the_readme_runs_anywhere(tmp_path: Path) -> None:
    folder = tmp_path / "mein Ordner é"
    folder.mkdir()
    (folder / "FILE").write_bytes(b"naive text, again and again. " * 400)
    environment = {
        **os.environ,
        "PYTHONIOENCODING": "cp1252",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    environment["TRITON_INTERPRET"] = "0"
    for line in readme_commands():
        command = shlex.split(line)[3]
        if "my_package" in line or "--device cuda" in line or "third_party" in line:
            continue  # a package of the reader's, a GPU, a package that is optional
        shorter = SHORTER.get(command, "") if "--resume --steps" not in line else "--quiet --steps 4"
        words = shlex.split(
            line.replace("--full", "--quick").replace("--steps 600", "").replace("--random 20", "")
        )
        done = subprocess.run(
            [
                sys.executable,
                *words[1:],
                *shlex.split(shorter if "--resume" not in words or "4" in shorter else "--quiet"),
            ],
            capture_output=True,
            cwd=folder,
            env=environment,
            timeout=600,
        )
        assert done.returncode == 0, (line, done.stderr.decode("cp1252"))
        assert b"Traceback" not in done.stderr, line
