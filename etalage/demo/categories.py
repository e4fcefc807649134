"""The demo shop's taxonomy: what is sold, what it costs, when it is bought and how it is drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random

from etalage.demo import accessories, bags, footwear, garments, homeware, tableware, trousers
from etalage.demo.sketch import Sketch


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf category."""

    path: str
    draw: Callable[..., None]  # (sketch, random, style=…)
    options: tuple[tuple[str, object], ...]
    price: float  # median, in the shop's currency
    cards: int  # how many of 100 items in a row
    season: str  # "all", "spring", "summer", "autumn", "winter", "gifts" (December)
    materials: tuple[str, ...]
    patterns: str  # which family of patterns: "cloth", "knit", "solid", "leather", "ware"

    @property
    def noun(self) -> str:
        """The leaf's own name, in lower case: "maxi dress"."""
        return self.path.rsplit(" > ", 1)[-1].lower()

    @property
    def department(self) -> str:
        """The top level: "Clothing"."""
        return self.path.split(" > ", 1)[0]

    @property
    def aisle(self) -> str:
        """The two upper levels: "Clothing > Dresses"."""
        return self.path.rsplit(" > ", 1)[0]

    def sketch(self, random: Random) -> Sketch:
        """One product's outlines."""
        drawn = Sketch()
        self.draw(drawn, random, **dict(self.options))
        return drawn


_LIGHT = ("cotton", "viscose", "linen")
_WOOL = ("wool", "merino", "cashmere", "cotton")
_LEATHER = ("leather", "suede", "vegan leather")
_BAG = ("leather", "vegan leather", "canvas")
_POT = ("stoneware", "porcelain", "glass")

_Row = tuple[str, str, float, int, str, tuple[str, ...], str]

