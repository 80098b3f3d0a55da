"""An exam for each seed: questions like the notebooks' exercises with fresh numbers, and their answers with the working.

The same seed makes the same pages, on every machine: numbers are drawn with `random.Random`, one generator for each
question, so that a new question leaves the others as they were. Answers are exact fractions; where a logarithm makes
that impossible they are float64, rounded. The questions themselves are in `exam_memories` (notebooks 00 to 06) and
`exam_models` (07 to 13); the form in which both write is `exam_form`.
"""

from __future__ import annotations

import random
from pathlib import Path

from hope_docs import exam_memories, exam_models
from hope_docs.exam_form import Asker, Drawn

QUESTIONS: dict[str, Asker] = exam_memories.QUESTIONS | exam_models.QUESTIONS
HEAD = """# {what}, exam {seed}

One to three questions on each notebook. Vectors and matrices are written as in NumPy; $M k$ is `M @ k`, $v k^\\top$ is
`np.outer(v, k)`, and $\\|k\\|^2$ is `k @ k`. Symbols are those of NOTATION.md. Pen and paper will do, or ten lines of
NumPy. Give exact numbers where you can, otherwise four digits.
"""


def exam(seed: int) -> dict[str, Drawn]:
    """Every question of one exam, by its name (``"04a"`` is the first one on notebook 04).

    Raises:
        ValueError: if the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"seed must be >= 0, got {seed}")
    return {name: ask(random.Random(f"{seed}/{name}")) for name, ask in QUESTIONS.items()}


def pages(seed: int) -> tuple[str, str]:
    """The page of questions and the page of answers, in Markdown."""
    drawn = exam(seed)
    questions, answers = (HEAD.format(what=what, seed=seed) for what in ("Questions", "Answers"))
    for name, one in drawn.items():
        heading = f"\n## {name[:2]} {name[2:]} · {one.title}\n\n"
        questions += f"{heading}{one.task}\n"
        working = "\n".join(f"- {line}" for line in one.working.split("\n"))
        answers += f"{heading}{working}\n\n**Answer**: {one.answer}\n"
    return questions, answers


def make(out: Path, seed: int = 1) -> int:
    """Write ``questions_SEED.md`` and ``answers_SEED.md``; exams of other seeds stay."""
    out.mkdir(parents=True, exist_ok=True)
    for name, text in zip(("questions", "answers"), pages(seed), strict=True):
        (out / f"{name}_{seed}.md").write_text(text, encoding="utf-8")
    return 0
