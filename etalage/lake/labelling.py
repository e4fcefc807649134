"""Which category of the taxonomy an item carries itself, by what it says of its category.

Ways, from sure to weak; the first that tells counts:

    given     it has an id, or a whole path, of the taxonomy
    mapped    a person's map says what this merchant's category is
    exact     the merchant's category is, but for case and spaces, a path of the taxonomy
    ending    it is the last steps, or the last one, of one path of the taxonomy alone
    similar   the most similar wording, where that is asked for: a weak label

An id that the taxonomy does not have is told, never guessed: such an item may be mapped or have a path, but
no similar one. What is no retail (NOT_RETAIL, or named by the shop) is told as outside, and has no
label.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from etalage.lake.category_text import CategoryMap, CategoryText, PathBook, found_row, steps_of
from etalage.lake.schema import CATEGORY_SEPARATOR
from etalage.lake.taxonomy import Taxonomy
from etalage.lake.taxonomy_files import localised

How = Literal["given", "mapped", "exact", "ending", "similar"]
WAYS: tuple[How, ...] = ("given", "mapped", "exact", "ending", "similar")
WEAK: tuple[How, ...] = ("similar",)
"""Ways that may well be wrong: for training, with less weight, never for judging."""
UNKNOWN, RETIRED, PATH = "unknown id", "retired id", "unknown path"
OUTSIDE, UNMAPPED, NOTHING = "outside the taxonomy", "not mapped", "no category"
REASONS = (UNKNOWN, RETIRED, PATH, OUTSIDE, UNMAPPED, NOTHING)
NOT_RETAIL = frozenset({
    "service", "services", "travel", "flights", "hotels", "holidays & travel", "travel & holidays",
    "car rental",
    "insurance", "tickets", "event tickets", "events", "events & tickets", "experiences", "gift cards",
    "gift vouchers", "vouchers", "memberships", "subscriptions", "warranties", "extended warranties",
    "repairs", "donations", "financial services", "jobs", "real estate", "dienstleistungen", "reisen",
    "flüge", "versicherungen", "gutscheine", "geschenkgutscheine", "tickets & events", "assurances",
    "voyages", "cartes cadeaux", "billets",
})  # fmt: skip
"""First steps of merchants' own paths, case-folded, that hold nothing to put on a shelf."""


@dataclass(frozen=True)
class GivenCategory:
    """What an item says of its category, as given."""

    given: str | None
    merchant: str | None
    category: str | None


@dataclass(frozen=True)
class CategoryReading:
    """What is known of items that say the same."""

    row: int
    """Of the whole taxonomy."""
    how: How | None = None
    reasons: tuple[str, ...] = ()

    @property
    def outside(self) -> bool:
        return OUTSIDE in self.reasons


class CategoryReader:
    """Reads what items say by a taxonomy, a map, other languages and older versions.

    languages, older: {id: path} of each file. outside: ids (and all beneath them) and first steps.
    """

    def __init__(
        self,
        tree: Taxonomy,
        languages: Sequence[Mapping[str, str]] = (),
        older: Sequence[Mapping[str, str]] = (),
        outside: Iterable[str] = (),
    ) -> None:
        self.tree = tree
        self.map: CategoryMap | None = None
        self.book = PathBook(tree)
        self.languages, self._older = languages, older
        for paths in (*languages, *older):
            self.book.add(paths)
        row_of = {text: tree.row(text) for text in outside}
        self._outside_rows = frozenset(row for row in row_of.values() if row >= 0)
        self._outside_names = NOT_RETAIL | {text.casefold() for text, row in row_of.items() if row < 0}

    @cached_property
    def text(self) -> CategoryText:
        return CategoryText(self.tree, [localised(self.tree, paths) for paths in self.languages])

    def tell(
        self,
        said: Iterable[GivenCategory],
        similar_from: float | None = None,
        progress: Callable[[int], object] = lambda _: None,
    ) -> dict[GivenCategory, CategoryReading]:
        """Each different thing that is said, with what is known by it. similar_from None: never similar.
        progress: called with 1 for each of them."""
        told: dict[GivenCategory, CategoryReading] = {}
        for one in dict.fromkeys(said):
            told[one] = self.surely(one)
            progress(1)
        open_ones = [one for one, known in told.items() if known.reasons == (UNMAPPED,)]
        if similar_from is not None and open_ones:
            texts = list(dict.fromkeys(one.category for one in open_ones if one.category))
            rows, similar = self.text.nearest(texts)
            best = dict(
                zip(texts, zip(rows[:, 0].tolist(), similar[:, 0].tolist(), strict=True), strict=True)
            )
            for one in open_ones:
                row, similarity = best[one.category or ""]
                if row >= 0 and similarity >= similar_from:
                    told[one] = self._reading(row, "similar", ())
        return told

    def surely(self, one: GivenCategory) -> CategoryReading:
        """Without looking at what is merely similar."""
        problem: tuple[str, ...] = ()
        if one.given:
            if (row := found_row(self.tree, self.book, one.given)) >= 0:
                return self._reading(row, "given", ())
            problem = (self._problem(one.given),)
        if one.category and self.map and (mapped := self.map.row(one.merchant, one.category)) is not None:
            return self._reading(mapped, "mapped", problem)
        if one.category and (row := self.book.row(one.category)) >= 0:
            return self._reading(row, "exact", problem)
        for text in (one.category, one.given):
            if text and (steps := steps_of(text)) and steps[0].casefold() in self._outside_names:
                return self._reading(-1, None, problem)
        if one.category and (row := self.book.row_of_ending(one.category)) >= 0:
            return self._reading(row, "ending", problem)
        return CategoryReading(-1, None, problem or ((UNMAPPED,) if one.category else (NOTHING,)))

    def _reading(self, row: int, how: How | None, problem: tuple[str, ...]) -> CategoryReading:
        """In this category, or outside."""
        if row < 0 or not self._outside_rows.isdisjoint(self.tree.steps(row)):
            return CategoryReading(-1, None, (*problem, OUTSIDE))
        return CategoryReading(row, how, problem)

    def _problem(self, given: str) -> str:
        text = given.strip()
        if any(text in paths for paths in self._older) or self.book.retired(text):
            return RETIRED
        return PATH if CATEGORY_SEPARATOR.strip() in text else UNKNOWN
