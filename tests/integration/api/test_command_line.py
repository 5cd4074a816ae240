"""The `maskmill` command against the real API under uvicorn."""

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Protocol

import pytest
import typer
from sqlalchemy import update

from api.app import create_app
from domain.annotations import failure
from domain.errors import ImageErrorCode
from maskmill.cli import COMMANDS, main
from storage import object_keys
from storage.object_store import open_store
from storage.tables import jobs
from tests.integration.api.conftest import Api
from tests.integration.api.labelled import commit, finish, found, labelled, plan
from tests.integration.api.served import served


class Run(Protocol):
    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""


@pytest.fixture
def run(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["maskmill", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    with served(create_app(api.settings)) as url:
        monkeypatch.setenv("MASKMILL_URL", url)
        monkeypatch.setenv("MASKMILL_API_KEY", api.alice["Authorization"].split()[1])
        yield call


def stored_files(api: Api, dataset_id: str) -> set[str]:
    store = open_store(api.settings.object_store, settings=api.settings)
    prefix = object_keys.dataset_prefix(dataset_id)
    return {info.key.removeprefix(prefix) for info in store.list(prefix)}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, run: Run) -> None:
    status, out, _ = run(command, "--help")
    assert status == 0
    assert "Usage: maskmill" in out


def test_the_line_of_help_in_the_list_is_the_commands_own() -> None:
    for name, (module, attribute, line) in COMMANDS.items():
        found = getattr(import_module(f"maskmill.cli.{module}"), attribute)
        own = found.info.help if isinstance(found, typer.Typer) else found.__doc__
        paragraph = " ".join((own or "").partition("\n\n")[0].split())
        assert paragraph.startswith(line.rstrip(".")), name


def test_a_job_is_submitted_shown_listed_and_canceled(run: Run) -> None:
    status, out, _ = run(
        "submit", "s3://photos/street/", "-p", "star", "-p", "hard hat::helmet", "--name", "w12"
    )
    assert status == 0
    job_id = out.strip()
    shown = json.loads(run("show", job_id, "--json")[1])
    assert shown["prompts"][1] == {"text": "hard hat", "class_name": "helmet", "threshold": None}
    plain = run("show", job_id)[1]
    assert "s3://photos/street/" in plain
    assert "hard hat (helmet)" in plain
    listed = json.loads(run("jobs", "--json")[1])
    assert [job["id"] for job in listed] == [job_id]
    assert "w12" in run("jobs")[1]
    assert run("cancel", job_id)[:2] == (0, f"{job_id} is being canceled\n")


def test_a_job_is_paused_resumed_and_given_another_priority(run: Run) -> None:
    job_id = run("submit", "s3://photos/street/", "-p", "star")[1].strip()
    assert f"maskmill resume {job_id}" in run("pause", job_id)[1]
    assert "paused" in run("show", job_id)[1]
    assert run("resume", job_id)[:2] == (0, f"{job_id} goes on\n")
    assert "paused" not in run("show", job_id)[1]
    assert run("priority", job_id, "--", "-7")[:2] == (0, f"{job_id} has priority -7\n")
    assert run("priority", job_id, "101")[0] == 2
    status, _, err = run("retry", job_id)
    assert (status, "job_not_ended" in err) == (1, True)


def test_failed_images_of_a_job_are_tried_again(run: Run, api: Api) -> None:
    job_id = run("submit", "s3://photos/street/", "-p", "star")[1].strip()
    lease = plan(api, job_id, images=1)
    commit(api, lease, [failure(ImageErrorCode.TIMEOUT, "slow")])
    finish(api, lease)
    assert run("retry", job_id, "--code", "slow")[0] == 1
    assert run("retry", job_id, "--code", "timeout")[:2] == (0, f"{job_id} runs again\n")
    assert json.loads(run("show", job_id, "--json")[1])["status"] == "running"


def test_prompts_come_from_files_too(run: Run, tmp_path: Path) -> None:
    text, structured = tmp_path / "p.txt", tmp_path / "p.json"
    text.write_text("star\n\nred circle :: round\n")
    structured.write_text('["star", {"text": "hard hat", "threshold": 0.6}]')
    for file, expected in (
        (text, [("star", None, None), ("red circle", "round", None)]),
        (structured, [("star", None, None), ("hard hat", None, 0.6)]),
    ):
        job_id = run("submit", "s3://photos/", "--prompts-file", str(file))[1].strip()
        prompts = json.loads(run("show", job_id, "--json")[1])["prompts"]
        assert [(p["text"], p["class_name"], p["threshold"]) for p in prompts] == expected


def test_a_job_is_submitted_with_a_webhook(run: Run) -> None:
    command = ("submit", "s3://photos/", "-p", "star", "--webhook")
    job_id = run(*command, "https://hooks.example/a")[1].strip()
    shown = json.loads(run("show", job_id, "--json")[1])
    assert shown["webhook_url"] == "https://hooks.example/a"
    status, _, err = run(*command, "http://hooks.example/a")
    assert status != 0
    assert "webhook_refused" in err


def test_a_folder_is_uploaded_and_submitted(run: Run, api: Api, tmp_path: Path) -> None:
    for name in ("a.png", "b/c.jpg", "b/readme.md"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image")
    status, out, _ = run("submit", str(tmp_path / "photos"), "-p", "star")
    assert status == 0
    source = json.loads(run("show", out.strip(), "--json")[1])["source"]
    assert source["type"] == "dataset"
    assert stored_files(api, source["id"]) == {"a.png", "b/c.jpg"}


def test_a_manifest_is_uploaded_with_the_images_it_names(
    run: Run, api: Api, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("in/a.png", "b.png", "unnamed.png"):
        (tmp_path / name).write_bytes(b"image")
    lines = [{"image": "in/a.png"}, {"image": "s3://photos/x.png"}, {"image": "missing.png"}]
    manifest = tmp_path / "list.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)) + '\nnot JSON\n{"uri": "./b.png"}\n')
    status, out, err = run("submit", str(manifest))
    assert status == 0, err
    source = json.loads(run("show", out.strip(), "--json")[1])["source"]
    assert source["manifest"] == "list.jsonl"
    assert stored_files(api, source["id"]) == {"list.jsonl", "in/a.png", "b.png"}


@pytest.mark.parametrize("name", ["../outside.png", "/etc/hostname"])
def test_a_manifest_that_names_files_elsewhere_is_not_uploaded(
    run: Run, tmp_path: Path, name: str
) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"image\n{name}\n")
    status, _, err = run("submit", str(manifest), "-p", "star")
    assert status == 1
    assert err.count("\n") == 1
    assert name in err


def test_mistakes_are_told_in_a_line_with_their_exit_status(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("submit", str(tmp_path / "nowhere"), "-p", "star")[0] == 2
    assert run("submit", "s3://photos/", "-p", " ")[0] == 2
    status, _, err = run("submit", "s3://secrets/", "-p", "star")
    assert (status, err.count("\n")) == (1, 1)
    assert "source_not_allowed" in err
    status, _, err = run("show", "job_none")
    assert (status, err.count("\n")) == (1, 1)
    monkeypatch.setenv("MASKMILL_API_KEY", "mm_wrong")
    status, _, err = run("jobs")
    assert status == 1
    assert "MASKMILL_API_KEY" in err


def test_watching_ends_with_the_job(run: Run, api: Api) -> None:
    job_id = run("submit", "s3://photos/", "-p", "red circle")[1].strip()
    lease = plan(api, job_id, images=2)
    commit(api, lease, [labelled(found(0.9)), failure(ImageErrorCode.TRUNCATED, "cut")])
    finish(api, lease)
    status, _, err = run("watch", job_id)
    assert status == 0
    assert "2 of 2 images, 1 failed" in err
    assert "succeeded: 1 images labelled, 1 instances, 1 failed" in err


def test_errors_are_listed_for_people_and_programs(run: Run, api: Api) -> None:
    job_id = run("submit", "s3://photos/", "-p", "red circle")[1].strip()
    lease = plan(api, job_id, images=2)
    commit(
        api, lease, [failure(ImageErrorCode.TRUNCATED, "cut"), failure(ImageErrorCode.TIMEOUT, "")]
    )
    assert "truncated     image-0.png  cut" in run("errors", job_id)[1]
    lines = run("errors", job_id, "--json", "--code", "timeout")[1].splitlines()
    assert [json.loads(line)["image"] for line in lines] == ["image-1.png"]


def test_names_and_messages_of_others_cannot_steer_the_terminal(run: Run, api: Api) -> None:
    odd = "\x1b]0;x\x07\u202e\u2028\n\x9b[bold]"
    escaped = r"\x1b]0;x\x07\u202e\u2028\n\x9b[bold]"
    job = api.create_job(name=odd, prompts=[{"text": f"a{odd}b"}])
    commit(api, plan(api, job["id"], images=1), [failure(ImageErrorCode.TRUNCATED, odd)])
    said = [run(*command)[1] for command in (("show", job["id"]), ("errors", job["id"]))]
    assert [text.count(escaped) for text in said] == [2, 1]
    listed, as_json = run("jobs")[1], run("show", job["id"], "--json")[1]
    status, _, err = run("submit", "s3://photos/", "-p", "star", "--model", "a\x1b[2J\x9b")
    assert (status, err.count("\n")) == (1, 1)
    for text in (*said, listed, as_json, err):
        assert not {"\x1b", "\x07", "\u202e", "\u2028", "\x9b"} & set(text)
    with api.database.begin() as connection:
        connection.execute(
            update(jobs).values(status="failed", error={"code": "x", "message": odd, "line": 1})
        )
    assert f"failed: line 1: {escaped} (x)\n" in run("show", job["id"])[1]


def test_results_are_downloaded_into_a_folder(run: Run, api: Api, tmp_path: Path) -> None:
    job_id = run("submit", "s3://photos/", "-p", "red circle")[1].strip()
    status, _, err = run("results", job_id)
    assert (status, "no_manifest_yet" in err) == (1, True)
    lease = plan(api, job_id, images=2)
    commit(api, lease, [labelled(found(0.9), found(0.3)), failure(ImageErrorCode.TIMEOUT, "x")])
    finish(api, lease)
    folder = tmp_path / "out"
    status, out, err = run("results", job_id, "--output", str(folder))
    assert status == 0, err
    assert out == f"{folder}: 1 images, 1 annotations, 1 failed\n"
    coco = json.loads((folder / "annotations.coco.json").read_text())
    assert [a["score"] for a in coco["annotations"]] == [0.9]
    lower = run("results", job_id, "--output", str(folder), "--min-score", "0.2")[1]
    assert "2 annotations" in lower


def test_keys_are_made_listed_and_revoked(
    run: Run, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "admin_only" in run("keys", "create", "carol")[2]
    monkeypatch.setenv("MASKMILL_API_KEY", api.admin["Authorization"].split()[1])
    status, secret, err = run("keys", "create", "carol")
    assert status == 0
    key_id = err.split()[0]
    listed = run("keys", "list")[1]
    assert key_id in listed
    assert secret.strip() not in listed
    assert run("keys", "revoke", key_id)[0] == 0
    monkeypatch.setenv("MASKMILL_API_KEY", secret.strip())
    assert run("jobs")[0] == 1


def test_the_doctor_tells_what_fails_and_what_to_do(
    run: Run, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = api.settings
    for name, value in {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "BROKER_URL": "redis://127.0.0.1:1/0",
        "OBJECT_STORE": settings.object_store,
        "SIGNING_SECRET": "x",
    }.items():
        monkeypatch.setenv(f"MASKMILL_{name}", value)
    status, out, _ = run("doctor")
    assert status == 1
    lines = out.splitlines()
    assert lines[0].startswith("ok   database")
    assert [line[:11] for line in lines if line.startswith("FAIL")] == ["FAIL broker"]
    assert "MASKMILL_BROKER_URL" in lines[2]
    assert any(line.startswith("ok   model demo-sam3") for line in lines)
    assert any(line.startswith("ok   device") for line in lines)


def test_the_doctor_finds_an_embedded_stack_by_its_data_folder(
    run: Run, api: Api, tmp_path: Path
) -> None:
    assert run("doctor", "--data", str(tmp_path))[0] == 2
    environment = {"MASKMILL_DATABASE_URL": api.settings.database_url.get_secret_value()}
    (tmp_path / "service.json").write_text(json.dumps(environment))
    status, out, _ = run("doctor", "--data", str(tmp_path), "--json")
    check = json.loads(out.splitlines()[0])
    assert (status, check["check"]) == (1, "settings")
    assert "DATABASE" not in check["detail"]
    assert "MASKMILL_BROKER_URL" in check["detail"]
