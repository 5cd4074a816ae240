"""The Celery tasks. Each rings through to a run; what there is to do, the database says."""

from storage.outbox import Tasks
from workers import export_run, finish_run, planning_run, shard_run
from workers.celery_app import app
from workers.runtime import runtime


@app.task(name=Tasks.PLAN_JOB)
def plan_job(job_id: str) -> None:
    planning_run.plan_job(runtime(), job_id)


@app.task(name=Tasks.RUN_SHARDS)
def run_shards(model: str) -> None:
    shard_run.run_shards(runtime(), [model])


@app.task(name=Tasks.FINISH_JOB)
def finish_job(job_id: str) -> None:
    finish_run.finish_job(runtime(), job_id)


@app.task(name=Tasks.RUN_EXPORTS)
def run_exports() -> None:
    export_run.run_exports(runtime())


# Acknowledged before it runs: the lane has its own way of sending again, and Celery ends the worker
# when an acknowledgement comes after the broker has been away.
@app.task(name=Tasks.ANSWER, acks_late=False)
def answer(request_id: str) -> None:
    from workers.interactive.lane import interactive_worker  # brings torch

    interactive_worker().answer(request_id)
