"""What every metric, slice and word of a report means: shown where it stands, on hover, focus or touch."""

from collections.abc import Iterable

from etalage.evaluation.names import (
    ALL,
    CATEGORY,
    CLASSES_HELD_OUT,
    CLASSES_SEEN,
    COLD_AMONG_ALL,
    COLD_ITEMS,
    COLD_USERS,
    RARE_ITEMS,
    TAKEN_AGAIN,
    TAKEN_ANEW,
    cut_of,
)

METRICS = {
    "recall": "Of what a shopper took later (or of the items of the photo's category), the share that is "
    "among the first k places. 1: all of it.",
    "hit": "The share of shoppers, or photos, for whom at least one of the first k places is right.",
    "precision": "Of the first k places, the share that is right.",
    "ndcg": "Like recall, but a right answer further up counts more. 1: the best order that there is.",
    "map": "The precision at each right place, averaged: high where the right ones stand together at the "
    "top.",
    "mrr": "One divided by the place of the first right answer: 1 for the first place, 0.5 for the second.",
    "auroc": "How often a right item is ranked above a wrong one. 0.5: no better than drawing lots.",
    "auroc_of_all": "AUROC over all candidates of all shoppers together.",
    "knn_accuracy": "How often the vote of the k nearest photos names the photo's own category.",
    "accuracy": "The share of items whose category is right.",
    "top": "The share of items whose category is among the k most probable ones.",
    "macro_f1": "F1, the mean of precision and recall, of each category, averaged: small categories count "
    "as much as large ones.",
    "value_true": "The share of the shop's value that is put into the right category, by the true "
    "category's value.",
    "value_predicted": "The share of the value that is right, by the value of the category that was "
    "predicted.",
    "severity": "How many steps through the tree of categories an answer is away from the truth. Less is "
    "better.",
    "severity_wrong": "The same, of the wrong answers alone. Less is better.",
    "calibration_error": "How far the stated confidence is from the share that is right. Less is better.",
    "calibration_error_width": "The same, in bins of equal width. Less is better.",
    "log_loss": "How surprised the predicted probabilities are by what was taken. Less is better.",
    "coverage": "The share of the catalogue that stands in somebody's slate. Neither more nor less is "
    "better.",
    "coverage_at_90": "The share of items that can be answered while 90% of these answers are right.",
    "coverage_at_95": "The share of items that can be answered while 95% of these answers are right.",
    "risk_area": "The share of wrong answers, averaged over how many items are answered. Less is better.",
    "novelty": "How rare what is shown was in train, in bits. Neither more nor less is better.",
}
SLICES = {
    ALL: "Every question.",
    COLD_ITEMS: "Only items that nobody took in train, ranked among themselves.",
    COLD_AMONG_ALL: "Only items that nobody took in train, found in the whole catalogue.",
    RARE_ITEMS: "Only items that were taken one to five times in train.",
    COLD_USERS: "Only shoppers with fewer than three acts of history.",
    TAKEN_AGAIN: "Only what the shopper had before.",
    TAKEN_ANEW: "Only what the shopper did not have before.",
    CLASSES_SEEN: "Photos of categories that the model learned from.",
    CLASSES_HELD_OUT: "Photos of categories that were held out: it learned nothing of them.",
    CATEGORY: "Only what is of this category, the first step of its path.",
}
WORDS = {
    "interval": "Where the mean would lie in 95 of 100 such samples. Two figures are told apart by the "
    "interval of their difference, question by question.",
    "gain": "The difference of two systems on the same questions. It is shown where its interval leaves out"
    " zero.",
    "validation": "The part of the data by which models are chosen.",
    "test": "The part of the data that nothing was chosen by: its figures are honest.",
    "the funnel": "The models that `etalage publish` would put together: they retrieve, a ranker orders.",
    "popularity": "The same for everybody: what is taken most. It costs nothing.",
    "chance": "Items in any order: what somebody reaches who knows nothing.",
    "retrieved order": "The order that candidates have without a ranker.",
    "raw pixels": "Photos compared pixel by pixel: the simplest way to find similar ones.",
    "untrained network": "The same network before it learned anything.",
    "majority": "Always the commonest category.",
    "words of titles": "Naive Bayes on the words of titles: the simplest way to sort items by text.",
    "cost": "Time of training, size of the export, time of one request on this machine, without HTTP.",
    "gate": "What keeps a model out that is not shown to be better than the simple ones at its own job.",
}


def define(name: str) -> str | None:
    """What a metric (with or without its k or level), a slice or a word means; None: it has no entry."""
    if name in SLICES or name in WORDS:
        return SLICES.get(name) or WORDS.get(name)
    if name.startswith(CATEGORY):
        return SLICES[CATEGORY]
    bare = name.partition("_level_")[0]
    if bare in METRICS:
        return METRICS[bare]
    if bare.startswith("top_") and bare[4:].isdigit():
        return METRICS["top"]
    return METRICS.get(cut_of(bare)[0])


def undefined(names: Iterable[str]) -> list[str]:
    """Those that have no entry."""
    return [name for name in names if define(name) is None]
