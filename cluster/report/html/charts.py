"""Plots as SVG: lines, scatter plots with a Pareto front, bands. Pure; readable without colour or a mouse.

The style sheet (`cluster/report/html/style.py`) sets colours, fonts and widths, for dark and light mode.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cluster.formatting import counted
from cluster.report.html.axis import Axis, short
from cluster.report.html.markup import Markup, joined, pixels, tag, text

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 10, 42
"""Size of a plot and its margins, in units that are pixels at a width of 440."""

Point = tuple[float, float]

COLOURS = 6
"""Different colours of lines, each with dashes of its own."""

STYLES = 3 * COLOURS
"""Different styles of lines: all colours thrice, with other dashes each time."""

LEVEL = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One curve.

    Attributes:
        name: name in the legend.
        points: points from left to right.
        style: number of its colour and dashes, from 0: all `STYLES` differ, and begin again after that. `LEVEL` is
            that of a line to compare with.
        steps: whether a value holds until the next point.
        spread: band behind the curve, (x, low, high) from left to right.
    """

    name: str
    points: Sequence[Point]
    style: int = 0
    steps: bool = False
    spread: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """One point of a scatter plot, with its tooltip."""

    at: Point
    tooltip: str


def figure(title: str, note: str, *content: str) -> Markup:
    """Return a plot with its heading and a note."""
    caption = tag("figcaption", tag("b", title), *([" ", tag("span", note, class_="note")] if note else []))
    return tag("figure", caption, *content, class_="chart")


def legend(names: Sequence[tuple[str, str]]) -> Markup:
    """Return a legend from pairs of a swatch's class and its name."""
    entries = [tag("span", tag("i", class_=f"swatch {style}"), name, class_="key") for style, name in names]
    return tag("div", *entries, class_="legend")


def line_chart(title: str, x: Axis, y: Axis, lines: Sequence[Line], note: str = "") -> Markup:
    """Return a plot of curves with common axes."""
    spreads = [_spread(line, x, y) for line in lines if line.spread]
    elements = [*spreads, *(_curve(line, x, y) for line in lines if line.points)]
    shown = [(f"line {_style(line)}", line.name) for line in lines if line.points]
    ends = "; ".join(f"{line.name} ends at {short(line.points[-1][1])}" for line in lines if line.points)
    plot = _plot(f"{title}: {y.label} against {x.label}. {ends}.", x, y, elements)
    return figure(title, note, legend(shown) if len(shown) > 1 else "", plot)


def area_chart(title: str, x: Axis, y: Axis, points: Sequence[Point], note: str = "") -> Markup:
    """Return a plot of one curve, filled down to the axis; each value holds back to the previous point."""
    base = _y(y, max(0.0, y.low))
    corners = [f"M{pixels(_x(x, max(0.0, x.low)))} {pixels(base)}"]
    for at, value in points:
        corners.append(f"V{pixels(_y(y, value))}H{pixels(_x(x, at))}")
    path = tag("path", d="".join([*corners, f"V{pixels(base)}Z"]), class_="area")
    return figure(title, note, _plot(f"{title}: {y.label} against {x.label}.", x, y, [path]))


def cloud_chart(title: str, x: Axis, y: Axis, shown: Sequence[Markup], front: Sequence[Dot], note: str = "") -> Markup:
    """Return a scatter plot of `dots` or `cells`, with the Pareto front on top."""
    corners = [dot.at for dot in front]
    curve = _curve(Line(name="", points=[*corners, (x.high, corners[-1][1])], style=1, steps=True), x, y)
    marks = [_mark(dot, x, y, 4.0, "front") for dot in front]
    tooltip = f"{title}: {y.label} against {x.label}, with a Pareto front of {len(front)}."
    key = legend([("dot", "child"), ("line s1", "Pareto front")])
    return figure(title, note, key, _plot(tooltip, x, y, [*shown, curve, *marks]))


