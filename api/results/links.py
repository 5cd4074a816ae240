"""Links that download a result file without credentials, for a while.

An object store signs its own where it can. For a folder store the API serves the bytes, under a
token that names the file and its expiry and carries an HMAC-SHA256 over both.
"""

import time
from dataclasses import dataclass

from fastapi import Request

from api.context import Context
from api.problems import ApiProblem
from api.signed import signed, verified
from storage.jobs import Job
from storage.object_store import ObjectStore
from storage.results_store import results_store

_PURPOSE = "download"


@dataclass(frozen=True, slots=True)
class ResultFileName:
    """`key` is relative to the job's results root."""

    job_id: str
    key: str


class ResultLinks:
    """Makes links to the files of one job."""

    def __init__(self, context: Context, job: Job, *, request: Request) -> None:
        self.store: ObjectStore = results_store(job, settings=context.settings)
        self._settings = context.settings
        self._job_id = job.id
        self._request = request

    def url(self, key: str) -> str:
        seconds = self._settings.link_seconds
        filename = f"{self._job_id}-{key.rpartition('/')[2]}"
        signed = self.store.presign(key, expires_seconds=seconds, filename=filename)
        return signed or self._own_url(key, int(time.time()) + seconds)

    def _own_url(self, key: str, expires_at: int) -> str:
        secret = self._settings.signing_secret.get_secret_value()
        token = sign(ResultFileName(self._job_id, key), expires_at, secret=secret)
        return str(self._request.url_for("download", token=token))


def sign(name: ResultFileName, expires_at: int, *, secret: str) -> str:
    """`expires_at` in seconds since 1970."""
    return signed([name.job_id, name.key, expires_at], purpose=_PURPOSE, secret=secret)


def verify(token: str, *, secret: str) -> ResultFileName:
    """The file a token opens; a problem (403) for a forged or expired one."""
    values = verified(token, purpose=_PURPOSE, secret=secret)
    if values is None:
        raise ApiProblem(403, "link_invalid", "This is not a link of this service.")
    job_id, key, expires_at = values
    if expires_at < time.time():
        raise ApiProblem(403, "link_expired", "This link has expired; ask for the results again.")
    return ResultFileName(job_id, key)
