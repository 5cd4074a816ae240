"""What takes minutes: networks of the published size, and thousands of images."""

import pytest

from tests.slow.processes import answer_of

GIB = 2**30


@pytest.mark.timeout(1800)
def test_a_network_of_the_published_size_runs_on_a_cpu_in_16_gib() -> None:
    answer = answer_of("full_size")
    assert answer["error"] is None
    assert answer["saturated_prompts"] == [0, 1]
    assert answer["masks"] == 2 * 200 + 1  # every query of the texts, and one for the click
    assert answer["finite"]
    assert all(0 <= score <= 1 for score in answer["scores"])
    assert len(set(answer["scores"])) > 100  # the weights let something through
    assert answer["peak_bytes"] < 16 * GIB


@pytest.mark.timeout(3600)
def test_memory_does_not_grow_over_ten_thousand_images() -> None:
    answer = answer_of("many_images")
    resident = {int(number): size for number, size in answer["resident"].items()}
    assert answer["instances"] > 1000
    assert resident[10_000] < 1.05 * resident[1_000]


@pytest.mark.timeout(3600)
def test_memory_does_not_grow_and_nothing_is_left_while_workers_end_all_the_time() -> None:
    answer = answer_of("restarts")
    assert answer["counts"]["succeeded"] == answer["counts"]["total"] == 200_000
    assert len(answer["ends"]) >= 2
    assert answer["orphans"] == []
    assert answer["promised_seconds"] == pytest.approx(answer["left_seconds"], rel=0.2)
    for name, (first_half, second_half) in answer["peak_mib"].items():
        assert second_half < 1.1 * first_half + 5, name
