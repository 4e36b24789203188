"""How --help is drawn: names of options stay whole, however narrow the terminal is."""

from __future__ import annotations

from rich.console import RenderableType
from rich.style import StyleType
from rich.table import Table
from typer import rich_utils


class OptionTable(Table):
    """Typer's, in which only the last column, the explanations, gives way."""

    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        """As of Table."""
        if not self.columns:
            for column in range(1, len(cells) + 1):
                self.add_column(no_wrap=column < len(cells))
        super().add_row(*cells, style=style, end_section=end_section)


def keep_names_whole() -> None:
    """Draw help so; typer itself cuts them off, and its settings have nothing for it."""
    rich_utils.Table = OptionTable  # type: ignore[attr-defined]
