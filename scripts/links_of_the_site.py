"""A hook of mkdocs (mkdocs.yml): links to files that the site does not have lead to the repository.

In the repository a link such as ../CONTRIBUTING.md is relative, so that it leads to the same version's file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(?=[)#])")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """The page with addresses in the place of relative links out of docs/, and of links to programs and folders."""
    docs, here = Path(config.docs_dir).resolve(), Path(page.file.abs_src_path).resolve().parent

    def address(link: re.Match[str]) -> str:
        target = (here / link[1]).resolve()
        if target.is_relative_to(docs) and target.suffix in (".md", ".png", ".mp3"):
            return link[1]
        if not target.exists():
            return link[1]  # mkdocs says that it leads nowhere
        kind = "tree" if target.is_dir() else "blob"
        return f"{config.repo_url.rstrip('/')}/{kind}/main/{target.relative_to(ROOT).as_posix()}"

    return LINK.sub(address, markdown)
