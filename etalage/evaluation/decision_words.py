"""A decision in plain words: the same sentences on the page and in the terminal."""

from etalage.bundle.admission import FLOOR, standing
from etalage.evaluation.decision import EVERYTHING, Cost, Decision, Otherwise
from etalage.evaluation.gate import Verdict
from etalage.evaluation.names import COLD_AMONG_ALL, COLD_ITEMS, COLD_USERS, cut_of
from etalage.metrics import Interval


def headline(one: Decision) -> str:
    """What to do, in one line."""
    if one.publish is None:
        return "Publish nothing"
    return f"Publish {one.publish}"


def lines(one: Decision) -> list[str]:
    """The whole decision for a terminal, the answer first."""
    told = f"{one.question} {headline(one)}"
    if one.publish is None:
        told += f": {one.why}"
    found = [told, *(f"  {text}" for text in reasons(one))]
    found += [f"  {otherwise(case, one)}" for case in one.otherwise]
    found += [f"  but {text}" for text in one.doubts]
    found += [f"  kept out: {name}: {why}" for name, why in one.refused]
    found += [f"  note: {text}" for text in one.notes]
    return [*found, *(f"  {text}" for text in how(one))]


def reasons(one: Decision) -> list[str]:
    """Figures, why it was chosen, what it costs, and what a simpler one would give away."""
    if one.publish is None or one.value is None:
        return []
    metric, where = spelled(one.metric), "" if one.slice == EVERYTHING else f" ({one.slice})"
    told = f"{metric}{where} {with_interval(one.value)}, {one.questions:,} {one.asked} of {one.part}"
    if one.over is not None and one.over_value is not None:
        told += f"; {one.over} {with_interval(one.over_value)}"
        told += f"; the gain is {signed(one.gain)}" if one.gain is not None else ""
    found = [told, one.why]
    if one.members:
        found.append(f"it is made of {', '.join(one.members)}")
    if one.level:
        found.append(f"not shown to be different on validation: {', '.join(one.level)}")
    if words := cost_words(one.cost):
        found.append(f"it costs {words}")
    if lost := simpler_words(one):
        found.append(lost)
    return found


def short_words(one: Decision) -> str:
    """Why, in one short line: a figure where there is one."""
    if one.publish is None or one.value is None:
        return one.why
    told = f"{spelled(one.metric)}: {one.value.value:.4f}"
    if one.over is None or one.over_value is None:
        return told
    told += f", {one.over} {one.over_value.value:.4f}"
    if one.gain is None:
        return told
    shown = "shown" if one.gain.low > 0 else "a loss" if one.gain.high < 0 else f"not shown on {one.part}"
    return f"{told}; the gain {signed(one.gain)}, {shown}"


def admission_words(verdict: Verdict) -> str:
    """Whether `etalage publish` takes a model, by its verdict, in one line."""
    name = verdict.model
    if verdict.role == "closed_form" and name != FLOOR:
        return {
            "beats": f"publish {name}: it beats {FLOOR}",
            "loses": f"do not publish {name}: it loses to {FLOOR}, and the gate keeps it out",
            "level": f"{name} is not shown to differ from {FLOOR}, which is cheaper; the gate takes both",
            "unknown": f"nobody can tell yet whether {name} is better than {FLOOR}; the gate takes both",
        }[standing(verdict.to_json())]
    best = next((str(row["system"]) for row in verdict.rows if row.get("best")), "the simple ones")
    if verdict.passed:
        return f"publish {name}: it beats {best}, the best simple one"
    if verdict.role == "closed_form":
        return f"{name} is not shown to beat {best}"
    return f"do not publish {name}: it is not shown to beat {best}, and the gate keeps it out"


def simpler_words(one: Decision) -> str:
    """What would be lost with the next simpler model; "" where there is none."""
    if one.simpler is None or one.lost is None:
        return ""
    if one.lost.low > 0:
        return f"the simpler {one.simpler} instead would lose {unsigned(one.lost)} of {spelled(one.metric)}"
    return f"the simpler {one.simpler} instead: on {one.part} the loss, {signed(one.lost)}, is not shown"


def cost_words(cost: Cost) -> str:
    """Training time, size, time of a request, photos: what is known of them."""
    found = []
    if cost.seconds is not None:
        found.append(f"{duration(cost.seconds)} of training")
    if cost.megabytes is not None:
        found.append(size(cost.megabytes))
    if cost.milliseconds is not None:
        found.append(f"{cost.milliseconds:.1f} ms a request")
    if not found and not cost.photos:
        return ""
    return ", ".join([*found, "needs photos" if cost.photos else "no photos"])


def duration(seconds: float) -> str:
    """Seconds, or minutes where these are many."""
    if seconds >= 100:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def size(megabytes: float) -> str:
    """Megabytes, or kilobytes where these are few."""
    return f"{megabytes:.1f} MB" if megabytes >= 1 else f"{1024 * megabytes:.0f} kB"


def otherwise(case: Otherwise, one: Decision) -> str:
    """A slice that decides otherwise, and what can be done about it."""
    gain = "" if case.gain is None else f", {signed(case.gain)} over {one.publish}"
    told = (
        f"for {case.slice} ({case.words}) {case.model} is better: {spelled(one.metric)} "
        f"{with_interval(case.value)}{gain}, {case.questions:,} {one.asked}"
    )
    return f"{told}; {remedy}" if (remedy := REMEDIES.get(case.slice)) else told


REMEDIES = {
    COLD_USERS: "[funnel] enough says from how many acts on the deep models answer",
    COLD_ITEMS: "[evaluate] slices lets a model pass for them alone",
    COLD_AMONG_ALL: "[evaluate] slices lets a model pass for them alone",
}


def how(one: Decision) -> list[str]:
    """What to change and type."""
    if one.publish is None:
        return [f"next: `{one.command}`"] if one.command else []
    return [*([f"first, {one.settings}"] if one.settings else []), f"then `{one.command}`"]


def spelled(metric: str) -> str:
    """A metric's name as a reader would write it."""
    name, k = cut_of(metric)
    known = {"mrr": "MRR", "auroc": "AUROC", "ndcg": "nDCG", "map": "MAP", "macro_f1": "macro-F1"}
    told = known.get(name, name.replace("knn_", "kNN ").replace("_", " "))
    return told if k is None else f"{told} @ {k}"


def with_interval(one: Interval) -> str:
    return f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]"


def signed(one: Interval | None) -> str:
    return "unknown" if one is None else f"{one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"


def unsigned(one: Interval) -> str:
    return f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]"
