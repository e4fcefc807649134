"""reports/shop.html: what to publish for every question of a shop, and what that rests on, on one page."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from etalage.evaluation.category_sections import Mistakes
from etalage.evaluation.decision import ALIKE, PRODUCT, SHOPPER
from etalage.evaluation.evaluation import Evaluation
from etalage.evaluation.glossary import METRICS, SLICES, WORDS
from etalage.evaluation.names import CATEGORY
from etalage.evaluation.palette import Marks, palette
from etalage.evaluation.photo_sections import ComparedNeighbours
from etalage.evaluation.report import write_report
from etalage.evaluation.sections import Section
from etalage.evaluation.shop_evaluation import ShopEvaluation
from etalage.evaluation.shop_sections import (
    CostlyMistakes,
    Decisions,
    Further,
    PhotoExamples,
    ShopperExamples,
    SliceTable,
    Systems,
    ranked_names,
)

S = TypeVar("S", bound=Section)


def write_shop_report(
    path: Path,
    found: ShopEvaluation,
    *,
    name: str,
    photos: Callable[[Sequence[str]], Mapping[str, bytes]] = lambda ids: {},
    titles: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write the page to `path`; return it, and the files beside it.

    name: of the shop. photos: gives the files of the photos of some items. titles: item → its title.
    """
    marks = palette(name for known in found.evidence.values() for name in ranked_names(known))
    decisions = Decisions(found.decisions, found.evidence, marks)
    sections: list[Section] = [decisions, *_questions(found, marks, photos, titles or {})]
    sections.append(Further(_pages(path, found), _facts(found), _words()))
    return write_report(path, f"{name}: what to publish", sections)


def _questions(
    found: ShopEvaluation,
    marks: Marks,
    photos: Callable[[Sequence[str]], Mapping[str, bytes]],
    titles: Mapping[str, str],
) -> Iterator[Section]:
    by_question = {one.question: one for one in found.decisions}
    for question in (SHOPPER, ALIKE, PRODUCT):
        known = found.evidence.get(question)
        if known is None:
            continue
        decision = by_question[question]
        yield Systems(known, decision, marks)
        if known.slices:
            yield SliceTable(known, decision, marks)
        if question == SHOPPER and found.behaviour is not None:
            examples = found.behaviour.examples
            wanted = sorted({item for one in examples for item in one.items})
            yield ShopperExamples(examples, known, decision, marks, titles, photos(wanted))
        mine = {one.model: one for one in found.evaluations if one.model in known.gate.gains}
        shown = mine.get(decision.publish or "") or next(iter(mine.values()), None)
        if question == ALIKE and (strips := _section(shown, ComparedNeighbours)) is not None:
            yield PhotoExamples(strips, marks)
        if question == PRODUCT and (mistakes := _section(shown, Mistakes)) is not None and shown is not None:
            yield CostlyMistakes(shown.model, mistakes)


def _section(one: Evaluation | None, kind: type[S]) -> S | None:
    return None if one is None else next((s for s in one.sections if isinstance(s, kind)), None)


def _pages(path: Path, found: ShopEvaluation) -> list[tuple[str, str]]:
    """The longer pages: those of this evaluation, then older ones that lie beside them."""
    made: list[tuple[str, str]] = []
    if found.behaviour is not None and found.behaviour.report is not None:
        made.append((found.behaviour.report.name, "all models of behaviour: each against each, every metric"))
    made += [(one.report.name, f"{one.model}: every metric") for one in found.evaluations if one.report]
    there = {name for name, _ in made} | {path.name}
    older = sorted(one.name for one in path.parent.glob("*.html") if one.name not in there)
    return [*made, *((name, f"{name.removesuffix('.html')} (older)") for name in older)]


def _facts(found: ShopEvaluation) -> dict[str, str]:
    facts = {}
    for question, known in found.evidence.items():
        facts[question] = (
            f"decided on {known.gate.part} ({known.gate.questions:,} {known.asked}), "
            f"figures of {known.shown.part} ({known.shown.questions:,})"
        )
    return facts


def _words() -> dict[str, str]:
    """The glossary as a list, for whoever wants all of it."""
    from etalage.evaluation.decision_words import spelled

    metrics = {spelled(name): words for name, words in METRICS.items()}
    slices = {("a category" if name == CATEGORY else name): words for name, words in SLICES.items()}
    return dict(sorted({**metrics, **slices, **WORDS}.items(), key=lambda one: one[0].lower()))
