"""The diagram of HOPE: what it shows is what the model does, in every configuration, and it can be read without eyes."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from hope_ref import __main__ as command
from hope_ref.config import HopeConfig
from hope_ref.reference.parameters import random_parameters
from hope_ref.reference.self_modifying_titans import State, generate, initial_state
from hope_ref.teaching.diagram import VIEWS, diagram
from hope_ref.teaching.svg import PAGE

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
CONFIGS = {
    "default": HopeConfig(),
    "adaptive query": HopeConfig(adaptive_query=True, heads=4),
    "two write": HopeConfig(writing=("k", "memory"), target="shared", objective="dot", erase="none"),
    "no input projection": HopeConfig(input_projection=False, convolution_width=0),
    "side by side": HopeConfig(variant="independent", signal="associative", levels_chunk_sizes=(4, 8, 16, 32, 64, 128)),
    "one level, frozen": HopeConfig(signal="none", levels_chunk_sizes=(8,)),
    "slow first": HopeConfig(order="slow_to_fast"),
    "printed": HopeConfig.printed(),
}  # fmt: skip
every = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def drawn(config: HopeConfig) -> ET.Element:
    return ET.fromstring(diagram(config).svg)


def words(picture: ET.Element) -> list[str]:
    return ["".join(text.itertext()) for text in picture.iter(f"{SVG}text")]


@every
def test_every_memory_and_level_stands_there_with_its_pace(config: HopeConfig) -> None:
    said = words(drawn(config))
    for name in config.memories:
        assert f"M{ {'eta': 'η', 'alpha': 'α'}.get(name, name) }" in said
    shown = list(config.levels_chunk_sizes)
    if len(shown) > 5:
        assert "…" in said
        shown = [*shown[:4], shown[-1]]
    for size in shown:
        pace = "0" if config.signal == "none" else f"1 / {size:,} tokens"
        assert pace in said


@every
def test_dashed_arrows_go_to_those_that_write_and_to_no_other(config: HopeConfig) -> None:
    dashed = [p for p in drawn(config).iter(f"{SVG}path") if p.get("stroke-dasharray") == "6 4"]
    assert len(dashed) == len(config.writers) + 1  # and the legend's


def test_a_memory_that_does_not_write_has_no_pace() -> None:
    said = words(drawn(CONFIGS["two write"]))
    assert said.count("0") == 3
    assert said.count("1 / 16 tokens") == 1


def test_levels_in_the_order_in_which_they_are_applied() -> None:
    fast, slow = (
        [w for w in words(drawn(CONFIGS[n])) if w.startswith("level")] for n in ("default", "slow first")
    )
    assert fast == slow[::-1]
    assert fast[0].startswith("level 1")


@pytest.mark.parametrize("adaptive", [False, True])
def test_each_memory_reads_the_view_that_the_diagram_gives_it(adaptive: bool) -> None:
    """By perturbation: another view of one kind changes exactly what the memories that read it make."""
    config = HopeConfig(adaptive_query=adaptive)
    parameters = random_parameters(config, 5, 5, 0)
    state: State = initial_state(parameters, config)
    views = dict(zip("kvq", np.random.default_rng(1).normal(size=(3, 5)), strict=True))

    def made(**other: np.ndarray) -> dict[str, np.ndarray]:
        token = generate(*({**views, **other}[v] for v in "kvq"), parameters, config, state.weights)
        return {"k": token.k, "v": token.v, "q": token.q, "eta": np.array([*token.eta.values()]), "alpha": np.array(token.alpha)}  # fmt: skip

    before = made()
    for view in "kvq":
        after = made(**{view: views[view] + 1})
        moved = {name for name in before if not np.array_equal(before[name], after[name])}
        assert moved == {name for name in before if VIEWS[name] == view}


@every
def test_words_stay_inside_the_page_and_off_each_other(config: HopeConfig) -> None:
    """By a generous estimate of 0.62 em a letter; turned words are left out."""
    spans: list[tuple[float, float, float, str]] = []
    picture = drawn(config.replace(blocks=12))
    height = float(picture.get("viewBox", "").split()[3])
    for text in picture.iter(f"{SVG}text"):
        if text.get("transform"):
            continue
        x, y, size = (float(text.get(name, "")) for name in ("x", "y", "font-size"))
        said = "".join(text.itertext())
        width = 0.62 * size * len(said)
        left = x - width * {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor", "start")]
        assert left >= 0
        assert left + width <= PAGE + 8, said
        assert 0 < y < height, said
        spans.append((left, left + width, y, said))
    for i, (left, right, y, said) in enumerate(spans):
        for other_left, other_right, other_y, other in spans[i + 1 :]:
            if abs(y - other_y) < 9:
                assert right <= other_left + 12 or other_right <= left + 12, (said, other)


@every
def test_it_is_said_in_words_and_needs_nobody_else(config: HopeConfig) -> None:
    found = diagram(config)
    picture = ET.fromstring(found.svg)
    assert picture.get("role") == "img"
    description = picture.find(f"{SVG}desc")
    assert description is not None
    assert description.text == found.alt
    assert f"{len(config.memories)} memories" in found.alt
    assert not re.findall(r"(?:href|src|url\((?!#))", found.svg)


def test_the_picture_in_figures_is_that_of_the_default(tmp_path: Path) -> None:
    assert command.main(["figures", "hope", "--figures", str(tmp_path)]) == 0
    assert (tmp_path / "hope.svg").read_text("utf-8") == (ROOT / "figures" / "hope.svg").read_text("utf-8")
