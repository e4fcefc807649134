"""WooCommerce's product export (CSV): products, and variations that name their parent.

https://woocommerce.com/document/product-csv-importer-exporter/. A variation takes from its parent what it
does not say itself; both have the parent's id as `item_group_id`. The price is the regular one; that of a
variable product, which has none of its own, is the lowest of its variations.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from etalage.config import MappingConfig
from etalage.lake.amounts import read_amount
from etalage.lake.column_names import plain
from etalage.lake.feeds.cells import main_path, plain_text, several_paths
from etalage.lake.feeds.contract import Feed, Head, named, renamed
from etalage.lake.notes import Notes
from etalage.lake.raw import RawChunk
from etalage.lake.readers import open_table

GROUP, IN_STOCK, CATEGORY, PRICE, SALE_DATES = (
    "(group)",
    "(in_stock)",
    "(category)",
    "(price)",
    "(sale dates)",
)
"""Columns that are made of several of WooCommerce's."""
_TELLING = (
    "Type", "SKU", "Regular price", "Sale price", "Categories", "Images", "In stock?", "Is featured?",
    "Visibility in catalog", "Short description", "Published", "Tax status", "Backorders allowed?", "Parent",
)  # fmt: skip
_GTIN = "GTIN, UPC, EAN, or ISBN"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_LINE_END = re.compile(r"(\\)?\\n")
_INHERITED = ("Categories", "Images", "Brands", "Tags", "Short description")
_STARTS, _ENDS = "Date sale price starts", "Date sale price ends"
_WORDS = {
    "Type": "typ tipo",
    "SKU": "artikelnummer ugs cod",
    "Name": "nom nombre nome naam",
    "Published": "veroffentlicht publie publicado pubblicato gepubliceerd",
    "Visibility in catalog": "sichtbarkeit_im_katalog visibilite_dans_le_catalogue "
    "visibilidad_en_el_catalogo visibilita_nel_catalogo zichtbaarheid_in_catalogus",
    "Short description": "kurzbeschreibung description_courte descripcion_corta breve_descrizione "
    "korte_beschrijving",
    "Description": "beschreibung descripcion descrizione beschrijving",
    "In stock?": "vorratig en_stock existencias hay_existencias disponibile op_voorraad",
    "Stock": "bestand lagerbestand inventario magazzino voorraad",
    "Sale price": "angebotspreis tarif_promo precio_rebajado prezzo_in_offerta actieprijs",
    "Regular price": "regularer_preis normaler_preis tarif_regulier precio_normal prezzo_di_listino "
    "reguliere_prijs",
    "Categories": "kategorien categorias categorie categorieen",
    "Tags": "schlagworter etiquettes etiquetas tag",
    "Images": "bilder imagenes immagini afbeeldingen",
    "Parent": "ubergeordnet ubergeordnetes_produkt principal superior genitore hoofd",
    "Brands": "marken marques marcas marchi merken",
}
_CALLED = {word: name for name, words in _WORDS.items() for word in words.split()}
_CALLED |= {plain(name): name for name in (*_WORDS, *_TELLING, _GTIN)}
"""Plain name in an export of another language → the English one."""
_ATTRIBUTES = (
    (
        re.compile(
            r"(?:attribut|attribuut)_(\d+)_(?:name|naam)|nom_de_l_attribut_(\d+)|nombre_del_atributo_(\d+)"
            r"|nome_dell_attributo_(\d+)"
        ),
        "name",
    ),
    (
        re.compile(
            r"(?:attribut|attribuut)_(\d+)_(?:wert_e|waarde_n)|valeur_s_de_l_attribut_(\d+)"
            r"|valor_es_del_atributo_(\d+)|valore_dell_attributo_(\d+)"
        ),
        "value(s)",
    ),
)
Row = dict[str, Any]


def english(name: str) -> str:
    """`Regulärer Preis` → `Regular price`; what is no name of WooCommerce's stays."""
    called = plain(name)
    if called in _CALLED and name not in (*_WORDS, *_TELLING):
        return _CALLED[called]
    for form, what in _ATTRIBUTES:
        if (found := form.fullmatch(called)) is not None:
            return f"Attribute {next(n for n in found.groups() if n)} {what}"
    return name


