"""What real worker processes say of themselves."""

import signal
from pathlib import Path

from storage.presence import Presence, living_workers
from tests.integration.workers.crew import Crew, open_crew
from tests.services import wait_until


def living(crew: Crew) -> list[Presence]:
    with crew.workplace.runtime.database.begin() as connection:
        return [worker.presence for worker in living_workers(connection)]


def test_a_worker_is_listed_from_its_start_to_its_end(
    database_url: str, broker_url: str, tmp_path: Path
) -> None:
    with open_crew(database_url, broker_url, tmp_path) as crew:
        bulk, planner = crew.start("bulk"), crew.start("planning")
        wait_until(lambda: [one.loaded for one in living(crew)] == [("null",), ()])
        first, second = living(crew)
        assert (first.role, first.serves) == ("bulk", ("null",))
        assert (second.role, second.serves, second.device) == ("planner", (), None)
        assert first.name.endswith(f":{bulk.pid}")
        for said in (first, second):
            assert 2**24 < said.memory.used_bytes < said.memory.total_bytes
        bulk.send_signal(signal.SIGTERM)
        assert bulk.wait(30) == 0
        assert [one.role for one in living(crew)] == ["planner"]
        planner.kill()
        planner.wait()
        assert [one.role for one in living(crew)] == ["planner"], "for some seconds"


def test_a_worker_works_also_where_it_cannot_say_that_it_lives(
    database_url: str, broker_url: str, tmp_path: Path
) -> None:
    with open_crew(database_url, broker_url, tmp_path) as crew:
        with crew.workplace.runtime.database.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE workers RENAME TO elsewhere")
        worker = crew.start("bulk")
        job = crew.plan(crew.workplace.submit({"type": "prefix", "uri": "null://10"}))
        crew.publish()
        wait_until(lambda: crew.progress(job).succeeded == 10)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
