"""The API on a real database and a real folder store, called in process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from api.app import create_app
from storage.database import Database
from storage.keys import add_key, new_secret
from storage.settings import Settings


@dataclass(frozen=True)
class Api:
    client: TestClient
    database: Database
    settings: Settings
    admin: dict[str, str]
    alice: dict[str, str]
    bob: dict[str, str]
    alice_id: str

    def as_alice(self, method: str, path: str, **options: Any) -> Any:
        headers = {**self.alice, **options.pop("headers", {})}
        return self.client.request(method, path, headers=headers, **options)

    def create_job(self, **changes: Any) -> dict[str, Any]:
        answer = self.as_alice("POST", "/v1/jobs", json=job_body(**changes))
        assert answer.status_code == 202, answer.text
        return dict(answer.json())


def job_body(**changes: Any) -> dict[str, Any]:
    body = {
        "source": {"type": "prefix", "uri": "s3://photos/street/"},
        "prompts": [{"text": "red circle"}, {"text": "star"}],
    }
    return {**body, **changes}


def settings_for(database_url: str, folder: Path, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "database_url": SecretStr(database_url),
        "broker_url": SecretStr("redis://127.0.0.1:1/0"),
        "object_store": (folder / "objects").as_uri(),
        "signing_secret": SecretStr("of this test"),
        "allowed_sources": ["s3://photos"],
        "allowed_outputs": ["s3://results/team"],
        "models": ["demo-sam3", "facebook/sam3"],
        "max_upload_bytes": 3 * 2**20,
    }
    return Settings(**{**values, **changes})


@contextmanager
def opened_api(settings: Settings) -> Iterator[Api]:
    """With an admin and two users."""
    database = Database(settings.database_url.get_secret_value(), pool_size=2)
    secrets = {name: new_secret() for name in ("admin", "alice", "bob")}
    with database.begin() as connection:
        ids = {
            name: add_key(connection, name, secret=secret, is_admin=name == "admin").id
            for name, secret in secrets.items()
        }
    headers = {name: {"Authorization": f"Bearer {secret}"} for name, secret in secrets.items()}
    app = create_app(settings)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield Api(client, database, settings, **headers, alice_id=ids["alice"])
    database.dispose()


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return settings_for(database_url, tmp_path)


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    with opened_api(settings) as api:
        yield api
