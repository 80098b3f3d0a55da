"""``python -m hope_ref``: the main job, and the pieces of it one by one."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import NoReturn

from hope_ref import __version__
from hope_ref.common.files import one_line

DIAGRAM = "hope"  # the one that is an SVG, beside the gallery
README_FIGURES = ("ladder", "interference")


def run(arguments: argparse.Namespace) -> int:
    """Prove every identity, compare the floors, draw the README's figures, train, generate, adapt, cure amnesia; say where the course starts."""
    from tqdm import tqdm

    from hope_ref import agreement, symbolic
    from hope_ref.common.outputs import replaceable, writable_folder
    from hope_ref.teaching import figures

    if arguments.steps < 0:
        raise ValueError(f"steps must be >= 0, got {arguments.steps}")
    folder = arguments.figures or Path("figures")
    writable_folder("figures", folder)
    for name in README_FIGURES:
        replaceable("figures", folder / f"{name}.png", "PNG", "Description")

    if arguments.steps:
        from hope_ref.experiments import amnesia_command

        amnesia_command.check_place(amnesia_command.OUT)
    identities, components = symbolic.distinct(), agreement.components()
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
            paths.append(figures.save(drawings[name](), folder))
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
        if status == 0:
            print("\nAmnesia and its cure:")
            amnesia_command.show(amnesia_command.OUT)
            print("  teach it words of your own: python -m hope_ref amnesia")
    print("\nThe course starts at notebooks/00_run_it_and_read_the_map.ipynb: `make lab` opens it.")
    return status if agreed else 1


def verify(arguments: argparse.Namespace) -> int:
    """Print the agreement matrix; exit 1 if anything disagrees."""
    from hope_ref import agreement

    if arguments.random or arguments.finite or arguments.seed < 0:
        from hope_ref.agreement import random_configurations

        return random_configurations.main(arguments)
    from hope_ref.common.progress import progress

    known = {component.name: component for component in agreement.components()}
    if arguments.component and arguments.component not in known:
        print(
            f"--component must be one of {', '.join(map(repr, known))}, got {arguments.component!r}",
            file=sys.stderr,
        )
        return 2
    chosen = [known[arguments.component]] if arguments.component else list(known.values())
    rows = [agreement.compare(component) for component in progress(chosen, "compare", "component")]
    print(agreement.matrix(rows))
    return 0 if all(row.agrees() for row in rows) else 1


def draw(arguments: argparse.Namespace) -> int:
    """Draw every figure of the course, or the named ones."""
    from hope_ref.common.outputs import replaceable, repository_folder
    from hope_ref.teaching import figures
    from hope_ref.teaching.diagram import diagram

    folder = repository_folder("figures", arguments.figures, "figures")
    gallery = figures.gallery()
    known = [*gallery, DIAGRAM]
    unknown = sorted(set(arguments.names) - set(known))
    if unknown:
        print(f"names must be among {', '.join(known)}, got {', '.join(unknown)}", file=sys.stderr)
        return 2
    chosen = arguments.names or known
    for name in chosen:
        path = folder / f"{name}.{'svg' if name == DIAGRAM else 'png'}"
        replaceable("figures", path, *(('id="description"',) if name == DIAGRAM else ("PNG", "Description")))
    for name in chosen:
        print(
            diagram().save(folder / f"{DIAGRAM}.svg")
            if name == DIAGRAM
            else figures.save(gallery[name](), folder)
        )
    return 0


def docs(arguments: argparse.Namespace) -> int:
    """Write NOTATION.md and ERRATA.md, or say which of them is out of date."""
    from hope_ref import notation
    from hope_ref.common.files import replacing
    from hope_ref.common.outputs import replaceable, repository_folder
    from hope_ref.relatives import markdown as models
    from hope_ref.symbolic import errata
    from hope_ref.teaching import coverage, glossary

    folder = repository_folder("folder", arguments.folder)
    if not folder.is_dir():
        raise ValueError(f"folder must be a folder that is there, got {str(folder)!r}")
    words = "\n".join((notation.markdown(), glossary.markdown(), models(), coverage.markdown()))
    pages = {"NOTATION.md": words, "ERRATA.md": errata.markdown()}
    if not arguments.check:
        for name in pages:
            replaceable(f"folder: {name}", folder / name, "Generated", "do not edit")
    stale = []
    for name, text in pages.items():
        path = folder / name
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


