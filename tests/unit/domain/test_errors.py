from domain.errors import ImageError, ImageErrorCode, InvalidRequest


def test_messages_carry_no_nul_which_postgresql_refuses() -> None:
    assert InvalidRequest("manifest_invalid", "a\0b").message == "a\ufffdb"
    assert ImageError(ImageErrorCode.DECODE_ERROR, "a\0b").message == "a\ufffdb"
