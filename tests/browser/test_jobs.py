"""The list of jobs, and what can be done to one."""

import re
import sys
from json import loads
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from maskmill.answers import Job
from maskmill.client import Client, dataset_source
from maskmill.embedded import EmbeddedStack
from maskmill.sample_scenes import draw_scene
from tests.browser.conftest import Console

MANY_PROMPTS = [f"{colour} {shape}" for colour in ("red", "blue") for shape in ("ring", "star")]


@pytest.fixture(scope="session")
def many(stack: EmbeddedStack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset that takes a while to label."""
    folder: Path = tmp_path_factory.mktemp("many")
    content = draw_scene(1, size=256).encoded("JPEG")
    for number in range(400):
        (folder / f"{number:03d}.jpg").write_bytes(content)
    done = stack.command(sys.executable, "-m", "api.datasets", "link", str(folder))
    found: str = loads(done.stdout)["id"]
    return found


@pytest.fixture
def long_job(client: Client, many: str) -> Job:
    return client.create_job(dataset_source(many), MANY_PROMPTS, name="A long one")


def _facts(page: Page, name: str) -> str:
    return page.locator(".facts div").filter(has_text=name).locator("dd").inner_text()


def test_a_job_is_watched_paused_resumed_and_canceled(console: Console, long_job: Job) -> None:
    console.watch.expected.add(404)
    page = console.go(f"/jobs/{long_job.id}")
    expect(page.locator(".job-title .chip")).to_have_text("Running")
    # it moves by itself: the page is not told to look again
    expect(page.locator(".facts dd").first).not_to_have_text(re.compile("^0 of"))
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".job-title .chip")).to_have_text("Paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".job-title .chip")).to_have_text("Running")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".job-title .chip")).to_have_text("Canceled")
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)


def test_the_list_follows_its_jobs_by_itself(console: Console, client: Client, many: str) -> None:
    page = console.go("/jobs")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    job = client.create_job(dataset_source(many), MANY_PROMPTS, name="Made elsewhere")
    row = page.get_by_role("row").filter(has_text="Made elsewhere").first
    expect(row).to_be_visible()
    expect(row.get_by_role("progressbar")).not_to_have_attribute("aria-valuenow", "0")
    client.cancel(job.id)
    expect(row.locator(".chip")).to_have_text("Canceled")
    ended = client.wait(job.id)
    assert ended.counts.canceled > 0
    done = f"{ended.counts.succeeded} of {ended.counts.total}"
    expect(row.locator(".progress")).to_contain_text(done)


def test_the_list_is_filtered_by_state(console: Console, labelled: Job) -> None:
    page = console.go("/jobs")
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("link", name=str(labelled.name))).to_be_visible()
    page.get_by_role("button", name="Queued").click()
    expect(page.get_by_role("heading", name="No such jobs")).to_be_visible()
    page.get_by_role("link", name="Show all").click()
    expect(page.get_by_role("link", name=str(labelled.name))).to_be_visible()


def test_failed_images_are_grouped_by_cause_and_say_why(console: Console, labelled: Job) -> None:
    page = console.go(f"/jobs/{labelled.id}/errors")
    expect(page.get_by_role("region", name="unsupported")).to_contain_text("Save it as JPEG")
    expect(page.get_by_role("region", name="truncated")).to_contain_text("upload it again")
    page.get_by_role("link", name="zz-broken.jpg").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("unsupported")
    expect(dialog).to_contain_text("not an image format that is read here")


def test_what_a_job_was_asked_and_what_happened_is_told(console: Console, labelled: Job) -> None:
    page = console.go(f"/jobs/{labelled.id}/details")
    expect(page.get_by_role("region", name="Prompts").get_by_role("row")).to_have_count(5)
    expect(page.get_by_role("region", name="Events")).to_contain_text("job.succeeded")
