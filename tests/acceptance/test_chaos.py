"""A short run of `make chaos`, which see."""

from pathlib import Path

from tests.chaos.run import run


def test_every_image_has_one_outcome_whatever_dies(open_folder: Path) -> None:
    report = run(open_folder, seed=7, seconds=25, images=1500)
    assert report.faults == []
    assert report.outcomes
    assert len(report.strikes) >= 3
