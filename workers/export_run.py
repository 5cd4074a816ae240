"""Makes an export: a view of what is stored, written in a format. No network is loaded for it.

A run that dies is followed by one that begins anew, under another token and so other keys;
what the first has left is removed by `workers.export_tidying`.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
from pydantic_core import to_json
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from domain.errors import InvalidRequest, LeaseLost
from domain.export_source import ResultSource, export_info
from domain.exports import (
    ExportFormat,
    ExportInfo,
    ExportOptions,
    ShownImage,
    ShownInstance,
)
from domain.formats import WRITERS
from domain.lifecycle import ExportStatus, ResultUse
from domain.result_manifest import ResultManifest, manifest_pieces, read_frame
from domain.results import ImageRow, InstanceRow
from domain.view import View
from storage import export_runs, exports, jobs, object_keys, outbox
from storage.database import see_one_moment
from storage.export_runs import ExportLease, Reading
from storage.exports import SAMPLE, Export
from storage.jobs import Job
from storage.object_store import ObjectNotFound, ObjectStore, StoreError, StoreUnavailable
from storage.results_store import results_store
from storage.slices import Slice, all_committed_slices, result_grew_at
from storage.tracing import span
from workers.evaluation_report import write_evaluation
from workers.export_parts import DamagedResult, StoredParts
from workers.export_sink import StoreSink, WrittenFile
from workers.finish_run import manifest_without_parts, part_of
from workers.heartbeat import Heartbeat, Watch, heartbeat
from workers.preview_report import write_preview
from workers.runtime import Runtime
from workers.scratch import scratch_folder

log = structlog.get_logger()

MAX_EXPORT_ATTEMPTS = 5
PROVENANCE = "maskmill.json"
_LISTED = "parts.json"
_LONGEST_REASON = 500  # characters
_FAILED = {
    ResultUse.EXPORT: "export_failed",
    ResultUse.EVALUATION: "evaluation_failed",
    ResultUse.PREVIEW: "preview_failed",
}


class Stopped(Exception):
    """The export is no longer wanted here: canceled, or this process is about to end."""


@dataclass(slots=True)
class _Progress:
    """How far the run is. Writers read the result once or several times."""

    beat: Heartbeat | None = None
    reading: Reading = field(default_factory=Reading)

    def begin_pass(self, images_total: int) -> None:
        self.reading = Reading(self.reading.pass_number + 1, 0, images_total)

    def image_shown(self) -> None:
        before = self.reading
        self.reading = Reading(before.pass_number, before.images_read + 1, before.images_total)
        self.note()

    def note(self) -> None:
        if self.beat is not None:
            self.beat.progress()


@dataclass(frozen=True, slots=True)
class _Run:
    runtime: Runtime
    job: Job
    export: Export
    lease: ExportLease
    progress: _Progress = field(default_factory=_Progress)

    def require_wanted(self) -> None:
        """Raises `LeaseLost`, or `Stopped`."""
        beat = self.progress.beat
        if beat is not None and beat.lost:
            raise LeaseLost(self.export.id)
        if self.runtime.stopping.is_set() or (beat is not None and beat.over.is_set()):
            raise Stopped

    def step(self) -> None:
        """Before each mask: those of one image may take longer than an export may stand still."""
        self.require_wanted()
        self.progress.note()


class _Watched(tuple[ShownInstance, ...]):
    """Instances of an image; `step` is called before each one that a writer comes to."""

    step: Callable[[], None]

    @classmethod
    def of(cls, image: ShownImage, step: Callable[[], None]) -> ShownImage:
        watched = cls(image.instances)
        watched.step = step
        return replace(image, instances=watched)

    def __iter__(self) -> Iterator[ShownInstance]:
        for instance in super().__iter__():
            self.step()
            yield instance


def run_exports(runtime: Runtime) -> None:
    """Make the export that is next, if there is one and this process has room for it, and have
    another message sent for the one after it, so that planning has its turn in between."""
    if not runtime.exporting.acquire(blocking=False):
        return
    try:
        ran = _run_next(runtime)
    finally:
        runtime.exporting.release()
    if ran and not runtime.stopping.is_set():
        with runtime.database.begin() as connection:
            if export_runs.exports_wait(connection):
                outbox.ring(connection, outbox.Tasks.RUN_EXPORTS)


def _run_next(runtime: Runtime) -> bool:
    with runtime.database.begin() as connection:
        claimed = export_runs.claim_export(
            connection, owner=runtime.owner, lease_seconds=runtime.settings.lease_seconds
        )
        job = jobs.find_job(connection, claimed[0].job_id) if claimed else None
    if claimed is None or job is None:
        return False
    run = _Run(runtime, job, *claimed)
    names = {"job_id": job.id, "export_id": run.export.id}
    with (
        structlog.contextvars.bound_contextvars(**names),
        span("make export", parent=run.export.traceparent, kind="consumer", **names),
    ):
        _run(run)
    return True


def _run(run: _Run) -> None:
    """Whatever goes wrong that may go better the next time leaves the lease to run out."""
    try:
        if run.export.cancel_requested_at is not None:
            raise Stopped
        if run.lease.attempts > MAX_EXPORT_ATTEMPTS:
            _fail(run, _why_given_up(run))
            return
        with _beating(run):
            files, report = _made(run)
        _end(run, ExportStatus.SUCCEEDED, files=[asdict(f) for f in files], report=report)
    except LeaseLost:
        log.warning("export.lease_lost")
    except Stopped:
        _stop(run)
    except (DamagedResult, StoreError, ValueError) as error:
        _fault(run, error)
    except Exception as error:
        log.exception("export.interrupted", attempt=run.lease.attempts)
        _put_off(run, {"code": _FAILED[run.export.kind], "message": _reason(error)})


def _fault(run: _Run, error: Exception) -> None:
    """One whose cause is known."""
    message = str(error)[:_LONGEST_REASON]
    if isinstance(error, StoreUnavailable):
        _put_off(run, {"code": "store_unavailable", "message": message})
        return
    if isinstance(error, InvalidRequest):
        code = error.code
    elif isinstance(error, DamagedResult):
        code = "result_damaged"
    elif isinstance(error, StoreError):
        code = "store_refused"
    else:  # a format that cannot hold it, or a fault of ours: it would again
        log.exception("export.impossible")
        code = _FAILED[run.export.kind]
    _fail(run, {"code": code, "message": message})


def _reason(error: Exception) -> str:
    """For the caller: no paths of this machine, no addresses, no statements."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, SQLAlchemyError):
        return f"the database failed: {type(error).__name__}"
    return f"{type(error).__name__}: {error}"[:_LONGEST_REASON]


