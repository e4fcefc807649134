"""The page of a whole shop: the decisions, then for every question the systems, the slices and examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from etalage.bundle.admission import FEWEST
from etalage.evaluation.category_sections import Mistakes
from etalage.evaluation.decision import Contender, Decision, Evidence, SliceFound
from etalage.evaluation.decision_words import (
    cost_words,
    headline,
    otherwise,
    short_words,
    simpler_words,
    spelled,
)
from etalage.evaluation.examples import RULE, SHOWN, ShopperExample
from etalage.evaluation.names import CATEGORY, name_of_leaf
from etalage.evaluation.palette import Marks
from etalage.evaluation.photo_sections import ComparedNeighbours, Strip
from etalage.evaluation.report import photo_uri
from etalage.evaluation.sections import Section, written
from etalage.metrics import Interval

THUMBNAIL = 64
"""Photos are shrunk to this many pixels a side: a page of a hundred stays below half a megabyte."""
NEIGHBOURS, MISTAKES, ITEMS = 5, 4, 4
"""So many neighbours of a photo, costly mistakes, and items of one, are shown."""


def deciding(known: Evidence, one: Decision) -> list[str]:
    """The systems that a decision is between, in the order of every chart and table: the best first."""
    named = {
        one.publish,
        one.over,
        one.simpler,
        one.best,
        *one.level,
        *(case.model for case in one.otherwise),
    }
    if one.publish is None:
        named = set(ranked_names(known))
    return [name for name in ranked_names(known) if name in named]


def ranked_names(known: Evidence) -> list[str]:
    """All systems that have a figure, the best first."""
    there = [one.name for one in known.contenders if one.name in known.shown.values]
    return sorted(there, key=lambda name: (-known.shown.values[name].value, name))


@dataclass(frozen=True)
class Decisions(Section):
    """What to publish, a card a question."""

    decisions: Sequence[Decision]
    evidence: Mapping[str, Evidence]
    marks: Marks

    page = ("shop_sections", "decisions")

    def content(self) -> dict[str, Any]:
        return {"cards": [self._card(one) for one in self.decisions]}

    def _card(self, one: Decision) -> dict[str, Any]:
        known = self.evidence.get(one.question)
        names = [] if known is None else deciding(known, one)
        chart = None
        if known is not None and names:
            chart = {
                "rows": rows_of(known, one, names, self.marks),
                "alt": finding(known, one, names),
                "words": f"{spelled(known.metric)}, {counted(known)}",
            }
        return {
            "question": one.question,
            "anchor": anchor(one.question),
            "headline": headline(one),
            "publish": one.publish,
            "members": one.members,
            "short": short_words(one),
            "why": one.why[:1].upper() + one.why[1:],
            "metric": one.metric,
            "spelled": spelled(one.metric) if one.metric else "",
            "slice": one.slice,
            "part": one.part,
            "asked": f"{one.questions:,} {one.asked}",
            "value": None if one.value is None else written(one.value, 4),
            "over": one.over,
            "over_value": None if one.over_value is None else written(one.over_value, 4),
            "gain": None if one.gain is None else {**written(one.gain, 4, "+"), "sure": sureness(one.gain)},
            "cost": cost_words(one.cost),
            "simpler": simpler_words(one),
            "level": one.level,
            "otherwise": [otherwise(case, one) for case in one.otherwise],
            "doubts": one.doubts,
            "refused": [{"name": name, "why": why} for name, why in one.refused],
            "notes": one.notes,
            "settings": one.settings,
            "command": one.command,
            "chart": chart,
        }


def counted(known: Evidence) -> str:
    """How many questions the figures are of."""
    return f"{known.shown.questions:,} {known.asked} of {known.shown.part}"


def finding(known: Evidence, one: Decision, names: Sequence[str]) -> str:
    """What a chart of intervals shows, in a sentence: its text for whoever does not see it."""
    values = known.shown.values
    told = "; ".join(
        f"{name} {values[name].value:.3f}, from {values[name].low:.3f} to {values[name].high:.3f}"
        for name in names
    )
    said = f"{headline(one)}. {spelled(known.metric)} on {known.shown.part}, the best first: {told}."
    if one.gain is not None and one.over is not None:
        sure = {"better": "is better than", "worse": "is worse than", "": "is not shown to differ from"}
        said += f" {one.publish} {sure[sureness(one.gain)]} {one.over} there."
    return said


def rows_of(known: Evidence, one: Decision, names: Sequence[str], marks: Marks) -> list[dict[str, Any]]:
    """A row a system: its figures, its place on a common scale, its gain and its cost."""
    top = max((interval.high for interval in known.shown.values.values()), default=0.0) or 1.0
    by_name = {contender.name: contender for contender in known.contenders}
    return [_row(known, one, by_name[name], marks[name], top) for name in names]


def _row(
    known: Evidence, one: Decision, contender: Contender, mark: tuple[str, str], top: float
) -> dict[str, Any]:
    name = contender.name
    value = known.shown.values[name]
    over = one.over if name != one.over else None
    gain = known.shown.gain(name, over) if over is not None and over in known.shown.values else None
    return {
        "name": name,
        "colour": mark[0],
        "mark": mark[1],
        "chosen": name == one.publish,
        "value": written(value, 4),
        "at": [f"{100 * max(0.0, part) / top:.1f}%" for part in value],
        "gain": None if gain is None else {**written(gain, 4, "+"), "sure": sureness(gain)},
        "over": over,
        "cost": cost_words(contender.cost),
        "said": _standing(contender, one),
    }


def _standing(contender: Contender, one: Decision) -> str:
    """What became of a system in the decision."""
    if contender.name == one.publish:
        return "chosen"
    if contender.comparison:
        return "to compare with"
    if contender.refused is not None:
        return "kept out by the gate"
    if contender.name in one.level:
        return "not shown to differ"
    return "less good on validation"


def sureness(gain: Interval) -> str:
    """`better` or `worse` where the interval leaves out zero, else ""."""
    return "better" if gain.low > 0 else "worse" if gain.high < 0 else ""


@dataclass(frozen=True)
class Systems(Section):
    """All systems that answer one question: the deciding rows, the others folded."""

    known: Evidence
    decision: Decision
    marks: Marks

    page = ("shop_sections", "systems")

    def content(self) -> dict[str, Any]:
        names = deciding(self.known, self.decision)
        rest = [name for name in ranked_names(self.known) if name not in names]
        return {
            "question": self.known.question,
            "anchor": anchor(self.known.question),
            "spelled": spelled(self.known.metric),
            "counted": counted(self.known),
            "over": self.decision.over,
            "rows": rows_of(self.known, self.decision, names, self.marks),
            "rest": rows_of(self.known, self.decision, rest, self.marks),
        }


@dataclass(frozen=True)
class SliceTable(Section):
    """The deciding systems in every slice; categories folded, unless they decide otherwise."""

    known: Evidence
    decision: Decision
    marks: Marks

    page = ("shop_sections", "slices")

    def content(self) -> dict[str, Any]:
        names = deciding(self.known, self.decision)
        marks = self.marks
        found = {case.slice for case in self.decision.otherwise}
        first = [s for s in self.known.slices if s.name in found or not s.name.startswith(CATEGORY)]
        rest = [s for s in self.known.slices if s not in first]
        return {
            "spelled": spelled(self.known.metric),
            "part": self.known.shown.part,
            "asked": self.known.asked,
            "chosen": self.decision.publish,
            "systems": [{"name": n, "colour": marks[n][0], "mark": marks[n][1]} for n in names],
            "rows": [self._row(one, names, one.name in found) for one in first],
            "rest": [self._row(one, names, False) for one in rest],
            "fewest": FEWEST,
        }

    def _row(self, one: SliceFound, names: Sequence[str], decides: bool) -> dict[str, Any]:
        chosen = self.decision.publish
        cells: list[dict[str, Any] | None] = []
        for name in names:
            value = one.shown.values.get(name)
            if value is None:
                cells.append(None)
                continue
            beside = chosen is not None and name != chosen
            gain = one.shown.gain(name, str(chosen)) if beside else None
            cells.append({**written(value, 4), "sure": "" if gain is None else sureness(gain)})
        few = one.shown.questions < FEWEST
        return {
            "name": one.name,
            "words": one.words,
            "questions": f"{one.shown.questions:,}",
            "few": few,
            "decides": decides,
            "cells": cells,
        }


@dataclass(frozen=True)
class ShopperExamples(Section):
    """Some shoppers, with the slates of several systems side by side."""

    examples: Sequence[ShopperExample]
    known: Evidence
    decision: Decision
    marks: Marks
    titles: Mapping[str, str]
    photos: Mapping[str, bytes]

    page = ("shop_sections", "shoppers")

    def content(self) -> dict[str, Any]:
        if not self.examples:
            return {"shoppers": []}
        systems = list(self.examples[0].slates)
        order = [name for name in ranked_names(self.known) if name in systems]
        rule = RULE.format(
            queries=self.known.shown.questions,
            asked=self.known.asked,
            part=self.known.shown.part,
            chosen=systems[0],
            over=systems[min(1, len(systems) - 1)],
            metric=spelled(self.known.metric),
        )
        thumbnails = self._thumbnails()
        return {
            "rule": f"{rule}; and the shopper with the shortest history. Ids of shoppers are shortened."
            + ("" if self.titles else " None of these items has a title: they stand by their ids."),
            "shoppers": [self._shopper(one, order, thumbnails) for one in self.examples],
        }

    def _thumbnails(self) -> dict[str, str]:
        wanted = {item for one in self.examples for item in one.items}
        made = {item: photo_uri(self.photos[item], THUMBNAIL) for item in wanted if item in self.photos}
        return {item: uri for item, uri in made.items() if uri is not None}

    def _shopper(
        self,
        one: ShopperExample,
        order: Sequence[str],
        thumbnails: Mapping[str, str],
    ) -> dict[str, Any]:
        def item(item_id: str, place: int = 0, hit: bool = False) -> dict[str, Any]:
            name, far = self.titles.get(item_id, item_id), place if place > SHOWN else 0
            bare = bool(self.titles) and item_id not in self.titles
            return {"name": name, "bare": bare, "photo": thumbnails.get(item_id), "hit": hit, "place": far}

        shown = {item_id for slate in one.slates.values() for item_id, *_ in slate}
        return {
            "why": one.why,
            "shopper": one.shopper,
            "acts": f"{one.acts:,} act{'' if one.acts == 1 else 's'} before",
            "history": [item(item_id) for item_id in one.history],
            "took": [item(item_id, hit=item_id in shown) for item_id in one.took[:8]],
            "more": max(0, len(one.took) - 8),
            "slates": [
                {
                    "system": name,
                    "colour": self.marks[name][0],
                    "mark": self.marks[name][1],
                    "value": f"{spelled(self.known.metric)} {one.values[name]:.3f}",
                    "items": [item(*slot) for slot in one.slates[name]],
                }
                for name in order
            ],
        }


@dataclass(frozen=True)
class PhotoExamples(Section):
    """Query photos, and what the model and the best simple system find for them."""

    found: ComparedNeighbours
    marks: Marks

    page = ("shop_sections", "photos")

    def content(self) -> dict[str, Any]:
        return {
            "rule": self.found.rule,
            "queries": [self._query(why, strips) for why, strips in self.found.strips],
        }

    def _query(self, why: str, strips: Mapping[str, Strip]) -> dict[str, Any]:
        photo, category, _ = next(iter(strips.values()))
        return {
            "why": why,
            "photo": photo_uri(photo, THUMBNAIL),
            "category": name_of_leaf(category),
            "systems": [
                {
                    "system": name,
                    "colour": self.marks[name][0],
                    "mark": self.marks[name][1],
                    "right": sum(hit for _, _, hit, _ in answers[:NEIGHBOURS]),
                    "of": len(answers[:NEIGHBOURS]),
                    "answers": [
                        {
                            "photo": photo_uri(one, THUMBNAIL),
                            "name": name_of_leaf(label),
                            "bare": False,
                            "hit": hit,
                            "place": 0,
                        }
                        for one, label, hit, _ in answers[:NEIGHBOURS]
                    ],
                }
                for name, (_, _, answers) in strips.items()
            ],
        }


@dataclass(frozen=True)
class CostlyMistakes(Section):
    """The few most expensive mistakes of a classifier."""

    model: str
    found: Mistakes

    page = ("shop_sections", "mistakes")

    def content(self) -> dict[str, Any]:
        every = self.found.content()["mistakes"]
        for one in every[:MISTAKES]:
            one["wrong"], one["alike"] = one["wrong"][:ITEMS], one["alike"][:ITEMS]
        return {"model": self.model, "mistakes": every[:MISTAKES], "of": len(every)}


@dataclass(frozen=True)
class Further(Section):
    """Where the older, longer pages are, what was measured, and what every word means."""

    pages: Sequence[tuple[str, str]]
    """Relative address and title of each."""
    measured: Mapping[str, str]
    words: Mapping[str, str] = field(default_factory=dict)

    page = ("shop_sections", "further")

    def content(self) -> dict[str, Any]:
        return {"pages": self.pages, "facts": self.measured, "words": self.words}


def anchor(question: str) -> str:
    """The id of a question's section."""
    return "-".join(word.strip("?").lower() for word in question.split()[-3:])
