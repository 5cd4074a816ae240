"""The service from Python, typed: `from maskmill import Client`."""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from domain.documents import JobPromptDocument
from domain.result_manifest import ResultManifest
from maskmill.answers import (
    Dataset,
    Delivery,
    Event,
    FailedImage,
    ImageAnnotations,
    Job,
    JobProgress,
    Key,
    LinkedPart,
    Model,
    NewKey,
)
from maskmill.calls import PATIENCE_SECONDS, prompt_body, segment
from maskmill.connection import (
    ApiError,
    MaskmillError,
    ServiceUnreachableError,
)
from maskmill.following import follow
from maskmill.job_sources import dataset_source, image_names, s3_source
from maskmill.result_calls import ResultCalls
from maskmill.waiting import wait_until_ended

__all__ = ["ApiError", "Client", "Job", "MaskmillError", "ServiceUnreachableError"]

_UPLOADS_AT_ONCE = 8
_UPLOADS_AHEAD = 256

FileProgress = Callable[[int, int], None]
"""Called with (files done, files in all)."""


class Client(ResultCalls):
    """Thread safe; use it in a `with` or call `close`.

    `url` and `api_key` are MASKMILL_URL and MASKMILL_API_KEY by default. Raises `ApiError` when
    the service refuses and `ServiceUnreachableError` when it does not answer; what may be sent
    twice is retried for some seconds first.
    """

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

        `options` are `name`, `model`, `floor`, `output`, `priority`, `webhook_url`, `hold` and
        `accept_expiring_links`; those that are None are left to the service. Call again with the
        same `idempotency_key` for the same job.
        """
        body = {
            "source": s3_source(source) if isinstance(source, str) else dict(source),
            "prompts": [prompt_body(prompt) for prompt in prompts],
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
        return self._get(Job, f"/v1/jobs/{segment(job_id)}")

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

    def promote(self, job_id: str) -> Job:
        """Let a job on hold label all its images; those of its preview are not labelled again."""
        return self._act(job_id, "promote")

    def retry(self, job_id: str, *, codes: Sequence[str] = ()) -> Job:
        """Run the failed images of an ended job again, those with one of `codes` or all.

        `ApiError` with the code `nothing_to_retry` when there are none.
        """
        body = {"codes": list(codes)} if codes else {}
        path = f"/v1/jobs/{segment(job_id)}/retry"
        return Job.model_validate(self._connection.json("POST", path, json=body, repeatable=False))

    def set_priority(self, job_id: str, priority: int) -> Job:
        path = f"/v1/jobs/{segment(job_id)}"
        return Job.model_validate(self._connection.json("PATCH", path, json={"priority": priority}))

    def _act(self, job_id: str, action: str) -> Job:
        path = f"/v1/jobs/{segment(job_id)}/{action}"
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
            patience_seconds=PATIENCE_SECONDS,
        )

    def events(self, job_id: str) -> Iterator[Event]:
        return self._pages(Event, f"/v1/jobs/{segment(job_id)}/events")

    def follow(self, job_id: str) -> Iterator[Event | JobProgress]:
        """The job's events as they happen, and how far it is, until it has ended.

        Every event comes once and in order, whatever breaks in between; a service that does not
        answer for a minute is waited for.
        """
        path = f"/v1/jobs/{segment(job_id)}/events"
        return follow(self._connection, path, patience_seconds=PATIENCE_SECONDS)

    # Webhooks

    def webhook_secret(self) -> str:
        """What the webhooks of your jobs are signed with: `whsec_...`."""
        return str(self._connection.json("GET", "/v1/webhooks/secret")["secret"])

    def deliveries(self, job_id: str) -> Iterator[Delivery]:
        """The calls to the job's webhook and how they went, oldest first."""
        return self._pages(Delivery, f"/v1/jobs/{segment(job_id)}/deliveries")

    def redeliver(self, job_id: str, delivery_id: str) -> Delivery:
        """Have a call made again, now."""
        path = f"/v1/jobs/{segment(job_id)}/deliveries/{segment(delivery_id)}/redeliver"
        return Delivery.model_validate(self._connection.json("POST", path))

    # Results

    def errors(self, job_id: str, *, code: str | None = None) -> Iterator[FailedImage]:
        """Images that could not be labelled, also while the job runs."""
        return self._pages(FailedImage, f"/v1/jobs/{segment(job_id)}/errors", code=code)

    def results(self, job_id: str) -> Iterator[LinkedPart]:
        """The Parquet parts written so far, with links that work for a while."""
        return self._pages(LinkedPart, f"/v1/jobs/{segment(job_id)}/results")

    def manifest(self, job_id: str) -> ResultManifest:
        answer = self._connection.json("GET", f"/v1/jobs/{segment(job_id)}/manifest")
        return ResultManifest.model_validate(answer)

    def download(self, url: str) -> bytes:
        """The bytes behind a part's link."""
        return self._connection.download(url)

    def annotations(
        self, job_id: str, image_index: int, *, min_score: float | None = None
    ) -> ImageAnnotations:
        path = f"/v1/jobs/{segment(job_id)}/images/{image_index}/annotations"
        return self._get(ImageAnnotations, path, min_score=min_score)

    # Datasets

    def create_dataset(self, name: str) -> Dataset:
        body = {"name": name}
        answer = self._connection.json("POST", "/v1/datasets", json=body, repeatable=False)
        return Dataset.model_validate(answer)

    def iter_datasets(self) -> Iterator[Dataset]:
        return self._pages(Dataset, "/v1/datasets")

    def delete_dataset(self, dataset_id: str) -> None:
        """With its files, once what has begun with it has ended."""
        self._connection.json("DELETE", f"/v1/datasets/{segment(dataset_id)}")

    def upload_file(self, dataset_id: str, path: str, file: Path) -> None:
        """Store `file` as `path` of the dataset, replacing what is there."""
        address = f"/v1/datasets/{segment(dataset_id)}/files/{quote(path)}"
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
        answer = self._connection.json("DELETE", f"/v1/keys/{segment(key_id)}")
        return Key.model_validate(answer)

    def models(self) -> list[Model]:
        answer = self._connection.json("GET", "/v1/models")
        return [Model.model_validate(entry) for entry in answer["data"]]

    def health(self) -> bool:
        """Whether the service answers at all."""
        return bool(self._connection.json("GET", "/healthz")["status"] == "healthy")
