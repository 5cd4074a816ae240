"""The service from Python, typed: `from maskmill import Client`."""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from domain.documents import JobPromptDocument
from domain.exports import ExportOptions
from domain.result_manifest import ResultManifest
from maskmill.answers import (
    Answer,
    Dataset,
    Delivery,
    Event,
    Export,
    FailedImage,
    ImageAnnotations,
    Job,
    JobProgress,
    Key,
    LinkedPart,
    Model,
    NewKey,
)
from maskmill.connection import (
    ApiError,
    Connection,
    MaskmillError,
    ServiceUnreachableError,
)
from maskmill.export_folder import ByteProgress, write_export_folder
from maskmill.following import follow
from maskmill.job_sources import dataset_source, image_names, s3_source
from maskmill.waiting import wait_until_ended

__all__ = ["ApiError", "Client", "Job", "MaskmillError", "ServiceUnreachableError"]

DEFAULT_URL = "http://127.0.0.1:8000"
_UPLOADS_AT_ONCE = 8
_UPLOADS_AHEAD = 256
_PAGE = 500
_PATIENCE_SECONDS = 60.0

AnswerT = TypeVar("AnswerT", bound=Answer)
FileProgress = Callable[[int, int], None]
"""Called with (files done, files in all)."""


class Client:
    """Thread safe; use it in a `with` or call `close`.

    `url` and `api_key` are MASKMILL_URL and MASKMILL_API_KEY by default. Raises `ApiError` when
    the service refuses and `ServiceUnreachableError` when it does not answer; what may be sent
    twice is retried for some seconds first.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_seconds: float = 60.0,
    ) -> None:
        self._connection = Connection(
            url or os.environ.get("MASKMILL_URL") or DEFAULT_URL,
            api_key or os.environ.get("MASKMILL_API_KEY"),
            timeout_seconds=timeout_seconds,
        )
        self.url = self._connection.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    # Jobs

    def create_job(
        self,
        source: str | Mapping[str, Any],
        prompts: Sequence[JobPromptDocument | str] = (),
        *,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Job:
        """Label `source`: s3://bucket/prefix, an s3:// manifest, or a source as the API has it.

        `options` are `name`, `model`, `floor`, `output`, `priority`, `webhook_url` and
        `accept_expiring_links`; those that are None are left to the service. Call again with the
        same `idempotency_key` for the same job.
        """
        body = {
            "source": s3_source(source) if isinstance(source, str) else dict(source),
            "prompts": [_prompt(prompt) for prompt in prompts],
            **{name: value for name, value in options.items() if value is not None},
        }
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        answer = self._connection.json("POST", "/v1/jobs", json=body, headers=headers)
        return Job.model_validate(answer)

    def submit_folder(
        self,
        folder: Path,
        prompts: Sequence[JobPromptDocument | str],
        *,
        on_progress: FileProgress | None = None,
        **options: Any,
    ) -> Job:
        """Upload a folder's images and label them; `options` as for `create_job`."""
        dataset = self.create_dataset(options.get("name") or folder.resolve().name)
        names = image_names(folder)
        self.upload_files(dataset.id, folder, names, on_progress=on_progress)
        return self.create_job(dataset_source(dataset.id), prompts, **options)

    def get_job(self, job_id: str) -> Job:
        return self._get(Job, f"/v1/jobs/{_segment(job_id)}")

    def iter_jobs(self, *, status: str | None = None) -> Iterator[Job]:
        """Newest first, read page by page as you go on."""
        return self._pages(Job, "/v1/jobs", status=status)

    def list_jobs(self, *, status: str | None = None, limit: int = 50) -> list[Job]:
        return list(islice(self.iter_jobs(status=status), limit))

    def cancel(self, job_id: str) -> Job:
        return self._act(job_id, "cancel")

    def pause(self, job_id: str) -> Job:
        """Begin nothing more; what is labelled stays. `wait` goes on waiting."""
        return self._act(job_id, "pause")

    def resume(self, job_id: str) -> Job:
        return self._act(job_id, "resume")

    def retry(self, job_id: str, *, codes: Sequence[str] = ()) -> Job:
        """Run the failed images of an ended job again, those with one of `codes` or all.

        `ApiError` with the code `nothing_to_retry` when there are none.
        """
        body = {"codes": list(codes)} if codes else {}
        path = f"/v1/jobs/{_segment(job_id)}/retry"
        return Job.model_validate(self._connection.json("POST", path, json=body, repeatable=False))

    def set_priority(self, job_id: str, priority: int) -> Job:
        path = f"/v1/jobs/{_segment(job_id)}"
        return Job.model_validate(self._connection.json("PATCH", path, json={"priority": priority}))

    def _act(self, job_id: str, action: str) -> Job:
        path = f"/v1/jobs/{_segment(job_id)}/{action}"
        return Job.model_validate(self._connection.json("POST", path))

    def wait(
        self,
        job_id: str,
        on_progress: Callable[[Job], None] | None = None,
        *,
        poll_seconds: float = 0.5,
        timeout_seconds: float | None = None,
    ) -> Job:
        """Until the job has ended, well or not; `TimeoutError` when that takes too long.

        A service that does not answer for a minute (a restart, a deploy) is waited for.
        """
        return wait_until_ended(
            lambda: self.get_job(job_id),
            on_progress,
            poll_seconds=poll_seconds,
            timeout_seconds=timeout_seconds,
            patience_seconds=_PATIENCE_SECONDS,
        )

    def events(self, job_id: str) -> Iterator[Event]:
        return self._pages(Event, f"/v1/jobs/{_segment(job_id)}/events")

    def follow(self, job_id: str) -> Iterator[Event | JobProgress]:
        """The job's events as they happen, and how far it is, until it has ended.

        Every event comes once and in order, whatever breaks in between; a service that does not
        answer for a minute is waited for.
        """
        path = f"/v1/jobs/{_segment(job_id)}/events"
        return follow(self._connection, path, patience_seconds=_PATIENCE_SECONDS)

    # Webhooks

    def webhook_secret(self) -> str:
        """What the webhooks of your jobs are signed with: `whsec_...`."""
        return str(self._connection.json("GET", "/v1/webhooks/secret")["secret"])

    def deliveries(self, job_id: str) -> Iterator[Delivery]:
        """The calls to the job's webhook and how they went, oldest first."""
        return self._pages(Delivery, f"/v1/jobs/{_segment(job_id)}/deliveries")

    def redeliver(self, job_id: str, delivery_id: str) -> Delivery:
        """Have a call made again, now."""
        path = f"/v1/jobs/{_segment(job_id)}/deliveries/{_segment(delivery_id)}/redeliver"
        return Delivery.model_validate(self._connection.json("POST", path))

    # Results

    def errors(self, job_id: str, *, code: str | None = None) -> Iterator[FailedImage]:
        """Images that could not be labelled, also while the job runs."""
        return self._pages(FailedImage, f"/v1/jobs/{_segment(job_id)}/errors", code=code)

    def results(self, job_id: str) -> Iterator[LinkedPart]:
        """The Parquet parts written so far, with links that work for a while."""
        return self._pages(LinkedPart, f"/v1/jobs/{_segment(job_id)}/results")

    def manifest(self, job_id: str) -> ResultManifest:
        answer = self._connection.json("GET", f"/v1/jobs/{_segment(job_id)}/manifest")
        return ResultManifest.model_validate(answer)

    def download(self, url: str) -> bytes:
        """The bytes behind a part's link."""
        return self._connection.download(url)

    def annotations(
        self, job_id: str, image_index: int, *, min_score: float | None = None
    ) -> ImageAnnotations:
        path = f"/v1/jobs/{_segment(job_id)}/images/{image_index}/annotations"
        return self._get(ImageAnnotations, path, min_score=min_score)

    # Exports

    def create_export(
        self,
        job_id: str,
        options: ExportOptions | Mapping[str, Any],
        *,
        partial: bool = False,
        idempotency_key: str | None = None,
    ) -> Export:
        """Show a result in another way, in the format of another tool: `{"format": "yolo"}` at
        least. The same options on the same result are the same export. `partial` takes what is
        labelled so far of a job that still runs."""
        chosen = ExportOptions.model_validate(options)
        body = {**chosen.model_dump(mode="json", exclude_unset=True), "partial": partial}
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        path = _exports(job_id)
        return Export.model_validate(
            self._connection.json("POST", path, json=body, headers=headers)
        )

    def get_export(self, job_id: str, export_id: str) -> Export:
        return self._get(Export, _exports(job_id, export_id))

    def iter_exports(self, job_id: str) -> Iterator[Export]:
        """Newest first, without their files."""
        return self._pages(Export, _exports(job_id))

    def cancel_export(self, job_id: str, export_id: str) -> Export:
        path = f"{_exports(job_id, export_id)}/cancel"
        return Export.model_validate(self._connection.json("POST", path))

    def delete_export(self, job_id: str, export_id: str) -> None:
        self._connection.json("DELETE", _exports(job_id, export_id))

    def wait_export(
        self,
        job_id: str,
        export_id: str,
        on_progress: Callable[[Export], None] | None = None,
        *,
        poll_seconds: float = 0.5,
        timeout_seconds: float | None = None,
    ) -> Export:
        """As `wait`."""
        return wait_until_ended(
            lambda: self.get_export(job_id, export_id),
            on_progress,
            poll_seconds=poll_seconds,
            timeout_seconds=timeout_seconds,
            patience_seconds=_PATIENCE_SECONDS,
        )

    def download_export(
        self,
        job_id: str,
        export_id: str,
        folder: Path,
        *,
        unpack: bool = True,
        on_bytes: ByteProgress | None = None,
    ) -> Export:
        """The files of an export that has succeeded, ZIP archives unpacked. Called again it goes
        on where it was stopped. Raises `DamagedFile` and `FolderInUse`."""

        def look() -> Export:
            return self.get_export(job_id, export_id)

        return write_export_folder(
            folder, look, self._connection.fetch, unpack=unpack, on_bytes=on_bytes
        )

    # Datasets

    def create_dataset(self, name: str) -> Dataset:
        body = {"name": name}
        answer = self._connection.json("POST", "/v1/datasets", json=body, repeatable=False)
        return Dataset.model_validate(answer)

    def iter_datasets(self) -> Iterator[Dataset]:
        return self._pages(Dataset, "/v1/datasets")

    def upload_file(self, dataset_id: str, path: str, file: Path) -> None:
        """Store `file` as `path` of the dataset, replacing what is there."""
        address = f"/v1/datasets/{_segment(dataset_id)}/files/{quote(path)}"
        with file.open("rb") as opened:
            self._connection.put(address, opened)

    def upload_files(
        self,
        dataset_id: str,
        folder: Path,
        names: Sequence[str],
        *,
        on_progress: FileProgress | None = None,
    ) -> None:
        """Several at once; `names` are relative to `folder` and keep their names."""
        report = on_progress or (lambda _sent, _total: None)
        report(0, len(names))
        rest = iter(names)
        sent = 0
        with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
            while ahead := list(islice(rest, _UPLOADS_AHEAD)):
                for _ in pool.map(lambda n: self.upload_file(dataset_id, n, folder / n), ahead):
                    sent += 1
                    report(sent, len(names))

    # Keys, models, health

    def create_key(self, name: str, *, is_admin: bool = False) -> NewKey:
        body = {"name": name, "is_admin": is_admin}
        answer = self._connection.json("POST", "/v1/keys", json=body, repeatable=False)
        return NewKey.model_validate(answer)

    def iter_keys(self) -> Iterator[Key]:
        return self._pages(Key, "/v1/keys")

    def revoke_key(self, key_id: str) -> Key:
        answer = self._connection.json("DELETE", f"/v1/keys/{_segment(key_id)}")
        return Key.model_validate(answer)

    def models(self) -> list[Model]:
        answer = self._connection.json("GET", "/v1/models")
        return [Model.model_validate(entry) for entry in answer["data"]]

    def health(self) -> bool:
        """Whether the service answers at all."""
        return bool(self._connection.json("GET", "/healthz")["status"] == "healthy")

    def _get(self, kind: type[AnswerT], path: str, **query: Any) -> AnswerT:
        answer = self._connection.json("GET", path, params=_present(query))
        return kind.model_validate(answer)

    def _pages(self, kind: type[AnswerT], path: str, **query: Any) -> Iterator[AnswerT]:
        cursor: str | None = None
        while True:
            params = _present({**query, "limit": _PAGE, "cursor": cursor})
            page = self._connection.json("GET", path, params=params)
            for entry in page["data"]:
                yield kind.model_validate(entry)
            cursor = page["next_cursor"]
            if cursor is None:
                return


def _prompt(prompt: JobPromptDocument | str) -> dict[str, Any]:
    if isinstance(prompt, str):
        return {"text": prompt}
    return prompt.model_dump(exclude_none=True)


def _exports(job_id: str, export_id: str | None = None) -> str:
    path = f"/v1/jobs/{_segment(job_id)}/exports"
    return path if export_id is None else f"{path}/{_segment(export_id)}"


def _segment(value: str) -> str:
    return quote(value, safe="")


def _present(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}
