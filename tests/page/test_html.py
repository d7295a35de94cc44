from __future__ import annotations

import numpy as np

from cathode.page.html import (
    Card,
    Html,
    badge,
    bullets,
    cards,
    escape,
    figure,
    page,
    paragraph,
    section,
    table,
    tag,
)
from cathode.page.style import new_figure, styled


def test_toolkit_escapes_everything_but_markup():
    evil = "<b onclick='x'>&"
    safe = "&lt;b onclick=&#x27;x&#x27;&gt;&amp;"
    for made in (
        paragraph(evil),
        table([evil], [[evil]], caption=evil),
        badge(evil, "good"),
        bullets([evil]),
        escape(evil),
        cards([Card(evil, evil, evil)]),
        section("i", evil, lead=evil).content,
        page(evil, [], subtitle=evil, footer=evil),
    ):
        assert "<b" not in made.replace("<body", "")
        assert safe in made
    assert tag("p", Html("<b>x</b>")) == "<p><b>x</b></p>"
    assert tag("a", "x", href='"') == '<a href="&quot;">x</a>'
    assert table(["a", "b"], [["x", 1]], numeric=[1], strong=[0]).count('class="num"') == 2


def test_large_drawings_become_pixels():
    @styled
    def crowded():
        drawing = new_figure(4, 3)
        axes = drawing.subplots()
        for row in np.random.default_rng(1).random((40, 700)):
            axes.plot(row)
        return drawing

    @styled
    def small():
        drawing = new_figure(4, 3)
        drawing.subplots().plot([0, 1])
        return drawing

    assert "data:image/png" in figure(crowded(), description="many lines")
    assert "data:image/svg+xml" in figure(small(), description="few lines")
