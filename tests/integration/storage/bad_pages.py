"""Pages of stores that misbehave."""

from tests.integration.storage.web_server import Page, Request

CONTENT = b"0123456789" * 100


def truncated(request: Request) -> None:
    request.answer(200, CONTENT[:300], Content_Length=str(len(CONTENT)))
    request.hang_up()


def stalled(request: Request) -> None:
    request.answer(200, CONTENT[:300], Content_Length=str(len(CONTENT)))
    request.server.over.wait(5)
    request.hang_up()


def refusing(status: int, code: str = "") -> Page:
    body = f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    return lambda request: request.answer(status, body, Content_Type="application/xml")


def failing_first(bad: Page, *, times: int) -> Page:
    left = iter(range(times))

    def page(request: Request) -> None:
        if next(left, None) is None:
            request.answer(200, CONTENT)
        else:
            bad(request)

    return page