def relatives(arguments: argparse.Namespace) -> int:
    """Print which models of the field a configuration makes, and what HOPE lacks for the others."""
    from hope_ref.relatives import table

    print(table())
    return 0


LOADED_WHEN_CALLED = {
    "bench": ("hope_ref.benchmarks.command", "measure the chunk-parallel form against what it could cost"),
    "cuda": (
        "hope_ref.benchmarks.cuda",
        "all that only a GPU can say, in nine minutes: tests, benchmarks, trainings",
    ),
    "kernels": (
        "hope_ref.parallel.kernels.compiled",
        "compile the Triton kernels for GPUs that need not be here: registers, spills",
    ),
    "soak": (
        "hope_ref.laboratory.soak",
        "stream many tokens through a model: does its state stay bounded?",
    ),
    "amnesia": (
        "hope_ref.experiments.amnesia_command",
        "train a memory that keeps what an emptied attention forgets, and teach it words of your own",
    ),
    "badges": ("hope_ref.teaching.badges", "let the notebooks open on Binder and Colab, or not any more"),
}  # most of them load torch; the others start at once
OF_DATACLASSES = {
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
}  # with parsers of their own, in which every option of a dataclass is one of the command line


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong; exit status 2."""
        self.exit(2, f"error: {one_line(message)}; see {self.prog} --help\n")


def parser(called: str | None = None) -> argparse.ArgumentParser:
    """The command line; ``called`` is the command that is about to run."""
    from hope_ref import golden
    from hope_ref.laboratory import anatomy, stability

    top = Parser(prog=called_as(), description="HOPE: derived, stated, computed, proven equal.")
    top.add_argument("--version", action="version", version=f"hope_ref {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(function: object, name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(function=function)
        return sub

    def figures_into(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--figures", type=Path, metavar="FOLDER", help="where figures go (in the repository: figures)"
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
        "--folder", type=Path, metavar="FOLDER", help="where they are (in the repository: here)"
    )
    command(relatives, "relatives", "which models of the field a configuration makes, and what HOPE lacks")
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
    for name, (_, text) in OF_DATACLASSES.items():
        commands.add_parser(name, help=text, add_help=False)
    completing = command(complete, "completion", "print a script with which a shell completes these commands")
    completing.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="for which shell")
    text = "make, list and check golden vectors: hold your own implementation against this one"
    vectors = commands.add_parser("golden", help=text, description=text)
    golden.add_commands(vectors.add_subparsers(dest="golden", required=True, metavar="COMMAND"))
    return top


def called_as() -> str:
    """How this command line was called."""
    return "hope-ref" if Path(sys.argv[0]).stem == "hope-ref" else "python -m hope_ref"


def complete(arguments: argparse.Namespace) -> int:
    """Print the completion script of a shell: ``eval "$(hope-ref completion bash)"``."""
    import shtab

    top = parser("")
    top.prog = "hope-ref"
    (commands,) = (one for one in top._actions if isinstance(one, argparse._SubParsersAction))
    for name, (module, _) in LOADED_WHEN_CALLED.items():
        importlib.import_module(module).add_arguments(commands.choices[name])
    for name, (module, _) in OF_DATACLASSES.items():
        commands.choices[name] = importlib.import_module(module).parser(f"hope-ref {name}")
    print(shtab.complete(top, arguments.shell))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    show_everything()
    try:
        if arguments and arguments[0] in OF_DATACLASSES:
            from hope_ref.common import command_line

            module = importlib.import_module(OF_DATACLASSES[arguments[0]][0])
            own = module.parser(f"{called_as()} {arguments[0]}")
            return int(module.main(command_line.parsed(own, arguments[1:])))
        chosen = parser(arguments[0] if arguments else None).parse_args(arguments)
        return int(chosen.function(chosen))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except ValueError as error:  # what a command has not put into words of its own
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
        return 141
    except (OSError, MemoryError) as error:
        print(f"error: {one_line(error) if str(error) else 'not enough memory'}", file=sys.stderr)
        return 1


def show_everything() -> None:
    """Let no letter that the terminal's encoding lacks end a command: it is shown as a question mark."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
