"""``python -m hope_ref``: the main job, and the pieces of it one by one."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from hope_ref import __version__

DIAGRAM = "hope"  # the one that is an SVG, beside the gallery
README_FIGURES = ("ladder", "interference")


def run(arguments: argparse.Namespace) -> int:
    """Prove every identity, compare the floors, draw the README's figures, train, generate, adapt; say where the course starts."""
    from tqdm import tqdm

    from hope_ref import agreement, symbolic
    from hope_ref.teaching import figures

    identities, components = symbolic.identities(), agreement.components()
    drawings = figures.gallery()
    proved, rows, paths = [], [], []
    with tqdm(total=len(identities) + len(components) + len(README_FIGURES), unit="step", leave=False) as bar:
        for identity in identities:
            bar.set_description(f"prove {identity.name}")
            proved.append(identity.holds())
            bar.update()
        for component in components:
            bar.set_description(f"compare {component.name}")
            rows.append(agreement.compare(component))
            bar.update()
        for name in README_FIGURES:
            bar.set_description(f"draw {name}")
            paths.append(figures.save(drawings[name](), arguments.figures))
            bar.update()
    print(f"{sum(proved)} of {len(identities)} identities are proved in SymPy:")
    for identity, holds in zip(identities, proved, strict=True):
        print(f"  {'proved' if holds else 'FAILED'}  {identity.name:<48} [{identity.source}]")
    print(
        "\nThe three floors agree (worst relative error, float64):"
        if all(r.agrees() for r in rows)
        else "\nTHE FLOORS DISAGREE:"
    )
    print(agreement.matrix(rows))
    print("\nFigures of the README:")
    for path in paths:
        print(f"  {path}")
    agreed = all(proved) and all(row.agrees() for row in rows)
    status = 0
    if agreed and arguments.steps:
        from hope_ref.training.demonstration import demonstrate

        status = demonstrate(arguments.steps)
    print("\nThe course starts at notebooks/00_run_it_and_read_the_map.ipynb: `make lab` opens it.")
    return status if agreed else 1


def verify(arguments: argparse.Namespace) -> int:
    """Print the agreement matrix; exit 1 if anything disagrees."""
    from hope_ref import agreement

    if arguments.random or arguments.finite:
        from hope_ref.agreement import random_configurations

        return random_configurations.main(arguments)
    known = {component.name: component for component in agreement.components()}
    if arguments.component and arguments.component not in known:
        print(
            f"--component must be one of {', '.join(map(repr, known))}, got {arguments.component!r}",
            file=sys.stderr,
        )
        return 2
    chosen = [known[arguments.component]] if arguments.component else list(known.values())
    rows = [agreement.compare(component) for component in chosen]
    print(agreement.matrix(rows))
    return 0 if all(row.agrees() for row in rows) else 1


def draw(arguments: argparse.Namespace) -> int:
    """Draw every figure of the course, or the named ones."""
    from hope_ref.teaching import figures
    from hope_ref.teaching.diagram import diagram

    gallery = figures.gallery()
    known = [*gallery, DIAGRAM]
    unknown = sorted(set(arguments.names) - set(known))
    if unknown:
        print(f"names must be among {', '.join(known)}, got {', '.join(unknown)}", file=sys.stderr)
        return 2
    for name in arguments.names or known:
        if name == DIAGRAM:
            print(diagram().save(arguments.figures / f"{DIAGRAM}.svg"))
        else:
            print(figures.save(gallery[name](), arguments.figures))
    return 0


def docs(arguments: argparse.Namespace) -> int:
    """Write NOTATION.md and ERRATA.md, or say which of them is out of date."""
    from hope_ref import notation
    from hope_ref.common.files import replacing
    from hope_ref.symbolic import errata
    from hope_ref.teaching import coverage, glossary

    words = "\n".join((notation.markdown(), glossary.markdown(), coverage.markdown()))
    stale = []
    for name, text in (("NOTATION.md", words), ("ERRATA.md", errata.markdown())):
        path = arguments.folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not arguments.check:
                with replacing(path) as file:
                    file.write(text.encode())
    if arguments.check and stale:
        print(f"out of date: {', '.join(stale)}; run `make docs`", file=sys.stderr)
        return 1
    print(f"written: {', '.join(stale)}" if stale else "up to date: NOTATION.md, ERRATA.md")
    return 0