_AISLES: tuple[tuple[str, Callable[..., None], tuple[_Row, ...]], ...] = (
    ("Clothing > Tops", garments.top, (
        ("T-shirt", "tee", 19, 4, "all", ("cotton", "organic cotton"), "cloth"),
        ("Long-sleeve top", "long", 25, 2, "all", ("cotton", "viscose"), "cloth"),
        ("Tank top", "tank", 16, 1, "summer", _LIGHT, "cloth"),
        ("Shirt", "shirt", 42, 2, "all", ("cotton", "linen", "flannel"), "cloth"),
        ("Blouse", "blouse", 45, 1, "spring", ("viscose", "silk", "cotton"), "cloth"),
        ("Polo shirt", "polo", 35, 1, "spring", ("cotton", "piqué"), "cloth"),
    )),
    ("Clothing > Knitwear", garments.knit, (
        ("Jumper", "jumper", 55, 3, "winter", _WOOL, "knit"),
        ("Cardigan", "cardigan", 59, 1, "autumn", _WOOL, "knit"),
        ("Roll-neck jumper", "roll", 62, 1, "winter", _WOOL, "knit"),
    )),
    ("Clothing > Trousers", trousers.trousers, (
        ("Jeans", "jeans", 69, 3, "all", ("denim",), "denim"),
        ("Wide-leg trousers", "wide", 59, 1, "all", ("viscose", "linen", "wool"), "solid"),
        ("Shorts", "shorts", 32, 1, "summer", ("cotton", "linen", "denim"), "cloth"),
        ("Leggings", "leggings", 26, 1, "all", ("jersey", "recycled polyester"), "solid"),
    )),
    ("Clothing > Skirts", trousers.skirt, (
        ("Mini skirt", "mini", 35, 1, "summer", ("denim", "cotton", "wool"), "cloth"),
        ("Pleated skirt", "pleated", 49, 1, "autumn", ("polyester", "wool"), "solid"),
        ("Maxi skirt", "maxi", 52, 1, "summer", ("viscose", "linen"), "cloth"),
        ("Pencil skirt", "pencil", 45, 1, "all", ("wool", "cotton"), "solid"),
    )),
    ("Clothing > Coats and jackets", garments.coat, (
        ("Wool coat", "coat", 169, 2, "winter", ("wool", "cashmere"), "solid"),
        ("Trench coat", "trench", 149, 1, "autumn", ("cotton", "gabardine"), "solid"),
        ("Puffer jacket", "puffer", 119, 2, "winter", ("recycled polyester", "nylon"), "solid"),
        ("Biker jacket", "biker", 139, 1, "autumn", _LEATHER, "leather"),
        ("Blazer", "blazer", 99, 2, "all", ("wool", "linen", "viscose"), "solid"),
        ("Raincoat", "rain", 79, 1, "autumn", ("nylon", "coated cotton"), "cloth"),
    )),
    ("Shoes > Trainers", footwear.trainer, (
        ("Low-top trainers", "low", 75, 3, "all", ("leather", "canvas", "suede"), "leather"),
        ("High-top trainers", "high", 85, 1, "all", ("leather", "canvas"), "leather"),
        ("Running shoes", "runner", 99, 1, "spring", ("mesh", "recycled polyester"), "leather"),
    )),
    ("Shoes > Boots", footwear.boot, (
        ("Ankle boots", "ankle", 115, 2, "autumn", _LEATHER, "leather"),
        ("Chelsea boots", "chelsea", 109, 1, "autumn", _LEATHER, "leather"),
        ("Knee boots", "knee", 149, 1, "winter", _LEATHER, "leather"),
        ("Wellington boots", "wellington", 55, 1, "autumn", ("rubber",), "cloth"),
    )),
    ("Shoes > Sandals", footwear.sandal, (
        ("Flat sandals", "flat", 45, 1, "summer", _LEATHER, "leather"),
        ("Slides", "slide", 29, 1, "summer", ("rubber", "vegan leather"), "cloth"),
        ("Heeled sandals", "heeled", 69, 1, "summer", _LEATHER, "leather"),
    )),
    ("Shoes > Smart shoes", footwear.smart, (
        ("Court shoes", "court", 79, 2, "all", _LEATHER, "leather"),
        ("Ballet flats", "ballet", 59, 1, "spring", _LEATHER, "leather"),
        ("Loafers", "loafer", 85, 1, "all", _LEATHER, "leather"),
    )),
    ("Bags > Handbags", bags.handbag, (
        ("Tote bag", "tote", 59, 2, "all", _BAG, "bag"),
        ("Shoulder bag", "shoulder", 79, 1, "all", _LEATHER, "leather"),
        ("Crossbody bag", "crossbody", 65, 1, "all", _LEATHER, "leather"),
        ("Clutch", "clutch", 45, 1, "gifts", ("leather", "satin"), "bag"),
        ("Bucket bag", "bucket", 72, 1, "all", _BAG, "leather"),
    )),
    ("Bags > Backpacks", bags.travel, (
        ("Backpack", "backpack", 69, 2, "autumn", ("nylon", "canvas", "recycled polyester"), "bag"),
        ("Drawstring bag", "drawstring", 25, 1, "all", ("cotton", "canvas"), "bag"),
    )),
    ("Bags > Travel bags", bags.travel, (
        ("Suitcase", "suitcase", 139, 1, "summer", ("polycarbonate", "aluminium"), "solid"),
        ("Weekend bag", "duffel", 95, 1, "summer", _BAG, "bag"),
    )),
    ("Accessories > Hats and gloves", accessories.headwear, (
        ("Cap", "cap", 22, 1, "summer", ("cotton", "corduroy"), "cloth"),
        ("Beanie", "beanie", 19, 1, "winter", _WOOL, "knit"),
        ("Sun hat", "sunhat", 29, 1, "summer", ("straw", "cotton"), "solid"),
    )),
    ("Accessories > Hats and gloves", accessories.adornment, (
        ("Gloves", "gloves", 29, 1, "winter", ("wool", "leather"), "knit"),
    )),
    ("Accessories > Scarves and belts", accessories.adornment, (
        ("Scarf", "scarf", 32, 1, "winter", ("wool", "silk", "cashmere"), "cloth"),
        ("Belt", "belt", 29, 1, "all", _LEATHER, "leather"),
        ("Umbrella", "umbrella", 25, 1, "autumn", ("polyester",), "cloth"),
    )),
    ("Accessories > Watches and sunglasses", accessories.adornment, (
        ("Watch", "watch", 129, 1, "gifts", ("leather", "steel"), "leather"),
        ("Sunglasses", "sunglasses", 89, 1, "summer", ("acetate", "metal"), "leather"),
    )),
    ("Home > Tableware", tableware.table, (
        ("Mug", "mug", 12, 2, "gifts", _POT, "ware"),
        ("Plate", "plate", 14, 1, "all", _POT, "ware"),
        ("Bowl", "bowl", 15, 1, "all", _POT, "ware"),
        ("Teapot", "teapot", 39, 1, "winter", _POT, "ware"),
        ("Jug", "jug", 29, 1, "summer", _POT, "ware"),
        ("Goblet", "glass", 17, 1, "gifts", ("glass", "stoneware"), "ware"),
    )),
    ("Home > Decoration", homeware.decor, (
        ("Cushion", "cushion", 25, 2, "all", ("cotton", "linen", "velvet"), "cloth"),
        ("Vase", "vase", 32, 1, "spring", _POT, "ware"),
        ("Table lamp", "lamp", 65, 1, "autumn", ("linen", "cotton", "paper"), "ware"),
        ("Candle", "candle", 19, 1, "gifts", ("glass", "stoneware"), "ware"),
        ("Wall clock", "clock", 42, 1, "all", ("wood", "metal"), "leather"),
        ("Picture frame", "frame", 24, 1, "gifts", ("oak", "aluminium"), "art"),
        ("Throw", "throw", 49, 1, "winter", ("wool", "cotton"), "cloth"),
        ("Plant pot", "plant", 27, 1, "spring", ("terracotta", "stoneware"), "ware"),
    )),
    ("Home > Furniture", homeware.furniture, (
        ("Chair", "chair", 119, 1, "all", ("oak", "beech", "steel"), "solid"),
        ("Stool", "stool", 69, 1, "all", ("oak", "beech"), "solid"),
        ("Armchair", "armchair", 349, 1, "all", ("velvet", "linen", "wool"), "solid"),
        ("Side table", "table", 99, 1, "all", ("oak", "steel", "marble"), "solid"),
    )),
)  # fmt: skip