def _made(run: _Run) -> tuple[list[WrittenFile], dict[str, Any]]:
    """All files, the provenance last, and the report."""
    store = results_store(run.job, settings=run.runtime.settings)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        frame = _listed(run, store, folder / _LISTED)
        parts = stack.enter_context(StoredParts(store, folder / _LISTED, note=run.progress.note))
        sink = StoreSink(store, folder, run.lease, run.require_wanted, run.progress.note)
        source = _source(run, frame, parts)
        report = _WRITERS[run.export.kind](run, source, sink)
        is_export = run.export.kind is ResultUse.EXPORT
        about = {"counts": report} if is_export else {str(run.export.kind): run.export.options}
        _write_provenance(sink, source.info, about)
        return sink.files, report


def _write_export(_run: _Run, source: ResultSource, sink: StoreSink) -> dict[str, Any]:
    return asdict(WRITERS[source.info.options.format](source, sink))


def _write_evaluation(run: _Run, source: ResultSource, sink: StoreSink) -> dict[str, Any]:
    note = run.progress.note
    return write_evaluation(run.runtime, run.job, run.export, source, sink=sink, note=note)


def _write_preview(run: _Run, source: ResultSource, sink: StoreSink) -> dict[str, Any]:
    return write_preview(run.runtime, run.job, source, sink=sink, step=run.step)


_WRITERS: dict[ResultUse, Callable[[_Run, ResultSource, StoreSink], dict[str, Any]]] = {
    ResultUse.EXPORT: _write_export,
    ResultUse.EVALUATION: _write_evaluation,
    ResultUse.PREVIEW: _write_preview,
}


def _view_options(export: Export, *, floor: float) -> ExportOptions:
    """What is not an export looks at every instance."""
    if export.kind is ResultUse.EXPORT:
        return ExportOptions.model_validate(export.options)
    return ExportOptions(format=ExportFormat.COCO, min_score=floor)


def _source(run: _Run, frame: ResultManifest, parts: StoredParts) -> ResultSource:
    options = _view_options(run.export, floor=run.job.floor)
    view = View(options, frame.categories, before_each=run.step)

    def listed() -> Iterator[Any]:
        run.progress.begin_pass(frame.totals.succeeded)
        return parts.parts()

    def show(row: ImageRow, instances: Sequence[InstanceRow]) -> ShownImage:
        run.require_wanted()
        run.progress.image_shown()
        return _Watched.of(view.show(row, instances), run.step)

    is_partial = exports.manifest_of(run.export.result) is None
    info = export_info(frame, options, classes=view.classes, partial=is_partial)
    return ResultSource(info, listed, parts.open_part, show)


