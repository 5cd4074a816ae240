import re
from typing import Any

import pytest
import yaml

from tests.services import REPOSITORY

COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_what_a_service_waits_for_exists(name: str) -> None:
    assert set(COMPOSE["services"][name].get("depends_on", {})) <= set(COMPOSE["services"])


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_volumes_are_declared_and_ports_stay_on_this_machine(name: str) -> None:
    service: dict[str, Any] = COMPOSE["services"][name]
    sources = {v.split(":")[0] for v in service.get("volumes", ())}
    named = {source for source in sources if not source.startswith("./")}
    assert named <= set(COMPOSE["volumes"])
    assert all((REPOSITORY / source).exists() for source in sources - named)
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_what_runs_for_long_is_restarted_and_what_runs_once_is_not() -> None:
    restarts = {name: COMPOSE["services"][name]["restart"] for name in COMPOSE["services"]}
    once = {name for name, policy in restarts.items() if policy == "no"}
    assert once == {"migrate", "bucket"}
    assert {restarts[name] for name in set(restarts) - once} == {"unless-stopped"}


def test_only_the_gpu_profile_asks_for_a_gpu() -> None:
    services = COMPOSE["services"].items()
    assert {name for name, service in services if "deploy" in service} == profiled("gpu")
    assert profiled("gpu") == {"gpu-worker", "gpu-clicks"}


def test_watching_is_a_profile_with_versions_pinned() -> None:
    assert profiled("watch") == {"prometheus", "grafana"}
    for name in profiled("watch"):
        assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", COMPOSE["services"][name]["image"])


def profiled(profile: str) -> set[str]:
    services = COMPOSE["services"].items()
    return {name for name, service in services if profile in service.get("profiles", ())}
