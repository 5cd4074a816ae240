"""The fixtures of tests/services.py: what one test leaves behind is not there for the next."""

import psycopg
import pytest
import redis

from tests.services import driver_url


@pytest.mark.parametrize("time", ["first", "second"])
def test_every_test_has_a_migrated_database_of_its_own(database_url: str, time: str) -> None:
    with psycopg.connect(driver_url(database_url)) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        names = {name for (name,) in tables}
        assert "alembic_version" in names
        assert "left_behind" not in names
        connection.execute("CREATE TABLE left_behind ()")


def test_an_empty_database_has_no_tables(empty_database_url: str) -> None:
    with psycopg.connect(driver_url(empty_database_url)) as connection:
        query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        assert connection.execute(query).fetchone() == (0,)


@pytest.mark.parametrize("time", ["first", "second"])
def test_every_test_has_an_empty_broker(broker_url: str, time: str) -> None:
    with redis.Redis.from_url(broker_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")
