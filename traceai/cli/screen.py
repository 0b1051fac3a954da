"""The screen: no word is ever broken, for hashes, keys and ids are copied from it; what is no terminal has no width."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Column, Table
from rich.text import Text

# Wider than anything that is printed.
UNLIMITED = 100_000
GAP = 2


class Screen(Console):
    """A console that breaks lines between words, and not at all where it is no terminal."""

    @property
    def options(self) -> ConsoleOptions:
        return super().options if self.is_terminal else super().options.update(width=UNLIMITED)

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **{"crop": False, **options})


class Listing(Table):
    """Rows in columns. Without rows it says so; on a narrow terminal it leaves columns out, and says which."""

    def __init__(self, columns: Collection[str], title: str | None = None, spare: Collection[str] = ()) -> None:
        """
        Args:
            columns: headings; ">" in front sets numbers flush right, "~" is for sentences, which break between words.
            spare: headings, without these marks, of those that may be left out; the least important first.
        """
        super().__init__(
            title=title, title_justify="left", title_style="bold", box=None, padding=(0, GAP, 0, 0), header_style="dim"
        )
        self.spare = list(spare)
        for heading in columns:
            self.add_column(
                heading.lstrip(">~"),
                justify="right" if heading.startswith(">") else "left",
                no_wrap=not heading.startswith("~"),
            )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.row_count:
            yield Text("Nothing found.")
            return
        for column in self.columns:
            column.min_width = _needed(column)
        left_out = self._leave_out(options.max_width)
        needed = sum((column.min_width or 0) + GAP for column in self.columns)
        yield from super().__rich_console__(console, options.update(width=max(options.max_width, needed)))
        if left_out:
            yield Text(f"Not shown, for want of width: {', '.join(left_out)}.", style="dim")

    def _leave_out(self, width: int) -> list[str]:
        """Keep what has to be shown, and of the spare columns as many as fit, the most important first."""
        room = width - sum((c.min_width or 0) + GAP for c in self.columns if c.header not in self.spare)
        left_out = set()
        for heading in reversed(self.spare):
            needed = sum((column.min_width or 0) + GAP for column in self.columns if column.header == heading)
            if needed <= room:
                room -= needed
            else:
                left_out.add(heading)
        gone = [str(column.header) for column in self.columns if column.header in left_out]
        self.columns = [column for column in self.columns if column.header not in left_out]
        return gone


def fact_lines(console: Console, facts: Mapping[str, Text]) -> list[Text]:
    """Label and value, a line each or more: a value breaks between words, and goes on below itself."""
    indent = max(map(cell_len, facts), default=0) + GAP
    room = console.options.max_width - indent
    lines = []
    for label, value in facts.items():
        for number, line in enumerate(value.wrap(console, max(room, _longest(value.plain.split())))):
            lines.append(Text.assemble((("" if number else label).ljust(indent), "dim"), line))
    return lines


def _needed(column: Column) -> int:
    """The cells that a column needs to break no word, or no line where it holds no sentences."""
    texts = [str(cell) for cell in (column.header, *column.cells)]
    return _longest(piece for text in texts for piece in (text.splitlines() if column.no_wrap else text.split()))


def _longest(pieces: Iterable[str]) -> int:
    return max(map(cell_len, pieces), default=1)
