import pytest

from tests.unit.workers.reports.pages import chart, parts, texts, tooltips
from workers.reports.charts import Line, Mark, Series, curve, histogram

HOSTILE = '"><script>alert(1)</script>&'


def test_bars_are_as_high_as_their_counts_and_stand_on_the_axis() -> None:
    svg = chart(histogram([Series("instances", [4, 0, 2, 1])], title="scores"))
    bars = parts(svg, "rect", of_class="series-1")
    heights = [float(bar.get("height", "")) for bar in bars]
    assert heights == pytest.approx([84, 42, 21])
    assert len({float(bar.get("y", "")) + float(bar.get("height", "")) for bar in bars}) == 1
    assert tooltips(svg) == [
        "instances, 0.00 to 0.25: 4",
        "instances, 0.50 to 0.75: 2",
        "instances, 0.75 to 1.00: 1",
    ]


def test_two_series_stand_on_one_another_and_have_a_legend() -> None:
    true, false = Series("true positives", [1, 3]), Series("false positives", [2, 1])
    svg = chart(histogram([true, false], title="scores"))
    lower = parts(svg, "rect", of_class="series-1")
    upper = parts(svg, "rect", of_class="series-2")
    for below, above in zip(lower[:2], upper[:2], strict=True):  # the third is the legend's
        top_of_lower = float(below.get("y", ""))
        assert float(above.get("y", "")) + float(above.get("height", "")) == pytest.approx(
            top_of_lower
        )
        assert above.get("x") == below.get("x")
    assert {"true positives", "false positives"} <= set(texts(svg))
    assert "4" in texts(svg)  # the highest bin


def test_what_lies_below_the_threshold_is_faint_and_the_threshold_is_named() -> None:
    svg = chart(histogram([Series("n", [1] * 20)], title="scores", threshold=0.65))
    assert len(parts(svg, "rect", of_class="below")) == 13
    assert "threshold 0.65" in texts(svg)
    plain = chart(histogram([Series("n", [1] * 20)], title="scores"))
    assert not parts(plain, "path", of_class="threshold")


def test_a_histogram_of_nothing_is_a_chart_too() -> None:
    svg = chart(histogram([Series("n", [0] * 20)], title="no instances", threshold=0.5))
    assert svg.get("aria-label") == "no instances"
    assert not parts(svg, "rect", of_class="series-1")
    assert "none" in texts(svg)


def test_bars_that_would_dwarf_the_others_are_cut_and_keep_their_count() -> None:
    svg = chart(histogram([Series("n", [900, 20, 10])], title="scores", up_to=20))
    bars = parts(svg, "rect", of_class="series-1")
    assert [float(bar.get("height", "")) for bar in bars] == pytest.approx([84, 84, 42])
    assert len(parts(svg, "path", of_class="notch")) == 1
    assert "n, 0.00 to 0.33: 900" in tooltips(svg)
    assert "20" in texts(svg)


def test_a_curve_goes_through_its_points_and_has_its_mark_on_it() -> None:
    line = Line("F1", [(0, 0), (0.5, 1), (1, 0.25)])
    svg = chart(
        curve([line], title="F1", x_label="threshold", y_label="F1", mark=Mark("best", 0.5, 1))
    )
    (drawn,) = parts(svg, "polyline", of_class="line")
    points = [tuple(map(float, pair.split(","))) for pair in drawn.get("points", "").split()]
    (mark,) = parts(svg, "circle", of_class="mark")
    assert (float(mark.get("cx", "")), float(mark.get("cy", ""))) == points[1]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x0 < x1 < x2
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert y2 - y1 == pytest.approx(0.75 * (y0 - y1))
    assert "best" in texts(svg)


def test_labels_of_others_are_text_and_nothing_else() -> None:
    for svg in (
        histogram([Series(HOSTILE, [1]), Series(HOSTILE, [1])], title=HOSTILE, x_label=HOSTILE),
        curve(
            [Line(HOSTILE, [(0, 0)]), Line(HOSTILE, [(0, 0)])],
            title=HOSTILE,
            x_label=HOSTILE,
            y_label=HOSTILE,
            mark=Mark(HOSTILE, 0, 0),
        ),
    ):
        assert chart(svg).get("aria-label") == HOSTILE
        assert HOSTILE in texts(chart(svg))
        assert "<script" not in svg