def _why(head: Head) -> str | None:
    there = {english(name) for name in head.names}
    telling = [name for name in _TELLING if name in there]
    enough = len(telling) >= 4 and ("ID" in there or "SKU" in there) and "Name" in there
    return "its columns are Name, " + ", ".join(telling[:5]) if enough else None


@dataclass
class _Parent:
    """A variable product. `price`: the lowest of its variations."""

    id: str
    row: Row
    price: tuple[float, Any] | None = None


class _Products:
    """The rows of a file; the variable products are looked for before, and kept."""

    def __init__(self, head: Head, rows: int, own: MappingConfig) -> None:
        self._head = head
        self._rows = rows
        self._own = own
        self._kept = named(own)
        self._english = {name: english(name) for name in head.names}
        self._parents: dict[str, _Parent] = {}
        """By `id:44`, and by SKU."""

    def chunks(self) -> Iterator[RawChunk]:
        self._find_parents()
        for chunk in self._raw():
            notes = Notes()
            for note in chunk.notes:
                notes.add(note.what, note.count, note.example)
            rows = [self._item(chunk.row(n), line, notes) for n, line in enumerate(chunk.lines)]
            names = dict.fromkeys([*chunk.columns, *(name for row in rows for name in row)])
            columns = {name: [row.get(name) for row in rows] for name in names}
            for name in list(columns):
                if name.startswith("Attribute ") and name not in self._kept:
                    del columns[name]
            yield replace(chunk, columns=columns, notes=notes.all())

    def _raw(self) -> Iterator[RawChunk]:
        table = open_table(self._head.file, self._head.container, self._rows, self._head.style)
        for chunk in renamed(table.chunks(), self._english, self._own):
            columns = chunk.columns.items()
            yield replace(
                chunk,
                columns={name: [_unescaped(name, value) for value in values] for name, values in columns},
            )

    def _find_parents(self) -> None:
        found: list[tuple[str, float, Any]] = []
        for chunk in self._raw():
            for n, kind in enumerate(chunk.columns.get("Type", ())):
                kinds = {word.strip() for word in str(kind or "").lower().split(",")}
                if "variable" in kinds:
                    self._keep_parent(chunk.row(n))
                elif "variation" in kinds:
                    row = chunk.row(n)
                    if (price := _number(row.get("Regular price"))) is not None and row.get("Parent"):
                        found.append((_key(row["Parent"]), price, row["Regular price"]))
        for key, price, said in found:
            parent = self._parents.get(key)
            if parent is not None and (parent.price is None or price < parent.price[0]):
                parent.price = (price, said)

    def _keep_parent(self, row: Row) -> None:
        id = row.get("ID") or row.get("SKU")
        if id is None:
            return
        parent = _Parent(str(id), {name: row[name] for name in _INHERITED if row.get(name) is not None})
        self._parents[f"id:{id}"] = parent
        if row.get("SKU") is not None:
            self._parents.setdefault(str(row["SKU"]), parent)

    def _item(self, row: Row, line: int, notes: Notes) -> Row:
        kinds = {word.strip() for word in str(row.get("Type") or "").lower().split(",")}
        row[PRICE] = row.get("Regular price")
        if "variation" in kinds and row.get("Parent"):
            parent = self._parents.get(_key(row["Parent"]))
            if parent is None:
                row[GROUP] = _key(row["Parent"]).removeprefix("id:")
                notes.add("a variation whose parent is not in the file", 1, f"line {line}: {row['Parent']}")
            else:
                row[GROUP] = parent.id
                for name, value in parent.row.items():
                    row[name] = value if row.get(name) is None else row[name]
        elif "variable" in kinds and (parent := self._parents.get(f"id:{row.get('ID') or row.get('SKU')}")):
            row[GROUP] = parent.id
            if row[PRICE] is None and parent.price is not None:
                row[PRICE] = parent.price[1]
                notes.add("price of a variable product: the lowest of its variations", 1, f"line {line}")
        row[CATEGORY] = main_path(several_paths(str(row.get("Categories") or "")))
        row[IN_STOCK] = _can_be_bought(row, line, notes)
        dates = (row.get(_STARTS), row.get(_ENDS))
        row[SALE_DATES] = "/".join(str(date or "") for date in dates) if any(dates) else None
        for name in ("Description", "Short description"):
            row[name] = plain_text(row.get(name))
        n = 1
        while f"Attribute {n} name" in row:
            called, said = row[f"Attribute {n} name"], row.get(f"Attribute {n} value(s)")
            if called and said is not None:
                row.setdefault(str(called).strip().lower(), said)
            n += 1
        return row


