"""Webhooks: what is announced, how it is signed and when it is sent again.

The scheme is that of Standard Webhooks (standardwebhooks.com, specification 1.0), for which
receivers find libraries in most languages.
"""

import base64
import hashlib
import hmac

from domain.lifecycle import ResultUse

ANNOUNCED = frozenset(
    f"job.{what}" for what in ("running", "succeeded", "failed", "canceled", "paused", "resumed")
) | {f"{use}.{what}" for use in ResultUse for what in ("succeeded", "failed")}

# Seconds from a failed attempt to the next: about a day in all.
_PAUSES = (5, 30, 120, 600, 3600, 6 * 3600, 16 * 3600)
MAX_ATTEMPTS = len(_PAUSES) + 1


def pause_seconds(attempts: int) -> float | None:
    """After so many failed attempts; None when that is enough."""
    return _PAUSES[attempts - 1] if attempts < MAX_ATTEMPTS else None


def key_secret(signing_secret: str, key_id: str) -> bytes:
    """The secret of an API key's webhooks: 32 bytes, kept nowhere."""
    name = f"webhook:{key_id}".encode()
    return hmac.new(signing_secret.encode(), name, hashlib.sha256).digest()


def shown_secret(secret: bytes) -> str:
    return f"whsec_{base64.b64encode(secret).decode()}"


def signed_headers(
    secret: bytes, body: bytes, *, delivery_id: str, sent_at_seconds: int
) -> dict[str, str]:
    """`sent_at_seconds` is Unix time; receivers refuse what is minutes old."""
    signed = f"{delivery_id}.{sent_at_seconds}.".encode() + body
    signature = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(sent_at_seconds),
        "webhook-signature": f"v1,{signature}",
    }
