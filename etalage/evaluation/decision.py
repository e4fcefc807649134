"""Which model to publish for a question that the shop answers: decided once, for the page and the terminal.

Who is best is decided on validation, by the paired interval of the gain; the figures that are told are of
test. Of models whose difference is not shown the cheaper one is taken: fewer networks, then fewer models,
then fewer megabytes. A slice decides otherwise only where validation and test both say so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from etalage.bundle.admission import CHANCE, FEWEST
from etalage.metrics import Interval

SHOPPER, ALIKE, PRODUCT = "What would this shopper want?", "What is like this?", "What is this product?"
"""The questions of a shop, each answered by models of one kind of data."""
EVERYTHING = "all"


@dataclass(frozen=True)
class Cost:
    """What it costs to have a model answer. None: not measured."""

    seconds: float | None = None
    """Of training."""
    megabytes: float | None = None
    """Of the export."""
    milliseconds: float | None = None
    """Of one request, without HTTP."""
    photos: bool = False
    """Whether it needs photos."""


@dataclass(frozen=True)
class Contender:
    """A system that could answer. networks, models: how many of each it is made of."""

    name: str
    cost: Cost = Cost()
    networks: int = 0
    models: int = 1
    members: tuple[str, ...] = ()
    """The models that it is made of, where these are several."""
    settings: str = ""
    """What has to be changed before `etalage publish` publishes just this."""
    refused: str | None = None
    """Why the gate keeps it out."""
    comparison: bool = False
    """There to be compared with; nobody could publish it."""

    @property
    def publishable(self) -> bool:
        return self.refused is None and not self.comparison

    @property
    def price(self) -> tuple[float, ...]:
        """Cheaper ones first."""
        size = self.cost.megabytes
        return (self.networks, self.models, float("inf") if size is None else size)


@dataclass(frozen=True)
class PartFigures:
    """One metric of all systems on the questions of one part."""

    part: str
    questions: int
    values: Mapping[str, Interval]
    gains: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    """System → another → its gain over it, question by question; where both answered the same questions."""

    def gain(self, one: str, other: str) -> Interval | None:
        """Of one over the other; None: they were not compared question by question."""
        if (found := self.gains.get(one, {}).get(other)) is not None:
            return found
        back = self.gains.get(other, {}).get(one)
        return None if back is None else Interval(-back.value, -back.high, -back.low)

    def better(self, one: str, other: str) -> bool:
        """Whether it is shown that `one` is better: by the gain's interval, else by their own two."""
        gain = self.gain(one, other)
        return gain.low > 0 if gain is not None else self.values[one].low > self.values[other].high


@dataclass(frozen=True)
class SliceFound:
    """One metric of all systems in one slice, on both parts."""

    name: str
    words: str
    gate: PartFigures
    shown: PartFigures


@dataclass(frozen=True)
class Otherwise:
    """A slice in which another model than the chosen one is shown to be better."""

    slice: str
    words: str
    model: str
    value: Interval
    gain: Interval | None
    """Over the chosen one."""
    questions: int


@dataclass(frozen=True)
class Decision:
    """What to publish for one question, and what that rests on."""

    question: str
    publish: str | None
    """None: nothing."""
    why: str
    """The reason in one sentence, with its figures."""
    metric: str = ""
    slice: str = EVERYTHING
    part: str = ""
    asked: str = "questions"
    """What is counted: shoppers, photos, items."""
    questions: int = 0
    value: Interval | None = None
    over: str | None = None
    """The simple model that it is held against."""
    over_value: Interval | None = None
    gain: Interval | None = None
    cost: Cost = Cost()
    members: tuple[str, ...] = ()
    best: str | None = None
    """The highest mean on validation, where the chosen one is another, cheaper one."""
    level: tuple[str, ...] = ()
    """From which the chosen one cannot be told apart."""
    simpler: str | None = None
    lost: Interval | None = None
    """What the simpler one would give away."""
    otherwise: tuple[Otherwise, ...] = ()
    doubts: tuple[str, ...] = ()
    """What speaks against it, in words."""
    refused: tuple[tuple[str, str], ...] = ()
    """Model, and why the gate keeps it out."""
    notes: tuple[str, ...] = ()
    """What could not be measured or judged."""
    settings: str = ""
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Evidence:
    """What is known of the systems that answer a question. asked: what is counted. floor: the simple one that
    every other is held against; None: the best of those that are there to be compared with."""

    question: str
    contenders: Sequence[Contender]
    metric: str
    gate: PartFigures
    shown: PartFigures
    asked: str = "questions"
    slice: str = EVERYTHING
    floor: str | None = None
    slices: Sequence[SliceFound] = ()
    useless: str | None = None
    """Why the metric cannot tell systems apart."""
    notes: Sequence[str] = ()


def nothing(question: str, why: str, notes: Sequence[str] = (), command: str = "") -> Decision:
    """The decision where nothing was measured."""
    return Decision(question, None, why, notes=tuple(notes), command=command)


