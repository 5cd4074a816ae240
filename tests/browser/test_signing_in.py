"""Who may see the console."""

from playwright.sync_api import expect

from tests.browser.conftest import Console


def test_a_key_signs_in_and_stays_until_it_signs_out(stranger: Console) -> None:
    page = stranger.go("/jobs")
    page.get_by_label("API key").fill(stranger.stack.api_key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_wrong_key_is_told_what_to_do_and_an_empty_one_is_not_sent(stranger: Console) -> None:
    page = stranger.go("/jobs")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("Paste a key first")
    page.get_by_label("API key").fill("mm_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("unknown or revoked")
    expect(page.get_by_label("API key")).to_be_focused()


def test_no_script_can_read_the_session(console: Console) -> None:
    page = console.go("/jobs")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    assert page.evaluate("document.cookie") == ""
    assert console.stack.api_key not in page.evaluate("JSON.stringify(localStorage)")


def test_a_session_that_ends_leads_back_to_the_same_page(console: Console) -> None:
    console.watch.expected.add(401)
    page = console.go("/system")
    expect(page.get_by_role("heading", name="System")).to_be_visible()
    page.context.clear_cookies()
    page.get_by_label("API key").fill(console.stack.api_key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="System")).to_be_visible()


def test_modules_are_named_in_the_page_so_that_none_waits_for_another(console: Console) -> None:
    page = console.go("/jobs")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    loaded = page.evaluate(
        "performance.getEntriesByType('resource').map(({ name }) => new URL(name).pathname)"
    )
    named = page.evaluate(
        "[...document.querySelectorAll('script[src], link[rel=modulepreload]')]"
        ".map((one) => new URL(one.src || one.href).pathname)"
    )
    assert sorted(named) == sorted(path for path in loaded if path.endswith(".js"))
