"""Make the site, slides, sheets, an exam or the student notebooks: ``python docs/make.py site [--out FOLDER]``."""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))


def site(out: Path) -> int:
    """Stage the sources beside `out` and let Sphinx make the pages; a warning is an error."""
    from hope_docs.stage import stage
    from sphinx.cmd.build import main as sphinx

    sources, cache = stage(out.with_name(f"{out.name}-sources")), out.with_name(f"{out.name}-cache")
    made_by = hashlib.sha256()
    for file in sorted(file for file in HERE.rglob("*") if file.suffix in (".py", ".html")):
        made_by.update(file.read_bytes())
    made_by.update("\n".join(sorted(str(file) for file in sources.rglob("*.*"))).encode())
    stamp = cache / "made_by"
    if not stamp.exists() or stamp.read_text() != made_by.hexdigest():
        for folder in (cache, out):  # the maker, or the menu of all pages, has changed: make everything anew
            shutil.rmtree(folder, ignore_errors=True)
        cache.mkdir(parents=True)
        stamp.write_text(made_by.hexdigest())
    strict = ["--fail-on-warning", "--keep-going", "--quiet", "--jobs", "auto"]
    call = ["-b", "html", "-c", str(HERE), "-d", str(cache), *strict, str(sources), str(out)]
    failed = sphinx(call)
    written = {file.relative_to(out).with_suffix("") for file in out.rglob("*.html")}
    for page in [file.relative_to(sources) for file in sources.rglob("*") if file.suffix in (".md", ".rst")]:
        if page.with_suffix("") not in written:  # Sphinx may lose what fails where it writes in parallel
            print(f"no page was written for {page}", file=sys.stderr)
            failed = failed or 1
    if failed:
        (cache / "made_by").unlink(missing_ok=True)
    return failed


def slides(out: Path) -> int:
    """One deck for each notebook of the course."""
    from hope_docs.slides import make

    return make(out)


def student(out: Path) -> int:
    """The notebooks without solutions, for nbgrader."""
    from hope_docs.student import make

    return make(out)


def sheets(out: Path) -> int:
    """One sheet to print for each notebook of the course."""
    from hope_docs.sheets import make

    return make(out)


def exam(out: Path, seed: int = 1) -> int:
    """An exam with fresh numbers, and its answers."""
    from hope_docs.exams import make

    return make(out, seed)


TARGETS = {"site": site, "slides": slides, "student": student, "sheets": sheets, "exam": exam}


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, make one thing, and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=sorted(TARGETS))
    parser.add_argument("--out", type=Path, help="the folder to write into (build/WHAT)")
    parser.add_argument("--seed", type=int, default=1, help="of an exam: another one, other numbers (1)")
    chosen = parser.parse_args(arguments)
    out = (chosen.out or HERE.parent / "build" / chosen.what).resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    failed = exam(out, chosen.seed) if chosen.what == "exam" else TARGETS[chosen.what](out)
    if not failed:
        print(
            f"{chosen.what}: {out}/index.html" if (out / "index.html").exists() else f"{chosen.what}: {out}"
        )
    return failed


if __name__ == "__main__":
    sys.exit(main())
