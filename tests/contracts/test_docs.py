"""What the documents say exists: links, commands, options, targets, settings and error codes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.errors import ImageErrorCode
from maskmill.cli import _group
from storage.settings import Settings

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
CODE = [
    path
    for room in ("api", "domain", "maskmill", "storage", "workers")
    for path in (ROOT / room).rglob("*.py")
]
# Read by the client and by `python -m api.keys bootstrap`, not by the service's settings.
OTHER_VARIABLES = {
    "MASKMILL_URL",
    "MASKMILL_API_KEY",
    "MASKMILL_BOOTSTRAP_KEY",
    "MASKMILL_PUSH_TOKEN",
}

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_MASKMILL = re.compile(r"(?:^|[\s/`])maskmill ((?:[^\n#]|\n {4,})*)", re.MULTILINE)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _code_of(text: str) -> Iterator[str]:
    """Code blocks of the shell, with continued lines joined, and code within sentences."""
    for language, block in _FENCE.findall(text):
        if not language:
            yield block.replace("\\\n", " ")
    yield from _INLINE.findall(_FENCE.sub("", text))


def _anchors(path: Path) -> set[str]:
    """As GitHub makes them: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    for target in _LINK.findall(path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), target
        assert not anchor or anchor in _anchors(found), target


def _calls(path: Path) -> Iterator[list[str]]:
    """The words after `maskmill` in code, where the first is a command's name."""
    for code in _code_of(path.read_text(encoding="utf-8")):
        for rest in _MASKMILL.findall(code):
            words = re.findall(r"[^\s\[\]()]+", rest)
            if words and re.fullmatch(r"[a-z]+", words[0]):
                yield words


def _options(command: Any) -> set[str]:
    return {name for option in command.params for name in (*option.opts, "--help")}


def _command(words: list[str]) -> Any:
    """The command that is called; a KeyError where there is none."""
    command = _group().commands[words[0]]
    command = getattr(command, "_loaded", lambda: command)()
    further = getattr(command, "commands", None)
    return command if not further or len(words) < 2 else further[words[1]]


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_every_command_and_option_that_is_shown_exists(path: Path) -> None:
    for words in _calls(path):
        options = {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)}
        assert options <= _options(_command(words)), words


def test_the_command_reference_has_every_command_and_option() -> None:
    shown: dict[str, set[str]] = {}
    for words in _calls(ROOT / "docs/reference/cli.md"):
        shown.setdefault(words[0], set()).update(words)
    for name, command in _group().commands.items():
        loaded: Any = command
        loaded = loaded._loaded()
        for one in getattr(loaded, "commands", {"": loaded}).values():
            long = {option for option in _options(one) - {"--help"} if option.startswith("--")}
            assert long <= shown[name], (name, one.name)


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_every_make_target_that_is_shown_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for code in _code_of(path.read_text(encoding="utf-8")):
        assert set(re.findall(r"^make ([a-z]+)", code, re.MULTILINE)) <= targets


def test_every_setting_is_documented_and_every_documented_variable_exists() -> None:
    settings = {f"MASKMILL_{name.upper()}" for name in Settings.model_fields}
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    assert set(re.findall(r"MASKMILL_[A-Z0-9_]*[A-Z0-9]", text)) == settings | OTHER_VARIABLES
    operate = (ROOT / "docs/how-to/operate.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(MASKMILL_\w+)`", operate, re.MULTILINE)) == settings
    code = "\n".join(path.read_text(encoding="utf-8") for path in CODE)
    assert [name for name in OTHER_VARIABLES if name not in code] == []


def _error_tables() -> tuple[set[str], set[str]]:
    """Codes of images, and all other codes."""
    text = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")
    _, images, others = re.split(r"^## (?:Images|Jobs)$", text, flags=re.MULTILINE)
    return _first_codes(images), _first_codes(others)


def _first_codes(text: str) -> set[str]:
    return set(re.findall(r"^\|(?: \d+ \|)? `([a-z_]+)` \|", text, re.MULTILINE))


def test_the_error_codes_of_images_are_those_of_the_code() -> None:
    assert _error_tables()[0] == {str(code) for code in ImageErrorCode}


def test_every_other_error_code_that_is_listed_is_in_the_code() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in CODE)
    listed = _error_tables()[1]
    assert len(listed) > 30
    assert sorted(name for name in listed if f'"{name}"' not in code) == []


def test_every_code_of_a_refused_request_is_listed() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in CODE)
    raised = set(re.findall(r'ApiProblem\(\s*\d+,\s*"([a-z_]+)"', code))
    assert len(raised) > 15
    assert raised <= _error_tables()[1]
