"""Tables of interactions, in whatever order their rows stand, by the shop's rule: what each row says, which
of them stand, which are purchases.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.features.history import Acts, BehaviourRule, Judged, coded, codes_of, dictionary_of, numbers_of


def judged_table(acts: pa.Table, rule: BehaviourRule) -> Judged:
    """What each act of a table of interactions says of its item, in whatever order they stand there; not for
    histories, which are of acts by shopper."""
    users, items = (codes_of(dictionary_of(acts[name])) for name in ("user_id", "item_id"))
    return Judged(Acts.of_table(acts, users, items + 1), rule)


def standing(acts: pa.Table, rule: BehaviourRule) -> np.ndarray:
    """(M,) bool: False for acts of a table of interactions that a later one took back.

    Of several of one time their `interaction_id` says which comes first, and without one what they say
    themselves: the order of rows in a table changes as its files are merged.
    """
    names, codes = coded(acts["kind"])
    if not acts.num_rows or not rule.takes(names, codes, numbers_of(acts["value"])):
        return np.ones(acts.num_rows, bool)
    keys = [(name, "ascending") for name in ("interaction_id", "kind", "value") if name in acts.column_names]
    order = pc.sort_indices(acts, sort_keys=keys)
    stands = np.empty(acts.num_rows, bool)
    stands[order.to_numpy()] = judged_table(acts.take(order), rule).stands
    return stands


def purchases(acts: pa.Table, rule: BehaviourRule) -> pa.Table:
    """Those of a table of interactions that are purchases, less what was returned."""
    judged = judged_table(acts, rule)
    buys = np.array([rule.buys(name) for name in judged.acts.names], bool)[judged.acts.kinds]
    returned = judged.acts.values < 0
    return acts.filter(pa.array(buys & ~returned & standing(acts, rule), pa.bool_()))
