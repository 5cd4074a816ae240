"""A real S3 API over HTTP for tests: moto's server in a thread of this process."""

import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from moto.server import ThreadedMotoServer

from storage.s3_store import s3_client

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# For this process and for those that a test starts.
S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class S3Bucket:
    """A fresh bucket: `client` for what a test puts and looks at by itself."""

    endpoint_url: str
    name: str
    client: "S3Client"

    @property
    def uri(self) -> str:
        return f"s3://{self.name}"


@pytest.fixture(scope="session")
def s3_endpoint_url() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in S3_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return S3_ENVIRONMENT


@pytest.fixture(scope="session")
def s3_test_client(s3_endpoint_url: str) -> "Iterator[S3Client]":
    with pytest.MonkeyPatch.context() as patch:
        for name, value in S3_ENVIRONMENT.items():
            patch.setenv(name, value)
        client = s3_client(s3_endpoint_url)  # slow to make; reads the environment only here
    yield client
    client.close()


@pytest.fixture
def s3_bucket(
    s3_endpoint_url: str, s3_test_client: "S3Client", s3_environment: dict[str, str]
) -> S3Bucket:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    s3_test_client.create_bucket(Bucket=name)
    return S3Bucket(s3_endpoint_url, name, s3_test_client)
