"""What is kept of a command that somebody stopped with Ctrl-C, and how to go on: one sentence for each."""

import shlex
from collections.abc import Sequence

TRAIN = "the checkpoints written until now are kept; to go on from the last one: {again}"
COUNTED = "a model that is counted keeps nothing of half a count; to begin again: {again}"
ANEW = "--fresh keeps no part of a training that was stopped; to begin again: {again}"
KEPT = {
    "new": "a shop.toml is written whole or not at all; to make the shop: {again}",
    "demo": "the shop is half made; to make it anew: {again}",
    "ingest": "rows merged until now are loaded, the others are not; load the whole file again, nothing is "
    "loaded twice: {again}",
    "delete": "items may have left some tables and not others; to delete the rest: {again}",
    "photos probe": "nothing is written by it; to try again: {again}",
    "photos fetch": "photos downloaded until now are kept; to go on with the missing ones: {again}",
    "train": TRAIN,
    "tune": "the trials that ended are kept; to go on with the others: {again}",
    "evaluate": "no verdict was written, an earlier one still holds; to evaluate: {again}",
    "compare": "nothing was written; to compare: {again}",
    "classify": "answers stored until now are kept; to go on with the other items: {again}",
    "publish": "nothing was published, the bundle that was current still serves; a training on everything "
    "goes on at its last checkpoint; to publish: {again}",
    "sync": "nothing was published, the bundle that was current still serves; to publish: {again}",
    "users best": "the table recommendations may hold some of the new rows; to write the rest: {again}",
    "vectors": "what was written until now is not written twice; to write the rest: {again}",
    "register": "nothing was registered, or all of it: `etalage bundles` and MLflow tell: {again}",
    "collect": "events that are not in the tables yet wait in the online store; to collect them: {again}",
    "erase": "the shopper may be in some tables still; to erase the rest: {again}",
    "reset": "a table is changed whole or not at all; to delete its rows: {again}",
    "undo": "a table is changed whole or not at all; to go back: {again}",
    "vacuum": "some of it may be gone, nothing else is touched; to remove the rest: {again}",
    "backup": "there is no half backup: a folder goes on, a file begins anew: {again}",
    "restore": "there is no half shop; to go on: {again}",
    "serve": "the server has ended; to serve again: {again}",
    "page": "the page has ended; to show it again: {again}",
}
"""Command → what is kept, and how to go on. Commands that only read are not here."""
GROUPS = ("photos", "taxonomy", "users")


def interrupted(typed: Sequence[str]) -> str:
    """The sentence for what was typed behind `etalage`."""
    words = [word for word in typed if not word.startswith("-")]
    command = " ".join(words[: 2 if words and words[0] in GROUPS else 1])
    kept, again = KEPT.get(command, "nothing was changed; to ask again: {again}"), list(typed)
    if command == "train":
        kept = COUNTED if _counted(words) else ANEW if "--fresh" in typed else TRAIN
    elif command == "tune":
        again = [word for word in again if word != "--fresh"]
    return "stopped: " + kept.format(again=f"`{shlex.join(['etalage', *again])}`")


def _counted(words: Sequence[str]) -> bool:
    """Whether one of these words is a closed-form model of Etalage's."""
    from etalage.models.recipe import listed

    closed_form = {name for name, one in listed().items() if one.role == "closed_form"}
    return not closed_form.isdisjoint(words)
