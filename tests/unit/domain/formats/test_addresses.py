from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.formats.addresses import behind

_printable = st.characters(exclude_categories=["Cs"])


@given(st.text(_printable))
def test_a_web_server_gets_the_name_whatever_is_in_it(name: str) -> None:
    address = urlsplit(behind("https://example.com/photos/", name))
    assert unquote(address.path) == f"/photos/{name}"
    assert (address.query, address.fragment) == ("", "")


@pytest.mark.parametrize("prefix", ["", "/data/", "s3://bucket/", "C:\\photos\\"])
def test_a_path_has_the_name_as_it_is(prefix: str) -> None:
    assert behind(prefix, "50% #2?.png") == f"{prefix}50% #2?.png"
