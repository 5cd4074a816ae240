"""Calls for what is made of a job's result: exports, evaluations, previews."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from domain.documents import JobPromptDocument
from domain.exports import ExportOptions
from domain.findings import PromptFinding
from maskmill.answers import Evaluation, Export, MadeT, Preview
from maskmill.calls import PATIENCE_SECONDS, Calls, prompt_body, segment
from maskmill.connection import MaskmillError
from maskmill.export_folder import ByteProgress, write_export_folder
from maskmill.waiting import wait_until_ended


class ResultCalls(Calls):
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
        return self._made(
            lambda: self.get_export(job_id, export_id),
            on_progress,
            poll_seconds=poll_seconds,
            timeout_seconds=timeout_seconds,
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

        return self._downloaded(
            lambda: self.get_export(job_id, export_id), folder, unpack=unpack, on_bytes=on_bytes
        )

    # Evaluations

    def create_evaluation(
        self,
        job_id: str,
        truth: Mapping[str, Any],
        *,
        partial: bool = False,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Evaluation:
        """Compare a result with ground truth: `{"type": "dataset", "id": ..., "path": ...}` or
        `{"type": "object", "uri": "s3://..."}`, COCO instances. `options` are those of
        `domain.evaluation.documents.EvaluationOptions`. The same truth and options on the same
        result are the same evaluation."""
        body = {**options, "truth": dict(truth), "partial": partial}
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        answer = self._connection.json("POST", _evaluations(job_id), json=body, headers=headers)
        return Evaluation.model_validate(answer)

    def upload_truth(self, name: str, file: Path) -> dict[str, str]:
        """A COCO file of this machine as the truth of an evaluation."""
        body = {"name": name}
        dataset = self._connection.json("POST", "/v1/datasets", json=body, repeatable=False)
        address = f"/v1/datasets/{dataset['id']}"
        try:
            with file.open("rb") as opened:
                self._connection.put(f"{address}/files/truth.json", opened)
        except BaseException:
            with suppress(MaskmillError):
                self._connection.json("DELETE", address)
            raise
        return {"type": "dataset", "id": dataset["id"], "path": "truth.json"}

    def get_evaluation(self, job_id: str, evaluation_id: str) -> Evaluation:
        return self._get(Evaluation, _evaluations(job_id, evaluation_id))

    def iter_evaluations(self, job_id: str) -> Iterator[Evaluation]:
        """Newest first, without their reports."""
        return self._pages(Evaluation, _evaluations(job_id))

    def cancel_evaluation(self, job_id: str, evaluation_id: str) -> Evaluation:
        path = f"{_evaluations(job_id, evaluation_id)}/cancel"
        return Evaluation.model_validate(self._connection.json("POST", path))

    def delete_evaluation(self, job_id: str, evaluation_id: str) -> None:
        self._connection.json("DELETE", _evaluations(job_id, evaluation_id))

    def wait_evaluation(
        self,
        job_id: str,
        evaluation_id: str,
        on_progress: Callable[[Evaluation], None] | None = None,
        *,
        poll_seconds: float = 0.5,
        timeout_seconds: float | None = None,
    ) -> Evaluation:
        """As `wait`."""
        return self._made(
            lambda: self.get_evaluation(job_id, evaluation_id),
            on_progress,
            poll_seconds=poll_seconds,
            timeout_seconds=timeout_seconds,
        )

    def download_evaluation(self, job_id: str, evaluation_id: str, folder: Path) -> Evaluation:
        """The report as `report.html` and `report.json`. Raises `DamagedFile`, `FolderInUse`."""
        return self._downloaded(lambda: self.get_evaluation(job_id, evaluation_id), folder)

    # Previews

    def lint(
        self, prompts: Sequence[JobPromptDocument | str], *, model: str | None = None
    ) -> list[PromptFinding]:
        """What can be said about prompts without any image, warnings first."""
        body = {"prompts": [prompt_body(prompt) for prompt in prompts], "model": model}
        answer = self._connection.json("POST", "/v1/lint", json=body)
        return [PromptFinding.model_validate(finding) for finding in answer["findings"]]

    def create_preview(self, job_id: str, *, images: int | None = None) -> Preview:
        """Label some images of a job on hold (`create_job(..., hold=True)`) and report on them."""
        body = {} if images is None else {"images": images}
        return Preview.model_validate(self._connection.json("POST", _preview(job_id), json=body))

    def get_preview(self, job_id: str) -> Preview:
        return self._get(Preview, _preview(job_id))

    def wait_preview(
        self,
        job_id: str,
        on_progress: Callable[[Preview], None] | None = None,
        *,
        poll_seconds: float = 0.5,
        timeout_seconds: float | None = None,
    ) -> Preview:
        """As `wait`."""
        return self._made(
            lambda: self.get_preview(job_id),
            on_progress,
            poll_seconds=poll_seconds,
            timeout_seconds=timeout_seconds,
        )

    def download_preview(self, job_id: str, folder: Path) -> Preview:
        """As `download_evaluation`."""
        return self._downloaded(lambda: self.get_preview(job_id), folder)

    def _made(
        self,
        look: Callable[[], MadeT],
        on_progress: Callable[[MadeT], None] | None,
        *,
        poll_seconds: float,
        timeout_seconds: float | None,
    ) -> MadeT:
        return wait_until_ended(
            look,
            on_progress,
            poll_seconds=poll_seconds,
            timeout_seconds=timeout_seconds,
            patience_seconds=PATIENCE_SECONDS,
        )

    def _downloaded(
        self,
        look: Callable[[], MadeT],
        folder: Path,
        *,
        unpack: bool = True,
        on_bytes: ByteProgress | None = None,
    ) -> MadeT:
        fetch = self._connection.fetch
        return write_export_folder(folder, look, fetch, unpack=unpack, on_bytes=on_bytes)


def _exports(job_id: str, export_id: str | None = None) -> str:
    path = f"/v1/jobs/{segment(job_id)}/exports"
    return path if export_id is None else f"{path}/{segment(export_id)}"


def _evaluations(job_id: str, evaluation_id: str | None = None) -> str:
    path = f"/v1/jobs/{segment(job_id)}/evaluations"
    return path if evaluation_id is None else f"{path}/{segment(evaluation_id)}"


def _preview(job_id: str) -> str:
    return f"/v1/jobs/{segment(job_id)}/preview"
