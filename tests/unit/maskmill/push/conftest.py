import pytest

from maskmill.push import outcome, server
from tests.unit.maskmill.push.http_server import no_pause


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_growing", no_pause)
    monkeypatch.setattr(outcome, "_growing", no_pause)