def scatter_chart(title: str, x: Axis, y: Axis, shown: Sequence[Markup], note: str = "") -> Markup:
    """Return a scatter plot of `dots`."""
    return figure(title, note, _plot(f"{title}: {y.label} against {x.label}.", x, y, shown))


def dots(points: Sequence[Dot], x: Axis, y: Axis) -> list[Markup]:
    """Return the points of a scatter plot, one per child."""
    return [_mark(dot, x, y, 2.6, "dot") for dot in points]


def cells(counts: Mapping[tuple[int, int], int], x: Axis, y: Axis, grid: tuple[Point, Point, int, int]) -> list[Markup]:
    """Return the cells of a heat map of children.

    Args:
        counts: number of children by column and row.
        x, y: the axes.
        grid: lowest and highest corner, and the numbers of columns and rows between them.
    """
    (left, low), (right, high), columns, rows = grid
    x0, x1, y0, y1 = _x(x, left), _x(x, right), _y(y, low), _y(y, high)
    width, height = max(x1 - x0, 4.0) / columns, max(y0 - y1, 4.0) / rows
    highest = max(counts.values(), default=1)
    return [
        tag(
            "rect",
            tag("title", counted(count, "child")),
            x=x0 + column * width,
            y=y0 - (row + 1) * height,
            width=width,
            height=height,
            class_="cell",
            # The square root keeps a single child among thousands visible.
            opacity=0.15 + 0.85 * (count / highest) ** 0.5,
        )
        for (column, row), count in sorted(counts.items())
    ]


SMALL_WIDTH, SMALL_HEIGHT = 168, 92
"""Size of a small plot, without margins."""


def bands(
    title: str, options: Sequence[str], shares: Sequence[tuple[float, ...] | None], *, column: str = "window"
) -> Markup:
    """Return a plot of the options' shares, stacked to 1: one column for each window, or what `column` says."""
    width = SMALL_WIDTH / len(shares)
    elements: list[Markup] = []
    for option in range(len(options)):
        corners: list[str] = []
        for window, share in enumerate(shares):
            if share is not None and share[option] > 0:
                top = (1 - sum(share[: option + 1])) * SMALL_HEIGHT
                box = f"M{pixels(window * width)} {pixels(top)}h{pixels(width)}v{pixels(share[option] * SMALL_HEIGHT)}"
                corners.append(f"{box}h{pixels(-width)}z")
        elements.append(tag("path", d="".join(corners), class_=f"band o{band_style(option, len(options))}"))
    return _small(title, f"in the last {column}: {_last_shares(options, shares)}", SMALL_HEIGHT, elements)


def strips(title: str, options: Sequence[str], shares: Sequence[tuple[float, ...] | None]) -> Markup:
    """Return a plot of independent options: one row per option, more opaque the more often it was chosen."""
    height = max(6.0, min(14.0, SMALL_HEIGHT / len(options)))
    width = SMALL_WIDTH / len(shares)
    elements = [
        tag(
            "rect",
            x=window * width,
            y=option * height,
            width=width,
            height=height - 1,
            class_="strip",
            opacity=max(0.05, share[option]),
        )
        for window, share in enumerate(shares)
        if share is not None
        for option in range(len(options))
    ]
    return _small(title, f"in the last window: {_last_shares(options, shares)}", height * len(options), elements)


def band_style(option: int, options: int) -> int:
    """Return the number of an option's colour among nine, spread out if there are few options."""
    return round(option * 8 / max(1, options - 1)) % 9


def bars(title: str, counts: Mapping[str, int], note: str = "") -> Markup:
    """Return horizontal bars, one per name, with their numbers."""
    highest = max(counts.values(), default=0) or 1
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag("td", tag("div", class_="bar", style=f"width:{pixels(100 * count / highest)}%"), class_="wide"),
            tag("td", f"{count:,}", class_="number"),
        )
        for name, count in counts.items()
    ]
    return figure(title, note, tag("table", *rows, class_="bars"))