LOADED_WHEN_CALLED = {
    "train": (
        "hope_ref.training.train_command",
        "train a model on a text, and go on after whatever stopped it",
    ),
    "evaluate": ("hope_ref.training.evaluate_command", "how well a trained model predicts a text"),
    "generate": ("hope_ref.training.generate_command", "let a trained model go on from a prompt"),
    "experiment": (
        "hope_ref.experiments.command",
        "answer a question by training: run it, resume it, report it",
    ),
    "bench": ("hope_ref.benchmarks.command", "measure the chunk-parallel form against what it could cost"),
    "kernels": (
        "hope_ref.parallel.kernels.compiled",
        "compile the Triton kernels for GPUs that need not be here: registers, spills",
    ),
    "soak": ("hope_ref.laboratory.soak", "stream many tokens through a model: does its state stay bounded?"),
    "badges": ("hope_ref.teaching.badges", "let the notebooks open on Binder and Colab, or not any more"),
}  # most of them load torch; the others start at once


def parser(called: str | None = None) -> argparse.ArgumentParser:
    """The command line; ``called`` is the command that is about to run."""
    from hope_ref import golden
    from hope_ref.laboratory import anatomy, stability

    prog = "hope-ref" if Path(sys.argv[0]).stem == "hope-ref" else "python -m hope_ref"
    top = argparse.ArgumentParser(prog=prog, description="HOPE: derived, stated, computed, proven equal.")
    top.add_argument("--version", action="version", version=f"hope_ref {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(function: object, name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(function=function)
        return sub

    def figures_into(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--figures", type=Path, default=Path("figures"), metavar="FOLDER", help="where figures go"
        )

    main_job = command(run, "run", "prove every identity, compare the floors, train a tiny HOPE on real text")
    figures_into(main_job)
    main_job.add_argument(
        "--steps", type=int, default=150, metavar="N", help="of training (150); 0 leaves training out"
    )
    judging = command(verify, "verify", "compare the three floors and print the agreement matrix")
    judging.add_argument("--component", metavar="NAME", help="only this component, e.g. 'delta rule'")
    for name, what in (
        ("random", "compare N whole models instead, every option drawn at random"),
        ("finite", "run N bounded random models: do all values stay finite?"),
        ("seed", "the first of these N seeds (0)"),
    ):
        judging.add_argument(f"--{name}", type=int, default=0, metavar="N", help=what)
    judging.add_argument("--report", type=Path, metavar="FILE", help="write what N models gave, as JSON")
    drawing = command(draw, "figures", "draw every figure of the course")
    drawing.add_argument("names", nargs="*", metavar="NAME", help="only these figures")
    figures_into(drawing)
    writing = command(docs, "docs", "write NOTATION.md and ERRATA.md from their data")
    writing.add_argument("--check", action="store_true", help="write nothing; exit 1 if one is out of date")
    writing.add_argument(
        "--folder", type=Path, default=Path(), metavar="FOLDER", help="where they are (default: here)"
    )
    stability.add_arguments(
        command(stability.main, "stability", "measure what every option does to the states over a stream")
    )
    anatomy.add_arguments(
        command(
            anatomy.main, "anatomy", "what each component compresses, how often, by which rule, and its size"
        )
    )
    for name, (module, text) in LOADED_WHEN_CALLED.items():
        sub = command(None, name, text)
        if name == called:
            found = importlib.import_module(module)
            found.add_arguments(sub)
            sub.set_defaults(function=found.main)
    text = "make, list and check golden vectors: hold your own implementation against this one"
    vectors = commands.add_parser("golden", help=text, description=text)
    golden.add_commands(vectors.add_subparsers(dest="golden", required=True, metavar="COMMAND"))
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    chosen = parser(arguments[0] if arguments else None).parse_args(arguments)
    return int(chosen.function(chosen))


if __name__ == "__main__":
    sys.exit(main())
