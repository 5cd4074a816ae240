"""What a person waits for in the console: the first picture of a large job, the slider, and moving
an image.

    python -m benchmarks.console [--images 10000] [--output FILE]

The large job has a few scenes under many names, labelled by the model `null` (five made-up masks an
image). The slider moves over an image with 200 instances and more that demo-sam3 found at a floor
of 0, alone in the window, and in a gallery whose tiles all are that image. A step is counted from
its event until the frame that shows it is done; `script` is what the page computes of it. Every
other step of the slider shows all masks again, so that no step has little to do. The same image is
moved by the mouse, at 2.25 times the size that fits, and zoomed by the wheel.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page

from benchmarks import machine
from maskmill.answers import Job
from maskmill.client import Client, dataset_source
from maskmill.embedded import EmbeddedStack, StackOptions
from maskmill.sample_scenes import draw_scene
from tests.browser.chromium import chromium, sign_in

SCENES = 32
CROWD_PROMPTS = ("star", "circle", "square", "triangle", "ring", "cross", "red", "blue", "green")
CROWD_IMAGES = 24
ROUNDS = 5
WINDOW = {"width": 1440, "height": 900}
SETTINGS = {"MASKMILL_MODELS": "demo-sam3,null"}

# Each is called with the number of the step, and sends an event.
_SLIDE = """() => {
    const slider = document.querySelector('dialog[open] input[type=range]')
        ?? document.querySelector('input[type=range]');
    const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set;
    return (step) => {
        set.call(slider, String(step % 2 ? 0.01 * step : 0)); // every other step shows all
        slider.dispatchEvent(new Event('input', { bubbles: true }));
    };
}"""
_PAN = """() => {
    const stage = document.querySelector('.zoom-stage');
    const { left, top, width, height } = stage.getBoundingClientRect();
    const send = (type, x, y) => stage.dispatchEvent(new PointerEvent(type, {
        bubbles: true, pointerId: 1, clientX: left + width / 2 + x, clientY: top + height / 2 + y,
    }));
    send('pointerdown', 0, 0);
    return (step) => send('pointermove', -4 * step, 2 * step);
}"""
_ZOOM = """() => {
    const stage = document.querySelector('.zoom-stage');
    const { left, top, width, height } = stage.getBoundingClientRect();
    return (step) => stage.dispatchEvent(new WheelEvent('wheel', {
        bubbles: true, cancelable: true, deltaY: step < 45 ? -10 : 10,
        clientX: left + width / 3, clientY: top + height / 3,
    }));
}"""

# Preact renders in a microtask of the event. The first frame callback comes before the page's own,
# the second after it; what is posted there comes once the frame is drawn.
_STEPS = """async (count) => {
    const send = (SENDER)();
    const steps = [];
    for (let step = 0; step < count; step++) {
        await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
        const { port1, port2 } = new MessageChannel();
        const begun = performance.now();
        let began;
        requestAnimationFrame(() => { began = performance.now(); });
        send(step);
        await null;
        const handled = performance.now() - begun;
        await new Promise((resolve) => requestAnimationFrame(() => {
            const script = handled + performance.now() - began;
            port1.onmessage = () => {
                steps.push({ script, frame: handled + performance.now() - began });
                resolve();
            };
            port2.postMessage(null);
        }));
    }
    return steps;
}"""


_DECODED = "document.querySelector('.tile img').decode().then(() => performance.now())"


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        stack_options = StackOptions(
            data=folder / "data", extra_environment=SETTINGS, announce=lambda _line: None
        )
        with (
            EmbeddedStack(stack_options) as stack,
            Client(stack.url, stack.api_key) as client,
            chromium() as browser,
        ):
            many = _many(stack, client, folder / "many", options.images)
            result = {
                "first_picture_ms": _first_picture(stack, browser, many),
                **_steps(stack, client, browser, folder / "crowd"),
            }
    _report(options, result)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000, help="of the large job")
    parser.add_argument("--output", type=Path, help="also write the result here, as JSON")
    return parser.parse_args()


def _many(stack: EmbeddedStack, client: Client, folder: Path, images: int) -> Job:
    """A manifest names the same few files again and again."""
    folder.mkdir()
    for seed in range(SCENES):
        content = draw_scene(seed, size=640).image.crop((0, 0, 640, 480))
        content.save(folder / f"{seed:02d}.jpg", quality=90)
    lines = (json.dumps({"image": f"{number % SCENES:02d}.jpg"}) for number in range(images))
    (folder / "many.jsonl").write_text("\n".join(lines))
    source = dataset_source(_link(stack, folder)) | {"manifest": "many.jsonl"}
    return client.wait(client.create_job(source, ["thing"], model="null").id)


def _first_picture(stack: EmbeddedStack, browser: Browser, job: Job) -> dict[str, Any]:
    """A browser that has never been here, each time."""
    assert job.counts.succeeded == job.counts.total
    found = []
    for _ in range(ROUNDS):
        context = _context(browser, stack)
        page = context.new_page()
        page.goto(f"{stack.url}/#/jobs/{job.id}")
        page.locator(".tile img").first.wait_for()
        found.append(page.evaluate(_DECODED))
        context.close()
    page = _open(browser, stack, f"/jobs/{job.id}")
    page.locator(".tile img").first.wait_for()
    page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight / 2)")
    middle = f"[data-position='{job.counts.total // 2}'] img"
    began = time.perf_counter()
    page.locator(middle).wait_for()
    jump = 1000 * (time.perf_counter() - began)
    page.context.close()
    return {
        "images": job.counts.total,
        "median": _round(statistics.median(found)),
        "most": _round(max(found)),
        "after a jump to the middle": _round(jump),
    }


def _steps(stack: EmbeddedStack, client: Client, browser: Browser, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    content = draw_scene(5, size=1024, objects=9).encoded("JPEG")
    for number in range(CROWD_IMAGES):
        (folder / f"{number:02d}.jpg").write_bytes(content)
    source = dataset_source(_link(stack, folder))
    job = client.wait(client.create_job(source, CROWD_PROMPTS, floor=0.0).id)
    page = _open(browser, stack, f"/jobs/{job.id}")
    page.locator(".tile canvas").nth(8).wait_for()
    page.wait_for_load_state("networkidle")
    gallery = _timed(page, _SLIDE)
    tiles = page.locator(".tile canvas").count()
    page.locator(".tile").first.click()
    page.locator(".zoom-stage img").wait_for()
    one = _timed(page, _SLIDE)
    zoomed = _timed(page, _ZOOM)
    page.get_by_role("button", name="Fit").click()
    for _ in range(2):
        page.get_by_role("button", name="Zoom in").click()
    page.wait_for_timeout(1000)  # whatever is done once a zoom is over
    moved = _timed(page, _PAN)
    instances = job.instances // CROWD_IMAGES
    return {
        "slider_ms": {
            "instances": instances,
            "one image": one,
            f"gallery of {tiles} such images": gallery,
        },
        "moving_ms": {"instances": instances, "pan": moved, "zoom": zoomed},
    }


def _timed(page: Page, sender: str) -> dict[str, float]:
    steps = page.evaluate(_STEPS.replace("SENDER", sender), 90)
    found = {}
    for part in ("script", "frame"):
        values = [step[part] for step in steps]
        cuts = statistics.quantiles(values, n=20, method="inclusive")
        found |= {f"{part} p50": _round(statistics.median(values)), f"{part} p95": _round(cuts[-1])}
    return found


def _link(stack: EmbeddedStack, folder: Path) -> str:
    linked = stack.command(sys.executable, "-m", "api.datasets", "link", str(folder))
    return str(json.loads(linked.stdout)["id"])


def _context(browser: Browser, stack: EmbeddedStack) -> BrowserContext:
    context = browser.new_context(viewport=WINDOW)
    context.set_default_timeout(60_000)
    sign_in(context, stack)
    return context


def _open(browser: Browser, stack: EmbeddedStack, fragment: str) -> Page:
    page = _context(browser, stack).new_page()
    page.goto(f"{stack.url}/#{fragment}")
    return page


def _round(milliseconds: float) -> float:
    return round(milliseconds, 1)


def _report(options: argparse.Namespace, result: dict[str, Any]) -> None:
    print(json.dumps(result, indent=2))
    print("  " + ", ".join(f"{key} {value}" for key, value in machine.description().items()))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(
            json.dumps({**result, "machine": machine.description()}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