@cache
def leaves() -> tuple[Leaf, ...]:
    """All leaf categories, always in the same order."""
    dresses = tuple(
        Leaf(f"Clothing > Dresses > {name}", garments.dress, (("length", length), ("style", style)),
             price, cards, season, materials, "cloth")
        for name, length, style, price, cards, season, materials in (
            ("Mini dress", 4.3, "flared", 45.0, 2, "summer", _LIGHT),
            ("Midi dress", 5.7, "flared", 59.0, 1, "spring", _LIGHT),
            ("Maxi dress", 7.3, "flared", 69.0, 2, "summer", _LIGHT),
            ("Slip dress", 5.6, "slip", 55.0, 1, "summer", ("satin", "silk", "viscose")),
            ("Shirt dress", 5.0, "shirt", 62.0, 1, "all", ("cotton", "linen", "denim")),
            ("Wrap dress", 5.4, "wrap", 65.0, 1, "spring", ("jersey", "viscose")),
        )
    )  # fmt: skip
    others = tuple(
        Leaf(f"{aisle} > {name}", draw, (("style", style),), float(price), cards, season, materials, patterns)
        for aisle, draw, rows in _AISLES
        for name, style, price, cards, season, materials, patterns in rows
    )
    return dresses + others


PATTERN_WEIGHTS: dict[str, tuple[float, ...]] = {
    # plain, striped, dotted, checked, floral, ombré, colour-block
    "cloth": (0.36, 0.17, 0.10, 0.10, 0.14, 0.06, 0.07),
    "knit": (0.48, 0.28, 0.03, 0.04, 0.0, 0.07, 0.10),
    "solid": (0.72, 0.07, 0.0, 0.11, 0.03, 0.02, 0.05),
    "denim": (0.88, 0.0, 0.0, 0.0, 0.0, 0.12, 0.0),
    "leather": (0.76, 0.02, 0.02, 0.03, 0.03, 0.04, 0.10),
    "bag": (0.50, 0.14, 0.06, 0.09, 0.10, 0.04, 0.07),
    "ware": (0.44, 0.16, 0.10, 0.03, 0.10, 0.12, 0.05),
    "art": (0.10, 0.15, 0.15, 0.10, 0.20, 0.15, 0.15),
}
