"""Credentials as they are now, though a process lives for months.

botocore renews those that say when they end (roles, most credential processes), but reads those in
files and the environment once. Here these are looked up again now and then, and at once when a
server refuses them.
"""

import math
from threading import Lock
from time import monotonic
from typing import Any

import boto3
import botocore.session
import structlog
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import BotoCoreError, NoCredentialsError

log = structlog.get_logger()

_KEPT_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 1.0  # at the soonest, however many requests are refused
_LATELY_SECONDS = 60.0  # requests that were signed before are answered by then


class CurrentCredentials(Credentials):
    """Those that botocore's chain finds. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._found = _look_up()
        self._looked_at = monotonic()
        self._asked_at = self._renewed_at = -math.inf
        super().__init__("", "", method="current")  # all that is read is the frozen ones

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        with self._lock:
            kept_seconds = _KEPT_SECONDS if self._found else _LOOK_AGAIN_SECONDS
            if monotonic() - self._looked_at > kept_seconds:
                self._look()
            if self._found is None:
                raise NoCredentialsError
            return self._found

    def renewed_lately(self) -> bool:
        """Look again, after a refusal: whether there are others than a request may have had."""
        with self._lock:
            if monotonic() - self._asked_at > _LOOK_AGAIN_SECONDS:
                self._asked_at = monotonic()
                self._look()
            return monotonic() - self._renewed_at < _LATELY_SECONDS

    def _look(self) -> None:
        before = self._found
        self._found = _look_up() or before  # a file may be half written, or just gone
        self._looked_at = monotonic()
        if self._found != before:
            self._renewed_at = self._looked_at
            log.info("s3.credentials_renewed")


def _look_up() -> ReadOnlyCredentials | None:
    try:
        found = botocore.session.get_session().get_credentials()
        return found.get_frozen_credentials() if found else None
    except BotoCoreError as error:
        log.warning("s3.credentials_not_read", error=str(error))
        return None


class _Only:
    """What botocore calls a credential resolver, with one answer."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def load_credentials(self) -> Credentials:
        return self._credentials


def session_with_current_credentials() -> tuple[boto3.session.Session, CurrentCredentials | None]:
    """A session, and its credentials where it is not botocore that renews them."""
    core = botocore.session.get_session()
    try:
        renewed = isinstance(core.get_credentials(), RefreshableCredentials)
    except BotoCoreError:
        renewed = False
    if renewed:
        return boto3.session.Session(botocore_session=core), None
    current = CurrentCredentials()
    core = botocore.session.get_session()
    core.register_component("credential_provider", _Only(current))
    return boto3.session.Session(botocore_session=core), current


def retry_when_renewed(current: CurrentCredentials, *, codes: set[str]) -> Any:
    """For botocore's `needs-retry`: try once more at once where a server refuses credentials and
    there are others by now."""

    def needs_retry(response: Any, attempts: int, **_: Any) -> float | None:
        code = response[1].get("Error", {}).get("Code") if response else None
        return 0.0 if attempts == 1 and code in codes and current.renewed_lately() else None

    return needs_retry
