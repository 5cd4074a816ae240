"""What runs often must not read more rows the more there are."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import ClauseElement, Connection, event, text
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from domain.planning import Span
from maskmill.embedded.postgres import PostgresServer
from storage import (
    allowances,
    export_runs,
    exports,
    jobs,
    kept_exports,
    progress,
    retention,
    shards,
    slices,
    transitions,
)
from storage.database import Database
from storage.shards import OpenSlice, ShardLease, SliceCounts
from tests.integration.storage.rows import (
    MODELS,
    add_key,
    add_planned_job,
    claimed,
    open_slice,
)
from tests.services import fresh_database

PARTS = {"annotations": {"rows": 0}, "images": {}, "item_categories": []}


def plan_of(connection: Connection, statement: ClauseElement) -> str:
    """As it is for any parameters: what PostgreSQL may come to use for a prepared statement."""
    dialect = PGDialect_asyncpg(paramstyle="numeric_dollar")
    compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    rows = connection.exec_driver_sql(f"EXPLAIN (GENERIC_PLAN) {compiled}")
    return "\n".join(rows.scalars())


def plans_of(connection: Connection, call: Any) -> str:
    """The plans of all statements that `call` executes, one after the other."""
    statements: list[ClauseElement] = []

    def remember(_connection: Any, statement: Any, *_: Any) -> None:
        statements.append(statement)

    event.listen(connection, "before_execute", remember)
    try:
        call()
    finally:
        event.remove(connection, "before_execute", remember)
    assert statements
    return "\n".join(plan_of(connection, statement) for statement in statements)


@pytest.fixture(scope="module")
def crowded_database(postgres_server: PostgresServer, migrated_template: str) -> Iterator[Database]:
    """20,000 pending shards of five open jobs, 5,000 that have ended, with their slices, 2,000
    ended jobs, and 4,000 exports of which three are open."""
    for url in fresh_database(postgres_server, template=migrated_template):
        database = Database(url, pool_size=2)
        _fill(database)
        yield database
        database.dispose()


def _fill(database: Database) -> None:
    key = add_key(database)
    open_jobs = [add_planned_job(database, key, shard_count=1) for _ in range(5)]
    ended = add_planned_job(database, key, shard_count=1)
    with database.begin() as connection:
        for job_id in (*open_jobs, ended):
            values = {"id": job_id, "count": 5000 if job_id == ended else 4000}
            connection.execute(_SHARDS, values)
            connection.execute(_EVENTS, values)
        connection.execute(_END, {"id": ended})
        connection.execute(_SLICES, {"id": ended})
        connection.execute(_ENDED_JOBS, {"key": key})
        connection.execute(_EXPORTS, {"key": key, "id": ended})
    lease = claimed(database)
    open_slice(database, lease, start=0, count=64)
    with database.begin() as connection:
        connection.execute(text("ANALYZE"))


_SHARDS = text("""
    INSERT INTO shards (job_id, number, status, first_image_index, image_count)
    SELECT :id, n, 'pending', n * 256, 256 FROM generate_series(1, :count) n
""")
_EVENTS = text("""
    INSERT INTO events (job_id, kind) SELECT :id, 'shard.running' FROM generate_series(1, :count)
""")
_END = text("""
    WITH ended AS (
        UPDATE jobs SET status = 'succeeded', totals = '{"total": 1}' WHERE id = :id RETURNING id)
    UPDATE shards SET status = 'succeeded', committed = 256 FROM ended WHERE job_id = ended.id
""")
_SLICES = text("""
    INSERT INTO slices (job_id, shard_number, start, token, count, status, failed,
                        annotations_key, images_key, first_image_index, parts, committed_at)
    SELECT job_id, number, start, 0, 64, 'committed', (number % 100 = 0)::int,
           'a', 'i', first_image_index + start, '{}', now() - interval '1 day'
      FROM shards CROSS JOIN generate_series(0, 192, 64) start
     WHERE job_id = :id
""")
_ENDED_JOBS = text("""
    INSERT INTO jobs (id, owner_key_id, status, model, floor, prompts, source, request_sha256,
                      finished_at)
    SELECT 'job_z' || n, :key, 'succeeded', 'demo-sam3', 0.1, '[]', '{}', '', now()
      FROM generate_series(1, 2000) n
""")
_EXPORTS = text("""
    INSERT INTO exports (id, job_id, owner_key_id, status, options, options_sha256, result,
                         lease_token, finished_at, tidied_at)
    SELECT 'exp_' || n, CASE WHEN n % 2 = 0 THEN :id ELSE 'job_z' || (n % 1000 + 1) END, :key,
           CASE WHEN n > 3 THEN 'succeeded' WHEN n = 1 THEN 'running' ELSE 'queued' END,
           '{"format": "coco"}', n, 'manifest 1', n,
           CASE WHEN n > 3 THEN now() - interval '1 hour' END, CASE WHEN n > 3 THEN now() END
      FROM generate_series(1, 4000) n
