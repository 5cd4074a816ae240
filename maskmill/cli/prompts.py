"""Prompts as people write them: `--prompt "hard hat::helmet"`, or a file of them."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from domain.documents import JobPromptDocument

CLASS_SEPARATOR = "::"


def parse_prompts(values: Iterable[str] | None, file: Path | None) -> list[JobPromptDocument]:
    """Those given one by one, then those of the file; a usage error for one that is none."""
    prompts = [_prompt(_from_text(value), "--prompt") for value in values or ()]
    if file is not None:
        prompts += [_prompt(entry, str(file)) for entry in _entries(file)]
    return prompts


def _from_text(value: str) -> dict[str, str]:
    text, separator, class_name = value.partition(CLASS_SEPARATOR)
    named = {"class_name": class_name.strip()} if separator else {}
    return {"text": text.strip(), **named}


def _entries(file: Path) -> Iterator[Any]:
    try:
        content = file.read_text(encoding="utf-8")
        if file.suffix.lower() == ".json":
            yield from _from_json(json.loads(content), str(file))
        else:
            yield from (_from_text(line) for line in content.splitlines() if line.strip())
    except (OSError, ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{file}: {error}") from error


def _from_json(entries: Any, name: str) -> Iterator[Any]:
    if not isinstance(entries, list):
        raise typer.BadParameter(f"{name}: not a list of prompts")
    return (_from_text(entry) if isinstance(entry, str) else entry for entry in entries)


def _prompt(entry: Any, where: str) -> JobPromptDocument:
    try:
        return JobPromptDocument.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(
            f"{where} {json.dumps(entry)[:80]}: {f'{field}: ' if field else ''}{reason}"
        ) from error
