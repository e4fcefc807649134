"""What is known of models of photos or of categories, each of which was evaluated beside the simple ones."""

from collections.abc import Mapping, Sequence

from etalage.bundle.admission import FEWEST, compared
from etalage.evaluation.decision import ALIKE, PRODUCT, Contender, Cost, Evidence, PartFigures
from etalage.evaluation.evaluation import Evaluation
from etalage.evaluation.gate import Verdict
from etalage.metrics import Interval

ASKED = {ALIKE: "photos", PRODUCT: "groups of items"}


def evidence_of(
    question: str, done: Sequence[Evaluation], costs: Mapping[str, Cost], notes: Sequence[str] = ()
) -> Evidence:
    """done: the evaluations of all models that answer the question, at least one. costs: by model."""
    verdicts = [one.verdict for one in done]
    shown = [one.shown for one in done if one.shown is not None]
    ours = {one.model: one for one in verdicts}
    simple = {str(row["system"]) for one in verdicts for row in one.rows[1:]} - set(ours)
    contenders = [
        Contender(name, costs.get(name, Cost()), networks=1, refused=_refused(one))
        for name, one in ours.items()
    ]
    contenders += [Contender(name, networks=0, comparison=True) for name in sorted(simple)]
    whole = len(shown) == len(done)
    return Evidence(
        question,
        contenders,
        verdicts[0].metric,
        _figures("validation", verdicts),
        _figures(done[0].part, shown) if whole else _figures("validation", verdicts),
        ASKED[question],
        verdicts[0].slice,
        notes=notes,
    )


def _figures(part: str, verdicts: Sequence[Verdict]) -> PartFigures:
    values: dict[str, Interval] = {}
    gains: dict[str, dict[str, Interval]] = {}
    for verdict in verdicts:
        for row in verdict.rows:
            name = str(row["system"])
            values.setdefault(name, Interval(row["value"], row["low"], row["high"]))
            if "gain" in row:
                gain = Interval(row["gain"], row["gain_low"], row["gain_high"])
                gains.setdefault(verdict.model, {})[name] = gain
    questions = min(int(one.rows[0].get("questions", FEWEST)) for one in verdicts)
    return PartFigures(part, questions, values, gains)


def _refused(verdict: Verdict) -> str | None:
    """Why the gate keeps the model out."""
    if verdict.passed:
        return None
    best = next(str(row["system"]) for row in verdict.rows if row.get("best"))
    if verdict.rows[0].get("questions", FEWEST) < FEWEST:
        return f"{verdict.rows[0]['questions']} questions are too few to tell; {FEWEST} are needed"
    return f"it is not shown to beat {best}: {compared(verdict.to_json(), best)}"
