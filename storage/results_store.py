"""Where a job's parts and manifests lie."""

from storage.jobs import Job
from storage.object_keys import results_root
from storage.object_store import ObjectStore, open_store
from storage.settings import Settings


def results_store(job: Job, *, settings: Settings) -> ObjectStore:
    """Below the user's prefix where the job names one, else in the service's own store."""
    if job.output is not None:
        # A folder of the job's own: two jobs with one prefix do not overwrite each other.
        return open_store(f"{job.output.rstrip('/')}/{job.id}", settings=settings)
    own = f"{settings.object_store.rstrip('/')}/{results_root(job.id)}"
    return open_store(own, settings=settings)
