"""What counts as an image in a request, and what is said of the rest. Addresses: see test_urls."""

import base64
import json
from typing import Any

import pytest

from tests.integration.api.interactive.conftest import PIXEL, PNG, Interactive

TEXT = PIXEL["value"]
PATHS = ["/sam3/concept_segment", "/sam3/visual_segment", "/sam3/embed_image"]
WRAPPED = "\n".join(TEXT[start : start + 20] for start in range(0, len(TEXT), 20))

TAKEN = {
    "base64": {"type": "base64", "value": TEXT},
    "in another case": {"type": "BASE64", "value": TEXT},
    "with line breaks": {"type": "base64", "value": WRAPPED},
    "with foreign characters": {"type": "base64", "value": f"*{TEXT[:8]}*~{TEXT[8:]}"},
    "as a data URI": {"type": "base64", "value": f"data:image/png;base64,{TEXT}"},
    "as a data URI of another type": {"type": "base64", "value": f"data:image/x;base64,{TEXT}"},
    "with unknown fields": {"type": "base64", "value": TEXT, "name": "x"},
}


@pytest.mark.parametrize("name", TAKEN)
def test_an_image_is_taken(interactive: Interactive, name: str) -> None:
    for path in PATHS:
        answer = interactive.post(path, {"image": TAKEN[name], "prompts": [{}]})
        assert answer.status_code == 200, answer.text
        assert interactive.files() == (PNG,)


MALFORMED = "Malformed base64 input image."
EMPTY = "Empty image payload."
UNKNOWN = "Image declaration contains not recognised image type."
NUMPY = "NumPy image type is not supported in this configuration of `inference`."
TOO_LARGE = "An image may have 200000 bytes."
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no base64": ({"type": "base64", "value": "?"}, MALFORMED),
    "without padding": ({"type": "base64", "value": TEXT.rstrip("=")}, MALFORMED),
    "beyond ASCII": ({"type": "base64", "value": f"{TEXT}é"}, MALFORMED),
    "a number": ({"type": "base64", "value": 5}, MALFORMED),
    "a list": ({"type": "base64", "value": [TEXT]}, MALFORMED),
    "empty": ({"type": "base64", "value": ""}, EMPTY),
    "absent": ({"type": "base64"}, EMPTY),
    "null": ({"type": "base64", "value": None}, EMPTY),
    "too many bytes": (
        {"type": "base64", "value": base64.b64encode(bytes(200_001)).decode()},
        TOO_LARGE,
    ),
    "far too many bytes": ({"type": "base64", "value": "A" * 400_001}, TOO_LARGE),
    "unknown type": ({"type": "jpeg", "value": TEXT}, UNKNOWN),
    "multipart": ({"type": "multipart", "value": TEXT}, UNKNOWN),
    "pil": ({"type": "pil", "value": TEXT}, UNKNOWN),
    "a file": ({"type": "file", "value": "/etc/hostname"}, UNKNOWN),
    "numpy": ({"type": "numpy", "value": TEXT}, NUMPY),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_is_refused_with_a_cause(interactive: Interactive, name: str) -> None:
    image, cause = REFUSED[name]
    before = len(interactive.worker.taken)
    for path in PATHS:
        answer = interactive.post(path, {"image": image, "prompts": [{}]})
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {"message": f"Could not load input image. Cause: {cause}"}
    assert len(interactive.worker.taken) == before


def test_an_image_as_large_as_allowed_is_taken_with_its_line_breaks(
    interactive: Interactive,
) -> None:
    data = bytes(200_000)
    image = {"type": "base64", "value": base64.encodebytes(data).decode()}
    assert interactive.post(PATHS[1], {"image": image}).status_code == 200
    assert interactive.files() == (data,)


def test_a_body_above_the_limit_is_not_read(interactive: Interactive) -> None:
    body = json.dumps({"image": {"type": "base64", "value": "A" * 500_000}}).encode()
    for chunks in (body, (body[start : start + 2**16] for start in range(0, len(body), 2**16))):
        answer = interactive.post(PATHS[1], content=chunks)
        assert answer.status_code == 413
        assert answer.json() == {"message": "A body may have 500000 bytes here."}
        assert answer.headers["content-type"] == "application/json"


def test_a_body_of_countless_values_is_not_parsed(interactive: Interactive) -> None:
    for body in (b"[" * 100_001, b'{"prompts": [' + b"{}," * 60_000):
        answer = interactive.post(PATHS[1], content=body)
        assert (answer.status_code, answer.json()) == (
            413,
            {"message": "A body may hold 100000 values here."},
        )


RAW = {
    "broken": (b'{"image": ', "json_invalid", ["body", 10]),
    "empty": (b"", "missing", ["body"]),
    "null": (b"null", "model_attributes_type", ["body"]),
    "a list": (b"[]", "model_attributes_type", ["body"]),
    "no UTF-8": (b'{"image": "\xff"}', "json_invalid", ["body", 0]),
    "too deep": (b"[" * 50_000, "json_invalid", ["body", 0]),
    "an endless number": (b'{"x": ' + b"9" * 5000 + b"}", "json_invalid", ["body", 0]),
}


@pytest.mark.parametrize("name", RAW)
def test_what_is_no_json_object_is_refused(interactive: Interactive, name: str) -> None:
    body, kind, loc = RAW[name]
    answer = interactive.post(PATHS[0], content=body)
    assert answer.status_code == 422, answer.text
    (entry,) = answer.json()["detail"]
    assert (entry["type"], entry["loc"]) == (kind, loc)


def test_a_body_without_a_type_is_json_and_text_is_not(interactive: Interactive) -> None:
    body = json.dumps({"image": PIXEL}).encode()
    url = f"{PATHS[1]}?api_key={interactive.key}"
    assert interactive.client.post(url, content=body).status_code == 200
    answer = interactive.client.post(url, content=body, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 422
    assert PIXEL["value"] not in answer.text
