"""Where tools that open images by themselves find them."""

from urllib.parse import quote

WEB = ("http://", "https://")


def behind(prefix: str, image: str, *, addresses: tuple[str, ...] = WEB) -> str:
    """The image's name after the prefix. Where this begins one of the `addresses`, the name is
    quoted: it is that of a file, whose `?`, `#` and `%` would say something else in an address."""
    is_address = prefix.lower().startswith(addresses)
    return prefix + (quote(image) if is_address else image)
