"""What the tests of the documents read in them: sections, their tables, and code blocks."""

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True)
class Section:
    """One heading and what follows it up to the next heading of any level."""

    title: str
    level: int
    body: str

    def rows(self, table: int = 0) -> list[list[str]]:
        """The rows of a table below its head, cells stripped."""
        tables = re.findall(r"(?:^\|.*\|\n)+", self.body + "\n", re.MULTILINE)
        lines = tables[table].splitlines()[2:]
        return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]

    @property
    def has_table(self) -> bool:
        return "\n|" in self.body


def read(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def sections(text: str) -> dict[str, Section]:
    """By title. Headings inside code blocks are code."""
    found: dict[str, Section] = {}
    title, level, lines, in_code = "", 0, [], False

    def close() -> None:
        assert title not in found, f"two headings {title!r}"
        found[title] = Section(title, level, "\n".join(lines))

    for line in text.splitlines():
        in_code ^= line.startswith("```")
        heading = re.fullmatch(r"(#+) (.+)", line)
        if heading and not in_code:
            close()
            title, level, lines = heading[2], len(heading[1]), []
        else:
            lines.append(line)
    close()
    return found


def code(text: str, language: str) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def programs(text: str) -> Iterator[tuple[str, str]]:
    """Every Python block with the next text block, which is what it prints."""
    for match in re.finditer(r"^```python\n(.*?)^```$.*?^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield match[1], match[2]


def printed(program: str, **names: object) -> str:
    """What a program prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(program, "<document>", "exec"), {"__name__": "__main__", **names})
    return out.getvalue()
