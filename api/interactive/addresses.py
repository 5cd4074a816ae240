"""Which addresses of images are fetched at all, told apart in the words that clients know."""

import ipaddress
import re
from collections.abc import Collection

import httpx

NOT_HTTPS = (
    "Providing images via non https:// URL is not supported in this configuration of `inference`."
)
NO_DOMAIN = (
    "Providing images via URL without FQDN is not supported in this configuration of `inference`."
)
INVALID = "Provided image URL is invalid"

_PRIVATE_DOMAINS = frozenset(  # RFC 6761, 6762, 7686, 8375, and ICANN's reservation of .internal
    {"arpa", "example", "internal", "invalid", "local", "localhost", "onion", "test"}
)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a name that ends so is an IPv4 address (WHATWG URL)


def address_fault(
    address: str, *, schemes: Collection[str], exempt_hosts: Collection[str]
) -> str | None:
    """Why this is no address of an image, if so. Says nothing of where the name resolves to.

    `exempt_hosts` (`host` or `host:port`) need no domain.
    """
    try:
        url = httpx.URL(address)
        host, port = url.host.lower(), url.port
    except (httpx.InvalidURL, ValueError):
        return INVALID
    if not url.scheme or url.userinfo or "\\" in address or not 0 < (port or 1) < 2**16:
        return INVALID
    if url.scheme not in schemes:
        return NOT_HTTPS
    if not host:
        return INVALID
    if {host, f"{host}:{port}"} & {entry.lower() for entry in exempt_hosts}:
        return None
    return None if _has_domain(host) else NO_DOMAIN


def _has_domain(host: str) -> bool:
    labels = host.removesuffix(".").split(".")
    top = labels[-1]
    is_name = len(labels) > 1 and top not in _PRIVATE_DOMAINS
    return is_name and not _NUMBER.fullmatch(top) and not _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