def decide(known: Evidence) -> Decision:
    """What to publish, and why: see the head of this file."""
    by_name = {one.name: one for one in known.contenders if one.name in known.gate.values}
    may = {name: one for name, one in by_name.items() if one.publishable}
    refused = tuple((one.name, one.refused) for one in known.contenders if one.refused is not None)
    notes = tuple(known.notes)

    def none(why: str) -> Decision:
        return Decision(
            known.question,
            None,
            why,
            known.metric,
            known.slice,
            known.gate.part,
            known.asked,
            known.gate.questions,
            refused=refused,
            notes=notes,
        )

    if not may:
        return none("the gate lets none of them through" if refused else "no model was trained and measured")
    if known.gate.questions < FEWEST:
        return none(
            f"{known.gate.questions:,} {known.asked} of {known.gate.part} are too few to tell anything; "
            f"{FEWEST} are needed"
        )
    if known.useless is not None:
        return none(known.useless)
    best = max(may, key=lambda name: known.gate.values[name].value)
    level = [name for name in may if name != best and not known.gate.better(best, name)]
    chosen = min([best, *level], key=lambda name: (*may[name].price, -known.gate.values[name].value, name))
    if CHANCE in known.gate.values and not known.gate.better(chosen, CHANCE):
        return none(f"{chosen} is not shown to be better than items in any order")
    return _decision(known, by_name, may, chosen, best, level, refused, notes)


def _decision(
    known: Evidence,
    by_name: Mapping[str, Contender],
    may: Mapping[str, Contender],
    chosen: str,
    best: str,
    level: Sequence[str],
    refused: tuple[tuple[str, str], ...],
    notes: tuple[str, ...],
) -> Decision:
    shown, gate = known.shown, known.gate
    over = _held_against(known, by_name, chosen)
    cheaper = [name for name in may if may[name].price < may[chosen].price and name in shown.values]
    simpler = max(cheaper, key=lambda name: gate.values[name].value, default=None)
    doubts = [
        f"on {shown.part} {name} is shown to be better than {chosen}, which validation did not say: "
        f"{_signed(shown.gain(name, chosen))}"
        for name in may
        if shown.part != gate.part and name != chosen and shown.better(name, chosen)
    ]
    gain = None if over is None else shown.gain(chosen, over)
    if gain is not None and gain.low <= 0 and chosen != known.floor:
        doubts.append(f"on {shown.part} its gain over {over} is not shown: {_signed(gain)}")
    return Decision(
        known.question,
        chosen,
        _why(known, chosen, best, over),
        known.metric,
        known.slice,
        shown.part,
        known.asked,
        shown.questions,
        shown.values.get(chosen),
        over,
        None if over is None else shown.values.get(over),
        gain,
        may[chosen].cost,
        may[chosen].members,
        best if best != chosen else None,
        tuple(name for name in (best, *level) if name != chosen and not gate.better(best, name)),
        simpler,
        None if simpler is None else shown.gain(chosen, simpler),
        tuple(_otherwise(known, may, chosen)),
        tuple(doubts),
        refused,
        notes,
        "" if _answers_alike(known, may, chosen) else may[chosen].settings,
        "etalage publish",
    )


def _answers_alike(known: Evidence, may: Mapping[str, Contender], chosen: str) -> bool:
    """Whether one that needs no settings, and has the chosen one in it, found the very same for everybody."""
    whole = [name for name, one in may.items() if not one.settings and chosen in one.members]
    gains = [(part.gain(name, chosen)) for name in whole for part in (known.gate, known.shown)]
    return bool(gains) and all(gain is not None and gain.low == gain.high == 0 for gain in gains)


def _held_against(known: Evidence, by_name: Mapping[str, Contender], chosen: str) -> str | None:
    """The floor; of the chosen floor chance; where there is no floor, the best that is only compared with."""
    if known.floor is not None and known.floor != chosen and known.floor in known.shown.values:
        return known.floor
    others = [name for name, one in by_name.items() if one.comparison and name in known.shown.values]
    return max(others, key=lambda name: known.gate.values[name].value, default=None)


def _why(known: Evidence, chosen: str, best: str, over: str | None) -> str:
    """On validation, which decides."""
    gate, told = known.gate, f"on {known.gate.part}, which decides, "
    if best != chosen:
        gain = gate.gain(best, chosen)
        own = "" if over is None else f"; its own gain over {over} is {_signed(gate.gain(chosen, over))}"
        return (
            f"{told}{best} has the highest mean, but its gain over {chosen}, {_signed(gain)}, is not shown: "
            f"the cheaper one is taken{own}"
        )
    if over is None:
        return f"{told}it is the only one that was measured"
    return f"{told}its gain over {over} is {_signed(gate.gain(chosen, over))}"


def _otherwise(known: Evidence, may: Mapping[str, Contender], chosen: str) -> list[Otherwise]:
    """Slices in which another one is shown to be better, on both parts; the best of them."""
    found = []
    for one in known.slices:
        if one.name == known.slice or min(one.gate.questions, one.shown.questions) < FEWEST:
            continue
        both = set(one.gate.values) & set(one.shown.values) & set(may)
        if chosen not in both:
            continue
        sure = [
            name
            for name in both - {chosen}
            if one.gate.better(name, chosen) and one.shown.better(name, chosen)
        ]
        if sure:
            top = max(sure, key=lambda name: (one.gate.values[name].value, name))
            gain = one.shown.gain(top, chosen)
            value = one.shown.values[top]
            found.append(Otherwise(one.name, one.words, top, value, gain, one.shown.questions))
    return found


def _signed(one: Interval | None) -> str:
    """A gain with its interval, for a sentence."""
    if one is None:
        return "known by its interval alone"
    return f"{one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"
