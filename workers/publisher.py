"""Rings Celery for the doorbells that committed transactions left in the outbox."""

from celery import Celery
from sqlalchemy import Connection

from storage.database import Database
from storage.outbox import Bell, Tasks, bulk_queue, take_bells


def publish(database: Database, app: Celery) -> int:
    """Send what waits, oldest first, and forget it once the broker has it.

    If the broker refuses, the transaction is rolled back and the bells stay; if this process
    dies in between they ring twice, which changes nothing.
    """
    with database.begin() as connection:
        return _send(connection, app)


def _send(connection: Connection, app: Celery) -> int:
    bells = take_bells(connection)
    distinct = {(bell.task, *sorted(bell.arguments.items())): bell for bell in bells}
    for bell in distinct.values():
        if bell.task == Tasks.RUN_SHARDS:
            _ring_for_shards(app, bell)
        else:
            app.send_task(bell.task, kwargs=bell.arguments, retry=False)
    return len(bells)


def _ring_for_shards(app: Celery, bell: Bell) -> None:
    """One message at a time: whoever takes it sees all there is to do, and has the next worker
    woken. A large job would else leave a message for each of its shards. A worker of an older
    version names no model; the sweeper finds what that was for."""
    if "model" not in bell.arguments:
        return
    queue = bulk_queue(bell.arguments["model"])
    if not message_is_waiting(app, queue=queue):
        app.send_task(bell.task, kwargs=bell.arguments, queue=queue, retry=False)


def message_is_waiting(app: Celery, *, queue: str) -> bool:
    """Whether the broker holds a message of the queue that no worker has taken yet."""
    with app.connection_for_write() as connection:
        return bool(connection.default_channel.client.llen(queue))
