"""The problems that each route can answer with, as `/v1/openapi.json` has them: their statuses and stable codes.

A route names the errors that can come out of it; which status each becomes is for `problems.STATUS` to say.
"""

from typing import Any

from fastapi import FastAPI

from traceai.errors import (
    AuthenticationError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    ForbiddenError,
    ImageAnimatedError,
    ImageEmptyError,
    ImageError,
    ImageFormatError,
    ImageTooLargeError,
    ImageTruncatedError,
    InputError,
    SchemaError,
    TraceaiError,
)
from traceai_api.problems import UNEXPECTED, Problem, status_of
from traceai_api.uploads import REFUSALS

Responses = dict[int | str, dict[str, Any]]
Kind = type[TraceaiError]

DATABASE: tuple[Kind, ...] = (DatabaseUnavailableError, DatabaseRefusedError, SchemaError)
# What bytes can turn out to be that came over HTTP or out of the store; a file that is missing is another matter.
IMAGES: tuple[Kind, ...] = (
    ImageError, ImageEmptyError, ImageTooLargeError, ImageTruncatedError, ImageAnimatedError, ImageFormatError,
)  # fmt: skip


def answers(*kinds: Kind, body: bool = False) -> Responses:
    """The responses of a route out of which errors of exactly these classes come, or something unexpected.

    `body`: the route reads one, so the guard before all bodies can refuse it.
    """
    codes: dict[int, list[str]] = {}
    for status, code in (
        *((status_of(kind), kind.code) for kind in kinds),
        *(REFUSALS.items() if body else ()),
        UNEXPECTED,
    ):
        if code not in codes.setdefault(status, []):
            codes[status].append(code)
    return {
        status: {
            "description": f"`code`: {', '.join(f'`{code}`' for code in codes[status])}",
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted(codes)
    }


def guarded(*kinds: Kind, body: bool = False) -> Responses:
    """Likewise, for a route that asks for a token and for a permission, and refuses a parameter that it does not have."""
    return answers(AuthenticationError, ForbiddenError, InputError, *kinds, *DATABASE, body=body)


def describe(app: FastAPI) -> None:
    """Have the description hold the problem document, and not the framework's own: malformed requests are 400 here."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        description = plain()
        schemas = description["components"]["schemas"]
        schemas["Problem"] = Problem.model_json_schema()
        for foreign in ("HTTPValidationError", "ValidationError"):
            schemas.pop(foreign, None)
        for operations in description["paths"].values():
            for operation in operations.values():
                if "application/json" in operation["responses"].get("422", {}).get("content", ()):
                    del operation["responses"]["422"]
        return description

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's way to change the description
