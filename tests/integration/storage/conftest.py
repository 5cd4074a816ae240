from collections.abc import Iterator

import pytest
import redis

from storage.database import Database
from storage.guarded_fetch import GuardedFetcher
from storage.guarded_network import Resolve, resolve_name
from tests.integration.storage.fetchers import Make
from tests.integration.storage.lanes import Hands, lane_settings


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=8)
    yield database
    database.dispose()


@pytest.fixture
def broker(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture
def hands(broker_url: str) -> Iterator[Hands]:
    hands = Hands(lane_settings(broker_url))
    yield hands
    hands.close()


@pytest.fixture
def fetcher_for(request: pytest.FixtureRequest) -> Make:
    def make(*allowed: str, resolve: Resolve = resolve_name, **limits: float) -> GuardedFetcher:
        fetcher = GuardedFetcher(allowed, resolve=resolve, **limits)  # type: ignore[arg-type]
        request.addfinalizer(fetcher.close)
        return fetcher

    return make
