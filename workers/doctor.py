"""`python -m workers.doctor`: model files, device, workers of all kinds; a JSON line per check."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass

from celery import Celery
from kombu.exceptions import OperationalError as BrokerError
from pydantic import ValidationError
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from storage.database import Database
from storage.lane import WorkerLane
from storage.lane.worker import open_broker
from storage.outbox import PLANNING_QUEUE, bulk_queue
from storage.presence import Worker
from storage.settings import Settings, load_settings
from storage.watching import Watched, watched
from workers.engine import load_engine
from workers.null_engine import is_null

_ASK_SECONDS = 3.0  # in which workers say what they listen to


@dataclass(frozen=True, slots=True)
class Check:
    """`mend` says what to do where `ok` is false."""

    check: str
    ok: bool
    detail: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Serving:
    """How this machine would run its models; see storage.settings."""

    models: Sequence[str] = ("demo-sam3",)
    engine: str = "staged"
    device: str = "auto"
    precision: str = "auto"


def checks(serving: Serving) -> Iterator[Check]:
    """Loads every model that this machine would serve: nothing less proves that it can."""
    try:
        from workers.engine.checkpoint import CheckpointError
    except ImportError as error:
        yield Check("engine", False, str(error), "pip install 'maskmill[worker]'")
        return
    for model in serving.models:
        if is_null(model):
            yield Check(f"model {model}", True, "looks at no image: for trials of the machinery")
            continue
        try:
            yield Check(f"model {model}", True, _loaded(model, serving))
        except CheckpointError as error:
            mend = "name a directory or a hub model; gated ones need HF_TOKEN (README)"
            yield Check(f"model {model}", False, str(error), mend)
    yield _device(serving.device)


def _loaded(model: str, serving: Serving) -> str:
    engine = load_engine(
        model, engine=serving.engine, device=serving.device, precision=serving.precision
    )
    weights = f"weights {engine.weights_sha256[:12]}"
    return f"{weights}, {serving.engine} engine on {engine.device}, {engine.details}"


def single_images(settings: Settings) -> Check:
    """None is no fault: a service may be run for jobs alone. Whether the broker answers is told
    by the API's half."""
    lane = WorkerLane(settings, name="doctor")
    try:
        living = lane.living()
    except RedisError:
        return Check("single images", True, "not known: the broker does not answer")
    finally:
        lane.close()
    if living == 0:
        return Check("single images", True, "no interactive worker lives: requests get 503")
    return Check("single images", True, f"{living} interactive worker(s) for {lane.model}")


def workers_for_jobs(settings: Settings) -> Iterator[Check]:
    """Whether somebody hears each queue: a worker that lives but is deaf does not count. None is
    no fault where nothing waits."""
    try:
        state, hearing = _watched(settings), _hearing(settings)
        yield _living(state.workers)
        shards = {queue.model: queue.waiting_shards for queue in state.queues}
        with open_broker(settings) as broker:
            messages = broker.llen(PLANNING_QUEUE)
            hears = hearing[PLANNING_QUEUE]
            waiting = state.unplanned.count + state.waiting_exports.count
            yield _heard("planner", hears, waiting=waiting, messages=messages)
            for model in sorted({*settings.models, *shards}):  # also those that only jobs name
                hears, messages = hearing[bulk_queue(model)], broker.llen(bulk_queue(model))
                waiting = shards.get(model, 0)
                yield _heard(f"bulk {model}", hears, waiting=waiting, messages=messages)
    except (BrokerError, RedisError, SQLAlchemyError) as error:  # the API's half says more
        yield Check("workers", True, f"not known: {type(error).__name__}")


def _living(workers: Sequence[Worker]) -> Check:
    if not workers:
        return Check("workers", True, "none says that it lives")
    return Check("workers", True, "; ".join(map(_described, workers)))


def _described(worker: Worker) -> str:
    said = worker.presence
    loaded = f"{', '.join(said.loaded)} on {said.device}, " if said.loaded else ""
    used, total = (size / 2**30 for size in (said.memory.used_bytes, said.memory.total_bytes))
    return f"{said.role} {said.name} ({loaded}{used:.1f} of {total:.1f} GiB)"


def _heard(name: str, workers: int, *, waiting: int, messages: int) -> Check:
    what = "job(s) and export(s)" if name == "planner" else "shard(s)"
    detail = f"{workers} worker(s); {waiting} {what} and {messages} message(s) wait"
    if workers or not (waiting or messages):
        return Check(name, True, detail)
    return Check(name, False, detail, "start one (docs/how-to/operate.md)")


def _hearing(settings: Settings) -> Counter[str]:
    """Workers by the queue that they listen to, as they say themselves."""
    broker_url = settings.broker_url.get_secret_value()
    with closing(Celery("doctor", broker=broker_url, set_as_current=False)) as app:
        said = app.control.inspect(timeout=_ASK_SECONDS).active_queues() or {}
    return Counter(queue["name"] for queues in said.values() for queue in queues)


def _watched(settings: Settings) -> Watched:
    database = Database(settings.database_url.get_secret_value(), pool_size=1)
    try:
        with database.begin() as connection:
            return watched(connection)
    finally:
        database.dispose()


def _device(wanted: str) -> Check:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        detail = f"{torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB"
        return Check("device", True, detail)
    if wanted == "cuda":
        return Check("device", False, "no CUDA device", "check the driver (nvidia-smi)")
    return Check("device", True, f"cpu, {torch.get_num_threads()} threads; no CUDA device")


def _checks_by_settings() -> Iterator[Check]:
    try:
        settings = load_settings()
    except ValidationError:  # the API's half of the doctor names what is missing
        yield from checks(Serving())
        return
    yield from checks(
        Serving(settings.models, settings.engine, settings.device, settings.precision)
    )
    yield from workers_for_jobs(settings)
    yield single_images(settings)


def main() -> int:
    found = []
    for check in _checks_by_settings():
        found.append(check.ok)
        sys.stdout.write(json.dumps(asdict(check)) + "\n")
        sys.stdout.flush()
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
