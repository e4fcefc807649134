"""What FastAPI cannot see by itself: a body that is read by hand, the key, the errors' shape."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from etalage.serve import category_wire, shopper_wire, wire

_REFS = "#/components/schemas/{model}"
_BODIES = (
    wire.SimilarToItem,
    wire.SimilarToPhoto,
    wire.SimilarToPhotos,
    shopper_wire.RecommendToUser,
    shopper_wire.RecommendByHistory,
    shopper_wire.Rank,
    shopper_wire.UsersForItem,
    shopper_wire.UsersLikeUser,
    shopper_wire.Events,
    category_wire.ClassifyItem,
    category_wire.ClassifyPhoto,
    category_wire.ClassifyItems,
)
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
_OPEN = ("/healthz", "/readyz")
_ANYWHERE = (403, 421)
"""Refusals that no route can avoid: they are made before it is looked for."""


def body_of(*kinds: type[BaseModel]) -> dict[str, Any]:
    """The body of a route that takes one of these, for OpenAPI."""
    schema = {"oneOf": [{"$ref": _REFS.format(model=kind.__name__)} for kind in kinds]}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for OpenAPI."""
    return {status: {"model": wire.ErrorAnswer, "description": _MEANING[status]} for status in statuses}


def described(app: FastAPI, needs_key: bool) -> dict[str, Any]:
    """The OpenAPI document; made once."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    _, bodies = models_json_schema([(body, "validation") for body in _BODIES], ref_template=_REFS)
    schemas = document["components"]["schemas"]
    schemas.update(bodies["$defs"])
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
                operation["responses"][str(status)] = _refused(status)
            if needs_key and path not in _OPEN:
                operation["security"] = [{"key": []}]
    if needs_key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    app.openapi_schema = document
    return document


def _refused(status: int) -> dict[str, Any]:
    schema = {"$ref": _REFS.format(model=wire.ErrorAnswer.__name__)}
    return {"description": _MEANING[status], "content": {"application/json": {"schema": schema}}}


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is left out or has a value: a URL and a header cannot say null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**{name: value for name, value in schema.items() if name != "anyOf"}, **kinds[0]}
