"""Files as shops have them: what was reported to be read wrongly, with the right value."""

from pathlib import Path
from typing import Any

from etalage.lake.delta import Lake
from tests.cases.conftest import Play, typed


def rows(shop: Path, table: str = "items", key: str = "item_id") -> dict[str, dict[str, Any]]:
    return {row[key]: row for row in Lake(shop / "tables").table(table).read().to_pylist()}


def test_a_header_with_commas_hides_no_semicolons(play: Play) -> None:
    played = play("delimiter_by_commas_in_header")
    assert [one.status for one in played.commands] == [0]
    assert {key: row["title"] for key, row in rows(played.shop).items()} == {"0012": "Lampe"}


def test_a_quotation_that_was_cut_off_swallows_no_row(play: Play) -> None:
    played = play("tsv_quote_swallows_rows")
    assert [one.status for one in played.commands] == [0, 0, 0]
    prices = {key: row["price"] for key, row in rows(played.shop).items()}
    assert prices == {"s1": 1.0, "s2": 2.0, "s3": 3.0, "s4": 4.0}
    assert "1 × a quotation mark without its pair" in played.commands[0].text


def test_a_quotation_that_was_cut_off_in_csv_is_refused_with_both_lines(play: Play, tmp_path: Path) -> None:
    played = play("tsv_quote_swallows_rows", ["tables"])
    rows_of = ["s1,Mug,Plain,1", 's2,Cup,"Best,2', "s3,Jug,Plain,3", 's4,Frame,24",4']
    feed = "\n".join(["item_id,title,description,price", *rows_of, ""])
    (tmp_path / "feed.csv").write_text(feed, encoding="utf-8")
    done = typed("ingest feed.csv items", tmp_path, played.shop)
    assert done.status == 4
    assert set(rows(played.shop)) == {"s1", "s3", "s4"}
    (why,) = [row["reason"] for row in rows(played.shop, "refused", "line").values()]
    assert "opens in line 3 would close in line 5" in why


def test_delimiter_and_encoding_are_settings_and_options(play: Play, tmp_path: Path) -> None:
    toml = 'name = "T"\n[ingest.items]\ndelimiter = "tab"\nencoding = "cp1252"\n'
    played = play("delimiter_by_commas_in_header", ["tables"], toml)
    (tmp_path / "a.csv").write_bytes("item_id\ttitle\n1\tCafé\n".encode("cp1252"))
    (tmp_path / "b.csv").write_bytes("item_id^title\n2^Öl\n".encode("iso-8859-15"))
    assert typed("ingest a.csv items", tmp_path, played.shop).status == 0
    assert typed("ingest b.csv --delimiter ^ --encoding iso-8859-15", tmp_path, played.shop).status == 0
    assert {key: row["title"] for key, row in rows(played.shop).items()} == {"1": "Café", "2": "Öl"}
    for options, said in (
        ("--delimiter ab", "'ab' is no delimiter; use one character"),
        ("--encoding klingon", "there is no text encoding 'klingon'"),
        ("--format jsonl --delimiter ;", "the file is read as jsonl"),
    ):
        done = typed(f"ingest a.csv items {options}", tmp_path, played.shop)
        assert done.status == 2 and said in done.text, done.text
