"""What a bundle answers with: [funnel], [index], [publish]."""

from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from etalage.config.settings import Settings


class OrderConfig(Settings):
    """[funnel] order: the last stage, from scores to the slate."""

    value: float = Field(0.0, ge=0, examples=[0.2])
    """Weight of an item's business value, relative to its score scaled to 0 … 1."""
    value_of: str = "price"
    """The business value: `price`, or `attributes.<key>` (a number, such as a margin)."""
    diversity: float = Field(0.0, ge=0, le=1, examples=[0.1])
    """Maximal marginal relevance: weight of being different, by embedding and category, from the items
    above."""
    per_brand: int | None = Field(None, ge=1, examples=[3])
    """At most this many items of one brand in a slate. None: any number."""
    per_category: int | None = Field(None, ge=1, examples=[5])
    """At most this many items of one category in a slate. None: any number."""
    per_group: int = Field(1, ge=0)
    """At most this many variants of one product (items of one item_group_id) in a slate. Among the items
    similar to an item, that item counts as one of them. 0: any number."""


class FunnelConfig(Settings):
    """[funnel]: retrieve → filter → rank → order → slate."""

    retrievers: dict[str, PositiveInt] = Field(
        default_factory=dict, examples=[{"item_knn": 200, "two_tower": 200}]
    )
    """Model → how many candidates it retrieves. Empty: all trained retrievers, 200 each. Closed-form models
    that were trained besides answer where none of these can, unless it names popularity alone."""
    ranker: str | None = Field(None, examples=["dlrm"])
    """The model that scores the candidates again. None: the retrievers' scores, merged, are the order."""
    photos: str | None = Field(None, examples=["image_similarity"])
    """Which photo embedder answers if several are published. None: the first by name."""
    classifier: str | None = Field(None, examples=["item_category"])
    """Which classifier answers if several are published. None: the first by name."""
    seen: Literal["drop_bought", "drop_all", "keep"] = "drop_bought"
    """Which items a shopper is not shown again: `drop_bought`, those that they own; `drop_all`, also those
    that they acted on in any other way; `keep`: none."""
    in_stock: bool = True
    """Leave out items that are known to be sold out; items of unknown stock are shown."""
    history: int = Field(100, ge=1)
    """How many of a shopper's newest interactions the funnel uses."""
    enough: int = Field(3, ge=1)
    """From this many interactions on, the deep models answer a shopper; with fewer, the closed-form ones
    do."""
    order: OrderConfig = Field(default_factory=OrderConfig)
    """The last stage: see [funnel.order]."""


class IndexConfig(Settings):
    """[index]: how a bundle searches its embeddings."""

    kind: Literal["auto", "exact", "ivf_flat", "milvus"] = "auto"
    """`auto`: exact up to 20,000 items, IVF-Flat above. `milvus`: in a vector database (docs/vectors.md)."""
    per_category: int | None = Field(None, ge=1, examples=[5])
    """Index only this many items of each category, always the same ones. None: every item with a photo."""
    lists: int | None = Field(None, ge=1, examples=[1024])
    """IVF-Flat: into how many lists the items are clustered. None: 4 times the root of their number."""
    probes: int | None = Field(None, ge=1, examples=[16])
    """IVF-Flat: how many lists a search looks into. None: as few as find what the exact index finds, at a
    recall@10 of 0.99."""
    milvus: dict[str, Any] = Field(default_factory=dict, examples=[{"uri": "http://milvus:19530"}])
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
    """The k of that recall."""
    max_shrink: float = Field(0.5, ge=0, le=1)
    """Publish refuses if the catalogue lost this share of its items or more."""
    keep: int = Field(5, ge=2)
    """How many bundles stay on disk."""
    refit: Literal["all", "closed_form", "none"] = "all"
    """Which models of behaviour learn once more, from all acts, when they are published: what was held back
    to judge them is the newest. The settings are those that were judged, and so is the number of epochs.
    `all`: networks too, which takes about as long as their training; `closed_form`: those that are counted or
    solved; `none`: each is published as it was judged (`etalage publish --as-judged`)."""
