"""Which photos are kept in memory."""

from etalage.page.kept import KeptPhotos


def test_photos_used_longest_ago_go_first() -> None:
    kept = KeptPhotos(10)
    for name in ("a", "b"):
        kept.keep(name, b"12345")
    assert kept.get("a") == b"12345"
    kept.keep("c", b"123")
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (b"12345", None, b"123")
    kept.keep("c", b"12345678")
    assert (kept.get("a"), kept.get("c")) == (None, b"12345678")


def test_the_last_one_stays_whatever_its_size() -> None:
    kept = KeptPhotos(2)
    kept.keep("large", b"12345")
    assert kept.get("large") == b"12345"
    kept.keep("larger", b"1234567")
    assert (kept.get("large"), kept.get("larger")) == (None, b"1234567")
