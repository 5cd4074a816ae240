"""Things kept in the broker for an API key: least recently used first out, within a budget."""

from dataclasses import dataclass
from typing import cast

import redis

from storage.lane import keys, scripts


@dataclass(frozen=True, slots=True)
class Kept:
    """`mark` is a short text that describes `data`."""

    mark: str
    data: bytes


class Shelf:
    """`kind` names the shelf, `seconds` is how long a thing lasts unused, `budget_bytes` what all
    things of one owner may have together, `most` how many there may be. Names begin with a
    digest, in hex.

    Thread safe. Every method raises redis.RedisError where the broker is away.
    """

    def __init__(
        self, broker: redis.Redis, kind: str, *, seconds: int, budget_bytes: int, most: int
    ) -> None:
        self._broker = broker
        self._kind = kind
        self._seconds = seconds
        self._budget_bytes = budget_bytes
        self._most = most
        self._put = broker.register_script(scripts.PUT)
        self._mark = broker.register_script(scripts.MARK)

    def put(self, owner: str, name: str, *, mark: str, data: bytes) -> None:
        """Replaces what had this name. What is larger than the budget is not kept."""
        limits = [self._seconds, self._budget_bytes]
        self._put(keys=self._keys(owner), args=[*limits, name, mark, data, self._most])

    def mark(self, owner: str, name: str) -> str | None:
        """The mark of what has this name, which then lasts longer."""
        mark = self._mark(keys=self._keys(owner), args=[self._seconds, name])
        return None if mark is None else bytes(mark).decode()

    def get(self, owner: str, name: str) -> Kept | None:
        mark = self.mark(owner, name)
        data = self._broker.hget(self._things(owner) + name, "data")
        return None if mark is None or data is None else Kept(mark, cast(bytes, data))

    def names(self, owner: str) -> list[str]:
        """Least recently used first; some may be gone by now."""
        index = f"{keys.shelf(self._kind, owner)}:index"
        return [name.decode() for name in cast(list[bytes], self._broker.zrange(index, 0, -1))]

    def _keys(self, owner: str) -> list[str]:
        shelf = keys.shelf(self._kind, owner)
        return [f"{shelf}:index", f"{shelf}:sizes", self._things(owner)]

    def _things(self, owner: str) -> str:
        return f"{keys.shelf(self._kind, owner)}:"
