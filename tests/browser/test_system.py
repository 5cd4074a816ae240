"""Who works and what waits, and where the time of a job went."""

import pytest
from playwright.sync_api import Locator, expect

from maskmill.answers import Job
from tests.browser.conftest import Console


@pytest.mark.usefixtures("clicks")
def test_workers_say_what_they_have_loaded_and_the_memory_it_takes(
    console: Console, labelled: Job
) -> None:
    page = console.go("/system")
    for role, model, state in (
        ("Single images", labelled.model, "Ready"),
        ("Lists and exports", "–", "Idle"),
    ):
        row = page.get_by_role("row").filter(has_text=role)
        expect(row.get_by_role("cell").nth(1)).to_contain_text(model)
        expect(row.get_by_role("meter")).to_be_visible()
        expect(row).to_contain_text(state)
    bulk = page.get_by_role("row", name="Jobs")
    expect(bulk).to_contain_text(labelled.model)
    expect(bulk).to_contain_text("cpu")
    expect(page.get_by_role("article", name=labelled.model)).to_contain_text("of 1")


def test_a_worker_is_busy_while_it_has_a_shard(console: Console) -> None:
    million = {"type": "prefix", "uri": "null://1000000"}
    job = console.client.create_job(million, ["star"], model="null")
    page = console.go("/system")
    expect(page.get_by_role("row", name="Jobs")).to_contain_text("Busy")
    console.client.cancel(job.id)
    expect(page.get_by_role("row", name="Jobs")).to_contain_text("Idle")


def test_a_job_says_what_each_stage_took(console: Console, labelled: Job) -> None:
    page = console.go(f"/jobs/{labelled.id}/details")
    stages = page.get_by_label("How long each stage takes")
    names = stages.locator("dt")
    expect(names).to_have_text(
        ["Fetch images", "Decode them", "Network", "Encode masks", "Commit results"]
    )
    network = _milliseconds(stages, "Network")
    assert network > _milliseconds(stages, "Decode them") > 0
    expect(page.get_by_text("of work in all")).to_be_visible()


def _milliseconds(stages: Locator, name: str) -> float:
    text = stages.locator("div", has_text=name).locator(".numbers").inner_text()
    return float(text.removesuffix(" ms").replace(",", ""))
