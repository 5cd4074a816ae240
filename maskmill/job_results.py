"""A job's result, read through the service."""

from domain.result_manifest import ResultManifest
from maskmill.client import ApiError, Client


class JobResults:
    """What `result_folder.write_result_folder` reads from. Thread safe once `manifest` was called.

    Links expire; a refused one is asked for again.
    """

    def __init__(self, client: Client, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._urls: dict[str, str] = {}

    def manifest(self) -> ResultManifest:
        manifest = self._client.manifest(self._job_id)
        self._fetch_links()
        return manifest

    def read_part(self, key: str) -> bytes:
        try:
            return self._client.download(self._urls[key])
        except ApiError as error:
            if error.status != 403:
                raise
        self._fetch_links()
        return self._client.download(self._urls[key])

    def _fetch_links(self) -> None:
        self._urls = {
            file.key: file.url
            for part in self._client.results(self._job_id)
            for file in (part.annotations, part.images)
        }
