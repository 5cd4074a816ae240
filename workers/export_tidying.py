"""Removes files of exports: those of runs that broke off, and all of those that are deleted."""

from itertools import islice

import structlog

from storage import jobs, kept_exports, object_keys
from storage.database import Database
from storage.exports import Export
from storage.jobs import Job
from storage.object_store import ObjectStore, StoreError, StoreUnavailable
from storage.results_store import results_store
from storage.settings import Settings
from workers.away import Away

log = structlog.get_logger()

# Nobody still writes so long after an export's end but who was paused for as long.
REST_LEASES = 10
_KEYS_AT_ONCE = 1000


class ExportTidying:
    """Some at a time; doing it twice changes nothing. A store that is away is asked again later."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._away = Away()

    def tidy_some(self) -> None:
        days = self._settings.delete_exports_after_days
        with self._database.begin() as connection:
            if days is not None:
                kept_exports.retire_exports(connection, days=days)
            untidy = kept_exports.untidy_exports(
                connection,
                rest_seconds=REST_LEASES * self._settings.lease_seconds,
                skipping=self._away.jobs(),
            )
            owners = {export.job_id: jobs.find_job(connection, export.job_id) for export in untidy}
        for export in untidy:
            job = owners[export.job_id]
            if job is not None:
                self._tidy(export, job)

    def _tidy(self, export: Export, job: Job) -> None:
        try:
            count = _remove_loose(export, results_store(job, settings=self._settings))
        except StoreUnavailable as error:
            log.warning("exports.store_unavailable", export_id=export.id, error=str(error))
            self._away.add(job.id)
            return
        except StoreError as error:  # it does not let us list or delete: they stay
            log.warning("exports.files_not_deleted", export_id=export.id, error=str(error))
            count = 0
        with self._database.begin() as connection:
            kept_exports.mark_tidied(connection, export)
        if count:
            log.info("exports.files_deleted", export_id=export.id, count=count)


def _remove_loose(export: Export, store: ObjectStore) -> int:
    """What lies below the export's own prefix and is not, or no longer, of it."""
    files = export.files or []
    kept = set() if export.deleted_at else {file["key"] for file in files}
    listed = store.list(object_keys.export_prefix(export.id))
    loose = (info.key for info in listed if info.key not in kept)
    count = 0
    while page := list(islice(loose, _KEYS_AT_ONCE)):
        store.delete(page)
        count += len(page)
    return count