""")


@pytest.fixture
def crowded(crowded_database: Database) -> Iterator[Connection]:
    """What a test changes is forgotten after it."""
    with crowded_database.begin() as connection:
        yield connection
        connection.get_transaction().rollback()  # type: ignore[union-attr]


def lease_of(connection: Connection) -> ShardLease:
    """Of the one shard that runs."""
    row = connection.execute(text("SELECT * FROM shards WHERE status = 'running'")).one()
    place = (row.job_id, row.number, MODELS[0], row.lease_token, 1, row.first_image_index)
    return ShardLease(*place, image_count=256, list_token=1, committed=0, lost=(), retry=None)


def commit(connection: Connection) -> None:
    counts = SliceCounts(succeeded=64, failed=0, instances=0)
    shards.commit_slice(connection, lease_of(connection), Span(0, 64), counts=counts, parts=PARTS)


def ended_job(connection: Connection) -> str:
    query = text("SELECT id FROM jobs WHERE status = 'succeeded' AND id < 'job_z'")
    return str(connection.execute(query).scalar_one())


EXPORT_LEASE = export_runs.ExportLease("exp_1", 1, 1)
OFTEN: dict[str, tuple[Callable[[Connection], object], set[str]]] = {
    "claim": (
        lambda c: shards.claim_shard(c, owner="w", models=MODELS, lease_seconds=60),
        {"ix_jobs_open", "ix_shards_open", "ix_shards_running", "pk_shards", "pk_slices"},
    ),
    "what waits": (shards.models_with_work, {"ix_jobs_open", "ix_shards_open"}),
    "renew": (
        lambda c: shards.renew_lease(c, lease_of(c), lease_seconds=60),
        {"pk_shards", "pk_jobs"},
    ),
    "open a slice": (
        lambda c: shards.open_slice(c, lease_of(c), OpenSlice(Span(64, 64), "a", "i")),
        {"pk_shards"},
    ),
    "commit a slice": (commit, {"pk_shards", "pk_slices"}),
    "give back": (lambda c: shards.release_shard(c, lease_of(c)), {"pk_shards", "pk_slices"}),
    "needs finishing": (
        lambda c: jobs.needs_finishing(c, lease_of(c).job_id),
        {"pk_jobs", "ix_shards_open"},
    ),
    "jobs to plan": (jobs.jobs_to_plan, {"ix_jobs_open"}),
    "jobs to finish": (jobs.jobs_to_finish, {"ix_jobs_open", "ix_shards_open"}),
    "abandoned shards": (transitions.cancel_abandoned_shards, {"ix_jobs_open", "ix_shards_open"}),
    "loose slices": (slices.loose_slices, {"ix_slices_loose"}),
    "failures of a job": (
        lambda c: slices.slices_with_failures(c, ended_job(c), from_index=0, limit=100),
        {"ix_slices_failed"},
    ),
    "failures of a shard": (
        lambda c: slices.failures_of_shard(c, ended_job(c), 100),
        {"pk_slices"},
    ),
    "progress of an ended job": (
        lambda c: progress.progress_of(c, [ended_job(c)]),
        {"pk_jobs"},
    ),
    "rate of an open job": (
        lambda c: progress.rates_of(c, [lease_of(c).job_id]),
        {"ix_slices_committed_at", "ix_events_job_id_xid_id"},
    ),
    "slice of an image": (
        lambda c: slices.slice_of_image(c, ended_job(c), 1_000_000),
        {"ix_slices_images"},
    ),
    "slices from an image on": (
        lambda c: slices.slices_from(c, ended_job(c), 1_000_000, before=1_100_000, limit=100),
        {"ix_slices_images"},
    ),
    "shard of an image": (
        lambda c: shards.shard_of_image(c, ended_job(c), 1_000_000),
        {"pk_shards"},
    ),
    "job to clean": (lambda c: retention.job_to_clean(c, days=30), {"ix_jobs_uncleaned"}),
    "claim an export": (
        lambda c: export_runs.claim_export(c, owner="w", lease_seconds=60),
        {"ix_exports_open", "pk_exports"},
    ),
    "exports that wait": (export_runs.exports_wait, {"ix_exports_open"}),
    "renew an export": (
        lambda c: export_runs.renew_export(
            c, EXPORT_LEASE, reading=export_runs.Reading(), lease_seconds=60
        ),
        {"pk_exports"},
    ),
    "exports of a job": (
        lambda c: exports.list_exports(c, ended_job(c), before="exp_9", limit=50),
        {"ix_exports_job_id_kind_id"},
    ),
    "open exports of a key": (
        lambda c: allowances.open_exports_of(c, "key_none"),
        {"ix_exports_open"},
    ),
    "exports to retire": (lambda c: kept_exports.retire_exports(c, days=30), {"ix_exports_kept"}),
    "untidy exports": (
        lambda c: kept_exports.untidy_exports(c, rest_seconds=600, skipping=frozenset()),
        {"ix_exports_untidy"},
    ),
    "when a result grew": (
        lambda c: slices.result_grew_at(c, ended_job(c)),
        {"ix_slices_committed_at"},
    ),
    "how many slices a result has": (
        lambda c: slices.committed_count(c, ended_job(c)),
        {"ix_slices_committed_at"},
    ),
    "open jobs of a key": (lambda c: allowances.open_jobs_of(c, "key_none"), {"ix_jobs_open"}),
}


@pytest.mark.parametrize("name", OFTEN)
def test_what_is_done_often_goes_by_indexes(crowded: Connection, name: str) -> None:
    call, indexes = OFTEN[name]
    plan = plans_of(crowded, lambda: call(crowded))
    read = set(re.findall(r"Scan (?:Backward )?using (\w+)|Bitmap Index Scan on (\w+)", plan))
    assert indexes <= {index for pair in read for index in pair}, plan
    scanned = set(re.findall(r"Seq Scan on (\w+)", plan))
    assert not scanned & {"jobs", "shards", "slices", "events", "exports"}, plan
