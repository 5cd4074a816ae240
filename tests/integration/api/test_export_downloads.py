"""Exports as a user has them: `maskmill export` and the client, against the API under uvicorn
and the worker's own code in a thread."""

import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from domain.exports import ExportCounts, ExportFormat, ExportSource, PolygonLoss, Sink
from domain.formats import WRITERS
from maskmill import Client
from maskmill.cli import main
from maskmill.export_folder import LOCK, STATE, DamagedFile, FolderInUse, LinkInFolder
from tests.integration.api.conftest import Api
from tests.integration.api.served import served
from tests.integration.api.test_exports import finished_job
from workers.export_run import run_exports
from workers.runtime import build_runtime

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def url(api: Api) -> Iterator[str]:
    """Of an API beside which somebody makes exports."""
    runtime, done = build_runtime(api.settings), threading.Event()

    def work() -> None:
        while not done.wait(0.05):
            run_exports(runtime)

    thread = threading.Thread(target=work)
    thread.start()
    with served(create_app(api.settings)) as address:
        yield address
    done.set()
    thread.join()
    runtime.database.dispose()
    runtime.sources.close()


@pytest.fixture
def client(url: str, api: Api) -> Iterator[Client]:
    with Client(url, api.alice["Authorization"].split()[1]) as opened:
        yield opened


