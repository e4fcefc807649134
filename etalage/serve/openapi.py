"""The OpenAPI document: requests by their models, answers by the dataclasses of etalage.api, and what FastAPI
cannot see by itself: a body that is read by hand, the key, the errors' shape."""

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.json_schema import models_json_schema

from etalage import api
from etalage.serve import requests
from etalage.serve.gate import OPEN

_REFS = "#/components/schemas/{model}"
_BODIES: tuple[type[BaseModel], ...] = (
    *requests.SIMILAR.values(),
    *requests.RECOMMEND.values(),
    requests.Rank,
    *requests.USERS.values(),
    requests.Events,
    *requests.CLASSIFY.values(),
)
_ANSWERS = (
    api.Entrance,
    api.Alive,
    api.Readiness,
    api.Refusal,
    api.Answers,
    api.Items,
    api.WholeItem,
    api.CategoryTree,
    api.BundleFacts,
    api.Recommended,
    api.RankedPairs,
    api.LikedItems,
    api.NearUsers,
    api.KnownUsers,
    api.History,
    api.EventsDone,
    api.Erased,
    api.Categories,
    api.Confusion,
)


class Columns(BaseModel):
    """All that the bundle knows of an item; a shop's own columns come on top."""

    model_config = ConfigDict(extra="allow")

    item_id: str
    photo: str | None
    popularity: float
    classified_id: str | None = Field(None, description="The leaf in the taxonomy; null: not classified.")
    classified_path: str | None = None
    classified_confidence: float | None = None


_MEANING = {
    400: "Not JSON, not an image, not an id: the message names the field or row.",
    401: "The key is missing or wrong.",
    403: "Asked by a page of another site, which [serve] origins does not name.",
    404: "No such item or shopper, or no photo of it.",
    413: "The body is too large.",
    415: "The body is compressed, or does not say that it is JSON.",
    421: "Called by a name that is not this server's: see [serve] hosts.",
    422: "A field is missing, unknown or out of range.",
    503: "No bundle yet, or too many requests: see Retry-After.",
}
_ANYWHERE = (403, 421)
"""Refusals that no route can avoid: they are made before it is looked for."""


def body_of(*kinds: type[BaseModel]) -> dict[str, Any]:
    """The body of a route that takes one of these, for OpenAPI."""
    schema = {"oneOf": [{"$ref": _REFS.format(model=kind.__name__)} for kind in kinds]}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def answer_of(kind: type, meaning: str = "Successful Response") -> dict[str, Any]:
    """An answer of a route, for OpenAPI."""
    schema = {"$ref": _REFS.format(model=kind.__name__)}
    return {"description": meaning, "content": {"application/json": {"schema": schema}}}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for OpenAPI."""
    return {status: answer_of(api.Refusal, _MEANING[status]) for status in statuses}


def answers_of(kind: type, *refused: int) -> dict[int | str, dict[str, Any]]:
    """What a route answers: a dataclass of etalage.api, or a refusal of one of these statuses."""
    return {200: answer_of(kind), **refusals(*refused)}


def described(app: FastAPI, needs_key: bool) -> dict[str, Any]:
    """The OpenAPI document; made once."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    _, bodies = models_json_schema([(body, "validation") for body in _BODIES], ref_template=_REFS)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= bodies["$defs"] | _answer_schemas()
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _not_null(parameter["schema"])
            for status, response in list(operation["responses"].items()):
                if "HTTPValidationError" in str(response):
                    del operation["responses"][status]
            for status in _ANYWHERE:
                operation["responses"][str(status)] = answer_of(api.Refusal, _MEANING[status])
            if needs_key and path not in OPEN:
                operation["security"] = [{"key": []}]
    if needs_key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    app.openapi_schema = document
    return document


def _answer_schemas() -> dict[str, Any]:
    """The schema of every answer. The server writes every field of a dataclass, so that all are required."""
    adapters: list[Any] = [(kind, "serialization", TypeAdapter(kind)) for kind in (*_ANSWERS, Columns)]
    _, found = TypeAdapter.json_schemas(adapters, ref_template=_REFS)
    schemas: dict[str, Any] = found["$defs"]
    documented = _field_docs()
    for name, schema in schemas.items():
        kind = getattr(api, name, None)
        if kind is None:
            continue
        schema["required"] = list(schema["properties"])
        for described_field in schema["properties"].values():
            described_field.pop("default", None)
        for one in kind.__mro__:
            for field, text in documented.get(one.__name__, {}).items():
                schema["properties"][field.removesuffix("_")].setdefault("description", text)
    schemas[api.WholeItem.__name__]["properties"]["item"] = {"$ref": _REFS.format(model=Columns.__name__)}
    return schemas


def _field_docs() -> dict[str, dict[str, str]]:
    """Class of etalage.api → field → the text that stands beneath it; {} where the source is not there."""
    try:
        tree = ast.parse(inspect.getsource(api))
    except OSError:
        return {}
    return {one.name: dict(_documented(one)) for one in tree.body if isinstance(one, ast.ClassDef)}


def _documented(kind: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for before, after in pairwise(kind.body):
        match before, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is left out or has a value: a URL and a header cannot say null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**{name: value for name, value in schema.items() if name != "anyOf"}, **kinds[0]}
