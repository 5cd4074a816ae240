from collections.abc import Iterator
from dataclasses import astuple

from hypothesis import assume, given
from hypothesis import strategies as st

from workers.engine.passes import CPU_SIZES, PassSizes, fitting

MOST = PassSizes(images=8, pairs=128, mask_pairs=16)

sizes = st.builds(PassSizes, *(st.integers(1, 200) for _ in range(3)))
free_bytes = st.integers(0, 200 * 2**30)
bytes_each = st.floats(2**10, 8 * 2**30)
needs = st.fixed_dictionaries(
    dict.fromkeys(("image_bytes", "pair_bytes", "mask_pair_bytes"), bytes_each)
)


def halvings(sizes: PassSizes) -> Iterator[PassSizes]:
    smaller = sizes.halved()
    while smaller is not None:
        yield smaller
        smaller = smaller.halved()


@given(sizes)
def test_halving_ends_with_one_of_everything(start: PassSizes) -> None:
    steps = [start, *halvings(start)]
    assert steps[-1] == PassSizes(1, 1, 1)
    assert len(steps) == max(astuple(start)).bit_length()


@given(sizes)
def test_a_half_is_half_and_never_none(start: PassSizes) -> None:
    half = start.halved()
    assume(half is not None)
    for smaller, larger in zip(astuple(half), astuple(start), strict=True):
        assert smaller == max(1, larger // 2)


@given(free_bytes, needs)
def test_fitting_passes_leave_a_fifth_of_the_memory_free(free: int, need: dict[str, float]) -> None:
    each = (need["image_bytes"], need["pair_bytes"], need["mask_pair_bytes"])
    taken = zip(astuple(fitting(free, **need)), each, strict=True)
    # One of each is tried, whether or not it fits. Sums are rounded: a byte more may come out.
    assert sum(size * one for size, one in taken if size > 1) <= 0.8 * free + 1


@given(free_bytes, needs)
def test_a_pass_is_never_empty_and_never_larger_than_is_of_use(
    free: int, need: dict[str, float]
) -> None:
    for size, most in zip(astuple(fitting(free, **need)), astuple(MOST), strict=True):
        assert 1 <= size <= most


@given(free_bytes, free_bytes, needs)
def test_more_memory_never_makes_a_smaller_pass(
    one: int, other: int, need: dict[str, float]
) -> None:
    less, more = (fitting(free, **need) for free in sorted((one, other)))
    assert all(a <= b for a, b in zip(astuple(less), astuple(more), strict=True))


@given(free_bytes, needs, st.sampled_from(["image_bytes", "pair_bytes", "mask_pair_bytes"]))
def test_what_one_kind_takes_changes_nothing_for_the_others(
    free: int, need: dict[str, float], changed: str
) -> None:
    before, after = fitting(free, **need), fitting(free, **{**need, changed: 2 * need[changed]})
    kinds = {"image_bytes": "images", "pair_bytes": "pairs", "mask_pair_bytes": "mask_pairs"}
    for need_name, size in kinds.items():
        if need_name == changed:
            assert getattr(after, size) <= getattr(before, size)
        else:
            assert getattr(after, size) == getattr(before, size)


def test_a_large_gpu_gets_the_largest_passes_and_a_small_one_some() -> None:
    need = {"image_bytes": 300e6, "pair_bytes": 150e6, "mask_pair_bytes": 250e6}
    assert fitting(140 * 2**30, **need) == MOST
    small = fitting(8 * 2**30, **need)
    assert PassSizes(1, 1, 1) != small
    assert all(a <= b for a, b in zip(astuple(small), astuple(MOST), strict=True))


def test_the_sizes_for_cpus_are_sizes() -> None:
    assert min(astuple(CPU_SIZES)) >= 1
