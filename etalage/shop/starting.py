"""The shop.toml that a new shop begins with: what most shops come to set, each line to be taken as it is."""

from etalage.lake.drafting.writing import quoted

_USUAL = """
# A line that begins with # does nothing until the # is gone. docs/guide.md goes through these settings; an
# unknown one is an error that suggests the right one. `etalage new SHOP --from FILE` guesses a mapping.

# currency = "EUR"                          # of items that name none

# [ingest.items.columns]                    # our column = yours
# item_id = "sku"
# title = "name"
# in_stock = "stock"

# [ingest.interactions.columns]
# user_id = "customer"
# item_id = "sku"
# kind = "event"
# time = "when"

# [behaviour]
# positive_from = 4                         # of ratings: this many stars or more are a like
# targets = ["cart", "buy"]                 # what counts as a hit when models are judged

# [funnel]
# seen = "drop_bought"                      # what somebody has is not shown again; or "drop_all", "keep"

# [photos]
# contact = "photos@shop.example"           # told to the servers that photos are fetched from

# [serve]
# hosts = ["recommender.internal"]          # other names by which the server may be called
# origins = ["https://www.shop.example"]    # web pages that may ask it from a browser
"""


def starting_toml(name: str) -> str:
    """For a new shop that is called `name`."""
    return f"name = {quoted(name)}\n{_USUAL}"