def _listed(run: _Run, store: ObjectStore, path: Path) -> ResultManifest:
    """Write what the export is made of to `path`, once for all readings of it: a manifest, which
    is returned without its parts."""
    number = exports.manifest_of(run.export.result)
    if number is None:
        with run.runtime.database.begin() as connection, path.open("wb") as out:
            see_one_moment(connection)
            frame, parts = _committed(connection, run.job, is_sample=run.export.result == SAMPLE)
            out.writelines(manifest_pieces(frame, map(part_of, parts)))
    else:
        _fetch_manifest(store, object_keys.manifest(number), path)
    with path.open("rb") as file:
        try:
            return read_frame(file)
        except ValueError as error:
            raise DamagedResult(f"the manifest cannot be read: {error}") from error


def _fetch_manifest(store: ObjectStore, key: str, path: Path) -> None:
    try:
        with store.open(key) as file, path.open("wb") as out:
            shutil.copyfileobj(file, out)
    except ObjectNotFound as error:
        raise DamagedResult(f"{key} is no longer there") from error


def _committed(
    connection: Connection, job: Job, *, is_sample: bool
) -> tuple[ResultManifest, Iterator[Slice]]:
    """What is labelled so far, or of that the sample."""
    frame = manifest_without_parts(connection, job, number=job.manifest_number + 1)
    grew_at = result_grew_at(connection, job.id) or job.created_at
    if is_sample and job.sample_shards is None:
        why = f": {job.error['message']}" if job.error else ""
        raise InvalidRequest("not_sampled", f"the job ended before its sample was drawn{why}")
    before = job.sample_shards if is_sample else None
    return frame.model_copy(update={"created_at": grew_at}), all_committed_slices(
        connection, job.id, before_shard=before
    )


def _write_provenance(sink: StoreSink, info: ExportInfo, about: dict[str, Any]) -> None:
    described = {
        **info.model_dump(mode="json"),
        "files": [{"name": f.name, "sha256": f.sha256, "bytes": f.bytes} for f in sink.files],
        **about,
    }
    with sink.file(PROVENANCE) as out:
        out.write(to_json(described, indent=2) + b"\n")


@contextmanager
def _beating(run: _Run) -> Iterator[None]:
    runtime, seconds = run.runtime, run.runtime.settings.lease_seconds

    def renew() -> bool:
        with runtime.metrics.renewing(), runtime.database.begin() as connection:
            return export_runs.renew_export(
                connection, run.lease, reading=run.progress.reading, lease_seconds=seconds
            )

    def abandon() -> None:
        with runtime.database.begin() as connection:
            export_runs.abandon_export(connection, run.lease)

    watch = Watch("export", runtime.settings.stall_seconds, abandon=abandon)
    with heartbeat(renew, lease_seconds=seconds, watch=watch) as beat:
        run.progress.beat = beat
        beat.expect_progress()
        yield


def _stop(run: _Run) -> None:
    """Canceled, unless only this process is in the way."""
    with run.runtime.database.begin() as connection:
        wanted = export_runs.is_wanted(connection, run.lease)
        if wanted:
            export_runs.give_back(connection, run.lease)
    if not wanted:
        _end(run, ExportStatus.CANCELED)
    log.info("export.stopped", wanted=wanted)


def _why_given_up(run: _Run) -> dict[str, Any]:
    last = run.export.error or {"message": "its workers died"}
    return {
        "code": _FAILED[run.export.kind],
        "message": f"it was begun {MAX_EXPORT_ATTEMPTS} times in vain; last: {last['message']}",
    }


def _fail(run: _Run, error: dict[str, Any]) -> None:
    _end(run, ExportStatus.FAILED, error=error)


def _put_off(run: _Run, error: dict[str, Any]) -> None:
    log.warning("export.put_off", attempt=run.lease.attempts, **error)
    with run.runtime.database.begin() as connection:
        export_runs.note_fault(connection, run.lease, error)


def _end(run: _Run, status: ExportStatus, **values: Any) -> None:
    with run.runtime.database.begin() as connection:
        if status is ExportStatus.SUCCEEDED and not export_runs.is_wanted(connection, run.lease):
            raise Stopped  # canceled since its last file was stored
        try:
            export_runs.end_export(
                connection, run.lease, to=status, reading=run.progress.reading, **values
            )
        except LeaseLost:
            log.warning("export.lease_lost")
            return
    run.runtime.metrics.export_ended(status)
    log.info("export.ended", status=status, **{k: v for k, v in values.items() if k == "error"})
