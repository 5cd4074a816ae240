"""Which project of a server a push is for."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from maskmill.push.server import Answer, PushError, RefusedError, Server

_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class ProjectChoice:
    """A project that is there, by its id; or the one with this name, made where there is none."""

    id: int | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if (self.id is None) == (self.name is None):
            raise ValueError("a project is chosen by its id or by its name")


class Project(Answer):
    """What both tools say of a project."""

    id: int
    name: str | None


ProjectT = TypeVar("ProjectT", bound=Project)


def find_project(
    server: Server,
    choice: ProjectChoice,
    kind: type[ProjectT],
    *,
    path: str,
    among: Iterable[ProjectT],
) -> ProjectT | None:
    """The project that was chosen: by its id the one at `path`, by its name one `among` the
    server's. None where none has the name. Raise `PushError` where none has the id, or several
    the name."""
    if choice.id is not None:
        return _by_id(server, choice.id, kind, path)
    named = [project for project in among if project.name == choice.name]
    if len(named) > 1:
        ids = ", ".join(str(project.id) for project in named)
        raise PushError(f"projects {ids} are all called {choice.name!r}: give an id")
    return named[0] if named else None


def _by_id(server: Server, project_id: int, kind: type[ProjectT], path: str) -> ProjectT:
    try:
        return server.get(kind, path)
    except RefusedError as error:
        if error.status != _NOT_FOUND:
            raise
        raise PushError(f"{server.name} at {server.url} has no project {project_id}") from error
