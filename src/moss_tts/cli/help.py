"""How --help is drawn: names of options stay whole in a narrow terminal, and types in <> are hidden."""

from __future__ import annotations

from rich.console import RenderableType
from rich.style import StyleType
from rich.table import Table
from typer import rich_utils

# Typer's own words for the types of switches, which take no value, and of arguments, which have a name that says
# enough.
TYPES = ("<bool>", "<str>", "<file>", "<path>")


class OptionTable(Table):
    """Typer's, in which only the last column, the explanations, gives way."""

    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        """Add a row, as Table does."""
        if not self.columns:
            for column in range(1, len(cells) + 1):
                self.add_column(no_wrap=column < len(cells))
        shown = ("" if str(cell) in TYPES else cell for cell in cells)
        super().add_row(*shown, style=style, end_section=end_section)


def keep_names_whole() -> None:
    """Draw help so; typer itself cuts them off, and its settings have nothing for it."""
    rich_utils.Table = OptionTable  # type: ignore[attr-defined]
