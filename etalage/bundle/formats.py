"""Manifests of older formats, read as one of today: what stood in places of its own becomes an entry."""

from typing import Any

ENTRIES = 4
"""The first format in which every model is an entry of `models`."""
_APART = ("model", "index", "indexed", "classifier", "verdict")
"""Where photos and classifier stood before."""


def as_today(raw: Any) -> Any:
    """The content of manifest.json in the fields of the newest format; what is none of ours comes back as it
    is, for the fields' own checks to refuse."""
    if not isinstance(raw, dict) or not isinstance(raw.get("format"), int) or raw["format"] >= ENTRIES:
        return raw
    kept = {key: value for key, value in raw.items() if key not in _APART}
    try:
        models = [_behaviour(one) for one in raw.get("models", ())]
        if raw.get("model") is not None:
            models.append(_photos(raw))
        if raw.get("classifier") is not None:
            models.append(_classifier(raw["classifier"]))
    except (KeyError, TypeError, AttributeError):
        return raw
    return {**kept, "models": models}


def _behaviour(one: dict[str, Any]) -> dict[str, Any]:
    entry = {key: value for key, value in one.items() if key not in ("scoring", "placed", "indexed")}
    index = one.get("index")
    if index is not None:
        index = {**index, "dir": f"indexes/{one['name']}", "indexed": one.get("indexed", 0)}
    return {**entry, "kind": one["scoring"], "aligned": one["placed"], "index": index}


def _photos(raw: dict[str, Any]) -> dict[str, Any]:
    model = raw["model"]
    return {
        "name": model["name"],
        "kind": "photos",
        "role": "embedder",
        "hash": model["hash"],
        "aligned": model["hash"],
        "dir": f"models/{model['name']}",
        "dimension": model["dimension"],
        "verdict": raw.get("verdict"),
        "forced": "gate" in raw.get("forced", ()),
        "embeddings": "embeddings.npy",
        "index": {**raw["index"], "dir": "index", "indexed": raw["indexed"]},
    }


def _classifier(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": one["name"],
        "kind": "classifier",
        "role": "classifier",
        "hash": one["hash"],
        "aligned": one["hash"],
        "dir": f"models/{one['name']}",
        "verdict": one.get("verdict"),
        "forced": one.get("forced", False),
        "classifier": {name: one[name] for name in ("taxonomy", "leaves", "text", "settings")},
    }
