"""`etalage evaluate` without a name: everything that was trained, a decision for every question, one page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from etalage.errors import EtalageError
from etalage.shop.contender_steps import cost_of
from etalage.shop.photo_steps import newest_exports
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.evaluation.comparison import ModelComparison
    from etalage.evaluation.decision import Cost, Decision, Evidence
    from etalage.evaluation.evaluation import Evaluation
    from etalage.evaluation.shop_evaluation import ShopEvaluation

REPORT = "shop.html"


def evaluate_shop(
    workspace: Workspace,
    compare: "Callable[[], ModelComparison]",
    evaluate: "Callable[[str], Evaluation]",
) -> "ShopEvaluation":
    """compare: evaluates all models of behaviour. evaluate: one model of another kind.

    A question whose models cannot be measured says why, and the others are decided all the same. Raises the
    first of these errors where nothing could be measured.
    """
    from etalage.evaluation.decision import ALIKE, PRODUCT, SHOPPER, nothing
    from etalage.evaluation.shop_evaluation import ShopEvaluation
    from etalage.evaluation.shop_report import write_shop_report

    behaviour: ModelComparison | None = None
    decisions: list[Decision] = []
    evaluations: list[Evaluation] = []
    evidence: dict[str, Evidence] = {}
    failed: dict[str, EtalageError] = {}
    if newest_exports(workspace, "behaviour", "examples"):
        try:
            behaviour = compare()
        except EtalageError as error:
            failed[SHOPPER] = error
            decisions.append(nothing(SHOPPER, f"it could not be measured: {error}"))
        else:
            if behaviour.decision is not None and behaviour.evidence is not None:
                decisions.append(behaviour.decision)
                evidence[SHOPPER] = behaviour.evidence
    elif command := _train(workspace, "interactions"):
        decisions.append(nothing(SHOPPER, "no model of behaviour was trained", command=command))
    for question, data, table in ((ALIKE, "photos", "photos"), (PRODUCT, "categories", "items")):
        names = newest_exports(workspace, data)
        if not names:
            if command := _train(workspace, table):
                decisions.append(nothing(question, f"no model of {data} was trained", command=command))
            continue
        done, known, decision, trouble = _of_kind(question, names, evaluate)
        evaluations += done
        decisions.append(decision)
        if known is not None:
            evidence[question] = known
        if trouble is not None:
            failed[question] = trouble
    if failed and behaviour is None and not evaluations:
        raise next(iter(failed.values()))
    found = ShopEvaluation(tuple(decisions), evidence, behaviour, tuple(evaluations), failed)
    with workspace.disk():
        files = write_shop_report(
            workspace.folder / "reports" / REPORT,
            found,
            name=workspace.config.name,
            photos=lambda ids: photos_of(workspace, ids),
            titles=titles_of(workspace, found),
        )
    return replace(found, report=files[0], files=files)


def _of_kind(
    question: str, exports: "Mapping[str, Path]", evaluate: "Callable[[str], Evaluation]"
) -> "tuple[list[Evaluation], Evidence | None, Decision, EtalageError | None]":
    """The evaluations of the models that answer one question, what to publish, and the first error."""
    from etalage.evaluation.decision import decide, nothing
    from etalage.evaluation.verdict_evidence import evidence_of

    done, notes, first = [], [], None
    for name in exports:
        try:
            done.append(evaluate(name))
        except EtalageError as error:
            first = first or error
            notes.append(f"{name} could not be measured: {error}")
    if not done:
        return [], None, nothing(question, "; ".join(notes)), first
    costs: dict[str, Cost] = {
        one.model: cost_of(exports[one.model], one.milliseconds, one.looks_at_photos) for one in done
    }
    known = evidence_of(question, done, costs, notes)
    return done, known, decide(known), first


_TRAIN = {"interactions": "popularity", "photos": "image_similarity", "items": "item_category"}


def _train(workspace: Workspace, table: str) -> str:
    """The command that begins with a question; "" where the shop has no data for it, and does not ask it."""
    there = workspace.lake.table(table).exists()
    if table == "items" and workspace.config.taxonomy.file is None:
        return ""
    return f"etalage train {_TRAIN[table]}" if there else ""


def photos_of(workspace: Workspace, item_ids: Sequence[str]) -> dict[str, bytes]:
    """Item → the file of its photo, of those that have one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = workspace.lake.table("photos")
    found: dict[str, bytes] = {}
    if not table.exists() or not item_ids:
        return found
    wanted = pa.array(sorted(set(item_ids)))
    for batch in table.batches(columns=["item_id", "bytes"], rows=1024):
        some = batch.filter(pc.is_in(batch["item_id"], wanted))
        for item_id, data in zip(some["item_id"].to_pylist(), some["bytes"].to_pylist(), strict=True):
            if data is not None:
                found.setdefault(item_id, data)
    return found


def titles_of(workspace: Workspace, found: "ShopEvaluation") -> dict[str, str]:
    """Item → its title, of those that the examples show."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = workspace.lake.table("items")
    if found.behaviour is None or not table.exists():
        return {}
    wanted = pa.array(sorted({item for one in found.behaviour.examples for item in one.items}))
    titles: dict[str, str] = {}
    for batch in table.batches(columns=["item_id", "title"]):
        some = batch.filter(pc.is_in(batch["item_id"], wanted))
        pairs = zip(some["item_id"].to_pylist(), some["title"].to_pylist(), strict=True)
        titles |= {item: title for item, title in pairs if title}
    return titles