def _unescaped(name: str, value: Any) -> Any:
    """Without what the exporter puts into texts: an apostrophe before what spreadsheets take for a formula,
    `\\n` for the end of a line."""
    if not isinstance(value, str):
        return value
    if value[:1] == "'" and value[1:2] in _FORMULA:
        value = value[1:]
    if name in ("Description", "Short description") and "\\n" in value:
        value = _LINE_END.sub(lambda found: "\\n" if found[1] else "\n", value)
    return value


def _key(parent: Any) -> str:
    """`id:44`, `id: 44`, or a SKU."""
    text = str(parent).strip()
    return f"id:{text[3:].strip()}" if text.lower().startswith("id:") else text


def _number(value: Any) -> float | None:
    try:
        amount = read_amount(value)
    except ValueError:
        return None
    return None if amount is None else amount.value


def _can_be_bought(row: Row, line: int, notes: Notes) -> Any:
    published = str(row.get("Published", "1") or "1").strip()
    hidden = str(row.get("Visibility in catalog") or "").strip().lower() == "hidden"
    if published in ("0", "-1") or hidden:
        what = "hidden in the catalogue" if hidden else "not published"
        notes.add(f"{what}: taken with in_stock = false", 1, f"line {line}")
        return False
    return row.get("In stock?")


def _read(head: Head, rows: int, own: MappingConfig) -> Iterator[RawChunk]:
    return _Products(head, rows, own).chunks()


def _preset(head: Head, own: MappingConfig) -> MappingConfig:
    return MappingConfig(
        columns={
            "item_id": ("ID", "SKU"),
            "title": "Name",
            "description": ("Description", "Short description"),
            "brand": ("Brands", "brand"),
            "price": PRICE,
            "category_id": CATEGORY,
            "item_group_id": GROUP,
            "photo_url": "Images",
            "in_stock": IN_STOCK,
            "attributes.sku": "SKU",
            "attributes.gtin": _GTIN,
            "attributes.sale_price": "Sale price",
            "attributes.sale_price_effective_date": SALE_DATES,
            "attributes.tags": "Tags",
        },
        leave_out=(GROUP, IN_STOCK, CATEGORY, PRICE, SALE_DATES, "Regular price"),
        keep_others=True,
    )


def _own(own: MappingConfig) -> MappingConfig:
    """The shop's mapping: what one of our columns is read from, is read as this feed means it."""
    made = {
        "category_id": ("Categories", CATEGORY),
        "in_stock": ("In stock?", IN_STOCK),
        "price": ("Regular price", PRICE),
    }
    columns = {
        ours: made[ours][1] if ours in made and source == made[ours][0] else source
        for ours, source in own.columns.items()
    }
    return own.model_copy(update={"columns": columns})


FEED = Feed(
    name="woocommerce",
    title="a product export of WooCommerce",
    table="items",
    containers=("csv",),
    why=_why,
    read=_read,
    preset=_preset,
    own=_own,
    canonical=english,
    made={
        GROUP: "the ID of the parent that Parent names, and of the parent itself",
        IN_STOCK: "In stock?; no, of what is not published or hidden",
        CATEGORY: "the first of Categories, or what goes on from it",
        PRICE: "Regular price; of a variable product the lowest of its variations",
        SALE_DATES: "made of Date sale price starts and ends",
    },
    notes=(
        'item_id is ID; item_group_id is the parent\'s ID. For SKUs: item_id = "SKU"',
        "price is the regular one, of a variable product the lowest of its variations; sale_price is an "
        "attribute, with the dates of it",
        "category_id is the first of Categories, or what goes on from it; all of them are an attribute",
        "in_stock is false of what is not published, or hidden in the catalogue",
        "the export does not say the currency: [ingest.items.constants] currency",
    ),
)
