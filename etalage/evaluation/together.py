"""Several models of behaviour on the same questions, so that each is held against each.

B queries   N items
"""

from collections.abc import Callable, Mapping, Sequence

from etalage.bundle.scoring import Scorer
from etalage.config import EvaluateConfig
from etalage.evaluation.behaviour import ks_with, verdict_on
from etalage.evaluation.gate import Verdict
from etalage.evaluation.measured import CHANCE, Chance, measure, require_same_items
from etalage.evaluation.names import ALL
from etalage.evaluation.rankers import QUOTA
from etalage.features.behaviour import BehaviourSet
from etalage.features.leakage import check_leakage

RETRIEVER = "embedder"
"""The role by which all that retrieves is measured: on the whole catalogue."""


def retriever_verdicts(
    data: BehaviourSet,
    systems: Mapping[str, Scorer],
    against: Mapping[str, Sequence[str]],
    *,
    config: EvaluateConfig,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Verdict]:
    """The verdicts of retrievers, on validation, all of them asked the same questions.

    against: the models to judge → the systems that each is held against, besides chance. Each is judged on
    the slice that `config.slices` gives it.
    Raises LeakageFound, TooLittleData, ConfigError (metric, slice), ExportDamaged (made from other data).
    """
    check_leakage(data)
    metric = config.retrieval_metric
    config = config.model_copy(update={"ks": ks_with(config.ks, metric)})
    every: dict[str, Scorer] = {**systems, CHANCE: Chance(data.items, data.users)}
    require_same_items(data, every)
    gate = measure(data, every, "validation", RETRIEVER, config, QUOTA, progress)
    return {
        name: verdict_on(gate, name, every[name].role, metric, config.slices.get(name, ALL), simple, config)
        for name, simple in against.items()
    }
