"""Which code made a result."""

from importlib.metadata import version


def code_version() -> str:
    return version("maskmill")
