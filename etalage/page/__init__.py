"""The storefront: pages that this server writes, with what `etalage serve` answers."""