def _last_shares(options: Sequence[str], shares: Sequence[tuple[float, ...] | None]) -> str:
    last = next((share for share in reversed(shares) if share is not None), None)
    if last is None:
        return "never made"
    return ", ".join(f"{option}: {100 * part:.0f} %" for option, part in zip(options, last, strict=True))


def _small(title: str, last: str, height: float, elements: Sequence[Markup]) -> Markup:
    tooltip = f"{title}, {last}"
    svg = tag(
        "svg",
        tag("title", tooltip),
        *elements,
        viewBox=f"0 0 {SMALL_WIDTH} {pixels(height)}",
        preserveAspectRatio="none",
        style=f"height:{pixels(height)}px",
        role="img",
        aria_label=tooltip,
    )
    return tag("figure", tag("figcaption", title), svg, class_="small")


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM)


def _mark(dot: Dot, x: Axis, y: Axis, radius: float, kind: str) -> Markup:
    at = dot.at
    return tag("circle", tag("title", dot.tooltip), cx=_x(x, at[0]), cy=_y(y, at[1]), r=radius, class_=kind)


def _style(line: Line) -> str:
    """Return the classes of a line's style."""
    if line.style == LEVEL:
        return "level"
    again, colour = divmod(line.style % STYLES, COLOURS)
    return f"s{colour}" + (f" again{again}" if again else "")


def _spread(line: Line, x: Axis, y: Axis) -> Markup:
    above = [(_x(x, at), _y(y, high)) for at, _, high in line.spread]
    below = [(_x(x, at), _y(y, low)) for at, low, _ in reversed(line.spread)]
    corners = "L".join(f"{pixels(right)} {pixels(up)}" for right, up in (*above, *below))
    return tag("path", d=f"M{corners}Z", class_=f"spread {_style(line)}")


def _curve(line: Line, x: Axis, y: Axis) -> Markup:
    points = [(_x(x, at), _y(y, value)) for at, value in line.points]
    if len(points) == 1:  # smaller from style to style, so that two in one place are both visible
        radius = max(2.5, 6.0 - 1.5 * (line.style % STYLES))
        return tag("circle", cx=points[0][0], cy=points[0][1], r=radius, class_=f"point {_style(line)}")
    path = [f"M{pixels(points[0][0])} {pixels(points[0][1])}"]
    for (_, _), (right, up) in pairwise(points):
        path.append(f"H{pixels(right)}V{pixels(up)}" if line.steps else f"L{pixels(right)} {pixels(up)}")
    return tag("path", d="".join(path), class_=f"curve {_style(line)}")


def _plot(tooltip: str, x: Axis, y: Axis, content: Sequence[Markup]) -> Markup:
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    grid: list[Markup] = []
    for tick in y.ticks():
        at = _y(y, tick)
        grid.append(tag("path", d=f"M{LEFT} {pixels(at)}H{right}", class_="grid"))
        grid.append(tag("text", short(tick), x=float(LEFT - 6), y=at + 4, class_="tick end"))
    for tick in x.ticks():
        at = _x(x, tick)
        grid.append(tag("path", d=f"M{pixels(at)} {floor}v4", class_="grid"))
        grid.append(tag("text", short(tick), x=at, y=float(floor + 16), class_="tick middle"))
    middle = TOP + (floor - TOP) / 2
    labels = [
        tag("text", x.label, x=(LEFT + right) / 2, y=float(HEIGHT - 6), class_="label middle"),
        tag("text", y.label, x=12.0, y=middle, transform=f"rotate(-90 12 {pixels(middle)})", class_="label middle"),
    ]
    return tag(
        "svg",
        tag("title", tooltip),
        *grid,
        tag("path", d=f"M{LEFT} {floor}H{right}", class_="axis"),
        *labels,
        joined(content),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=tooltip,
    )


def nothing(title: str, why: str) -> Markup:
    """Return a placeholder for a plot without data."""
    return figure(title, "", tag("p", text(why), class_="open"))
