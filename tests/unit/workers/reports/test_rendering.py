import re
import tomllib
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from tests.unit.workers.reports.pages import Page, assert_self_contained
from workers.reports import rendering
from workers.reports.rendering import duration, percent, plural, render

REPOSITORY = Path(__file__).parents[4]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.052, "0.052 s"),
        (4.234, "4.2 s"),
        (45, "45 s"),
        (59.9, "60 s"),
        (60, "1 min"),
        (70.4, "1 min 10 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86400, "24 h"),
        (3 * 86400 + 4 * 3600, "3 days 4 h"),
        (400 * 86400, "400 days"),
    ],
)
def test_durations_are_said_in_their_two_largest_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("share", "said"),
    [(0, "0 %"), (0.00123, "0.12 %"), (0.0123, "1.2 %"), (0.123, "12 %"), (1, "100 %")],
)
def test_shares_are_said_in_percent(share: float, said: str) -> None:
    assert percent(share) == said


def test_counts_have_their_noun() -> None:
    said = [plural(number, "image") for number in (0, 1, 2000)]
    assert said == ["0 images", "1 image", "2,000 images"]
    assert plural(2, "box", "boxes") == "2 boxes"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> str:
    """The smallest page."""
    source = """{% extends "base.html" %}{% from "parts.html" import tile, finding, swatch %}
        {% block title %}{{ name }}{% endblock %}
        {% block heading %}<h1>{{ name }}</h1>{% endblock %}
        {% block content %}<dl>{{ tile(name, 1, name) }}</dl>
        <ul>{{ finding("hint", name, name) }}</ul>{{ swatch((1, 2, 3)) }}{% endblock %}"""
    template = rendering._environment().from_string(source)
    return template.render(name="<img src=x onerror=alert(1)>")


def test_a_page_runs_nothing_and_fetches_nothing(page: str) -> None:
    assert_self_contained(page)
    policy = next(one for one in Page(page).all("meta") if "http-equiv" in one)
    assert "default-src 'none'" in (policy["content"] or "")


def test_names_are_shown_as_they_are(page: str) -> None:
    assert not Page(page).all("img")
    assert Page(page).text.count("<img src=x onerror=alert(1)>") == 6


def test_a_value_that_a_template_misses_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render("histogram.svg")


def test_templates_are_part_of_the_wheel() -> None:
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert pyproject["tool"]["setuptools"]["package-data"]["workers.reports"] == ["templates/*"]
    assert all(path.is_file() for path in (REPOSITORY / "workers/reports/templates").iterdir())


def luminance(colour: str) -> float:
    """Relative, as WCAG 2.2 defines it."""
    digits = colour * 2 if len(colour) == 3 else colour
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "back", "least"),
    [
        ("ink", "page", 7),
        ("ink", "card", 7),
        ("faint", "page", 4.5),
        ("faint", "card", 4.5),
        ("accent", "page", 4.5),
        ("warning-ink", "warning-back", 4.5),
        ("hint-ink", "hint-back", 4.5),
        ("good-ink", "good-back", 4.5),
        ("series-1", "card", 3),
        ("series-2", "card", 3),
        ("mark", "card", 3),
    ],
)
def test_colours_have_the_contrast_that_wcag_asks_for(
    scheme: int, ink: str, back: str, least: float
) -> None:
    style = (REPOSITORY / "workers/reports/templates/style.css").read_text()
    colours = dict(re.findall(r"--([\w-]+): #(\w+)", style.split(":root")[scheme + 1]))
    light, dark = sorted((luminance(colours[ink]), luminance(colours[back])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= least
