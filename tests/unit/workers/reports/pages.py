"""Reads pages and charts back, as a browser would."""

from html.parser import HTMLParser
from xml.etree import ElementTree

_SVG = "{http://www.w3.org/2000/svg}"
_VOID = {"meta", "img", "br", "link", "input", "base"}


class Page(HTMLParser):
    """`tags` are (name, attributes) in order; `text` is what is shown or read out."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def assert_self_contained(html: str) -> None:
    """Nothing runs and nothing is fetched."""
    page = Page(html)
    assert not {"script", "iframe", "object", "embed", "link", "base", "form"} & {
        tag for tag, _ in page.tags
    }
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "srcset", "action", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/jpeg;base64,"))
    assert "url(" not in html
    assert "@import" not in html


def chart(svg: str) -> ElementTree.Element:
    """Raises where it is not well formed."""
    return ElementTree.fromstring(
        str(svg).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ')
    )


def parts(svg: ElementTree.Element, tag: str, *, of_class: str) -> list[ElementTree.Element]:
    return [found for found in svg.iter(_SVG + tag) if of_class in found.get("class", "").split()]


def tooltips(svg: ElementTree.Element) -> list[str]:
    return [found.text or "" for found in svg.iter(_SVG + "title")]


def texts(svg: ElementTree.Element) -> list[str]:
    return [found.text or "" for found in svg.iter(_SVG + "text")]
