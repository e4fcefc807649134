"""What a bundle answers with: [funnel], [index], [publish]."""

from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from etalage.config.settings import Settings


class OrderConfig(Settings):
    """[funnel] order: the last stage, from scores to the slate."""

    value: float = Field(0.0, ge=0)
    """Weight of an item's business value, relative to its score scaled to 0 … 1."""
    value_of: str = "price"
    """The business value: `price`, or `attributes.<key>` (a number, such as a margin)."""
    diversity: float = Field(0.0, ge=0, le=1)
    """Maximal marginal relevance: weight of being different, by embedding and category, from the items
    above."""
    per_brand: int | None = Field(None, ge=1)
    per_category: int | None = Field(None, ge=1)
    """At most this many items of one brand, or of one category, in a slate."""
    per_group: int = Field(1, ge=0)
    """At most this many variants of one product (items of one item_group_id) in a slate. Among the items
    similar to an item, that item counts as one of them. 0: any number."""


class FunnelConfig(Settings):
    """[funnel]: retrieve → filter → rank → order → slate."""

    retrievers: dict[str, PositiveInt] = Field(default_factory=dict)
    """Model → how many candidates it retrieves. Empty: all trained retrievers, 200 each."""
    ranker: str | None = None
    photos: str | None = None
    """Which photo embedder answers if several are published. None: the first by name."""
    classifier: str | None = None
    """Which classifier answers if several are published. None: the first by name."""
    seen: Literal["drop_bought", "drop_all", "keep"] = "drop_bought"
    in_stock: bool = True
    """Leave out items that are known to be sold out; items of unknown stock are shown."""
    history: int = Field(100, ge=1)
    """How many of a shopper's newest interactions the funnel uses."""
    enough: int = Field(3, ge=1)
    """From this many interactions on, the deep models answer a shopper; with fewer, the closed-form ones
    do."""
    order: OrderConfig = Field(default_factory=OrderConfig)


class IndexConfig(Settings):
    """[index]: how a bundle searches its embeddings."""

    kind: Literal["auto", "exact", "ivf_flat", "milvus"] = "auto"
    """`auto`: exact up to 20,000 items, IVF-Flat above. `milvus`: in a vector database (docs/vectors.md)."""
    per_category: int | None = Field(None, ge=1)
    """Index only this many items of each category, always the same ones. None: every item with a photo."""
    lists: int | None = Field(None, ge=1)
    probes: int | None = Field(None, ge=1)
    milvus: dict[str, Any] = Field(default_factory=dict)
    """[index.milvus]: the settings in index/milvus.py; only with kind `milvus`."""

    @model_validator(mode="after")
    def _that_act(self) -> "IndexConfig":
        if self.kind != "milvus":
            if self.milvus:
                raise ValueError(
                    f"[index.milvus] is set, and kind is {self.kind!r}: it would do nothing; set kind = "
                    "'milvus'"
                )
            return self
        for name in ("lists", "probes"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name} is set, and kind is 'milvus': it would do nothing; its numbers are in "
                    "[index.milvus] build and search"
                )
        if "uri" not in self.milvus:
            raise ValueError(
                "kind is 'milvus': [index.milvus] uri = \"http://host:19530\" says where, or a file such as "
                '"milvus.db"'
            )
        return self


class PublishConfig(Settings):
    """[publish]: the gates of a bundle, and how many bundles stay."""

    min_recall: float = Field(0.95, ge=0, le=1)
    """Least recall@k of the approximate index against the exact one, for every share of allowed items."""
    recall_k: int = Field(10, ge=1)
    max_shrink: float = Field(0.5, ge=0, le=1)
    """Publish refuses if the catalogue lost this share of its items or more."""
    keep: int = Field(5, ge=2)
    """How many bundles stay on disk."""
