from collections.abc import Callable

import pytest

from storage.object_store import ObjectNotFound, StoreUnavailable
from storage.s3_counts import S3_COUNTS, S3Counts
from storage.s3_store import S3Store, s3_client
from tests.integration.storage.web_server import Request, serving
from tests.s3_server import S3Bucket

pytestmark = pytest.mark.usefixtures("s3_environment")


def shown(counts: S3Counts) -> dict[tuple[str, ...], float]:
    samples = (sample for family in counts.collect() for sample in family.samples)
    return {(one.name, *one.labels.values()): one.value for one in samples}


def grown(work: Callable[[], object]) -> dict[tuple[str, ...], float]:
    """Of the process's counts, by name without what all have in common."""
    before = shown(S3_COUNTS)
    work()
    after = {name: value - before.get(name, 0) for name, value in shown(S3_COUNTS).items()}
    short = {(name[0].removeprefix("maskmill_s3_"), *name[1:]): v for name, v in after.items()}
    return {name: value for name, value in short.items() if value}


def test_requests_are_counted_by_operation_and_answer(s3_bucket: S3Bucket) -> None:
    store = S3Store(s3_bucket.client, s3_bucket.name)

    def work() -> None:
        store.put("a", b"1")
        store.get("a")
        with pytest.raises(ObjectNotFound):
            store.get("b")

    assert grown(work) == {
        ("requests_total", "PutObject", "2xx"): 1,
        ("requests_total", "GetObject", "2xx"): 1,
        ("requests_total", "GetObject", "4xx"): 1,
    }


def test_what_is_tried_again_counts_as_requests_and_as_retries() -> None:
    tries: list[int] = []

    def slow_down_first(request: Request) -> None:
        tries.append(1)
        request.answer(503 if len(tries) < 2 else 200, b"1234")

    with serving(slow_down_first) as server:
        client = s3_client(server.url, attempts=3)
        counted = grown(lambda: S3Store(client, "bucket").get("a"))
        client.close()
    assert counted == {
        ("requests_total", "GetObject", "5xx"): 1,
        ("requests_total", "GetObject", "2xx"): 1,
        ("retries_total", "GetObject"): 1,
    }


def test_requests_without_an_answer_are_counted_as_that() -> None:
    client = s3_client("http://127.0.0.1:1", attempts=2)

    def work() -> None:
        with pytest.raises(StoreUnavailable):
            S3Store(client, "bucket").get("a")

    assert grown(work)["requests_total", "GetObject", "none"] == 2
    client.close()
