import pytest

from domain.formats.voc_names import voc_names

READABLE = ["a_b", "a#b", "50% grey", "Ärger", "猫", "red  circle", "x" * 200, "a_b 2"]


def test_names_that_readers_take_as_they_are_stay() -> None:
    assert voc_names(READABLE) == READABLE


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("a:b", "a_b"),
        ("#1", "_1"),
        (" a ", "a"),
        (" #a", "_a"),
        (" ", "_"),
        ("a\nb\rc\u2028d", "a_b_c_d"),
        ("bell\x07", "bell\ufffd"),
        ("background", "background 2"),
    ],
)
def test_a_name_that_readers_trip_over_is_changed(name: str, readable: str) -> None:
    assert voc_names([name]) == [readable]


def test_no_two_classes_have_one_name() -> None:
    assert voc_names(["a:b", "a_b", "a:b 2", "a::b", " a", "a"]) == [
        "a_b 2",
        "a_b",
        "a_b 2 2",
        "a__b",
        "a 2",
        "a",
    ]


def test_a_readable_name_is_not_changed_for_the_sake_of_another() -> None:
    assert voc_names(["a:b", *READABLE]) == ["a_b 3", *READABLE]
