"""GET /v1/system: how the service stands, without names."""

from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import Any

from fastapi.testclient import TestClient
from pydantic import SecretStr

from api.app import create_app
from domain.prompts import ModelLimits
from storage.lane import WorkerLane
from storage.models import PublishedModel, publish_model
from storage.presence import Memory, Presence, say_present
from storage.settings import Settings
from tests.integration.api.conftest import Api
from tests.integration.api.labelled import commit, labelled, plan
from tests.services import wait_until


def system(api: Api, headers: dict[str, str]) -> Any:
    answer = api.client.get("/v1/system", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_idle_service_says_what_it_could_do(api: Api) -> None:
    limits = ModelLimits(text_tokens=32, queries=200, image_size=1008)
    with api.database.begin() as connection:
        publish_model(connection, PublishedModel("demo-sam3", limits, "{}", "0" * 64))
    shown = system(api, api.alice)
    loaded_at = shown["models"][0].pop("loaded_at")
    assert loaded_at is not None
    assert shown["models"] == [
        {
            "name": "demo-sam3",
            "is_default": True,
            "limits": {"text_tokens": 32, "queries": 200, "image_size": 1008},
        },
        {"name": "facebook/sam3", "is_default": False, "limits": None, "loaded_at": None},
    ]
    assert [queue["model"] for queue in shown["queues"]] == ["demo-sam3", "facebook/sam3"]
    assert {queue["waiting_images"] for queue in shown["queues"]} == {0}
    assert shown["jobs"] == {"planning": 0, "queued": 0, "running": 0, "paused": 0}
    assert shown["waiting_exports"] == {"count": 0, "oldest_seconds": 0}
    assert shown["workers"] == []
    assert shown["interactive"] is None  # no broker here


def test_every_key_sees_the_work_of_all_and_whose_it_is_of_none(api: Api) -> None:
    job_id = api.create_job(name="a secret name")["id"]
    lease = plan(api, job_id, images=9)
    commit(api, lease, [labelled()] * 4)
    mine, others = system(api, api.alice), system(api, api.bob)
    assert mine["queues"][0]["busy_workers"] == others["queues"][0]["busy_workers"] == 1
    assert others["queues"][0]["running_leases"] == 1
    assert others["jobs"]["running"] == 1
    text = api.client.get("/v1/system", headers=api.bob).text
    for word in (job_id, "secret", "alice", api.alice_id, "photos", '"t"'):
        assert word not in text


def test_workers_are_listed_and_named_to_those_who_may_look_after_them(api: Api) -> None:
    said = Presence(
        name="gpu-1:7",
        role="bulk",
        version="9",
        serves=("demo-sam3",),
        loaded=("demo-sam3",),
        device="cuda:0 NVIDIA H200",
        memory=Memory(2**36, 2**37),
    )
    with api.database.begin() as connection:
        say_present(connection, said)
        say_present(connection, replace(said, name="gpu-1:8", role="interactive"))
    (bulk, interactive) = system(api, api.admin)["workers"]
    assert datetime.fromisoformat(bulk.pop("started_at")) <= datetime.fromisoformat(
        bulk.pop("seen_at")
    )
    assert bulk == {
        "name": "gpu-1:7",
        "role": "bulk",
        "version": "9",
        "serves": ["demo-sam3"],
        "loaded": ["demo-sam3"],
        "device": "cuda:0 NVIDIA H200",
        "memory_used_bytes": 2**36,
        "memory_total_bytes": 2**37,
        "is_busy": False,
    }
    assert (interactive["name"], interactive["is_busy"]) == ("gpu-1:8", None)
    assert [one["name"] for one in system(api, api.alice)["workers"]] == [None, None]


def test_the_lane_is_counted_while_its_broker_is_there(
    api: Api, settings: Settings, broker_url: str
) -> None:
    whole = settings.model_copy(update={"broker_url": SecretStr(broker_url)})
    with (
        TestClient(create_app(whole)) as client,
        closing(WorkerLane(whole, name="test")) as worker,
    ):
        worker.beat()
        wait_until(
            lambda: (
                client.get("/v1/system", headers=api.alice).json()["interactive"]
                == {"workers": 1, "waiting": 0}
            )
        )
