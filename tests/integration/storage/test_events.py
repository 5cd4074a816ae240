"""Events come in an order that readers can go on from."""

from sqlalchemy import func, select, text

from domain.lifecycle import JobStatus
from storage import keys
from storage.database import Database
from storage.events import (
    _EVENTS_AFTER,
    START,
    Event,
    Position,
    Watch,
    events_after,
    events_of,
    record_event,
    watches_over,
)
from storage.tables import events
from storage.transitions import move_job
from tests.integration.storage.rows import add_job, add_key


def read(
    database: Database, job_id: str, *, after: Position = START, limit: int = 100
) -> list[Event]:
    with database.begin() as connection:
        return events_of(connection, job_id, after=after, limit=limit)


def kinds(found: list[Event]) -> list[str]:
    return [event.kind for event in found]


def test_of_two_transactions_that_commit_in_the_other_order_nothing_is_lost(
    database: Database,
) -> None:
    job_id = add_job(database, add_key(database)).id
    seen = read(database, job_id)
    with database.begin() as first:
        record_event(first, job_id, kind="first")
        with database.begin() as second:
            record_event(second, job_id, kind="second")
        with database.begin() as connection:  # the second is committed, and has the higher id
            ids = select(events.c.id).where(events.c.kind == "second")
            assert connection.execute(ids).scalar_one() > seen[-1].id + 1
        seen += read(database, job_id, after=seen[-1].position)
        assert kinds(seen) == ["job.queued"]
    seen += read(database, job_id, after=seen[-1].position)
    assert kinds(seen) == ["job.queued", "first", "second"]


def test_a_later_transaction_that_wrote_first_comes_later_and_is_not_lost(
    database: Database,
) -> None:
    """Ids and transactions in opposite orders: the older transaction writes after the younger."""
    job_id = add_job(database, add_key(database)).id
    with database.begin() as older:
        older.execute(select(func.pg_current_xact_id()))
        with database.begin() as younger:
            record_event(younger, job_id, kind="younger")
        seen = read(database, job_id)
        record_event(older, job_id, kind="older")
        seen += read(database, job_id, after=seen[-1].position)
    seen += read(database, job_id, after=seen[-1].position)
    assert kinds(seen) == ["job.queued", "older", "younger"]
    assert seen[1].id > seen[2].id


def test_what_is_rolled_back_never_happened(database: Database) -> None:
    job_id = add_job(database, add_key(database)).id
    with database.begin() as connection:
        record_event(connection, job_id, kind="never")
        connection.rollback()
    assert kinds(read(database, job_id)) == ["job.queued"]


def test_pages_of_any_size_give_every_event_once(database: Database) -> None:
    job_id = add_job(database, add_key(database)).id
    for number in range(4):
        with database.begin() as connection:
            for part in "abc":
                record_event(connection, job_id, kind=f"{number}{part}")
    whole = kinds(read(database, job_id))
    assert len(whole) == 13
    for size in (1, 2, 5):
        seen: list[Event] = []
        while page := read(
            database, job_id, after=seen[-1].position if seen else START, limit=size
        ):
            assert len(page) <= size
            seen += page
        assert kinds(seen) == whole


def test_one_query_reads_for_watches_of_several_jobs_at_different_places(
    database: Database,
) -> None:
    key_id = add_key(database)
    a, b = add_job(database, key_id).id, add_job(database, key_id).id
    with database.begin() as connection:
        assert move_job(connection, a, to=JobStatus.PLANNING)
    half_way = Watch(a, read(database, a)[0].position)
    watches = [half_way, Watch(b, START), Watch(a, START), Watch("job_none", START)]
    with database.begin() as connection:
        found = events_after(connection, watches, limit=10)
    assert [kinds(found[watch]) for watch in watches] == [
        ["job.planning"],
        ["job.queued"],
        ["job.queued", "job.planning"],
        [],
    ]


def test_a_watch_is_over_once_the_job_has_ended_and_all_of_it_was_read(
    database: Database,
) -> None:
    job_id = add_job(database, add_key(database)).id

    def is_over(watch: Watch) -> bool:
        with database.begin() as connection:
            return watch in watches_over(connection, [watch])

    assert not is_over(Watch(job_id, read(database, job_id)[-1].position))
    with database.begin() as connection:
        assert move_job(connection, job_id, to=JobStatus.FAILED)
    end = Watch(job_id, read(database, job_id)[-1].position)
    assert not is_over(Watch(job_id, START))
    assert is_over(end)
    with database.begin() as older:  # what cannot be read yet is still to come
        record_event(older, job_id, kind="job.late")
        assert is_over(end)
    assert not is_over(end)


def test_a_watch_of_a_job_that_is_gone_or_whose_key_was_revoked_is_over(
    database: Database,
) -> None:
    key_id = add_key(database)
    watch = Watch(add_job(database, key_id).id, START)
    gone = Watch("job_gone", START)
    with database.begin() as connection:
        assert watches_over(connection, [watch, gone]) == {gone}
        keys.revoke_key(connection, key_id)
        assert watches_over(connection, [watch, gone]) == {watch, gone}


def test_new_events_are_found_by_the_index(database: Database) -> None:
    job_id = add_job(database, add_key(database)).id
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO events (job_id, kind) "
                "SELECT :job, 'filler' FROM generate_series(1, 5000)"
            ),
            {"job": job_id},
        )
        connection.execute(text("ANALYZE events"))
    last = read(database, job_id, limit=10_000)[-1].position
    values = {"job_ids": [job_id], "xids": [last.xid], "ids": [last.id], "limit": 200}
    with database.begin() as connection:
        plan = connection.execute(text(f"EXPLAIN {_EVENTS_AFTER.text}"), values)
        lines = "\n".join(plan.scalars())
    assert "Index Scan using ix_events_job_id_xid_id" in lines
    assert "ROW(xid, id) > ROW(watch.xid, watch.id)" in lines
    assert "Seq Scan" not in lines
