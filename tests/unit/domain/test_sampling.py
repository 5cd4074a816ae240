"""Each image is as likely as any other, wherever the reading was cut short."""

from domain.sampling import Sampler


def sample(size: int, count: int, *, seed: str, cut_at: int = 0) -> list[int]:
    kept: list[tuple[int, int]] = []
    if cut_at:
        first = Sampler[int](size, seed=seed)
        for position in range(cut_at):
            first.offer(position, position)
        kept = [(position, position) for position in first.chosen()]
    sampler = Sampler[int](size, seed=seed, kept=kept)
    for position in range(cut_at, count):
        sampler.offer(position, position)
    return sampler.chosen()


def test_a_sample_has_its_size_once_each_and_in_order() -> None:
    chosen = sample(50, 10_000, seed="job_1")
    assert len(chosen) == len(set(chosen)) == 50
    assert chosen == sorted(chosen)


def test_of_few_images_all_are_in_the_sample() -> None:
    assert sample(50, 7, seed="job_1") == list(range(7))


def test_the_same_seed_chooses_the_same_and_another_one_others() -> None:
    assert sample(20, 1000, seed="job_1") == sample(20, 1000, seed="job_1")
    assert sample(20, 1000, seed="job_1") != sample(20, 1000, seed="job_2")


def test_a_sample_that_was_cut_short_anywhere_comes_out_the_same() -> None:
    whole = sample(20, 1000, seed="job_1")
    for cut_at in (1, 19, 20, 500, 999):
        assert sample(20, 1000, seed="job_1", cut_at=cut_at) == whole


def test_every_position_is_as_likely_as_any_other() -> None:
    """2,000 samples of 5 of 50: each position is expected 200 times, +- 13.4."""
    times = [0] * 50
    for number in range(2000):
        for position in sample(5, 50, seed=f"job_{number}"):
            times[position] += 1
    assert min(times) > 200 - 5 * 13.4
    assert max(times) < 200 + 5 * 13.4