@pytest.fixture
def run(
    url: str, api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["maskmill", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    monkeypatch.setenv("MASKMILL_URL", url)
    monkeypatch.setenv("MASKMILL_API_KEY", api.alice["Authorization"].split()[1])
    return call


def zipped(**members: str) -> bytes:
    """`__` stands for a slash."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return out.getvalue()


@pytest.fixture
def archives(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files of an export, in the place of Parquet; a test may change them before it asks."""
    files = {
        "labels-0.zip": zipped(labels__a="one"),
        "labels-1.zip": zipped(labels__b="two"),
        "names.txt": b"three",
    }

    def write(_source: ExportSource, sink: Sink) -> ExportCounts:
        for name, content in files.items():
            with sink.file(name) as out:
                out.write(content)
        return ExportCounts(2, 3, PolygonLoss(3, 0.98, 0.91, holes=2, parts=1, dropped=1))

    monkeypatch.setitem(WRITERS, ExportFormat.PARQUET, write)  # type: ignore[arg-type]
    return files


def test_a_job_is_exported_into_a_folder_and_the_report_is_shown(
    run: Run, api: Api, tmp_path: Path
) -> None:
    job_id = finished_job(api)
    chosen = ("--min-score", "0.2", "--class-score", "star=0.95", "--map", "red circle=disc")
    status, out, err = run("export", job_id, "-f", "coco", "-o", tmp_path / "coco", *chosen)
    assert (status, err) == (0, err)
    document = json.loads((tmp_path / "coco/annotations.coco.json").read_text())
    assert [c["name"] for c in document["categories"]] == ["disc", "star"]
    assert [a["score"] for a in document["annotations"]] == [0.9, 0.3]
    provenance = json.loads((tmp_path / "coco/maskmill.json").read_text())
    assert provenance["options"]["class_scores"] == {"star": 0.95}
    assert "images     2" in out
    assert "instances  2" in out
    assert "polygons" not in out
    listed = run("exports", job_id)[1]
    assert "coco" in listed
    assert "succeeded" in listed
    (one,) = json.loads(run("exports", job_id, "--json")[1])
    assert one["id"] in out


def test_archives_are_unpacked_and_the_loss_of_polygons_is_told(
    run: Run, api: Api, archives: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    status, out, _ = run("export", finished_job(api), "-f", "parquet", "-o", folder)
    assert status == 0
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert names == {"labels/a", "labels/b", "names.txt", "maskmill.json", STATE, LOCK}
    assert "0.9800 mean, 0.9100 worst" in out
    assert "2 holes cut in, 1 parts joined" in out


def test_archives_may_stay_as_they_are(
    run: Run, api: Api, archives: dict[str, bytes], tmp_path: Path
) -> None:
    run("export", finished_job(api), "-f", "parquet", "-o", tmp_path / "out", "--no-unpack")
    assert (tmp_path / "out/labels-0.zip").read_bytes() == archives["labels-0.zip"]
    assert not (tmp_path / "out/labels").exists()


@pytest.mark.parametrize("name", ["..__..__evil", "__evil", "labels__.", "a\\evil"])
def test_an_archive_whose_members_would_leave_the_folder_is_refused(
    client: Client, api: Api, archives: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    archives["labels-0.zip"] = zipped(**{name: "x"})
    with pytest.raises(DamagedFile, match="is no name for a file"):
        download(client, finished_job(api), tmp_path / "deep/out")
    assert {p.name for p in tmp_path.iterdir()} == {"deep", "objects"}
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]


@pytest.mark.parametrize("link", ["labels", "labels/a", LOCK, ".maskmill-export.partial"])
def test_nothing_is_written_through_a_link_that_lies_in_the_folder(
    client: Client, api: Api, archives: dict[str, bytes], tmp_path: Path, link: str
) -> None:
    folder, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (folder / link).parent.mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("own")
    (folder / link).symlink_to(elsewhere if link == "labels" else elsewhere / "precious")
    with pytest.raises(LinkInFolder):
        download(client, finished_job(api), folder)
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]
    assert (elsewhere / "precious").read_text() == "own"


def test_the_folder_itself_may_be_a_link(
    client: Client, api: Api, archives: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "large").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "large")
    download(client, finished_job(api), tmp_path / "out")
    assert (tmp_path / "large/labels/a").read_text() == "one"


def test_two_at_once_do_not_write_into_one_folder(
    client: Client, api: Api, archives: dict[str, bytes], tmp_path: Path
) -> None:
    job_id, folder = finished_job(api), tmp_path / "out"
    export_id = download(client, job_id, tmp_path / "first")
    tries: list[str] = []

    def try_too(_done: int, _total: int) -> None:
        with pytest.raises(FolderInUse) as refused:
            client.download_export(job_id, export_id, folder)
        tries.append(str(refused.value))

    client.download_export(job_id, export_id, folder, on_bytes=try_too)
    assert "another export is on its way" in tries[0]
    assert (folder / "labels/a").read_text() == "one"
    client.download_export(job_id, export_id, folder)


def download(client: Client, job_id: str, folder: Path, **options: Any) -> str:
    export = client.create_export(job_id, {"format": "parquet", **options})
    assert client.wait_export(job_id, export.id, timeout_seconds=30).status == "succeeded"
    client.download_export(job_id, export.id, folder)
    return export.id


def test_a_download_goes_on_where_it_was_stopped_and_fetches_nothing_twice(
    client: Client, api: Api, archives: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    job_id, folder = finished_job(api), tmp_path / "out"
    archives["names.txt"] = b"0123456789" * 1000
    fetched: list[tuple[str, int]] = []
    fetch = client._connection.fetch

    def note(url: str, path: Path, **options: Any) -> None:
        before = path.stat().st_size if path.exists() else 0
        fetch(url, path, **options)
        fetched.append((path.name[1:9], path.stat().st_size - before))

    monkeypatch.setattr(client._connection, "fetch", note)
    export_id = download(client, job_id, folder)
    assert len(fetched) == 4
    fetched.clear()
    client.download_export(job_id, export_id, folder)
    assert fetched == []
    (names,) = (f for f in client.get_export(job_id, export_id).files or () if "names" in f.name)
    (folder / "names.txt").unlink()
    (folder / f".{names.sha256}.partial").write_bytes(archives["names.txt"][:4000])
    client.download_export(job_id, export_id, folder)
    assert fetched == [(names.sha256[:8], 6000)]
    assert (folder / "names.txt").read_bytes() == archives["names.txt"]
    assert list(folder.glob(".*.partial")) == []


def test_a_file_that_is_not_what_was_written_is_refused(
    client: Client, api: Api, archives: dict[str, bytes], tmp_path: Path
) -> None:
    job_id, folder = finished_job(api), tmp_path / "out"
    export = client.create_export(job_id, {"format": "parquet"})
    client.wait_export(job_id, export.id, timeout_seconds=30)
    (stored,) = (tmp_path / "objects").rglob("names.txt")
    stored.write_bytes(b"other")
    with pytest.raises(DamagedFile, match=r"names\.txt"):
        client.download_export(job_id, export.id, folder)
    assert not (folder / "names.txt").exists()
    stored.write_bytes(archives["names.txt"])
    client.download_export(job_id, export.id, folder)


def test_two_exports_do_not_mix_in_one_folder(
    client: Client, run: Run, api: Api, tmp_path: Path
) -> None:
    job_id = finished_job(api)
    first = download(client, job_id, tmp_path / "out")
    with pytest.raises(FolderInUse, match=first):
        download(client, job_id, tmp_path / "out", top_k=1)
    status, _, err = run("export", job_id, "-f", "coco", "-o", tmp_path / "out")
    assert (status, "another folder" in err) == (1, True)
    assert "Traceback" not in err


def test_what_somebody_has_in_the_folder_is_not_overwritten(
    client: Client, api: Api, archives: dict[str, bytes], tmp_path: Path
) -> None:
    job_id, folder = finished_job(api), tmp_path / "out"
    (folder / "images").mkdir(parents=True)
    (folder / "images/a.jpg").write_bytes(b"")
    (folder / "names.txt").write_text("own")
    with pytest.raises(FolderInUse, match=r"names\.txt is there already"):
        download(client, job_id, folder)
    assert (folder / "names.txt").read_text() == "own"
    (folder / "names.txt").unlink()
    download(client, job_id, folder)
    assert (folder / "names.txt").read_bytes() == archives["names.txt"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--class-score", "star"), "NAME=0.6"),
        (("--class-score", "star=2"), "class_scores"),
        (("--map", "star"), "OLD=NEW"),
        (("--exclusive", "star"), "exclusive"),
        (("--geometry", "circle"), "geometry"),
        (("--top-k", "0"), "top-k"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(
    run: Run, tmp_path: Path, words: tuple[str, ...], reason: str
) -> None:
    status, _, err = run("export", "job_x", "-f", "coco", "-o", tmp_path / "out", *words)
    assert (status, reason in err) == (2, True), err
    assert not (tmp_path / "out").exists()


def test_what_the_service_refuses_is_one_line(run: Run, api: Api, tmp_path: Path) -> None:
    job_id = finished_job(api)
    words = ("export", job_id, "-f", "coco", "-o", tmp_path / "out")
    status, _, err = run(*words, "--drop-class", "stra")
    assert (status, "unknown_class" in err, "'star'" in err) == (1, True, True)
    part = api.as_alice("GET", f"/v1/jobs/{job_id}/results").json()["data"][0]["images"]
    (tmp_path / "objects/jobs" / job_id / "results" / part["key"]).unlink()
    status, _, err = run(*words)
    assert (status, "result_damaged" in err, part["key"] in err) == (1, True, True)


def test_the_client_lists_cancels_and_deletes(client: Client, api: Api) -> None:
    job_id = finished_job(api)
    export = client.create_export(job_id, {"format": "coco"})
    done = client.wait_export(job_id, export.id, timeout_seconds=30)
    assert done.report is not None
    assert [e.id for e in client.iter_exports(job_id)] == [export.id]
    client.delete_export(job_id, export.id)
    assert list(client.iter_exports(job_id)) == []
