"""Which addresses may be told of a job, as far as it can be said without a look at the network.

Where a name leads is checked on every connection that is made: storage.guarded_fetch.
"""

import ipaddress
import re
from collections.abc import Sequence

from storage.guarded_fetch import FetchRefused, parsed_address
from storage.guarded_network import exempt_hosts, is_exempt
from storage.public_addresses import is_public

_PORTS = {"http": 80, "https": 443}
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a name that ends so is an IPv4 address (WHATWG URL)


def check_webhook_url(url: str, *, allowed_hosts: Sequence[str]) -> None:
    """Raises `FetchRefused`: https only, unless the operator named the host."""
    target = parsed_address(url)
    if target.scheme not in _PORTS:
        raise FetchRefused("a webhook is an https address")
    port = target.port or _PORTS[target.scheme]
    if is_exempt(target.host, port, exempt_hosts(allowed_hosts)):
        return
    if target.scheme != "https":
        raise FetchRefused("a webhook is an https address")
    if _is_private_literal(target.host):
        raise FetchRefused(f"{target.host} is not a public address")


def _is_private_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bool(_NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2].lower()))
    return not is_public(host)
