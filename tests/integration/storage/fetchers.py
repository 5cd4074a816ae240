"""What tests of the guarded fetcher share; the fixture `fetcher_for` makes one."""

from collections.abc import Callable

import pytest

from storage.guarded_fetch import FetchFailed, FetchFailure, GuardedFetcher
from tests.integration.storage.web_server import Request

LIMIT = 1000
OK = b"the image"
Make = Callable[..., GuardedFetcher]


def ok(request: Request) -> None:
    request.answer(200, OK)


def failure(fetcher: GuardedFetcher, url: str, **limits: float) -> FetchFailure:
    with pytest.raises(FetchFailed) as caught:
        fetcher.get(url, max_bytes=LIMIT, **limits)
    return caught.value.kind
