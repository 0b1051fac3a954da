"""What every route is given: a session that commits before the response, and somebody who may ask."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Annotated, Literal

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlmodel import Session

from traceai import access
from traceai.access import GRANTS, Permission, Principal
from traceai.clock import now, uuid7
from traceai.db.tables import AccessLog
from traceai.errors import AuthenticationError, InputError, UnavailableError
from traceai.sdk import Trace
from traceai_api.remembered import Asked, Remembered

bearer = HTTPBearer(auto_error=False, description="`traceai token create --user NAME` prints a token once.")


def get_trace(request: Request) -> Trace:
    trace: Trace = request.app.state.trace
    return trace


TraceDep = Annotated[Trace, Depends(get_trace)]


def get_session(trace: TraceDep) -> Iterator[Session]:
    with trace.database.session() as session:
        yield session


# scope="function": the transaction ends before the response begins, so a failed commit never answers 200.
SessionDep = Annotated[Session, Depends(get_session, scope="function")]


def _who(session: Session, credentials: HTTPAuthorizationCredentials | None) -> Principal | AuthenticationError:
    try:
        return access.authenticate(session, credentials.credentials if credentials else None)
    except AuthenticationError as error:
        return error


def _asked(request: Request, permission: Permission, asking: Principal | AuthenticationError) -> Asked:
    known = asking if isinstance(asking, Principal) else None
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return Asked(
        id=uuid7(),
        at=now(),
        user_name=known.name if known else "-",
        role=known.role if known else "-",
        permission=permission,
        allowed=known is not None and permission in GRANTS[known.role],
        method=request.method,
        target=target.replace("\x00", "%00"),
    )


def allowed(permission: Permission) -> Callable[..., Principal]:
    """A dependency that lets in whoever may `permission`, and writes down that they asked, in either case.

    Whoever is let in is told of a parameter that the route does not have.
    """

    def check(
        request: Request,
        trace: TraceDep,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> Principal:
        remembered: Remembered = request.app.state.remembered
        token = credentials.credentials if credentials else ""
        asking: Principal | AuthenticationError
        try:
            with trace.recorder.database.session() as session:
                asking = _who(session, credentials)
                session.add(AccessLog(**_asked(request, permission, asking).model_dump()))
            remembered.confirm(token, asking if isinstance(asking, Principal) else None)
            with suppress(UnavailableError):
                remembered.settle(trace.recorder.database)
        except UnavailableError:
            recalled = remembered.recall(token) if permission is Permission.INSPECT else None
            if recalled is None:
                raise
            asking = recalled
            remembered.keep(_asked(request, permission, asking))
        if not isinstance(asking, Principal):
            raise asking
        asking.require(permission)
        given = [name for name, _ in request.query_params.multi_items()]
        _require_known("parameter", given, _declared(_dependant(request), "query"))
        return asking

    return check


async def whole_form(request: Request) -> None:
    """A dependency that takes every field of a form or refuses it: nothing that was sent is left out in silence.

    Raises:
        InputError: a field that the route does not have, that came twice, or that is empty.
    """
    fields = (await request.form()).multi_items()  # read before, and kept by the request
    _require_known("field", [name for name, _ in fields], _declared(_dependant(request), "body"))
    for name, value in fields:
        if value == "":
            raise InputError(f"The field `{name}` is empty; leave it out where there is nothing to say.")


def _dependant(request: Request) -> Dependant:
    route = request.scope["route"]
    assert isinstance(route, APIRoute)  # noqa: S101  # no other route has dependencies
    return route.dependant


def _declared(dependant: Dependant, place: Literal["query", "body"]) -> list[str]:
    """The names that a route and all that it depends on read there."""
    names = [field.alias for field in (dependant.query_params if place == "query" else dependant.body_params)]
    return names + [name for part in dependant.dependencies for name in _declared(part, place)]


def _require_known(what: str, given: Iterable[str], known: list[str]) -> None:
    for name, count in Counter(given).items():
        if name not in known:
            takes = f"takes {', '.join(sorted(known))}" if known else "takes none"
            raise InputError(f"There is no {what} {name!r:.80} here; this call {takes}.")
        if count > 1:
            raise InputError(f"The {what} `{name}` is given {count} times; give it once.")
