"""A column's name without what only its spelling is: case, accents, blanks, camels."""

import re
import unicodedata
from functools import lru_cache


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """`ArtikelNr.`, `artikel-nr`, `Artikel Nr` → `artikel_nr`; `Währung` → `wahrung`."""
    bare = unicodedata.normalize("NFKD", name.replace("ß", "ss"))
    bare = "".join(c for c in bare if not unicodedata.combining(c))
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", bare)
    return re.sub(r"[^a-z0-9]+", "_", apart.lower()).strip("_")
