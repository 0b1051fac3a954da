"""docs/database-roles.md says of each role what the code grants it."""

import re

import pytest

from tests.docs.markdown import read, sections
from traceai.db import privileges
from traceai.db.privileges import APP, CHECKPOINT, READER, ROLES
from traceai.db.protection import VERSION_TABLE, names
from traceai.db.tables import APPEND_ONLY

SECTIONS = sections(read("database-roles.md"))
ROWS = {row[0].strip("`"): row[1:4] for row in SECTIONS["Who may do what"].rows()}


def granted(role: str, privilege: str) -> set[tuple[str, str | None]]:
    wanted = privileges.wanted()
    return {(table, column) for table in wanted for kind, column in wanted[table].get(role, ()) if kind == privilege}


def test_every_role_is_there() -> None:
    assert tuple(ROWS) == ROLES


@pytest.mark.parametrize("role", [APP, READER, CHECKPOINT])
def test_a_role_may_do_what_the_page_says_and_no_more(role: str) -> None:
    reads, inserts, changes = ROWS[role]
    everything = {*privileges.tables()}
    assert {table for table, _ in granted(role, "SELECT")} == everything - {*re.findall(r"but `(\w+)`", reads)}
    evidence = {*names(APPEND_ONLY)} if inserts.startswith("evidence") else set()
    assert {table for table, _ in granted(role, "INSERT")} == evidence | {*re.findall(r"`(\w+)`", inserts)}
    told = {
        (table, column)
        for table, columns in re.findall(r"`(\w+)` \(([^)]*)\)", changes)
        for column in re.findall(r"`(\w+)`", columns)
    }
    assert granted(role, "UPDATE") == told
    kinds = {kind for table in privileges.wanted().values() for kind, _ in table.get(role, ())}
    assert kinds <= {"SELECT", "INSERT", "UPDATE"}
    assert VERSION_TABLE in everything
