"""Who may do what: one table, and the tokens that say who is asking."""

import hashlib
import secrets
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select
from sqlmodel import Session

from traceai.clock import now
from traceai.db.tables import ApiToken, User
from traceai.errors import AlreadyExistsError, AuthenticationError, ForbiddenError, InputError, UserNotFoundError

TOKEN_PREFIX = "traceai_"  # noqa: S105  # what a token begins with, so that a leaked one is recognised


class Role(StrEnum):
    STATION = "station"
    REVIEWER = "reviewer"
    ENGINEER = "engineer"
    APPROVER = "approver"
    AUDITOR = "auditor"
    ADMIN = "admin"


class Permission(StrEnum):
    INSPECT = "inspect"
    READ_DECISIONS = "read-decisions"
    READ_IMAGES = "read-images"
    REPLAY = "replay"
    REVIEW = "review"
    READ_RATES = "read-rates"
    READ_MODELS = "read-models"
    READ_LEDGER = "read-ledger"
    READ_ACCESS_LOG = "read-access-log"


READ = {
    Permission.READ_DECISIONS,
    Permission.READ_IMAGES,
    Permission.REPLAY,
    Permission.READ_RATES,
    Permission.READ_MODELS,
    Permission.READ_LEDGER,
}

GRANTS: dict[Role, set[Permission]] = {
    Role.STATION: {Permission.INSPECT},
    # The picture and nothing of what the model said of it: verification is blind.
    Role.REVIEWER: {Permission.REVIEW, Permission.READ_IMAGES},
    Role.ENGINEER: READ,
    Role.APPROVER: READ,
    Role.AUDITOR: READ | {Permission.READ_ACCESS_LOG},
    # Users and settings, and no evidence.
    Role.ADMIN: set(),
}


@dataclass(frozen=True)
class Principal:
    """Somebody whose token was checked."""

    name: str
    role: Role

    def require(self, permission: Permission) -> None:
        """Raises:
        ForbiddenError: this role does not have `permission`.
        """
        if permission not in GRANTS[self.role]:
            roles = ", ".join(role for role, granted in GRANTS.items() if permission in granted)
            raise ForbiddenError(
                f"{self.name} has the role {self.role}, which may not {permission}; ask for a token of: {roles}."
            )


def add_user(session: Session, name: str, role: str) -> User:
    """Raises:
    InputError: the role is none of ours, or the name is empty.
    AlreadyExistsError: the name is taken.
    """
    if role not in set(Role):
        raise InputError(f"There is no role {role}; choose one of {', '.join(Role)}.")
    if not name.strip() or not name.isprintable() or len(name) > 200:
        raise InputError("A user needs a printable name of at most 200 characters.")
    if session.get(User, name) is not None:
        raise AlreadyExistsError(f"There is a user {name} already; choose another name.")
    user = User(name=name, role=role, created_at=now())
    session.add(user)
    session.flush()
    return user


def create_token(session: Session, user_name: str) -> str:
    """A new token of `user_name`. This is the only time it can be read: the database keeps its hash.

    Raises:
        UserNotFoundError: no such user.
    """
    if session.get(User, user_name) is None:
        raise UserNotFoundError(
            f"There is no user {user_name}; add one with `traceai user add {user_name} --role ROLE`."
        )
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    session.add(ApiToken(sha256=_digest(token), user_name=user_name, created_at=now()))
    session.flush()
    return token


def revoke_tokens(session: Session, user_name: str) -> int:
    """Make every token of `user_name` worthless, and return how many that were.

    Raises:
        UserNotFoundError: no such user.
    """
    if session.get(User, user_name) is None:
        raise UserNotFoundError(f"There is no user {user_name}; `traceai user list` shows those there are.")
    valid = select(ApiToken).where(ApiToken.user_name == user_name, ApiToken.revoked_at.is_(None))  # type: ignore[arg-type,union-attr]
    tokens = session.execute(valid).scalars().all()
    for token in tokens:
        token.revoked_at = now()
    return len(tokens)


def authenticate(session: Session, token: str | None) -> Principal:
    """Raises:
    AuthenticationError: no token, or not a valid one.
    """
    if not token:
        raise AuthenticationError(
            "Send a token as `Authorization: Bearer TOKEN`; `traceai token create --user NAME` makes one."
        )
    query = (
        select(User)
        .join(ApiToken, ApiToken.user_name == User.name)  # type: ignore[arg-type]  # a column expression
        .where(ApiToken.sha256 == _digest(token), ApiToken.revoked_at.is_(None))  # type: ignore[arg-type,union-attr]
    )
    user = session.execute(query).scalar_one_or_none()
    if user is None:
        raise AuthenticationError("This token is not valid; ask for another.")
    return Principal(user.name, Role(user.role))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
