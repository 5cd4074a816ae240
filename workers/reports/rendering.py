"""Turns a report into one HTML page: no script, nothing that is fetched."""

from base64 import b64encode
from collections.abc import Callable
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from domain.printable import printable


def render(template: str, **values: object) -> str:
    """The page of a file below templates/. What the values say is shown as text: HTML in names of
    images or classes stays what it is."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("workers.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "count": count,
        "data_uri": data_uri,
        "duration": duration,
        "percent": percent,
        "plural": plural,
        "printable": printable,
    }
    environment.filters.update(filters)
    return environment


def data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"


def count(number: int) -> str:
    return f"{number:,}"


def plural(number: int, singular: str, many: str | None = None) -> str:
    return f"{number:,} {singular if number == 1 else many or singular + 's'}"


def percent(share: float) -> str:
    """Of 0.123, 0.0123, 0.00123 and nothing: 12 %, 1.2 %, 0.12 % and 0 %."""
    digits = 0 if share >= 0.1 or not share else 1 if share >= 0.01 else 2
    return f"{100 * share:.{digits}f} %"


def duration(seconds: float) -> str:
    """In its two largest units: 3 days 4 h, 2 h 5 min, 1 min 10 s, 45 s, 4.2 s."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return _two(round(seconds), 60, units=("min", "s"))
    if seconds < 48 * 3600:
        return _two(round(seconds / 60), 60, units=("h", "min"))
    return _two(round(seconds / 3600), 24, units=("days", "h"))


def _two(smaller: int, size: int, *, units: tuple[str, str]) -> str:
    whole, rest = divmod(smaller, size)
    return f"{whole:,} {units[0]} {rest} {units[1]}" if rest else f"{whole:,} {units[0]}"
