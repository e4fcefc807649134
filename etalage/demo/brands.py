"""The demo shop's brands: invented names, each with its price level and where it is sold.

A brand's mark is the polygon list of `patterns.marks()` at its position here.
"""

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Brand:
    name: str
    level: float  # factor upon the category's median price
    departments: tuple[str, ...]
    share: float  # how much of a department it fills, before normalising
    blurb: str


_WEAR = ("Clothing", "Accessories")
_FEET = ("Shoes", "Bags")


@cache
def brands() -> tuple[Brand, ...]:
    """All brands, always in the same order."""
    return (
        Brand("Marlow", 1.0, ("Clothing",), 3.0, "Everyday pieces, cut to be worn often."),
        Brand("Tindrel", 0.7, _WEAR, 3.2, "Bright basics at a friendly price."),
        Brand("Orvanne", 1.7, ("Clothing", "Bags"), 1.4, "Quiet tailoring from a small atelier."),
        Brand("Kolm", 0.8, ("Clothing", "Shoes"), 2.4, "Clean lines and nothing more."),
        Brand("Fernholt", 1.2, _WEAR, 1.8, "Made for weather."),
        Brand("Saffrine", 1.1, ("Clothing",), 1.6, "Prints drawn by hand."),
        Brand("Verrane", 2.3, ("Clothing", "Shoes", "Bags"), 0.8, "The finest cloth we can find."),
        Brand("Pippin & Rook", 0.9, _WEAR, 1.7, "Playful colours, honest seams."),
        Brand("Haldane Row", 1.4, ("Clothing", "Accessories"), 1.1, "Classics since our first shop."),
        Brand("Strido", 1.0, ("Shoes",), 2.6, "Built for long days on foot."),
        Brand("Ostrava Nine", 1.3, ("Shoes",), 1.4, "Street shapes with a soft step."),
        Brand("Calzetti", 1.9, _FEET, 1.1, "Stitched by people who know leather."),
        Brand("Wadewell", 0.7, _FEET, 1.8, "Solid shoes and bags for little money."),
        Brand("Bramblefoot", 1.1, ("Shoes", "Accessories"), 1.2, "At home on muddy paths."),
        Brand("Carrow", 1.0, ("Bags", "Accessories"), 2.2, "Carries what the day brings."),
        Brand("Luminette", 1.6, ("Bags", "Accessories"), 1.0, "Small luxuries."),
        Brand("Portmore", 1.2, ("Bags",), 1.4, "For people on the move."),
        Brand("Zephira", 0.8, ("Accessories",), 1.8, "The last touch to an outfit."),
        Brand("Nordhem", 1.1, ("Home",), 2.6, "Calm things for calm rooms."),
        Brand("Claypath", 0.9, ("Home",), 2.2, "Turned, glazed and fired by hand."),
        Brand("Ilmari", 1.6, ("Home",), 1.2, "Nordic forms in warm wood."),
        Brand("Tumbleday", 0.6, ("Home", "Accessories"), 1.8, "Cheerful and made to be used."),
        Brand("Maison Orlo", 2.1, ("Home", "Bags"), 0.7, "A little grandeur at home."),
        Brand("Eastwick", 1.0, ("Home", "Clothing"), 1.5, "From the loom to the living room."),
    )
