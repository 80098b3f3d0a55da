"""The benchmark figure shows the committed records, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

from hope_ref.teaching.gallery import benchmark as gallery
from hope_ref.teaching.gallery.anatomy import chunk_costs_data


def test_the_bars_and_lines_are_those_of_the_records() -> None:
    records = gallery.benchmark_data()
    assert [record.width for record in records] == list(gallery.WIDTHS)
    picture = gallery.benchmark(records).figure
    left, right = picture.axes
    heights = [bar.get_height() for bar in left.patches]
    assert heights == pytest.approx([100 * share[0] for r in records for share in r.shares.values()])
    ours, attention = right.get_lines()[:2]
    assert list(ours.get_ydata()) == list(records[-1].ours)
    assert list(attention.get_ydata()) == list(records[-1].attention)
    plt.close(picture)


def test_the_records_name_their_machine_and_settings() -> None:
    for width in gallery.WIDTHS:
        record = json.loads((gallery.RESULTS / f"benchmark_cpu_{width}.json").read_text(encoding="utf-8"))
        assert record["device"]["name"]
        assert record["device"]["threads"] == 1
        assert record["settings"]["width"] == width


def test_a_missing_record_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="benchmark_cpu_128"):
        gallery.benchmark_data(tmp_path)


def test_chunk_times_are_the_record_beside_the_counts() -> None:
    data = gallery.chunk_times_data()
    record = json.loads((gallery.RESULTS / f"benchmark_cpu_{data.width}.json").read_text(encoding="utf-8"))
    times = {row["chunk_size"]: row["us_per_token"] for row in record["by_chunk_size"]}
    assert data.sizes == tuple(sorted(times))
    assert data.time == pytest.approx([times[size] / times[1] for size in data.sizes])
    costs = chunk_costs_data(data.width)
    known = {int(size): cost / costs.once for size, cost in zip(costs.sizes, costs.chunk, strict=True)}
    assert data.flops == pytest.approx([1.0] + [known[size] for size in data.sizes[1:]])


def test_the_words_of_chunk_times_are_the_numbers() -> None:
    data, drawing = gallery.chunk_times_data(), gallery.chunk_times()
    time, flops = (dict(zip(data.sizes, part, strict=True)) for part in (data.time, data.flops))
    assert max(flops[4], flops[16], flops[64]) < 1.1
    assert f"rises to {flops[256]:.1f} at 256" in drawing.alt
    assert 0.08 < time[64] < 0.12
    assert time[64] < time[256] < 1.5 * time[64]
    lines = drawing.figure.axes[0].get_lines()
    assert list(lines[0].get_ydata()) == list(data.flops)
    assert list(lines[1].get_ydata()) == list(data.time)
    plt.close(drawing.figure)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "must be JSON"), ("[]", "must be one JSON object"), ("{}", "must be a record of python -m hope_ref bench"),
     ('{"ratios": 1, "by_chunk_size": [{"chunk_size": 1, "us_per_token": "fast"}]}', "must be a record of python -m")],
)  # fmt: skip
def test_another_file_is_no_record(content: str, message: str, tmp_path: Path) -> None:
    for width in gallery.WIDTHS:
        (tmp_path / f"benchmark_cpu_{width}.json").write_text(content)
    for read in (gallery.benchmark_data, lambda folder: gallery.chunk_times_data(folder=folder)):
        with pytest.raises(ValueError, match=message):
            read(tmp_path)
