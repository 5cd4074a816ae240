"""The console's own scripts are read by people: nothing of theirs is minified."""

from tests.services import REPOSITORY

STATIC = REPOSITORY / "api" / "console" / "static"
LONGEST = 140  # characters of a line


def test_no_line_of_a_script_is_too_long_to_be_read() -> None:
    scripts = [path for path in STATIC.rglob("*.js") if path.parent.name != "vendor"]
    assert scripts
    too_long = [
        f"{path.relative_to(STATIC)}:{number}: {len(line)} characters"
        for path in scripts
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if len(line) > LONGEST
    ]
    assert too_long == []
