"""A bucket whose listing breaks off: planning goes on where it stopped."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from domain.lifecycle import JobStatus
from tests.integration.storage.web_server import Request, serving
from tests.integration.workers.conftest import open_workplace
from tests.integration.workers.test_planning import listed
from workers import planning_run

NAMES = [f"photos/{number:05d}.jpg" for number in range(2500)]
PAGE = 500


class BreakingListing:
    """Refuses, once each, the pages that begin with these numbers."""

    def __init__(self, *bad_pages: int, status: int) -> None:
        self._bad = list(bad_pages)
        self._status = status

    def __call__(self, request: Request) -> None:
        query = parse_qs(urlsplit(request.path).query)
        start = self._start(query)
        if start in self._bad:
            self._bad.remove(start)
            request.answer(self._status, b"<Error><Code>Broken</Code></Error>")
            return
        shown = NAMES[start : start + PAGE]
        keys = "".join(f"<Contents><Key>{n}</Key><Size>1</Size></Contents>" for n in shown)
        more = start + PAGE < len(NAMES)
        token = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" if more else ""
        head = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}"
        body = f"<ListBucketResult>{head}{keys}</ListBucketResult>"
        request.answer(200, body.encode(), Content_Type="application/xml")

    @staticmethod
    def _start(query: dict[str, list[str]]) -> int:
        if "continuation-token" in query:
            return int(query["continuation-token"][0])
        after = query.get("start-after", [""])[0]
        return next((n for n, name in enumerate(NAMES) if name > after), len(NAMES))


@pytest.mark.usefixtures("s3_environment")
def test_a_listing_that_breaks_off_is_gone_on_with_and_no_image_comes_twice(
    database_url: str, tmp_path: Path
) -> None:
    # 409 is nothing that the client tries again by itself.
    with serving(BreakingListing(1000, 1280, 2304, status=409)) as server:
        for workplace in open_workplace(
            database_url,
            tmp_path,
            allowed_sources=["s3://theirs"],
            s3_endpoint_url=server.url,
            models=["null"],
        ):
            job = workplace.submit({"type": "prefix", "uri": "s3://theirs/photos"})
            tries = 0
            while workplace.again(job).status in {JobStatus.QUEUED, JobStatus.PLANNING}:
                planning_run.plan_job(workplace.runtime, job.id)
                workplace.expire_leases()
                tries += 1
                assert tries < 6
            assert tries >= 2
            assert workplace.again(job).status is JobStatus.RUNNING
            images = [item.image for item in listed(workplace, job)]
            assert images == [name.removeprefix("photos/") for name in NAMES]
