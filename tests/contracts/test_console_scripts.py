"""The console's own scripts are read by people: nothing of theirs is minified."""

from tests.services import REPOSITORY

STATIC = REPOSITORY / "api" / "console" / "static"
LONGEST = 140  # characters of a line
# Still have longer ones: to be taken out once they have not.
NOT_YET = {"pages/job.js", "pages/job/timings.js", "pages/system.js", "ui/charts.js"}


def test_no_line_of_a_script_is_too_long_to_be_read() -> None:
    scripts = {path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*.js")}
    own = {name for name in scripts if not name.startswith("vendor/")}
    assert own >= NOT_YET
    too_long = [
        f"{name}:{number}: {len(line)} characters"
        for name in sorted(own - NOT_YET)
        for number, line in enumerate(scripts[name].read_text().splitlines(), start=1)
        if len(line) > LONGEST
    ]
    assert too_long == []
