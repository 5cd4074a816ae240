from random import Random

import pytest

from domain.estimate import Estimate, SampledSlice, estimate
from tests.unit.domain.simulated_pipeline import Machine, sample, seconds_of_all


def slices(*committed: tuple[int, float], runner: str = "w") -> list[SampledSlice]:
    """All opened at once, at 0."""
    return [SampledSlice(images, runner, 0.0, time) for images, time in committed]


def estimated(of: list[SampledSlice], *, images_total: int = 1000, workers: int = 1) -> Estimate:
    result = estimate(of, images_total=images_total, workers=workers)
    assert result is not None
    return result


def test_without_a_slice_there_is_no_estimate() -> None:
    assert estimate([], images_total=1000) is None


def test_the_first_commit_only_starts_the_clock() -> None:
    result = estimated(slices((8, 30.0), (8, 34.0), (34, 51.0)))
    assert result.seconds_per_image == pytest.approx(0.5)
    assert (result.measured_images, result.steady) == (42, True)
    assert result.seconds == pytest.approx(500)
    assert result.gpu_hours == pytest.approx(500 / 3600)


def test_more_workers_take_less_time_and_the_same_gpu_hours() -> None:
    of = slices((8, 30.0), (8, 34.0), (34, 51.0))
    one, four = estimated(of), estimated(of, workers=4)
    assert four.seconds == pytest.approx(one.seconds / 4)
    assert four.gpu_hours == one.gpu_hours


def test_a_single_slice_holds_starting_up_and_says_so() -> None:
    result = estimated([SampledSlice(8, "w", 100.0, 108.0)])
    assert result.seconds_per_image == pytest.approx(1.0)
    assert not result.steady
    assert result.seconds_per_image_low is None


def test_slices_that_one_batch_ends_together_are_one_step() -> None:
    """Batches of 16, a second each: commits come in pairs, the first pair too."""
    result = estimated(slices((8, 5.0), (8, 5.01), (8, 6.0), (8, 6.01), (8, 7.0), (8, 7.01)))
    assert result.seconds_per_image == pytest.approx(1 / 16, rel=0.01)
    assert result.measured_images == 32


def test_runners_are_timed_each_by_its_own_clock() -> None:
    fast = slices((8, 10.0), (8, 14.0), (8, 18.0), runner="fast")
    slow = slices((8, 50.0), (8, 62.0), (8, 74.0), runner="slow")
    result = estimated([one for pair in zip(slow, fast, strict=True) for one in pair])
    assert result.seconds_per_image == pytest.approx((0.5 + 1.5) / 2)


def test_time_in_which_a_runner_did_something_else_is_not_counted() -> None:
    before = slices((8, 10.0), (8, 14.0), (8, 18.0))
    after = [SampledSlice(8, "w", 900.0, 930.0), SampledSlice(8, "w", 901.0, 934.0)]
    result = estimated(before + after)
    assert result.seconds_per_image == pytest.approx(0.5)
    assert result.measured_images == 24


def test_one_stall_is_not_taken_for_the_rule() -> None:
    times = [10, 14, 18, 22, 62, 66, 70]  # 36 seconds lost
    result = estimated(slices(*((8, float(time)) for time in times)))
    assert result.seconds_per_image == pytest.approx(0.5 * 6.5 / 6)


def test_the_bounds_hold_the_spread_and_shrink_with_the_number_of_slices() -> None:
    def width(count: int) -> float:
        times = [10 + 4 * place + place % 2 for place in range(count + 1)]  # 5, 3, 5, 3 seconds
        result = estimated(slices(*((8, float(time)) for time in times)))
        assert result.seconds_per_image_low is not None
        assert result.seconds_per_image_high is not None
        assert result.seconds_per_image_low < 0.5 < result.seconds_per_image_high
        return result.seconds_per_image_high - result.seconds_per_image_low

    assert width(16) < width(4) / 2
    assert estimated(slices((8, 1.0), (8, 5.0), (8, 8.0))).seconds_per_image_low is None


def test_images_that_all_failed_at_once_are_no_division_by_zero() -> None:
    result = estimated(slices((8, 1.0), (8, 1.0), (34, 1.0)))
    assert result.seconds >= 0


MACHINES = {
    "demo network, two cores": Machine(network=0.08, batch=1, decoders=2, fetch=0.005),
    "batches of four": Machine(network=0.08, batch=4, decoders=2, fetch=0.005),
    "GPU": Machine(network=0.04, decoders=16, fetch=0.1, warm_up=2),
    "GPU, compiles first": Machine(network=0.03, batch_overhead=0.08, decoders=16, warm_up=60),
    "GPU, batches of sixteen": Machine(
        network=0.04, batch_overhead=0.05, batch=16, fetches=32, decoders=16, warm_up=2
    ),
    "GPU, a stall": Machine(network=0.04, decoders=16, fetch=0.1, warm_up=2, stall=3),
    "a slow store": Machine(network=0.04, fetch=2.0, decoders=16),
    "large images, few cores": Machine(network=0.03, decode=0.5),
    "large masks": Machine(network=0.03, encode=0.1, decoders=16, warm_up=2),
    "SAM 3 on a CPU": Machine(network=3.0, batch=1, decoders=2, warm_up=3),
}


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_fifty_images_tell_within_a_fifth_how_long_five_thousand_take(
    name: str, noise: float
) -> None:
    machine = MACHINES[name]
    machine.noise, machine.random = noise, Random(1)
    real = seconds_of_all(machine, 5000)
    for seed in range(10 if noise else 1):
        machine.random = Random(seed)
        result = estimated(sample(machine, 50), images_total=5000)
        assert result.seconds == pytest.approx(real, rel=0.2)
        assert result.steady


def test_the_bounds_mostly_hold_what_it_really_takes() -> None:
    machine = Machine(network=0.08, batch=1, decoders=2, fetch=0.005, noise=0.4)
    real = seconds_of_all(machine, 5000)
    held = 0
    for seed in range(40):
        machine.random = Random(seed)
        result = estimated(sample(machine, 50), images_total=5000)
        assert result.seconds_per_image_low is not None
        assert result.seconds_per_image_high is not None
        held += result.seconds_per_image_low <= real / 5000 <= result.seconds_per_image_high
    assert held >= 32
