"""Whether a model was trained by the settings of [behaviour] that shop.toml has now."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etalage.config import BehaviourConfig

BEHAVIOUR = "behaviour"
"""Name of the settings of [behaviour] among the facts of an export."""


def changed_settings(facts: Mapping[str, Any], now: "BehaviourConfig") -> str | None:
    """`repeat false, now true`: the settings of [behaviour] that were others when the model of an export was
    trained. None: there are none, or the export does not say by which it was trained."""
    before, after = facts.get(BEHAVIOUR), now.model_dump(mode="json")
    if before is None:
        return None
    names = [name for name in after if name in before and before[name] != after[name]]
    return (
        ", ".join(f"{name} {json.dumps(before[name])}, now {json.dumps(after[name])}" for name in names)
        or None
    )


def outdated(export: Path, now: "BehaviourConfig") -> str | None:
    """The sentence of a model of behaviour that was trained by other settings; None: it was not."""
    from etalage.runtime.export_files import read_facts

    return outdated_by(read_facts(export), now)


def outdated_by(facts: Mapping[str, Any], now: "BehaviourConfig") -> str | None:
    """The same, by what the export says."""
    changed, name = changed_settings(facts, now), facts.get("name")
    if changed is None:
        return None
    return f"{name} was trained with other [behaviour] settings ({changed}): `etalage train {name}`"
