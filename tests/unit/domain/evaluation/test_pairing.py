"""Which images of the job are those of the truth."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.evaluation.documents import EvaluatedImages, Listed
from domain.evaluation.pairing import Pairing, Pairs
from domain.evaluation.truth import Truth, TruthImage
from domain.exports import ShownImage


def truth_of(*names: str) -> Truth:
    images = tuple(TruthImage(name, 30, 20, ()) for name in names)
    return Truth(images, matched={}, left_out=(), unmatched={})


def shown(number: int, name: str, size: tuple[int, int] = (30, 20)) -> ShownImage:
    return ShownImage(number, name, None, *size, 1, ())


def paired(job: list[str], truth: list[str]) -> tuple[Pairs, EvaluatedImages]:
    pairing = Pairing(truth_of(*truth))
    for number, name in enumerate(job):
        pairing.claim(shown(number, name))
    return pairing.pairs(), pairing.images([])


def pairs_of(job: list[str], truth: list[str]) -> dict[str, str]:
    pairs, _ = paired(job, truth)
    return {name: truth[place] for name, place in zip(pairs.names, pairs.places, strict=True)}


@pytest.mark.parametrize(
    ("job", "truth"),
    [
        ("a.jpg", "a.jpg"),
        ("s3://bucket/photos/a.jpg", "a.jpg"),
        ("a.jpg", "/data/images/a.jpg"),
        ("photos/a.jpg", "images/a.jpg"),
        ("photos/x/a.jpg", "images\\x\\a.jpg"),
        ("./photos/a.jpg", "photos//a.jpg"),
    ],
)
def test_names_fit_by_their_ends(job: str, truth: str) -> None:
    assert pairs_of([job], [truth]) == {job: truth}


@pytest.mark.parametrize(
    ("job", "truth"), [("a.jpg", "b.jpg"), ("aa.jpg", "a.jpg"), ("a.jpg", "A.jpg"), ("x/a", "a/x")]
)
def test_parts_of_paths_fit_whole_or_not_at_all(job: str, truth: str) -> None:
    assert pairs_of([job], [truth]) == {}


def test_equal_names_go_before_longer_ends() -> None:
    truth = ["a.jpg", "x/a.jpg"]
    assert pairs_of(["a.jpg", "y/x/a.jpg"], truth) == {"a.jpg": "a.jpg", "y/x/a.jpg": "x/a.jpg"}


def test_the_longest_common_end_is_taken() -> None:
    truth = ["one/cam1/0001.jpg", "one/cam2/0001.jpg"]
    job = ["two/cam2/0001.jpg", "two/cam1/0001.jpg"]
    assert pairs_of(job, truth) == {job[0]: truth[1], job[1]: truth[0]}


def test_images_that_fit_one_of_the_truth_equally_well_are_ambiguous() -> None:
    pairs, images = paired(["x/a.jpg", "y/a.jpg", "z/a.jpg", "b.jpg"], ["a.jpg", "b.jpg"])
    assert list(pairs.names) == ["b.jpg"]
    assert images.ambiguous == Listed(count=3, first=["x/a.jpg", "y/a.jpg", "z/a.jpg"])
    assert images.not_in_job == Listed(count=1, first=["a.jpg"])


def test_an_image_that_fits_several_of_the_truth_is_ambiguous() -> None:
    pairs, images = paired(["a.jpg"], ["x/a.jpg", "y/a.jpg"])
    assert list(pairs.names) == []
    assert images.ambiguous == Listed(count=1, first=["a.jpg"])
    assert images.not_in_job.count == 2


@given(st.permutations(["x/a.jpg", "y/a.jpg", "a.jpg", "z/x/a.jpg", "b.jpg", "c/b.jpg"]))
def test_the_order_of_images_does_not_matter(job: list[str]) -> None:
    truth = ["q/z/x/a.jpg", "c/b.jpg", "d/c/b.jpg"]
    pairs, images = paired(job, truth)
    assert pairs_of(job, truth) == {"z/x/a.jpg": "q/z/x/a.jpg", "c/b.jpg": "c/b.jpg"}
    assert sorted(images.ambiguous.first) == ["b.jpg"]
    assert sorted(images.not_in_truth.first) == ["a.jpg", "x/a.jpg", "y/a.jpg"]
    assert images.not_in_job.first == ["d/c/b.jpg"]
    assert pairs.indexes.tolist() == [job.index(name) for name in pairs.names]


def test_a_better_fit_that_comes_later_ends_a_tie() -> None:
    for job in permutations(["x/a.jpg", "y/a.jpg", "t/a.jpg"]):
        pairs, images = paired(list(job), ["s/t/a.jpg"])
        assert list(pairs.names) == ["t/a.jpg"]
        assert images.ambiguous.count + images.not_in_truth.count == 2


def test_images_of_another_size_are_not_compared() -> None:
    pairing = Pairing(truth_of("a.jpg", "b.jpg"))
    assert pairing.claim(shown(0, "a.jpg", (20, 30))) is None
    assert pairing.claim(shown(1, "b.jpg")) is not None
    assert list(pairing.pairs().names) == ["b.jpg"]
    images = pairing.images([])
    assert (images.evaluated, images.sizes_differ) == (1, Listed(count=1, first=["a.jpg"]))


def test_images_of_the_truth_that_failed_are_told_from_those_that_the_job_has_not() -> None:
    pairing = Pairing(truth_of("a.jpg", "b.jpg", "c.jpg", "x/d.jpg", "y/d.jpg"))
    pairing.claim(shown(0, "a.jpg"))
    images = pairing.images(["photos/b.jpg", "a.jpg", "d.jpg", "other.jpg"])
    assert images.evaluated == 1
    assert images.failed == Listed(count=1, first=["b.jpg"])
    assert images.not_in_job == Listed(count=3, first=["c.jpg", "x/d.jpg", "y/d.jpg"])


def test_a_report_names_the_first_ten() -> None:
    _, images = paired([f"{n}.jpg" for n in range(30)], [f"x/{n}.jpg" for n in range(15)])
    assert images.evaluated == images.by_end_of_path.count == 15
    assert images.by_end_of_path.first[:2] == ["0.jpg = x/0.jpg", "1.jpg = x/1.jpg"]
    assert images.not_in_truth == Listed(count=15, first=[f"{n}.jpg" for n in range(15, 25)])


def test_a_path_of_very_many_parts_is_compared_by_its_last_ones() -> None:
    assert pairs_of(["a/" * 2000 + "b/" * 40 + "x.jpg"], ["c/" * 1900 + "b/" * 40 + "x.jpg"])
