import ast
from collections.abc import Iterator
from pathlib import Path

from tests.services import REPOSITORY

WALL_CLOCKS = {
    "time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"
}  # fmt: skip
# Where a wrong clock spoils a name or a label, and decides nothing.
LABELS = {"domain/ids.py", "storage/sources.py", "workers/interactive/pictures.py"}


def wall_clocks(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in WALL_CLOCKS:
            yield ast.unparse(node)
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (alias.name for alias in node.names if alias.name.startswith("time"))


def test_a_worker_whose_clock_is_wrong_does_as_the_others_do() -> None:
    """Leases, deadlines and ages are the database's and the broker's, or counted in one process."""
    paths = [
        p for room in ("workers", "storage", "domain") for p in (REPOSITORY / room).rglob("*.py")
    ]
    found = {str(path.relative_to(REPOSITORY)) for path in paths if [*wall_clocks(path)]}
    assert found == LABELS


def test_a_wall_clock_is_seen(tmp_path: Path) -> None:
    source = tmp_path / "lease.py"
    source.write_text("import time\nfrom time import time_ns\nover = time.time() > 5\n")
    assert sorted(wall_clocks(source)) == ["time.time", "time_ns"]
