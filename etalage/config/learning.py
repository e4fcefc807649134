"""What models learn from and are judged by: [split], [text], [behaviour], [evaluate]."""

from typing import Literal

from pydantic import Field, PositiveInt

from etalage.config.settings import Settings


class SplitConfig(Settings):
    """[split]: which items a model learns from (features/split_items.py).

    `published` names the attribute of an item that says `train`, `validation` or `test`. Items without it,
    and all items if it is not set, are split by a hash of their `group` column.
    """

    published: str | None = Field(None, examples=["split"])
    """The attribute of an item that says `train`, `validation` or `test`. None: all items are split by their
    `group`."""
    group: str = "item_id"
    """The column whose equal values stay together: all items that share one are in one part."""
    validation: float = Field(0.1, ge=0, le=0.5)
    """Share of the groups that settings are chosen by."""
    test: float = Field(0.1, ge=0, le=0.5)
    """Share of the groups that the figures come from."""
    product: str | None = Field(None, examples=["gtin"])
    """Attribute that identifies a product across merchants, such as a GTIN: its items stay in one part."""
    near_duplicates: bool = True
    """Whether items with near-duplicate photos stay in one part when categories are learned
    (features/grouping.py)."""
    phash_distance: int = Field(4, ge=0, le=31)
    """How many of the 64 bits of their perceptual hashes near-duplicates may differ in."""
    similarity: float | None = Field(None, gt=0, le=1, examples=[0.98])
    """Least cosine, on a grid of colours, of near-duplicates in one category. It finds more than hashes do,
    but mistakes products of one shape on a white background for one product. None: only hashes."""
    burst: float | None = Field(None, gt=0, le=1, examples=[0.95])
    """Photos of one category with consecutive file numbers are one burst, and stay in one part, if their
    cosine is at least this. None: no bursts."""
    burst_reach: int = Field(1, ge=0)
    """How far apart the file numbers of neighbours in a burst may be. 0: the numbers mean nothing (they were
    shuffled, or are hashes), so any two photos of a category may be neighbours."""


class TextConfig(Settings):
    """[text]: how what is written about items becomes numbers for models (docs/text.md).

    The encoder stays as it is. Models that learn from items' features read it as the feature source `text`.
    """

    encoder: str | None = Field(None, examples=["use"])
    """`use` (many languages) or `wordllama` (English, faster): their weights come with `etalage[text]`; or a
    sentence encoder as an ONNX file, relative to the shop's folder, its tokenizer.json beside it. None: texts
    are read as words alone."""


class BehaviourConfig(Settings):
    """[behaviour]: which interactions the models learn from, and how they are split
    (features/split_interactions.py)."""

    weights: dict[str, float] = Field(default_factory=dict, examples=[{"view": 1, "cart": 3, "buy": 10}])
    """Kind → how much it counts: one interaction of weight 10 counts as ten of weight 1, one of weight 0 not
    at all. A weight below 0 makes the kind an explicit negative. Kinds that are negative by name (`dislike`)
    are so unless they are named here. Empty: every kind counts 1, except 0 for those that take something back
    (`refund`) or were only shown (`impression`)."""
    has: tuple[str, ...] = Field((), examples=[("subscribe",)])
    """Kinds after which the shopper owns the item, besides those known by name (`buy`, `purchase`, `order`,
    `transaction`, `rating`, …; `etalage tables` shows what each kind counts as)."""
    kinds: tuple[str, ...] = Field((), examples=[("share",)])
    """More kinds that events of the API may have, besides those known by name, those that other settings here
    name, and those in the table interactions. `etalage collect` holds back events of any other kind."""
    targets: tuple[str, ...] = Field((), examples=[("cart", "buy")])
    """Kinds that count as a hit when a model is judged; after one of them the shopper also owns the item.
    Empty: every kind that counts."""
    positive_from: float | dict[str, float] | None = Field(None, examples=[4])
    """A value of at least this is positive, a lower one an explicit negative. A single number applies to
    ratings, not to purchases, carts and views, whose value is a quantity. By kind: {rating = 4, play = 3}.
    None: every value that is not below 0 is positive."""
    min_user: int = Field(1, ge=1)
    """Models do not learn from users with fewer interactions than this."""
    min_item: int = Field(1, ge=1)
    """Models do not learn from items with fewer interactions than this."""
    max_user: int = Field(5000, ge=0)
    """A user who touched more different items than this is taken for a crawler: no model learns from them,
    and they make nothing popular. 0: no limit."""
    split: Literal["time", "leave_one_out", "last_n", "random", "published"] = "time"
    """How the parts are made: by `time`, the newest last; of each user's last act (`leave_one_out`) or last
    few (`last_n`); at `random`; or as `published` with the data, where each interaction states its `part`
    (`etalage ingest FILE interactions --part test`). If no interaction is of the part validation, one of each
    user's train is taken for it."""
    negatives: str | None = Field(None, examples=["lastfm.test.negative"])
    """For a published split: the file of its negatives (NAME.test.negative), relative to the shop's folder.
    The evaluation then shows the protocol's figures beside those of the whole catalogue."""
    last_n: int = Field(10, ge=1)
    """For `last_n`: how many of each user's newest interactions are the test part."""
    validation: float = Field(0.1, gt=0, lt=0.5)
    """Share of the interactions that settings are chosen by."""
    test: float = Field(0.1, gt=0, lt=0.5)
    """Share of the interactions that the figures come from."""
    rank: float = Field(0.0, ge=0, lt=0.5)
    """Share of the interactions that rankers learn from. By time the parts come in the order train, rank,
    validation, test; train is what the other three leave."""
    seed: int = Field(0, ge=0)
    """Decides what is drawn: the parts of a random split."""
    repeat: bool = False
    """Whether a shopper may be shown again what they own: yes for groceries, no for films."""


class EvaluateConfig(Settings):
    """[evaluate]: what models are judged by."""

    metric: str = "precision_at_5"
    """The metric that photo models are judged by."""
    retrieval_metric: str = "recall_at_20"
    """The metric that retrievers are judged by; also hit, precision, recall and ndcg with `_at_k`, map_at_k,
    mrr, auroc."""
    ranking_metric: str = "ndcg_at_10"
    """The metric that rankers are judged by."""
    slices: dict[str, str] = Field(default_factory=dict, examples=[{"two_tower": "cold items"}])
    """Model → the slice that it is there for, such as `cold items`; it must gain on that slice."""
    ks: tuple[PositiveInt, ...] = Field((1, 5, 10), min_length=1)
    """The k of every metric at k that the report shows."""
    bootstrap: int = Field(1000, ge=100)
    """How many resamples the 95% intervals are made of."""
    max_queries: int = Field(10_000, ge=1)
    """At most this many photos or shoppers ask when a model is judged; of more, so many are drawn."""
    match_precision: float = Field(0.9, gt=0, le=1)
    """The evaluation finds the similarity above which this share of nearest neighbours has the query's
    category."""
