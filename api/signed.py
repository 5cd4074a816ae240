"""Texts that only this service can have made: values as JSON, and an HMAC-SHA256 over them."""

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any


def signed(values: list[Any], *, purpose: str, secret: str) -> str:
    """Letters, digits and `-_.`: it fits into an address and a cookie."""
    payload = json.dumps(values).encode()
    return f"{_encode(payload)}.{_encode(_mac(payload, purpose, secret))}"


def verified(text: str, *, purpose: str, secret: str) -> list[Any] | None:
    """The values, if they were signed for this purpose, else None. Compares in constant time."""
    payload, _, mac = text.partition(".")
    try:
        content, given = _decode(payload), _decode(mac)
    except (binascii.Error, ValueError):
        return None
    if not hmac.compare_digest(_mac(content, purpose, secret), given):
        return None
    values: list[Any] = json.loads(content)
    return values


def mac_of(text: str, *, purpose: str, secret: str) -> str:
    return _encode(_mac(text.encode(), purpose, secret))


def _mac(payload: bytes, purpose: str, secret: str) -> bytes:
    return hmac.digest(secret.encode(), f"maskmill {purpose}\n".encode() + payload, hashlib.sha256)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
