"""`maskmill push`, from a job to stand-ins for Label Studio and CVAT."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api.conftest import Api
from tests.integration.api.test_export_downloads import Run, run, url  # noqa: F401 (fixtures)
from tests.integration.api.test_exports import finished_job
from tests.unit.maskmill.push.cvat_server import Cvat
from tests.unit.maskmill.push.http_server import serving
from tests.unit.maskmill.push.test_label_studio import LabelStudio

PREFIX = ("--image-prefix", "https://example.com/")


@pytest.fixture
def label_studio() -> Iterator[LabelStudio]:
    server = LabelStudio()
    with serving(server):
        yield server


@pytest.fixture
def cvat() -> Iterator[Cvat]:
    server = Cvat()
    with serving(server):
        yield server


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKMILL_PUSH_TOKEN", "secret")


def test_a_job_is_pushed_to_label_studio_once_however_often_it_is_asked(
    run: Run,  # noqa: F811
    api: Api,
    label_studio: LabelStudio,
) -> None:
    job_id = finished_job(api)
    command = ("push", job_id, "--to", "label-studio", "--url", label_studio.url)
    status, out, err = run(*command, "--name", "Week 12", "--min-score", "0.2", *PREFIX)
    assert (status, out) == (0, f"{label_studio.url}/projects/1: 2 images sent, 0 were there\n"), (
        err
    )
    assert run(*command, "--project", "1", "--min-score", "0.2", *PREFIX)[1].endswith(
        "0 images sent, 2 were there\n"
    )
    first, second = label_studio.tasks[1]
    assert first["data"]["image"].startswith("https://example.com/")
    assert [region["score"] for region in first["predictions"][0]["result"]] == [0.9, 0.3, 0.8]
    assert second["predictions"][0]["result"] == []


def test_a_job_is_pushed_to_cvat_and_the_export_may_be_kept(
    run: Run,  # noqa: F811
    api: Api,
    cvat: Cvat,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MASKMILL_PUSH_TOKEN", 40 * "a")
    command = ("push", finished_job(api), "--to", "cvat", "--url", cvat.url, "--name", "Week 12")
    status, out, err = run(*command, "-o", tmp_path / "kept", *PREFIX)
    assert (status, out) == (0, f"{cvat.url}/projects/1: 2 images sent, 0 were there\n"), err
    assert (tmp_path / "kept/annotations-00000.xml").is_file()
    assert run(*command, "-o", tmp_path / "kept", *PREFIX)[1].endswith(
        "0 images sent, 2 were there\n"
    )


def test_the_token_goes_to_no_one_else(
    run: Run,  # noqa: F811
    api: Api,
    label_studio: LabelStudio,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MASKMILL_PUSH_TOKEN", "wrong-and-private")
    command = ("push", finished_job(api), "--to", "label-studio", "--url", label_studio.url)
    status, out, err = run(*command, "--name", "Week 12")
    assert status == 1
    assert "does not accept the token (" in err
    assert "wrong-and-private" not in out + err + caplog.text


def test_what_is_missing_is_said_before_anything_is_made(
    run: Run,  # noqa: F811
    api: Api,
    label_studio: LabelStudio,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ("push", finished_job(api), "--to", "label-studio", "--url", label_studio.url)
    status, _, err = run(*command)
    assert (status, "give --project ID, or --name NAME" in err) == (2, True)
    monkeypatch.delenv("MASKMILL_PUSH_TOKEN")
    status, _, err = run(*command, "--name", "Week 12")
    assert (status, "set MASKMILL_PUSH_TOKEN" in err) == (2, True)
    assert not label_studio.requests
