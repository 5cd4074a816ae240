"""What an API key may have open at a time."""

from sqlalchemy import Connection, case, func, select

from storage.conditions import EXPORT_IS_OPEN, JOB_IS_OPEN, SHARD_IS_OPEN
from storage.tables import api_keys, exports, jobs, shards


def open_jobs_of(connection: Connection, key_id: str) -> int:
    """Nobody else opens or counts jobs of the key until this transaction ends."""
    _have_others_wait(connection, key_id)
    query = select(func.count()).where(jobs.c.owner_key_id == key_id, JOB_IS_OPEN)
    return connection.execute(query).scalar_one()


def open_exports_of(connection: Connection, key_id: str) -> int:
    """As open_jobs_of."""
    _have_others_wait(connection, key_id)
    query = select(func.count()).where(exports.c.owner_key_id == key_id, EXPORT_IS_OPEN)
    return connection.execute(query).scalar_one()


def _have_others_wait(connection: Connection, key_id: str) -> None:
    # Not FOR UPDATE, which would wait for every transaction that has made a job.
    own = select(api_keys.c.id).where(api_keys.c.id == key_id)
    connection.execute(own.with_for_update(key_share=True))


def images_left_of(connection: Connection, key_id: str) -> int:
    """Of open jobs, as far as they are planned, and failed ones that are tried again."""
    is_retry = shards.c.retry_codes.is_not(None)
    of_shard = case((is_retry, shards.c.failed), else_=shards.c.image_count - shards.c.committed)
    left = func.coalesce(func.sum(of_shard), 0)
    query = (
        select(left)
        .select_from(jobs)
        .join(shards, shards.c.job_id == jobs.c.id)
        .where(jobs.c.owner_key_id == key_id, JOB_IS_OPEN, SHARD_IS_OPEN)
    )
    return int(connection.execute(query).scalar_one())
