"""Removes what the operator's policy does not keep of jobs that have ended."""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import structlog
from sqlalchemy import Connection

from storage import kept_exports, object_keys, retention, slices
from storage.database import Database
from storage.jobs import Job
from storage.object_store import ObjectStore, StoreError, StoreUnavailable, open_store
from storage.results_store import results_store
from storage.settings import Settings
from workers.away import Away

log = structlog.get_logger()

SECONDS_BETWEEN = 120.0
_SECONDS_AT_ONCE = 20.0
_ROWS_AT_ONCE = 5000
_SLICES_AT_ONCE = 500  # two objects each: one request to S3
_OBJECTS_AT_ONCE = 1000

Forget = Callable[..., int]


class Retention:
    """One job after the other, in small steps that each leave less to do: whoever comes after a
    death begins the job anew. Objects go before the rows that name them."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._away = Away()

    def keep_to_policy(self, *, seconds: float = _SECONDS_AT_ONCE) -> None:
        """For some time; what is left is done the next time."""
        deadline = time.monotonic() + seconds
        for _ in self._steps():
            if time.monotonic() >= deadline:
                return

    def _steps(self) -> Iterator[None]:
        own = open_store(self._settings.object_store, settings=self._settings)
        days = self._settings.delete_results_after_days
        if days is not None:
            yield from self._each(retention.job_to_delete, days, lambda job: self._delete(job, own))
        keep_days = self._settings.keep_finished_days
        yield from self._each(retention.job_to_clean, keep_days, lambda job: self._clean(job, own))

    def _each(
        self,
        choose: Callable[..., Job | None],
        days: float,
        steps: Callable[[Job], Iterator[None]],
    ) -> Iterator[None]:
        """A job whose store is away does not keep the others waiting."""
        while job := self._chosen(choose, days):
            try:
                if self._taken(job):
                    yield from steps(job)
            except StoreUnavailable as error:
                log.warning("retention.store_unavailable", job_id=job.id, error=str(error))
                self._away.add(job.id)
            yield

    def _chosen(self, choose: Callable[..., Job | None], days: float) -> Job | None:
        with self._database.begin() as connection:
            return choose(connection, days=days, skipping=self._away.jobs())

    def _taken(self, job: Job) -> bool:
        with self._database.begin() as connection:
            return retention.take_job(connection, job)

    def _clean(self, job: Job, own: ObjectStore) -> Iterator[None]:
        """What only mattered while it ran. The result stays, with the rows that index it."""
        yield from _remove_listed(own, object_keys.shard_lists(job.id))
        yield from self._forget(retention.forget_deliveries, job)
        yield from self._forget(retention.forget_events, job)
        self._in_transaction(retention.mark_cleaned, job)
        log.info("retention.job_cleaned", job_id=job.id)

    def _delete(self, job: Job, own: ObjectStore) -> Iterator[None]:
        """All of it. In a prefix of the user's only what our rows name."""
        results = results_store(job, settings=self._settings)
        numbers = range(1, job.manifest_number + 2)  # one more may lie there: a finisher died
        _remove(results, map(object_keys.manifest, numbers), job)
        while self._delete_slices(job, results):
            yield
        yield from self._delete_exports(job, results)
        yield from _remove_listed(own, object_keys.job_prefix(job.id))
        yield from self._forget(retention.forget_deliveries, job)
        yield from self._forget(retention.forget_events, job)
        yield from self._forget(retention.forget_shards, job)
        self._in_transaction(retention.forget_job, job)
        log.info("retention.job_deleted", job_id=job.id)

    def _delete_slices(self, job: Job, results: ObjectStore) -> bool:
        with self._database.begin() as connection:
            some = retention.some_slices(connection, job.id, limit=_SLICES_AT_ONCE)
        if not some:
            return False
        _remove(results, (key for s in some for key in (s.annotations_key, s.images_key)), job)
        with self._database.begin() as connection:
            slices.forget_slices(connection, some)
        return True

    def _delete_exports(self, job: Job, results: ObjectStore) -> Iterator[None]:
        """Their files; the rows go with the job's."""
        with self._database.begin() as connection:
            export_ids = kept_exports.export_ids_of(connection, job.id)
        for export_id in export_ids:
            listed = results.list(object_keys.export_prefix(export_id))
            _remove(results, (info.key for info in listed), job)
            yield

    def _forget(self, forget: Forget, job: Job) -> Iterator[None]:
        while self._forgotten(forget, job):
            yield

    def _forgotten(self, forget: Forget, job: Job) -> bool:
        with self._database.begin() as connection:
            return forget(connection, job.id, limit=_ROWS_AT_ONCE) == _ROWS_AT_ONCE

    def _in_transaction(self, end: Callable[[Connection, str], None], job: Job) -> None:
        with self._database.begin() as connection:
            end(connection, job.id)


def _remove(store: ObjectStore, keys: Iterable[str], job: Job) -> None:
    """A store that is away is asked again later; one that forbids deleting keeps them."""
    try:
        store.delete(keys)
    except StoreUnavailable:
        raise
    except StoreError as error:
        log.warning("retention.objects_not_deleted", job_id=job.id, error=str(error))


def _remove_listed(store: ObjectStore, prefix: str) -> Iterator[None]:
    keys = (info.key for info in store.list(prefix))
    while page := list(islice(keys, _OBJECTS_AT_ONCE)):
        store.delete(page)
        yield
