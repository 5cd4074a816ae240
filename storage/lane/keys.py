"""Every name that the lane uses in the broker, and how long things last there."""

PREFIX = "maskmill:lane:"

COUNTS = f"{PREFIX}counts"  # hash: what has happened since the broker was empty
CLEARED = f"{PREFIX}cleared"  # sorted set: owners whose things are gone, by when

# A worker says so often that it lives, and is taken for dead once it was silent so long. Large
# answers hold up all threads of a process for a second or two.
BEAT_SECONDS = 0.5
SILENT_SECONDS = 6.0

CLICKS_SECONDS = 3
CLEARED_SECONDS = 3600.0
REPLIES_SECONDS = 60  # an answer that nobody fetches, because its API process has died
SLACK_SECONDS = 5  # what a request outlives its deadline by


def queue(model: str) -> str:
    """The Celery queue of a model: workers of one network never get another's requests."""
    return f"interactive:{model}"


def workers(model: str) -> str:
    """Sorted set: the workers that answer for a model, by their last heartbeat."""
    return f"{PREFIX}workers:{model}"


def clicks(host: str) -> str:
    """There while workers on that host, of whatever model, take requests."""
    return f"{PREFIX}clicks:{host}"


def request(request_id: str) -> str:
    """Hash: `asked` (LaneRequest as JSON), `reply_to` (also in it, for when it cannot be read),
    `file0`, `file1`, ..., and `taken_by`, a worker. It lasts until SLACK_SECONDS after the
    request's deadline, which is known by that."""
    return f"{PREFIX}request:{request_id}"


def replies(process: str) -> str:
    """List: answers for one API process."""
    return f"{PREFIX}replies:{process}"


def generation(key_id: str) -> str:
    """What makes the things kept for an API key reachable. Without it they are as good as gone."""
    return f"{PREFIX}generation:{key_id}"


def shelf(kind: str, owner: str) -> str:
    return f"{PREFIX}{kind}:{owner}"
