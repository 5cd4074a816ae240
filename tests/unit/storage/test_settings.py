import pytest
from pydantic import ValidationError

from storage.settings import Settings

REQUIRED = {
    "MASKMILL_DATABASE_URL": "postgresql+psycopg://user:password@host/name",
    "MASKMILL_BROKER_URL": "redis://:password@host:6379/0",
    "MASKMILL_OBJECT_STORE": "file:///srv/objects",
    "MASKMILL_SIGNING_SECRET": "secret",
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASKMILL_ENGINE", "MASKMILL_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


def test_the_staged_engine_in_the_devices_own_precision_is_the_default() -> None:
    settings = Settings()
    assert (settings.engine, settings.precision) == ("staged", "auto")


def test_the_environment_chooses_engine_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKMILL_ENGINE", "reference")
    monkeypatch.setenv("MASKMILL_PRECISION", "float32")
    settings = Settings()
    assert (settings.engine, settings.precision) == ("reference", "float32")


@pytest.mark.parametrize(
    ("name", "value"), [("MASKMILL_ENGINE", "fast"), ("MASKMILL_PRECISION", "float16")]
)
def test_an_unknown_engine_or_precision_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.removeprefix("MASKMILL_").lower()):
        Settings()
