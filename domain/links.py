"""Links that end: when a presigned address stops working, read from the address alone."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

_NAMES = "x-(?:amz|goog)-(?:date|expires)|expires|signature|sig|se"
_FIELD = re.compile(rf"[?&]({_NAMES})=([^&#]*)", re.IGNORECASE)
_DIGITS = re.compile(r"[0-9]{1,11}")  # to the year 5138


def expiry_of(url: str) -> datetime | None:
    """When the link ends; None for one that does not say so.

    Known are SigV4 of S3 and of Google (`X-Amz-Date` and `X-Amz-Expires`, `X-Goog-...`), the
    older `Expires` beside a signature (S3, Google, CloudFront), and `se` of an Azure SAS. The end
    of the credentials that signed it may come sooner; no link tells that.
    """
    if not url.startswith(("http://", "https://")):
        return None
    fields = {name.lower(): unquote(value) for name, value in _FIELD.findall(url)}
    return _sigv4(fields, "x-amz") or _sigv4(fields, "x-goog") or _epoch(fields) or _sas(fields)


def expired_at(url: str, *, now: datetime) -> datetime | None:
    """As `expiry_of`, if that is past."""
    expiry = expiry_of(url)
    return expiry if expiry is not None and expiry <= now else None


def _sigv4(fields: Mapping[str, str], vendor: str) -> datetime | None:
    signed = _time(fields.get(f"{vendor}-date", ""))
    seconds = fields.get(f"{vendor}-expires", "")
    if signed is None or not _DIGITS.fullmatch(seconds):
        return None
    return _not_too_late(signed, int(seconds))


def _epoch(fields: Mapping[str, str]) -> datetime | None:
    """Without a signature beside it, `Expires` may mean anything."""
    seconds = fields.get("expires", "")
    if "signature" not in fields or not _DIGITS.fullmatch(seconds):
        return None
    return _not_too_late(datetime.fromtimestamp(0, UTC), int(seconds))


def _sas(fields: Mapping[str, str]) -> datetime | None:
    return _time(fields.get("se", "")) if "sig" in fields else None


def _time(text: str) -> datetime | None:
    """ISO 8601, basic or extended; UTC where it does not say."""
    try:
        time = datetime.fromisoformat(text)
        utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return utc if utc.year < 9999 else None  # the last year means never, and none comes after


def _not_too_late(start: datetime, seconds: int) -> datetime | None:
    try:
        return start + timedelta(seconds=seconds)
    except OverflowError:  # after the year 9999: never
        return None
