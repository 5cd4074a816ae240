"""The benchmark of exports measures what it says."""

from pathlib import Path

import pytest

from benchmarks import export
from domain.exports import ExportFormat


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(export, "SCENES", 2)
    export.write_result(tmp_path / "result", instances=400)
    return tmp_path / "result"


def test_a_format_and_the_plain_way_write_all_that_there_is(result: Path) -> None:
    found = export._exported(ExportFormat.COCO, "rle", result)
    plain = export._plain(result)
    assert found["instances"] == plain["instances"] == 400
    assert found["bytes"] > plain["bytes"] / 2
    assert not (result / "exports").exists() or not any((result / "exports").rglob("*.json"))


def test_every_format_is_measured_and_what_may_hold_polygons_twice() -> None:
    names = [way.name for way in export.ways([])]
    assert set(ExportFormat) < set(names)
    assert {"coco-polygons", "label-studio-polygons"} < set(names)
    assert [way.name for way in export.ways(["coco-polygons"])] == ["coco-polygons"]


def test_the_table_has_a_row_for_each_way_and_a_column_for_each_size() -> None:
    rows = [
        {"way": "coco", "result": size, "instances_per_cpu_second": size, "peak_mib": 1}
        for size in (10, 2000)
    ]
    lines = export.table(rows, 800, {"cores": "2"}).splitlines()
    assert lines[0] == "| instances per second of CPU, peak MiB | 10 | 2,000 | mean IoU |"
    assert lines[2] == "| coco | 10, 1 | 2,000, 1 |  |"
