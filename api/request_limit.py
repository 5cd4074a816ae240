"""How many requests an API key may make in a minute, over all API processes."""

import time
from math import ceil

import structlog
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from api.problems import ApiProblem

_ANSWER_SECONDS = 0.5
_REST_SECONDS = 5.0

log = structlog.get_logger("api")


class RequestLimit:
    """Counted in the broker. While that is away, requests are let through uncounted: what they
    ask of PostgreSQL is what the limit protects, and a broker that is away must not stop that."""

    def __init__(self, broker_url: str, *, per_minute: int) -> None:
        self._pool = ConnectionPool.from_url(
            broker_url,
            socket_connect_timeout=_ANSWER_SECONDS,
            socket_timeout=_ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        counts = RedisStorage(
            broker_url, connection_pool=self._pool, key_prefix="maskmill:requests"
        )
        self._limiter = SlidingWindowCounterRateLimiter(counts)
        self._item = RateLimitItemPerMinute(per_minute)
        self._rests_until = 0.0

    def close(self) -> None:
        self._pool.disconnect()

    def take(self, key_id: str) -> dict[str, str]:
        """Count a request; returns the RateLimit headers of its answer. Raises a 429 problem."""
        if time.monotonic() < self._rests_until:
            return {}
        try:
            is_allowed = self._limiter.hit(self._item, key_id)
            stats = self._limiter.get_window_stats(self._item, key_id)
        except RedisError as error:
            self._rests_until = time.monotonic() + _REST_SECONDS
            log.warning("requests.not_counted", error=type(error).__name__)
            return {}
        seconds = max(1, ceil(stats.reset_time - time.time()))
        headers = {
            "RateLimit-Policy": f'"minute";q={self._item.amount};w=60',
            "RateLimit": f'"minute";r={stats.remaining};t={seconds}',
        }
        if is_allowed:
            return headers
        detail = f"This key may make {self._item.amount:,} requests a minute."
        headers["Retry-After"] = str(seconds)
        raise ApiProblem(429, "too_many_requests", detail, headers=headers)
