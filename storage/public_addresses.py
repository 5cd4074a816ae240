"""Which addresses are the public internet's."""

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

# Beyond what `is_global` knows in every Python we run on.
_REFUSED_V4 = (
    IPv4Network("192.0.0.0/24"),  # IETF protocol assignments (RFC 6890); a cloud's metadata too
    IPv4Network("192.88.99.0/24"),  # 6to4 relays (RFC 7526)
    IPv4Network("168.63.129.16/32"),  # Azure's own services, public in form only
)
_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = (
    IPv6Network("2001::/23"),  # protocol assignments, Teredo among them (RFC 2928)
    IPv6Network("2001:db8::/32"),  # documentation (RFC 3849)
    IPv6Network("2002::/16"),  # 6to4 (RFC 3056): carries any IPv4 address
    IPv6Network("3fff::/20"),  # documentation (RFC 9637)
)
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits


def is_public(address: str) -> bool:
    """Whether a literal address, IPv4 or IPv6, belongs to the public internet.

    IPv6 counts only inside 2000::/3; an IPv4 address wrapped in it (v4-mapped, NAT64) is judged
    as itself. Anything that is not an address is not public.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address):
        wrapped = _wrapped_v4(parsed)
        return _is_public_v6(parsed) if wrapped is None else _is_public_v4(wrapped)
    return _is_public_v4(parsed)


def _wrapped_v4(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


def _is_public_v4(address: IPv4Address) -> bool:
    refused = any(address in network for network in _REFUSED_V4)
    return address.is_global and not address.is_multicast and not refused


def _is_public_v6(address: IPv6Address) -> bool:
    refused = any(address in network for network in _REFUSED_V6)
    return address in _GLOBAL_UNICAST_V6 and address.is_global and not refused
