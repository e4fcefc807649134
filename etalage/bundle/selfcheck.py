"""Does the bundle still answer as it did when it was published?

`selfcheck.json` records, for a few dozen items, what a real search of the written index found; for a few
photos that the model made the stored embedding of them; for a few histories what the funnel made of them; and
for a few items what the classifier takes them for. At load all is done again: an index, embeddings or a model
of another bundle cannot pass, whatever its files' hashes say.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etalage.bundle.classifier_entries import recorded_answers
from etalage.bundle.files import SELF_CHECK
from etalage.bundle.manifest import Manifest
from etalage.bundle.opening import OpenedBundle, open_bundle
from etalage.bundle.photo_entries import TOLERANCE, check_made_by, spread
from etalage.errors import BundleDamaged, NotFound
from etalage.funnel.catalogue import Catalogue, Filters
from etalage.funnel.funnel import Funnel
from etalage.funnel.shoppers import Shopper, UserHistories
from etalage.index import Index
from etalage.online import Act
from etalage.runtime.classifier import ItemClassifier

log = logging.getLogger(__name__)

QUERIES, ANSWERS, PHOTO_QUERIES, CLASSIFIED = 32, 10, 4, 4
HISTORIES, HISTORY_LENGTH = 8, 20
History = Sequence[tuple[str, str, float | None]]
"""Acts of nobody in particular, oldest first: item_id, kind, value."""


# -- publish -----------------------------------------------------------------------------------


def record(parts: OpenedBundle, asked: Sequence[History]) -> bytes:
    """The content of selfcheck.json: answers of the parts that are there."""
    said: dict[str, Any] = {}
    if parts.photo_models:
        said["photo_models"] = {
            name: _photo_answers(parts.catalogue, model.embeddings, model.index)
            for name, model in parts.photo_models.items()
        }
    if parts.texts is not None:
        said["texts"] = _near_answers(parts.catalogue, parts.texts.embeddings, parts.texts.index)
    if parts.models:
        said["funnel"] = [_funnel_answer(parts.funnel, history) for history in asked]
    if parts.classifiers:
        said["classifiers"] = {
            name: recorded_answers(
                model.classifier, parts.catalogue, _to_classify(model.classifier, parts.catalogue)
            )
            for name, model in parts.classifiers.items()
        }
    return (json.dumps(said, indent=1) + "\n").encode()


def _to_classify(classifier: ItemClassifier, catalogue: Catalogue) -> list[int]:
    """Some items with a photo, and where titles are read some without."""
    rows = spread(np.flatnonzero(catalogue.has_photo), CLASSIFIED).tolist()
    if classifier.uses_text:
        rows += spread(np.flatnonzero(~catalogue.has_photo[1:]) + 1, CLASSIFIED).tolist()
    return [int(row) for row in rows]


def histories(user_histories: UserHistories | None, catalogue: Catalogue) -> list[History]:
    """What is asked: the newest acts of some shoppers, a made-up one where there are none, and nothing."""
    asked: list[History] = [[]]
    if user_histories is not None and len(user_histories):
        asked += user_histories.histories(HISTORIES, HISTORY_LENGTH)
    else:
        rows = catalogue.by_popularity[: 3 * HISTORIES].tolist()
        asked += [
            [(catalogue.ids[row], "view", None) for row in rows[n::HISTORIES]] for n in range(HISTORIES)
        ]
    return asked


def _photo_answers(catalogue: Catalogue, embeddings: np.ndarray, index: Index) -> dict[str, Any]:
    photos = [catalogue.ids[int(row)] for row in spread(index.rows, PHOTO_QUERIES)]
    return {**_near_answers(catalogue, embeddings, index), "photos": photos}


def _near_answers(catalogue: Catalogue, embeddings: np.ndarray, index: Index) -> dict[str, Any]:
    rows, ids = index.rows, catalogue.ids
    queries = spread(rows, QUERIES)
    k = max(1, min(ANSWERS, len(rows)))
    answers = []
    if len(queries):
        found = index.search(np.ascontiguousarray(embeddings[queries]), k)
        for query, scores, best in zip(queries, found.scores, found.rows, strict=True):
            slate = [
                [ids[int(row)], round(float(score), 6)]
                for row, score in zip(best, scores, strict=True)
                if row >= 0
            ]
            answers.append({"item_id": ids[int(query)], "answers": slate})
    return {"k": k, "queries": answers}


def _funnel_answer(funnel: Funnel, history: History) -> dict[str, Any]:
    """The best of the ranking, before the order: that decides between near-equals anew each time."""
    acts = [Act(item_id, kind, value) for item_id, kind, value in history]
    shopper = Shopper.of(acts, funnel.catalogue, funnel.rules)
    ranking = funnel.answer(shopper, ANSWERS, Filters(), funnel.catalogue.stock).ranking
    best = np.argsort(-ranking.scores, kind="stable")[:ANSWERS]
    answers = [[funnel.catalogue.ids[int(ranking.rows[n])], float(ranking.scores[n])] for n in best]
    return {"history": [list(act) for act in history], "tier": ranking.plan.tier, "answers": answers}


# -- load --------------------------------------------------------------------------------------


def check_consistency(
    folder: Path, manifest: Manifest, threads: int = 1, verify: bool = True
) -> OpenedBundle:
    """Open every part once, check that they belong together, repeat the recorded answers; → the parts.

    Reads only; call it after `manifest.verify`; then `verify=False` leaves out hashing the models again.
    Raises IndexMismatch, ExportDamaged or BundleDamaged with the file's name.
    """
    parts = open_bundle(folder, manifest, threads, verify)
    self_check(folder, parts)
    return parts


def self_check(folder: Path, parts: OpenedBundle) -> None:
    """Search, embed and recommend again what selfcheck.json recorded, and compare.

    What is found by an index whose server does not answer is not compared: an exact search here finds what it
    may have missed. Raises BundleDamaged (a different answer, an unreadable record) or IndexMismatch (the
    model does not make the stored embeddings).
    """
    if parts.problems:
        log.warning("what the indexes find is not checked: %s", parts.problems[0])
    try:
        recorded = _by_model(json.loads((folder / SELF_CHECK).read_bytes()), parts.manifest)
        for name, model in parts.photo_models.items():
            answers = recorded["photo_models"][name]
            if not parts.problems:
                _check_answers(answers, parts.catalogue, model.embeddings, model.index)
            rows = [parts.catalogue.known_row(item_id) for item_id in answers["photos"]]
            if rows:
                photos = [parts.catalogue.photo(row) for row in rows]
                check_made_by(model.embedder, photos, model.embeddings[rows], str(folder))
        if parts.texts is not None and not parts.problems:
            _check_answers(recorded["texts"], parts.catalogue, parts.texts.embeddings, parts.texts.index)
        for expected in recorded.get("funnel", []) if parts.models and not parts.problems else []:
            _check_funnel(parts.funnel, expected)
        for name, one in parts.classifiers.items():
            _check_classifier(one.classifier, parts.catalogue, recorded["classifiers"][name])
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, NotFound) as error:
        raise BundleDamaged(
            f"{folder / SELF_CHECK} of {parts.manifest.id} cannot be used: {error!r}; publish again"
        ) from error


def _by_model(recorded: dict[str, Any], manifest: Manifest) -> dict[str, Any]:
    """The record of an older format, which had one model of a kind, as one of today."""
    if "queries" in recorded and "photo_models" not in recorded:
        recorded = {**recorded, "photo_models": {one.name: recorded for one in manifest.photo_models}}
    if "classifier" in recorded and "classifiers" not in recorded:
        said = {one.name: recorded["classifier"] for one in manifest.classifiers}
        recorded = {**recorded, "classifiers": said}
    return recorded


def _check_answers(
    recorded: dict[str, Any], catalogue: Catalogue, embeddings: np.ndarray, index: Index
) -> None:
    queries = recorded["queries"]
    if not queries:
        return
    rows = np.array([catalogue.known_row(query["item_id"]) for query in queries])
    found = index.search(np.ascontiguousarray(embeddings[rows]), int(recorded["k"]))
    for query, scores, best in zip(queries, found.scores, found.rows, strict=True):
        ids = [catalogue.ids[int(row)] for row in best if row >= 0]
        _compare(
            f"the answer to item {query['item_id']!r}", ids, scores[best >= 0], query["answers"], TOLERANCE
        )


def _check_funnel(funnel: Funnel, expected: dict[str, Any]) -> None:
    found = _funnel_answer(funnel, [(str(i), str(k), v) for i, k, v in expected["history"]])
    what = f"what is recommended after {[act[0] for act in expected['history']][-3:]}"
    before = expected.get("tier", expected.get("rung"))  # as formats 1 to 3 called it
    if found["tier"] != before:
        raise BundleDamaged(f"self-check: {what} comes from {found['tier']!r}, not from {before!r}")
    ids = [item_id for item_id, _ in found["answers"]]
    scores = np.array([score for _, score in found["answers"]])
    largest = max((abs(score) for _, score in expected["answers"]), default=0.0)
    _compare(what, ids, scores, expected["answers"], TOLERANCE * max(1.0, largest))


def _check_classifier(classifier: ItemClassifier, catalogue: Catalogue, expected: list[Any]) -> None:
    rows = [catalogue.known_row(one["item_id"]) for one in expected]
    for found, one in zip(recorded_answers(classifier, catalogue, rows), expected, strict=True):
        ids, scores = [leaf for leaf, _ in found["answers"]], [score for _, score in found["answers"]]
        what = f"what {classifier.name} takes item {one['item_id']!r} for"
        _compare(what, ids, np.array(scores), one["answers"], TOLERANCE)


def _compare(what: str, ids: list[str], scores: np.ndarray, recorded: list[Any], tolerance: float) -> None:
    expected = np.array([score for _, score in recorded])
    if len(scores) != len(expected) or np.abs(scores - expected).max(initial=0) > tolerance:
        raise BundleDamaged(
            f"self-check: {what} is not the recorded one: scores {np.round(scores[:3], 4).tolist()}, "
            f"recorded {expected[:3].tolist()}; publish again"
        )
    # Below the last score stands a tie that may be cut elsewhere; above it every item must be there.
    must = {item_id for item_id, score in recorded if score > expected[-1] + tolerance}
    gone = must - set(ids)
    if gone:
        raise BundleDamaged(f"self-check: {what} lacks {sorted(gone)[:3]}; publish again")
