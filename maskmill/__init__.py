"""Instance masks for whole image datasets: `from maskmill import Client`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskmill.answers import Job
    from maskmill.client import ApiError, Client, ServiceUnreachableError

__all__ = ["ApiError", "Client", "Job", "ServiceUnreachableError"]


def __getattr__(name: str) -> Any:
    """On demand, so that `maskmill --help` need not load the HTTP client."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("maskmill.client"), name)
