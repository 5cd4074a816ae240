"""Where a job's parts and manifests lie."""

from storage.jobs import Job
from storage.object_keys import results_root
from storage.object_store import ObjectStore, open_store
from storage.settings import Settings


def results_store(job: Job, *, settings: Settings) -> ObjectStore:
    """The user's prefix where the job names one, else the job's place in the service's store."""
    own = f"{settings.object_store.rstrip('/')}/{results_root(job.id)}"
    return open_store(job.output or own, settings=settings)
