"""Dashboard, alerts and runbook speak of what the code counts."""

import json
import re
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from api.http_metrics import HttpMetrics
from api.metrics import ServiceMetrics
from storage.settings import Settings
from storage.watching import ModelQueue, Waiting, Watched
from tests.contracts.test_docs import _anchors
from tests.services import REPOSITORY
from workers.metrics import ENDS, EmbeddingCache, Models, WorkerMetrics

DASHBOARD = json.loads((REPOSITORY / "deploy/grafana/maskmill.json").read_text())
RULES = yaml.safe_load((REPOSITORY / "deploy/prometheus/alerts.yml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
GIVEN = {"job", "instance"}  # labels that Prometheus adds


def families() -> Iterable[Metric]:
    """All that API and workers count, with a sample of each that has labels."""
    settings: Any = SimpleNamespace(models=["m"], object_store="file:///")
    none = Waiting(0, 0.0)
    state = Watched((ModelQueue("m"),), {}, 0, none, none, none, 0, none, none)
    http, worker = HttpMetrics(), WorkerMetrics()
    http.answered("GET", "/", status=200, seconds=0.1)
    worker.job_ended("succeeded")
    worker.export_ended("succeeded")
    engines: Any = SimpleNamespace(loaded=[])
    cache = SimpleNamespace(hits=0, misses=0, embedding_bytes={"device": 0})
    yield from ServiceMetrics(settings, state, {"waiting": 0, "workers": 0}).collect()
    registries: list[CollectorRegistry] = [http.registry, worker.registry]
    for registry in registries:
        yield from registry.collect()
    yield from Models(engines).collect()
    yield from EmbeddingCache(cache).collect()


def counted() -> dict[str, set[str]]:
    """Names of series, and their labels."""
    found: dict[str, set[str]] = {"up": set()}
    for family in families():
        labels = {name for sample in family.samples for name in sample.labels}
        labels |= set(getattr(family, "_labelnames", ()))
        for ending in ENDINGS.get(family.type, ("",)):
            found.setdefault(family.name + ending, set()).update(labels)
    return found


@pytest.mark.parametrize("query", [*QUERIES, *(alert["expr"] for alert in ALERTS)])
def test_what_is_asked_for_is_counted_with_these_labels(query: str) -> None:
    known = counted()
    names = re.findall(r"\b(?:maskmill_\w+|process_\w+|up)\b", re.sub(r'"[^"]*"', '""', query))
    assert names
    assert set(names) <= set(known)
    for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", query):
        labels = set(re.findall(r'(\w+)(?:=~|!~|!=|=)"', matchers))
        assert labels <= known[name] | GIVEN, name
    everywhere = set[str]().union(*(known[name] for name in names)) | GIVEN | {"le"}
    for grouped in re.findall(r"\bby \(([^)]*)\)", query):
        assert set(re.findall(r"\w+", grouped)) <= everywhere
    assert set(re.findall(r'\bend="(\w+)"', query)) <= set(ENDS)


def test_what_is_counted_is_named_as_prometheus_advises() -> None:
    for name in counted():
        assert re.fullmatch(r"up|process_\w+|maskmill_[a-z0-9_]+", name)
        assert not re.search(r"_(ms|milliseconds|mb|kb|percent)(_|$)", name)


def test_every_setting_of_the_dashboard_holds_together() -> None:
    assert DASHBOARD["schemaVersion"] >= 39, "of Grafana 11"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "Jobs and throughput",
        "Queue and leases",
        "Workers and stages",
        "Device",
        "Storage",
        "Single images",
        "API",
        "Webhooks",
        "Exports",
    ]
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{(\w+)\}", json.dumps(DASHBOARD))) == variables
    taken = set()
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(x, place["y"]) for x in range(place["x"], place["x"] + place["w"])}
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_says_what_is_wrong_and_has_its_entry_in_the_runbook(
    alert: dict[str, Any],
) -> None:
    assert set(alert) == {"alert", "expr", "for", "labels", "annotations"}
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"]["summary"]
    file, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert anchor == alert["alert"].lower()
    assert anchor in _anchors(REPOSITORY / file)


def test_every_entry_of_the_runbook_has_its_alert_and_four_answers() -> None:
    text = (REPOSITORY / "docs/runbook.md").read_text()
    entries = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert {entry.split("\n")[0] for entry in entries} == {alert["alert"] for alert in ALERTS}
    for entry in entries:
        assert re.findall(r"^- \*\*(\w+)\.\*\*", entry, re.MULTILINE) == [
            "Means",
            "See",
            "Do",
            "Verify",
        ]


def test_events_of_the_log_that_the_runbook_names_are_in_the_code() -> None:
    text = (REPOSITORY / "docs/runbook.md").read_text()
    named = set(
        re.findall(r"`((?:shard|planning|lease|worker|model|request|store|export)\.\w+)`", text)
    )
    code = "\n".join(
        path.read_text()
        for room in ("api", "workers")
        for path in (REPOSITORY / room).rglob("*.py")
    )
    watched = re.findall(r'"(\w+)", (?:outbox\.Tasks|(?:runtime\.)?settings\.stall_seconds)', code)
    watches = {f"{name}.stalled" for name in watched}
    assert len(named) > 5
    assert {name for name in named if f'"{name}"' not in code} <= watches


def test_what_prometheus_scrapes_is_in_the_compose_file() -> None:
    scraped = yaml.safe_load((REPOSITORY / "deploy/prometheus/prometheus.yml").read_text())
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
    names = {
        name
        for job in scraped["scrape_configs"]
        for source in job["dns_sd_configs"]
        for name in source["names"]
    }
    assert names <= set(compose["services"])
    port = scraped["scrape_configs"][1]["dns_sd_configs"][0]["port"]
    for name in names - {"api"}:
        environment = compose["services"][name]["environment"]
        assert str(environment["MASKMILL_WORKER_METRICS_PORT"]) == str(port)
    assert "worker_metrics_port" in Settings.model_fields
