from datetime import UTC, datetime, timedelta
from time import perf_counter

import boto3
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from domain.links import expired_at, expiry_of

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR_LATER = NOON + timedelta(hours=1)
EPOCH = int(HOUR_LATER.timestamp())

LINKS = {
    "SigV4": "https://b.s3.amazonaws.com/a.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Date=20260304T120000Z&X-Amz-Expires=3600&X-Amz-Signature=0",
    "SigV4 in lower case": "https://h/a?x-amz-expires=3600&x-amz-date=20260304T120000Z",
    "SigV4 of Google": "https://storage.googleapis.com/b/a?X-Goog-Date=20260304T120000Z"
    "&X-Goog-Expires=3600&X-Goog-Signature=0",
    "SigV2": f"https://b.s3.amazonaws.com/a?AWSAccessKeyId=A&Signature=s%3D&Expires={EPOCH}",
    "SigV2 of Google": f"https://h/b/a?GoogleAccessId=a%40b&Expires={EPOCH}&Signature=0",
    "CloudFront": f"http://d.cloudfront.net/a?Expires={EPOCH}&Signature=s__&Key-Pair-Id=K",
    "Azure SAS": "https://a.blob.core.windows.net/c/b?sv=2022&se=2026-03-04T13%3A00%3A00Z&sig=0",
    "Azure SAS, minutes": "https://a.blob.core.windows.net/c/b?sig=0&se=2026-03-04T13:00Z",
    "Azure SAS, elsewhere": "https://h/c/b?sig=0&se=2026-03-04T14:00:00%2B01:00",
}


@pytest.mark.parametrize("kind", LINKS)
def test_the_end_is_read_from_every_kind_of_link(kind: str) -> None:
    assert expiry_of(LINKS[kind]) == HOUR_LATER
    assert expired_at(LINKS[kind], now=HOUR_LATER) == HOUR_LATER
    assert expired_at(LINKS[kind], now=HOUR_LATER - timedelta(seconds=1)) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://h/a.jpg",
        "https://h/a.jpg?Expires=1772629200",  # no signature: may mean anything
        "https://h/a.jpg?se=2026-03-04T13:00:00Z",
        "https://h/a.jpg?Signature=0&Expires=tomorrow",
        "https://h/a.jpg?X-Amz-Date=20260304T120000Z",
        "https://h/a.jpg?X-Amz-Date=2026&X-Amz-Expires=3600",
        "https://h/a.jpg?X-Amz-Date=20261304T120000Z&X-Amz-Expires=3600",
        "https://h/a.jpg?X-Amz-Date=20260304T120000Z&X-Amz-Expires=-1",
        "https://h/a.jpg?Signature=0&Expires=99999999999999999999",
        "https://h/a.jpg?X-Amz-Date=99990304T120000Z&X-Amz-Expires=99999999999",
        "https://h/x-amz-date=20260304T120000Z&x-amz-expires=1",
        "https://[broken/a?Signature=0&Expires=x",
        "s3://b/a?Signature=0&Expires=1",
        "a.jpg?Signature=0&Expires=1",
        "",
    ],
)
def test_other_addresses_have_no_end(url: str) -> None:
    assert expiry_of(url) is None


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_links_that_boto3_signs_end_when_it_says(version: str) -> None:
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(signature_version=version),
    )
    before = datetime.now(UTC).replace(microsecond=0)
    link = client.generate_presigned_url("get_object", {"Bucket": "b", "Key": "a"}, ExpiresIn=900)
    client.close()
    expiry = expiry_of(link)
    assert expiry is not None
    assert timedelta() <= expiry - before - timedelta(seconds=900) <= timedelta(seconds=5)


@given(st.text(max_size=60), st.text(max_size=20))
def test_no_address_breaks_it(text: str, value: str) -> None:
    for url in (text, f"https://{text}", f"https://h/?Signature=0&Expires={value}&se={value}"):
        expiry_of(url)
    expiry_of(f"https://h/?X-Amz-Date={text}&X-Amz-Expires={value}&sig=0&se={text}")


def test_a_million_addresses_cost_a_few_seconds() -> None:
    began = perf_counter()
    for _ in range(10_000):
        expiry_of(LINKS["SigV4"])
    assert perf_counter() - began < 2  # it is 0.05 on an idle core
