"""Sends webhooks, in threads beside the dispatcher's loop: a slow receiver delays no doorbell.

At least once: the attempt is counted and the next one set before anything is sent. Several
senders may run; one host, or one key, cannot take all the threads of one.
"""

import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from domain.webhooks import key_secret, signed_headers
from storage.database import Database
from storage.deliveries import Claim, claim_delivery, record_delivered, record_failure
from storage.guarded_fetch import FetchFailed, FetchRefused, GuardedFetcher
from storage.guarded_network import Resolve, resolve_name
from storage.settings import Settings
from storage.webhook_urls import check_webhook_url

THREADS = 8
PER_HOST = 2
PER_KEY = 4
SEND_SECONDS = 10.0
_CONNECTIONS = 3  # of its own, so that publisher and sweeper never wait for one
_LOOK_SECONDS = 1.0
_LATE_SECONDS = 5.0  # to begin sending after the claim; then it is left to run out
_CLAIM_SECONDS = 2 * (_LATE_SECONDS + SEND_SECONDS)
_GONE = 410

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Outcome:
    status: int | None = None
    error: str | None = None

    @property
    def is_delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class WebhookSender:
    def __init__(
        self,
        settings: Settings,
        *,
        send_seconds: float = SEND_SECONDS,
        resolve: Resolve = resolve_name,
    ) -> None:
        self._settings = settings
        url = settings.database_url.get_secret_value()
        self._database = Database(url, pool_size=_CONNECTIONS)
        self._send_seconds = send_seconds
        self._fetcher = GuardedFetcher(settings.allowed_hosts, resolve=resolve)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="webhook")
        self._in_flight: list[Claim] = []  # changed under the lock
        self._lock = threading.Lock()
        self._wake = threading.Event()  # a thread is free, or it is time to stop
        self._stopping = False
        self._loop = threading.Thread(target=self._run, name="webhooks")

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        """What is being sent is sent to its end."""
        self._stopping = True
        self._wake.set()
        self._loop.join()
        self._threads.shutdown()
        self._fetcher.close()
        self._database.dispose()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                while not self._stopping and self._send_next():
                    pass
            except Exception as error:  # without this loop nothing would be sent any more
                is_known = isinstance(error, SQLAlchemyError)  # the database is away
                message = f"{type(error).__name__}: {error}"[:300]
                log.warning("webhooks.waiting", error=message, exc_info=not is_known)
            self._wake.wait(_LOOK_SECONDS)

    def _send_next(self) -> bool:
        """Whether there was one to send, and a thread for it."""
        with self._lock:
            in_flight = list(self._in_flight)
        if len(in_flight) == THREADS:
            return False
        began = time.monotonic()
        with self._database.begin() as connection:
            claim = claim_delivery(
                connection,
                seconds=_CLAIM_SECONDS,
                busy_hosts=_busy([claim.host for claim in in_flight], limit=PER_HOST),
                busy_keys=_busy([claim.key_id for claim in in_flight], limit=PER_KEY),
            )
        if claim is None:
            return False
        with self._lock:
            self._in_flight.append(claim)
        self._threads.submit(self._deliver, claim, began=began)
        return True

    def _deliver(self, claim: Claim, *, began: float) -> None:
        try:
            if time.monotonic() - began < _LATE_SECONDS:
                self._record(claim, self._sent(claim))
        except Exception as error:  # the claim runs out, and it is sent again
            log.error("webhook.not_recorded", delivery=claim.id, exc_info=error)
        finally:
            with self._lock:
                self._in_flight.remove(claim)
            self._wake.set()

    def _sent(self, claim: Claim) -> _Outcome:
        body = json.dumps(claim.payload, separators=(",", ":")).encode()
        try:
            check_webhook_url(claim.url, allowed_hosts=self._settings.allowed_hosts)
            status = self._fetcher.post(
                claim.url,
                body,
                headers={"Content-Type": "application/json", **self._signed(claim, body)},
                timeout_seconds=self._send_seconds,
            )
        except (FetchRefused, ValueError):
            # ValueError: libraries' word for an address that they cannot take apart
            return _Outcome(error="refused")
        except FetchFailed as error:
            return _Outcome(error=str(error.kind))
        return _Outcome(status=status)

    def _signed(self, claim: Claim, body: bytes) -> dict[str, str]:
        secret = key_secret(self._settings.signing_secret.get_secret_value(), claim.key_id)
        return signed_headers(
            secret, body, delivery_id=claim.id, sent_at_seconds=claim.claimed_at_seconds
        )

    def _record(self, claim: Claim, outcome: _Outcome) -> None:
        """Hosts only: the rest of an address may be its secret."""
        with self._database.begin() as connection:
            if outcome.is_delivered:
                assert outcome.status is not None
                record_delivered(connection, claim, status=outcome.status)
            else:
                record_failure(
                    connection,
                    claim,
                    status=outcome.status,
                    error=outcome.error,
                    give_up=outcome.status == _GONE,
                )
        log.info(
            "webhook.delivered" if outcome.is_delivered else "webhook.failed",
            delivery=claim.id,
            host=claim.host,
            attempt=claim.attempts,
            status=outcome.status,
            error=outcome.error,
        )


def _busy(names: list[str], *, limit: int) -> list[str]:
    return [name for name, count in Counter(names).items() if count >= limit]
