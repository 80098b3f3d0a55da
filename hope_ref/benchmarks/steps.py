"""What a training step through the updates of the levels costs, beside an ordinary step on the same tokens. [P 73], [D]

Toy models of width 32 read two lessons of 33 tokens and are asked 32 words, 16 pupils at once (`hope_ref.experiments.amnesia`).
An ordinary step reads and asks the same tokens with levels that stand still: -log p of every next token and of every answer.
The other one asks what the levels have learned, and its gradient passes through all their updates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hope_ref.benchmarks.peers import turn_by_turn
from hope_ref.experiments import amnesia
from hope_ref.parallel import lessons
from hope_ref.parallel.hope import Hope

# A model by name, and what differs from `amnesia.config`.
MODELS: dict[str, dict[str, Any]] = {
    "HOPE-Attention, 1 level": {},
    "HOPE-Attention, 3 levels": {"levels_chunk_sizes": (32, 32, 32), "cms_rate": 0.1 / 3},
    "HOPE, 1 level": {"mixer": "self_modifying_titans"},
}
Run = Callable[[], Any]


def ordinary_loss(model: Hope, given: amnesia.Taught) -> Tensor:
    """Mean -log p, nats, of each lesson's next tokens and of the answers; no level moves."""
    levels = lessons.begin(model, tuple(given.answers.shape[:1]))
    read = [
        cross_entropy(model(lesson[:, :-1])[0].flatten(0, 1), lesson[:, 1:].flatten())
        for lesson in given.lessons
    ]
    asked = lessons.ask(model, given.questions, levels)[:, :, -1]
    return torch.stack([*read, cross_entropy(asked.flatten(0, 1), given.answers.flatten())]).mean()


def measure(
    repeats: int, quick: bool, in_turns: Callable[[dict[str, Run], int, str], dict[str, list[float]]]
) -> dict[str, Any]:
    """Seconds of forward and backward of both, in turns, and their ratio, by model."""
    found: dict[str, Any] = {}
    given = amnesia.episode(amnesia.LANGUAGES, 2 if quick else 16, 0)
    for name, options in MODELS.items():
        model = Hope(amnesia.config().replace(**options, **({"width": 8} if quick else {})))
        parameters = list(model.parameters())

        def step(
            loss: Callable[[Hope, amnesia.Taught], Tensor],
            model: Hope = model,
            parameters: list[torch.nn.Parameter] = parameters,
        ) -> None:
            torch.autograd.grad(loss(model, given), parameters, allow_unused=True)

        runs: dict[str, Run] = {
            "ordinary": lambda step=step: step(ordinary_loss),  # type: ignore[misc]
            "through the updates": lambda step=step: step(amnesia.loss_of),  # type: ignore[misc]
        }
        seconds = in_turns(runs, repeats, "cpu")
        found[name] = {
            "seconds": seconds,
            "ratio": turn_by_turn(seconds["through the updates"], seconds["ordinary"], 1),
        }
    return found


def lines(record: dict[str, Any]) -> list[str]:
    """The record for people."""
    device = record["device"]
    said = [
        f"{device['name']}, {device['threads']} thread(s), PyTorch {record['versions']['torch']}; width 32, two lessons of 33",
        "",
        f"{'a training step through the updates, in ordinary steps':<56}{'median':>8}{'min':>8}{'max':>8}",
    ]
    for name, one in record["models"].items():
        said.append(
            f"  {name:<54}" + "".join(f"{one['ratio'][key]:>8.2f}" for key in ("median", "min", "max"))
        )
    return said
