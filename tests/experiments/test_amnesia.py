"""Amnesia and its cure: what is measured, that nothing leaks, the shipped models, and a lesson of one's own."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hope_ref.experiments import SHIPPED, amnesia, amnesia_command
from hope_ref.parallel import lessons
from hope_ref.parallel.hope import Hope
from hope_ref.tasks.languages import WORDS
from hope_ref.training.settings import TrainingSettings


@pytest.fixture(scope="module")
def trained() -> Hope:
    """A learned start, from fewer steps than the command takes, by a seed of its own."""
    torch.set_num_threads(1)
    return amnesia.train(60, seed=4711)[0]


@pytest.fixture(scope="module")
def learned() -> Hope:
    return Hope.load(SHIPPED / "learned")


@pytest.fixture(scope="module")
def ordinary() -> Hope:
    return Hope.load(SHIPPED / "ordinary")


# --- what comes out -----------------------------------------------------------------------------------------------------


def test_sixty_steps_cure_it(trained: Hope) -> None:
    """60 steps, pupils never seen: with the level learning far beyond chance, with the level held still at chance."""
    given = amnesia.episode(2, 16, (4711, 99))
    assert min(amnesia.kept(trained, given)) > 90
    assert max(amnesia.kept(trained, given, learning=False)) < 12


def test_the_shipped_models_are_what_the_table_says(learned: Hope, ordinary: Hope) -> None:
    """The bounds that the command is held to, for pupils by a seed that neither has met."""
    rows = amnesia.table(learned, ordinary, 987_654)
    context, emptied, rates, start, anew, still = (row.right for row in rows)
    assert min(context) >= 98
    assert max(emptied) <= 10
    assert max(rates) <= 25
    assert min(start) >= 99
    assert 50 < sum(anew) / 2 < 100
    assert max(still) <= 10
    assert "best of 7 rates" in rows[2].name
    assert (SHIPPED / "learned" / "model.safetensors").stat().st_size < 100_000
    assert learned.config.difference(amnesia.config()) == ""


@pytest.mark.slow
def test_what_is_shipped_is_what_training_gives(learned: Hope) -> None:
    """The recipe of the command, seed 0: as good, though not bit for bit on every machine."""
    model, losses = amnesia.train(seed=0)
    assert len(losses) == amnesia.STEPS
    given = amnesia.episode(2, 16, (4711, 99))
    for one in (model, learned):
        assert min(amnesia.kept(one, given)) >= 99
    worst = max(
        float((a - b).abs().max()) for a, b in zip(model.parameters(), learned.parameters(), strict=True)
    )
    assert worst < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("seed", [31, 32, 33])
def test_seeds_never_used_before(seed: int, ordinary: Hope) -> None:
    model, _ = amnesia.train(seed=seed)
    rows = amnesia.table(model, ordinary, seed)
    assert min(rows[3].right) >= 99
    assert max(rows[5].right) <= 10
    assert max(rows[2].right) <= 25


# --- that it is what it says --------------------------------------------------------------------------------------------


def test_the_levels_are_all_that_a_lesson_leaves(learned: Hope) -> None:
    """Lessons are read one by one, each by an empty attention; in one piece, their own last token apart, it is another thing."""
    given = amnesia.episode(2, 2, 3)
    levels = None
    for lesson in given.lessons:
        _, levels = lessons.learn(learned, lesson, levels)
    assert levels is not None
    found = amnesia.learned(learned, given.lessons)
    assert torch.equal(found.levels[0].w1, levels.levels[0].w1)
    assert found.position == 4 * WORDS


def test_no_lesson_hears_a_later_one_and_no_question_an_answer(learned: Hope) -> None:
    """Levels after the first lesson do not depend on the second; an answer depends on its lesson, and on no answer asked for."""
    given = amnesia.episode(2, 2, 3)
    other = amnesia.episode(2, 2, 4)
    first = amnesia.learned(learned, given.lessons[:1])
    mixed = amnesia.learned(learned, [given.lessons[0], other.lessons[1]])
    both = amnesia.learned(learned, given.lessons)
    assert torch.equal(first.levels[0].w1, amnesia.learned(learned, given.lessons[:1]).levels[0].w1)
    assert not torch.equal(mixed.levels[0].w1, both.levels[0].w1)
    # what is asked holds no answer, and the first question is answered alike whatever else is asked
    assert int(given.questions.min()) >= WORDS
    with torch.no_grad():
        whole = lessons.ask(learned, given.questions, both)
        alone = lessons.ask(learned, given.questions[:, :1], both)
    torch.testing.assert_close(whole[:, :1], alone, rtol=0, atol=1e-5)
    # another answer in a lesson is another answer to that word
    changed = [lesson.clone() for lesson in given.lessons]
    changed[0][0, 1], changed[0][0, 3] = given.lessons[0][0, 3], given.lessons[0][0, 1]
    word = int(given.lessons[0][0, 0]) - WORDS
    with torch.no_grad():
        said = lessons.ask(learned, given.questions, amnesia.learned(learned, changed))[0, word, -1]
    assert int(said.argmax()) == int(changed[0][0, 1])


def test_a_rate_of_zero_is_held_still(learned: Hope) -> None:
    given = amnesia.episode(2, 4, 8)
    at_zero = amnesia.kept(amnesia.at_rate(learned, 0.0), given)
    assert at_zero == amnesia.kept(learned, given, learning=False)
    assert amnesia.kept(learned, given) != at_zero


def test_in_context_is_the_whole_line_for_every_question(ordinary: Hope) -> None:
    """Each question behind both lessons, read from the first token on."""
    given = amnesia.episode(2, 2, 5)
    with torch.no_grad():
        line = torch.cat(given.lessons, 1)
        logits = torch.stack(
            [
                ordinary(torch.cat([line, given.questions[:, n]], 1))[0][:, -1]
                for n in range(given.questions.shape[1])
            ],
            1,
        )
    assert amnesia.in_context(ordinary, given) == amnesia.right(logits, given)


def test_right_counts_each_language_for_itself() -> None:
    given = amnesia.episode(2, 3, 5)
    logits = torch.nn.functional.one_hot(given.answers, 49).float()
    logits[:, WORDS:] = 0
    logits[:, WORDS:, 48] = 1
    assert amnesia.right(logits, given) == (100.0, 0.0)


def test_lessons_in_one_context_end_with_their_own_words() -> None:
    line, answers = amnesia.in_line(2, 3, 4, (1, 2))
    assert line.shape == (3, 2 * 9 + 16)
    assert answers.shape == (3, 8)
    assert set(line[:, 8].tolist()) == set(line[:, 17].tolist()) == {48}
    for row, wanted in zip(line.tolist(), answers.tolist(), strict=True):
        known = dict(zip(row[:8:2] + row[9:17:2], row[1:8:2] + row[10:17:2], strict=True))
        assert [known[word] for word in row[18::2]] == wanted == row[19::2]
        assert row[18::2] != row[:8:2] + row[9:17:2]


class LooksUp:
    """What two blocks of attention should come to: after a symbol comes what came after it last time."""

    config = amnesia.config()

    def __init__(self) -> None:
        self.lines: list[torch.Tensor] = []

    def __call__(self, line: torch.Tensor) -> tuple[torch.Tensor, None]:
        self.lines.append(line)
        logits = torch.zeros(*line.shape, self.config.vocabulary)
        for row, symbols in enumerate(line.tolist()):
            after: dict[int, int] = {}
            for at, symbol in enumerate(symbols):
                if symbol in after:
                    logits[row, at, after[symbol]] = 50.0
                if at + 1 < len(symbols):
                    after[symbol] = symbols[at + 1]
        return logits, None


@pytest.mark.parametrize("steps", [20, 21])
def test_reading_in_context_is_learnt_from_what_can_be_looked_up(steps: int) -> None:
    """Every answer that counts was there before, at its own place; first symbols that come twice, then lessons."""
    model: Any = LooksUp()
    settings = TrainingSettings(steps=steps, batch=3)
    loss = amnesia.in_context_loss(model, 2, settings, 5)
    found = [float(loss(step)) for step in range(steps)]
    assert max(found) < 1e-9
    for step, line in enumerate(model.lines):
        closings = int((line == 48).sum(1).min())
        if step < steps // 2:
            once = (line.shape[1] + 1) // 2
            assert 8 <= once <= 24
            assert line.shape == (3, 2 * once - 1)
            assert torch.equal(line[:, once:], line[:, : once - 1])
            assert all(len(set(row[:once])) == once for row in line.tolist())
        else:
            assert closings == 2
            assert 2 * 5 + 8 <= line.shape[1] <= 2 * 33 + 64
    assert len({line.shape for line in model.lines}) > 5
    again = amnesia.in_context_loss(model, 2, settings, 6)
    again(0)
    assert model.lines[-1].shape != model.lines[0].shape or not torch.equal(model.lines[-1], model.lines[0])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [34, 35])
def test_the_ordinary_start_learns_to_read_in_context(seed: int) -> None:
    """Half a minute: every seed learns it, and forgets it all with its context."""
    model = amnesia.train_ordinary(seed=seed)
    given = amnesia.episode(2, 16, (4711, 99))
    assert min(amnesia.in_context(model, given)) >= 98
    assert max(amnesia.kept(model, given, learning=False)) <= 12


# --- a lesson of one's own ----------------------------------------------------------------------------------------------


def test_words_are_taught_and_asked_back(learned: Hope) -> None:
    one, two = (
        amnesia.parsed("hund dog, katze = cat\nmaus -> mouse"),
        amnesia.parsed("perro dog; rana → frog"),
    )
    assert one.pairs == (("hund", "dog"), ("katze", "cat"), ("maus", "mouse"))
    replies = amnesia.taught(learned, [one, two])
    assert [[(r.word, r.said) for r in lesson] for lesson in replies] == [list(one.pairs), list(two.pairs)]
    assert all(0.5 < reply.share <= 1 for lesson in replies for reply in lesson)


def test_sixteen_words_and_answers_that_repeat(learned: Hope) -> None:
    lesson = amnesia.parsed(", ".join(f"w{n} a{n % 8}" for n in range(16)))
    (replies,) = amnesia.taught(learned, [lesson])
    assert sum(reply.said == reply.wanted for reply in replies) >= 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hund", "lesson must have two words in every pair, got 'hund'"),
        ("a b c", "lesson must have two words in every pair, got 'a b c'"),
        (" , ", "lesson must have at least one pair of words, got ' , '"),
        ("a b, a c", "lesson must have one answer to a word, got 'b' and 'c' to 'a'"),
        (", ".join(f"w{n} a" for n in range(17)), "lesson must have at most 16 words, got 17"),
    ],
)
def test_wrong_lessons(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        amnesia.parsed(text)


def test_too_many_lessons_or_answers(learned: Hope) -> None:
    one = amnesia.parsed(", ".join(f"w{n} a{n}" for n in range(16)))
    with pytest.raises(ValueError, match="lesson must have at most 16 different answers, got 17"):
        amnesia.taught(learned, [one, amnesia.parsed("x new")])
    with pytest.raises(ValueError, match="lesson must be given once or twice, got 3"):
        amnesia.taught(learned, [amnesia.parsed("x y")] * 3)


# --- the command --------------------------------------------------------------------------------------------------------


def call(*arguments: object) -> int:
    from hope_ref.__main__ import main

    return main(["amnesia", *map(str, arguments)])


def test_the_command_shows_the_table_and_leaves_model_table_and_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made"
    assert call("--steps", 2, "--seed", 5, "--out", out, "--lesson", "hund dog", "--lesson", "perro dog") == 0
    said = capsys.readouterr().out
    assert "a blind guess: 6.2" in said
    assert "2 steps in" in said
    assert "attention emptied, the level learning, trained through its updates" in said
    assert "hund → " in said
    assert sorted(one.name for one in out.iterdir()) == sorted(
        ["amnesia.png", "config.json", "model.safetensors", "table.json"]
    )
    rows = json.loads((out / "table.json").read_text())["rows"]
    assert [row["name"] for row in rows] == [row.name for row in _rows(said)]
    assert Hope.load(out).config.seed == 5
    assert call("--shipped", "--out", out) == 0  # over its own files, again
    assert "the model was shipped" in capsys.readouterr().out


def _rows(said: str) -> list[amnesia.Row]:
    lines = said.splitlines()
    start = next(n for n, line in enumerate(lines) if line.split() == ["first", "second"]) + 1
    return [
        amnesia.Row(" ".join(line.split()[:-2]), tuple(map(float, line.split()[-2:])))
        for line in lines[start : start + 6]
    ]


@pytest.mark.parametrize("name", ["table.json", "amnesia.png", "config.json", "model.safetensors"])
def test_nothing_else_is_overwritten(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text("somebody's own")
    assert call("--shipped", "--out", tmp_path) == 2
    assert "out must be a new f" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "somebody's own"


def test_another_model_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Hope(amnesia.config().replace(width=16)).save(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    assert call("--shipped", "--out", tmp_path) == 2
    assert "which holds another model" in capsys.readouterr().err
    assert (tmp_path / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", 0), "steps must be an integer >= 1, got 0"),
        (("--seed", -1), "seed must be an integer >= 0, got -1"),
        (("--lesson", "hund"), "lesson must have two words in every pair, got 'hund'"),
        (("--out", __file__), "out must be a folder"),
    ],
)
def test_bad_input(
    arguments: tuple[Any, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--out", tmp_path / "new", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_on_a_terminal_it_asks_for_lessons(
    learned: Hope, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hund\nhund dog, katze cat\n\n"))
    amnesia_command.converse(learned)
    said = capsys.readouterr().out
    assert "two words in every pair, got 'hund'" in said
    assert "2 of 2 right" in said
    monkeypatch.setattr("sys.stdin", io.StringIO("a b\n"))  # ends without an empty line
    amnesia_command.converse(learned)
    assert "1 of 1 right" in capsys.readouterr().out
