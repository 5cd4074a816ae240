"""How long the stages of a run take, told to whoever counts. Without torch."""

from collections.abc import Callable

from domain.stages import Stage

Observe = Callable[[Stage, float], None]  # with seconds; from any thread


def unobserved(_stage: Stage, _seconds: float) -> None:
    pass
