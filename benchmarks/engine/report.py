"""The table, as text and as JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.engine.agreement import Agreement

_HEADINGS = ("ms/image", "images/s", "GiB", "vs (1)", "vs (4)", "matched", "score diff")


@dataclass
class Row:
    """`seconds_per_image`, one a round. `peak_bytes` on the device beyond what lay there before,
    such as weights. `warm_up_seconds`: loading, compiling, and the first images. `note` says why
    there are no numbers."""

    key: str
    name: str
    seconds_per_image: list[float] = field(default_factory=list)
    images_per_round: int = 0
    peak_bytes: int | None = None
    warm_up_seconds: float | None = None
    agreement: Agreement | None = None
    note: str | None = None

    @property
    def seconds(self) -> float | None:
        return median(self.seconds_per_image) if self.seconds_per_image else None


@dataclass
class Table:
    """Rows are compared with those of the keys `plain` and `stock`."""

    title: str
    rows: list[Row] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        width = max([len(self.title), *(len(row.name) for row in self.rows)])
        yield self.title.ljust(width) + "".join(heading.rjust(11) for heading in _HEADINGS)
        for row in self.rows:
            if row.seconds is None:
                yield f"{row.name.ljust(width)}   {row.note or 'not yet measured'}"
            else:
                cells = "".join(cell.rjust(11) for cell in self._cells(row, row.seconds))
                yield row.name.ljust(width) + cells + (f"   {row.note}" if row.note else "")

    def _cells(self, row: Row, seconds: float) -> Iterator[str]:
        yield f"{1000 * seconds:.1f}"
        yield f"{1 / seconds:.2f}"
        yield "-" if row.peak_bytes is None else f"{row.peak_bytes / 2**30:.2f}"
        for key in ("plain", "stock"):
            factor = self.speed_up(row, key)
            yield "-" if factor is None else f"{factor:.2f} x"
        yield "-" if row.agreement is None else f"{100 * row.agreement.matched:.1f} %"
        yield "-" if row.agreement is None else f"{row.agreement.score_difference:.0e}"

    def speed_up(self, row: Row, key: str) -> float | None:
        others = [other.seconds for other in self.rows if other.key == key and other.seconds]
        return others[0] / row.seconds if others and row.seconds else None

    def as_json(self) -> dict[str, Any]:
        return {"title": self.title, "rows": [self._row_as_json(row) for row in self.rows]}

    def _row_as_json(self, row: Row) -> dict[str, Any]:
        milliseconds = None if row.seconds is None else round(1000 * row.seconds, 2)
        factors = {key: self.speed_up(row, key) for key in ("plain", "stock")}
        return {
            **asdict(row),
            "milliseconds_per_image": milliseconds,
            **{
                f"times_as_fast_as_{key}": round(factor, 2) if factor else None
                for key, factor in factors.items()
            },
        }


@dataclass
class Report:
    """Written anew after each row, so that a run that is killed leaves what it has measured."""

    files: Path  # without suffix
    scenario: str
    arguments: dict[str, Any]
    machine: dict[str, str]
    notes: list[str]
    tables: Sequence[Table]

    def text(self) -> str:
        tables = ["\n".join(table.lines()) for table in self.tables]
        machine = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        return "\n\n".join([self.scenario, *tables, "\n".join([*self.notes, machine])]) + "\n"

    def write(self) -> None:
        self.files.parent.mkdir(parents=True, exist_ok=True)
        self.files.with_name(f"{self.files.name}.txt").write_text(self.text())
        content = {
            "scenario": self.scenario,
            "arguments": self.arguments,
            "machine": self.machine,
            "notes": self.notes,
            "tables": [table.as_json() for table in self.tables],
        }
        self.files.with_name(f"{self.files.name}.json").write_text(
            json.dumps(content, indent=2) + "\n"
        )
