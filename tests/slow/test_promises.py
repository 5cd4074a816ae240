"""What a preview of 50 images promises for 5,000 is what these then take."""

import pytest

from tests.slow.processes import answer_of


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("model", ["null:20ms", "demo-sam3"])
def test_a_preview_promises_the_time_of_the_full_run_within_a_fifth(model: str) -> None:
    answer = answer_of("promises", "--model", model)
    assert answer["promised_seconds"] == pytest.approx(answer["took_seconds"], rel=0.2), answer
