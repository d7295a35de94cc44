"""A toolkit for reports in one HTML file: sections, tables, figures, cards.  It knows no physics.

Everything is built from :class:`Html`, text that is already markup; any other value is escaped when it is put into the
page, so no content can become markup by accident::

    body = section("sizes", "Sizes", paragraph("a < b"), table(["name", "count"], [["x", 3]], numeric=[1]))
    write_page("report.html", page("My report", [body]))

A page needs no network: the style sheet is inline, figures are data URIs, and there is no script.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cathode.page.style import figure_bytes
from cathode.page.stylesheet import STYLESHEET
from cathode.support.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Card",
    "Html",
    "Kind",
    "Section",
    "badge",
    "banner",
    "bar",
    "bullets",
    "callout",
    "cards",
    "escape",
    "figure",
    "grid",
    "heading",
    "page",
    "paragraph",
    "preformatted",
    "section",
    "table",
    "tag",
    "write_page",
]

Kind = Literal["good", "warn", "bad", "info"]

# A drawing with very many elements is smaller as pixels.
_LARGEST_SVG = 400_000


class Html(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


@dataclass(frozen=True)
class Card:
    """One number that matters, with what it is and a remark below it."""

    label: str
    value: str
    note: str = ""
    kind: Kind | None = None


@dataclass(frozen=True)
class Section:
    """A part of the page that the navigation lists."""

    identifier: str
    title: str
    content: Html


def escape(value: Any) -> Html:
    """``value`` as markup that shows it literally; :class:`Html` passes unchanged."""
    return value if isinstance(value, Html) else Html(html.escape(str(value), quote=True))


def tag(name: str, /, *children: Any, **attributes: str | None) -> Html:
    """An element; ``class_`` gives the attribute ``class``, attributes that are None or empty are left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value, quote=True)}"'
        for key, value in attributes.items()
        if value
    )
    if name in ("img", "br", "meta"):
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{''.join(escape(c) for c in children)}</{name}>")


def paragraph(*content: Any, soft: bool = False) -> Html:
    """A paragraph, in the lighter colour if ``soft``."""
    return tag("p", *content, class_="soft" if soft else None)


def heading(text: str) -> Html:
    """A heading inside a section."""
    return tag("h3", text)


def section(identifier: str, title: str, *content: Any, lead: str = "") -> Section:
    """A titled section; ``identifier`` is its anchor, ``lead`` one sentence that says what it shows."""
    opening = [tag("h2", title), *([tag("p", lead, class_="lead")] if lead else [])]
    return Section(identifier, title, tag("section", *opening, *content, id=identifier))


def table(
    header: Sequence[Any],
    rows: Iterable[Sequence[Any]],
    *,
    numeric: Iterable[int] = (),
    wide: Iterable[int] = (),
    strong: Iterable[int] = (),
    caption: str = "",
) -> Html:
    """A table that scrolls sideways when the window is narrow.

    Args:
        header: One cell per column.
        rows: Cells row by row.
        numeric: Columns to align right.
        wide: Columns of running text.
        strong: Rows to print bold.
        caption: Explanation below the table.
    """
    classes = {**dict.fromkeys(numeric, "num"), **dict.fromkeys(wide, "wide")}
    bold = set(strong)
    head = tag("tr", *(tag("th", cell, class_=classes.get(i), scope="col") for i, cell in enumerate(header)))
    body = []
    for n, row in enumerate(rows):
        cells = (tag("td", cell, class_=classes.get(i)) for i, cell in enumerate(row))
        body.append(tag("tr", *cells, class_="strong" if n in bold else None))
    parts = [*([tag("caption", caption)] if caption else []), tag("thead", head), tag("tbody", *body)]
    return tag("div", tag("table", *parts), class_="scroll")


def figure(drawing: Figure, *, caption: str = "", description: str, medium: bool = False) -> Html:
    """A matplotlib figure inside the page, as SVG, or as PNG if the SVG would be large.

    Args:
        drawing: What to show.
        caption: Text below it.
        description: Text for those who cannot see it.
        medium: Keep it narrower than the page.
    """
    content, mime = figure_bytes(drawing, "svg"), "image/svg+xml"
    if len(content) > _LARGEST_SVG:
        content, mime = figure_bytes(drawing, "png"), "image/png"
    source = f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
    width, height = drawing.get_size_inches()
    picture = tag("img", src=source, alt=description, width=f"{96 * width:.0f}", height=f"{96 * height:.0f}")
    parts = [picture, *([tag("figcaption", caption)] if caption else [])]
    return tag("figure", *parts, class_="medium" if medium else None)


def grid(*content: Any) -> Html:
    """Things side by side where the window is wide enough."""
    return tag("div", *content, class_="grid")


def cards(items: Iterable[Card]) -> Html:
    """A row of cards."""
    made = []
    for item in items:
        value = badge(item.value, item.kind) if item.kind else escape(item.value)
        parts = [tag("div", item.label, class_="label"), tag("div", value, class_="value")]
        made.append(tag("div", *parts, *([tag("div", item.note, class_="note")] if item.note else []), class_="card"))
    return tag("div", *made, class_="cards")


def badge(text: str, kind: Kind) -> Html:
    """A coloured label."""
    return tag("span", text, class_=f"badge {kind}")


def banner(kind: Kind, headline: Any, *content: Any, above: Any = "") -> Html:
    """The first thing a reader sees."""
    return tag("div", above, tag("h2", headline), *content, class_=f"banner {kind}", id="top")


def callout(kind: Kind, *content: Any) -> Html:
    """A remark that must not be overlooked."""
    return tag("div", *content, class_=f"callout {kind}", role="note")


def bullets(items: Iterable[Any]) -> Html:
    """A list."""
    return tag("ul", *(tag("li", item) for item in items))


def bar(fraction: float) -> Html:
    """A horizontal bar, ``fraction`` of the width of its cell."""
    return tag("span", class_="bar", style=f"width:{100 * min(max(fraction, 0.0), 1.0):.1f}%")


def preformatted(text: str) -> Html:
    """Text as it is, in a fixed-width font."""
    return tag("pre", text)


def page(
    title: str, sections: Sequence[Section], *, subtitle: str = "", opening: Sequence[Any] = (), footer: str = ""
) -> Html:
    """A whole page.

    Args:
        title: Title of the document.
        sections: In reading order; the navigation lists them.
        subtitle: Small line under the title.
        opening: What comes before the first section.
        footer: Last line.
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(STYLESHEET)),
    )
    top = tag("header", tag("h1", title), *([tag("p", subtitle)] if subtitle else []), class_="top")
    links = tag("nav", *(tag("a", s.title, href=f"#{s.identifier}") for s in sections))
    closing = [tag("footer", footer)] if footer else []
    body = tag("div", top, links, tag("main", *opening, *(s.content for s in sections)), *closing, class_="layout")
    return Html(f"<!DOCTYPE html>\n{tag('html', head, tag('body', body), lang='en')}\n")


def write_page(path: str | Path, content: Html) -> Path:
    """Write a page, whole or not at all.

    Raises:
        UserError: The folder cannot be written to.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return Path(path)
