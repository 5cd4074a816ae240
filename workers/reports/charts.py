"""Charts as SVG in the page. Colours come from the page's style, so they follow dark and light."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from workers.reports.rendering import render

_WIDTH, _BARS = 320, 84  # SVG units; the plot of a histogram is as high as its bars
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 10, 22, 34  # room for labels around the plot
_LEGEND = 16


@dataclass(frozen=True, slots=True)
class Series:
    """Counts of bins of equal width from 0 to 1."""

    label: str
    counts: Sequence[int]


@dataclass(frozen=True, slots=True)
class Line:
    """Points (x, y), both from 0 to 1, in the order in which they are joined."""

    label: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Mark:
    """A point to point out."""

    label: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class _Plot:
    """From values of 0 to 1 to the SVG's units."""

    width: float
    height: float
    top: float = _TOP
    left: float = _LEFT

    @property
    def right(self) -> float:
        return self.width - _RIGHT

    @property
    def bottom(self) -> float:
        return self.height - _BOTTOM

    def x(self, value: float) -> float:
        return round(self.left + value * (self.right - self.left), 2)

    def y(self, value: float) -> float:
        return round(self.bottom - value * (self.bottom - self.top), 2)


@dataclass(frozen=True, slots=True)
class _Bar:
    series: int
    below: bool  # the threshold
    title: str
    x: float
    y: float
    width: float
    height: float
    is_cut: bool


def histogram(
    series: Sequence[Series],
    *,
    title: str,
    threshold: float | None = None,
    x_label: str = "score",
    up_to: int | None = None,
) -> Markup:
    """Bars; of several series those of one bin stand on one another, the first at the bottom. What
    lies below the threshold is faint. Of a single series, bars above `up_to` are cut, with a notch.
    """
    top = _TOP + (_LEGEND if len(series) > 1 else 0)
    plot = _Plot(_WIDTH, top + _BARS + _BOTTOM, top=top)
    highest = max(map(sum, zip(*(one.counts for one in series), strict=True)))
    if up_to is not None:
        highest = min(highest, max(up_to, 1))
    return Markup(  # noqa: S704 - rendered with autoescape
        render(
            "histogram.svg",
            plot=plot,
            title=title,
            x_label=x_label,
            highest=highest,
            series=series,
            threshold=threshold,
            bars=_bars(plot, series, highest=highest, threshold=threshold),
        )
    )


def _bars(
    plot: _Plot, series: Sequence[Series], *, highest: int, threshold: float | None
) -> list[_Bar]:
    bins = len(series[0].counts)
    base = [0] * bins
    bars = []
    for number, one in enumerate(series):
        for place, size in enumerate(one.counts):
            if size:
                start, end = place / bins, (place + 1) / bins
                shown = min(size, highest)
                base[place] += shown
                bars.append(
                    _Bar(
                        number,
                        threshold is not None and end <= threshold + 1e-9,
                        f"{one.label}, {start:.2f} to {end:.2f}: {size:,}",
                        round(plot.x(start) + 0.5, 2),
                        plot.y(base[place] / highest),
                        round(plot.x(end) - plot.x(start) - 1, 2),
                        round(shown / highest * (plot.bottom - plot.top), 2),
                        shown < size,
                    )
                )
    return bars


def curve(
    lines: Sequence[Line], *, title: str, x_label: str, y_label: str, mark: Mark | None = None
) -> Markup:
    """Lines over a square whose sides go from 0 to 1."""
    plot = _Plot(_WIDTH, _WIDTH)
    drawn = [
        (line.label, " ".join(f"{plot.x(x)},{plot.y(y)}" for x, y in line.points)) for line in lines
    ]
    return Markup(  # noqa: S704 - rendered with autoescape
        render(
            "curve.svg",
            plot=plot,
            title=title,
            x_label=x_label,
            y_label=y_label,
            lines=drawn,
            mark=mark,
        )
    )
