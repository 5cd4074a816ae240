"""Why the lane has no answer."""


class LaneError(Exception):
    """The lane has no answer; the caller may try again after `retry_after_seconds`."""

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class LaneFull(LaneError):
    """As many requests wait as may, of all or of this API key; this one was not taken."""


class LaneSilent(LaneError):
    """Nobody answered in time, two workers died of it, or the broker is away."""
