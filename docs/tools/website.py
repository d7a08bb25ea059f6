"""The site: Markdown pages as HTML with a list of pages beside them, and a check of every link between them."""

from __future__ import annotations

import html
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from markdown_it import MarkdownIt
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name

#: The pages by chapter, as paths from the root of the repository.
CHAPTERS = {
    "Start here": ("docs/index.md", "docs/tutorial.md"),
    "How to": (
        "docs/how-to/direct-view.md",
        "docs/how-to/balanced-view.md",
        "docs/how-to/results.md",
        "docs/how-to/task-store.md",
        "docs/how-to/errors.md",
        "docs/how-to/recovery.md",
        "docs/how-to/clusters.md",
        "docs/how-to/mpi.md",
        "docs/how-to/ssh.md",
        "docs/how-to/batch.md",
        "docs/how-to/commands.md",
        "docs/how-to/remote.md",
        "docs/how-to/custom-launchers.md",
        "docs/how-to/arrays.md",
        "docs/how-to/scheduling.md",
        "docs/how-to/notebooks.md",
        "docs/how-to/migrating.md",
    ),
    "Reference": (
        "docs/reference/api.md",
        "docs/reference/commands.md",
        "docs/reference/protocol.md",
        "docs/reference/scopes.md",
        "docs/reference/former-interfaces.md",
    ),
    "Why": ("docs/why.md", "docs/security.md", "ARCHITECTURE.md", "CHANGELOG.md"),
}
_NOT_IN_ANCHORS = re.compile(r"[^\w\- ]")
_FORMATTER = HtmlFormatter(nowrap=True)


@dataclass(frozen=True)
class Page:
    """One page: where it stands in the repository and in the site, and what it says."""

    source: str
    tokens: list[Token]

    @property
    def target(self) -> str:
        """Where it stands in the site."""
        return self.source.removeprefix("docs/").removesuffix(".md").lower() + ".html"

    @property
    def title(self) -> str:
        """Its first heading."""
        return next(token.content for token in self.tokens if token.type == "inline").replace("`", "")

    @property
    def anchors(self) -> set[str]:
        """The names of its headings."""
        return {str(token.attrs["id"]) for token in self.tokens if token.type == "heading_open"}

    def links(self) -> list[Token]:
        """Its links, to be read or changed."""
        return [child for token in self.tokens for child in token.children or () if child.type == "link_open"]


class Website:
    """All pages."""

    def __init__(self, root: Path) -> None:
        """Reads the pages of the repository at ``root``. Raises OSError if one is missing."""
        self._root = root
        self._markdown = MarkdownIt("commonmark", {"highlight": _highlighted}).enable("table")
        self.pages = {source: self._read(source) for pages in CHAPTERS.values() for source in pages}

    def faults(self) -> list[str]:
        """A line for each link that leads nowhere, and for each Markdown file that is in no chapter."""
        found = [path.relative_to(self._root).as_posix() for path in (self._root / "docs").rglob("*.md")]
        lost = [
            f"{source} is in no chapter of docs/tools/website.py" for source in sorted(set(found) - set(self.pages))
        ]
        return lost + [
            f"{page.source}: the link to {token.attrs['href']} leads nowhere"
            for page in self.pages.values()
            for token in page.links()
            if not self._leads_somewhere(page, str(token.attrs["href"]))
        ]

    def write(self, folder: Path) -> None:
        """Write the site."""
        for page in self.pages.values():
            for token in page.links():
                token.attrs["href"] = self._href(page, str(token.attrs["href"]))
            path = folder / page.target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._html(page), encoding="utf-8")
        style = STYLE + str(HtmlFormatter().get_style_defs("pre"))
        (folder / "style.css").write_text(style, encoding="utf-8")

    def _read(self, source: str) -> Page:
        tokens = self._markdown.parse((self._root / source).read_text(encoding="utf-8"))
        taken: dict[str, int] = {}
        for token, text in zip(tokens, [*tokens[1:], tokens[-1]], strict=True):
            if token.type == "heading_open":
                name = _NOT_IN_ANCHORS.sub("", text.content.lower()).replace(" ", "-")
                taken[name] = taken.get(name, -1) + 1
                token.attrs["id"] = f"{name}-{taken[name]}" if taken[name] else name
        return Page(source, tokens)

    def _leads_somewhere(self, page: Page, href: str) -> bool:
        path, _, anchor = href.partition("#")
        if "://" in path:
            return True
        other = self.pages.get(_joined(page.source, path))
        return other is not None and (not anchor or anchor in other.anchors)

    def _href(self, page: Page, href: str) -> str:
        path, mark, anchor = href.partition("#")
        if "://" in path or not path:
            return href
        return _relative(self.pages[_joined(page.source, path)].target, page.target) + mark + anchor

    def _html(self, page: Page) -> str:
        body = self._markdown.renderer.render(page.tokens, self._markdown.options, {})
        beside = "".join(self._chapter(page, chapter) for chapter in CHAPTERS)
        return LAYOUT.format(
            title=html.escape(page.title),
            style=_relative("style.css", page.target),
            beside=beside,
            body=body.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>"),
        )

    def _chapter(self, page: Page, chapter: str) -> str:
        lines = []
        for source in CHAPTERS[chapter]:
            other = self.pages[source]
            here = ' class="here"' if other is page else ""
            link = _relative(other.target, page.target)
            lines.append(f'<li><a{here} href="{link}">{html.escape(other.title)}</a></li>')
        return f"<h2>{chapter}</h2><ul>{''.join(lines)}</ul>"


def _joined(source: str, path: str) -> str:
    """The file in the repository that a relative link on the page ``source`` means."""
    if not path:
        return source
    return PurePosixPath(os.path.normpath(PurePosixPath(source).parent / path)).as_posix()


def _relative(target: str, start: str) -> str:
    return PurePosixPath(os.path.relpath(target, PurePosixPath(start).parent)).as_posix()


def _highlighted(text: str, language: str, _attributes: str) -> str:
    if language not in {"python", "ipython", "console"}:
        return html.escape(text)
    return str(highlight(text, get_lexer_by_name(language.removeprefix("i")), _FORMATTER))


LAYOUT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · enginery</title><link rel="stylesheet" href="{style}">
</head>
<body><nav>{beside}</nav><main>{body}</main></body>
</html>
"""
STYLE = """
:root { color-scheme: light; font: 16px/1.55 system-ui, sans-serif; color: #1c2430; background: #fff; }
body { display: flex; gap: 2.5rem; max-width: 76rem; margin: 0 auto; padding: 1.5rem; }
nav { flex: 0 0 14rem; font-size: .92rem; }
nav h2 { font-size: .8rem; text-transform: uppercase; letter-spacing: .06em; color: #66707e; margin: 1.2rem 0 .3rem; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav .here { font-weight: 600; color: inherit; }
main { flex: 1; min-width: 0; max-width: 52rem; }
h1 { margin-top: 0; } h2 { margin-top: 2.2rem; } h3, h4 { margin-top: 1.8rem; }
a { color: #0b5cad; text-decoration: none; } a:hover { text-decoration: underline; }
code { font: .9em ui-monospace, monospace; background: #f1f3f6; padding: .1em .25em; border-radius: 3px; }
pre { background: #f6f7f9; border: 1px solid #e3e6ea; border-radius: 5px; padding: .8rem 1rem; overflow-x: auto; }
pre code { background: none; padding: 0; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: .93rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #e3e6ea; }
@media (max-width: 50rem) { body { display: block; } }
"""
