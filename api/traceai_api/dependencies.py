"""What every route is given: a session that commits before the response, and somebody who may ask."""

from collections.abc import Callable, Iterator
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlmodel import Session

from traceai import access
from traceai.access import GRANTS, Permission, Principal
from traceai.clock import now, uuid7
from traceai.db.tables import AccessLog
from traceai.errors import AuthenticationError
from traceai.sdk import Trace

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


def allowed(permission: Permission) -> Callable[..., Principal]:
    """A dependency that lets in whoever may `permission`, and writes down that they asked, in either case."""

    def check(
        request: Request,
        trace: TraceDep,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> Principal:
        with trace.database.session() as session:
            asking = _who(session, credentials)
            known = asking if isinstance(asking, Principal) else None
            target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            session.add(
                AccessLog(
                    id=uuid7(),
                    at=now(),
                    user_name=known.name if known else "-",
                    role=known.role if known else "-",
                    permission=permission,
                    allowed=known is not None and permission in GRANTS[known.role],
                    method=request.method,
                    target=target.replace("\x00", "%00"),
                )
            )
        if not isinstance(asking, Principal):
            raise asking
        asking.require(permission)
        return asking

    return check
