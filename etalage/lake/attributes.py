"""Settings that name an attribute of the items: one that no item has is a typo, and is refused."""

import json
from collections.abc import Iterable

from etalage.config import suggestion
from etalage.errors import ConfigError


def require_attribute(
    attributes: Iterable[str | None], key: str, setting: str, numbers: bool = False
) -> None:
    """One item at least has `key` (`numbers`: with a number in it); no item at all is no trouble.

    attributes: the items' JSON, null where there is none. setting: as it stands in shop.toml, such as
    `[split] product = "gtin"`. Raises ConfigError with the nearest attribute that there is.
    """
    there, found, count = dict[str, None](), list[object](), 0
    for text in attributes:
        count += 1
        said = json.loads(text) if text else {}
        value = said.get(key)
        if value is not None and (not numbers or _is_number(value)):
            return
        found += [] if value is None or found else [value]
        there.update(dict.fromkeys(said))
    if found:
        raise ConfigError(f"{setting}: no item has a number there; one says {found[0]!r}")
    if count:
        raise ConfigError(
            f"{setting}: none of the {count:,} items has the attribute {key!r}; {suggestion(key, there)}"
        )


def _is_number(value: object) -> bool:
    try:
        return float(value) == float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
