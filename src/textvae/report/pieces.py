"""Pieces of the report's page: escaped text, numbers, panels, keys, and the style sheet."""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from textvae.report import figures
from textvae.run.records import is_number

MISSING = "–"
# The markers of the training curves, drawn in a box of 32 by 14.
SHAPES = {
    "o": '<circle cx="16" cy="7" r="4"/>',
    "s": '<path d="M12.5 3.5h7v7h-7z"/>',
    "^": '<path d="M16 2.5l4.5 8.5h-9z"/>',
    "D": '<path d="M16 2l5 5l-5 5l-5-5z"/>',
    "v": '<path d="M16 11.5l4.5-8.5h-9z"/>',
}


def text(value: object) -> str:
    """Text from anywhere as HTML: escaped, without control characters, half characters or turns of direction."""
    whole = re.sub(r"[\t\n\r]", " ", str(value).encode("utf-8", "replace").decode("utf-8"))
    return escape(re.sub(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "\ufffd", whole))


def number(value: Any, digits: int | None = None) -> str | None:
    """Return a number to read, with the exact one beside it for programs; None if missing or not finite."""
    if not is_number(value):
        return None
    digits = digits_of(value) if digits is None else digits
    return f'<data value="{value!r}">{value:,.{digits}f}</data>'.replace(">-", ">−")


def digits_of(value: float | int) -> int:
    """Return the number of decimals: none for a count, three for a number near 0, otherwise two."""
    return 0 if isinstance(value, int) else 2 if abs(value) >= 0.1 else 3


def percent(share: float) -> str:
    """Return a share in percent that says 100 % of nothing less than all, and 0 % of nothing at all."""
    return f"{share:.0%}" if share in (0.0, 1.0) or 0.01 <= share < 0.995 else f"{share:.1%}"


def panels(contents: Sequence[str]) -> str:
    """HTML beside each other where there is room, below each other where there is none."""
    return f'<div class="panels">{"".join(contents)}</div>'


def columns(contents: Sequence[str]) -> str:
    """Panels of text alone, which may be narrower than those of figures."""
    return f'<div class="panels text">{"".join(contents)}</div>'


def figure(contents: Sequence[str], caption: str, legend: str = "", left_out: Sequence[str] = ()) -> str:
    """Panels with a legend above, a sentence below that says how to read them, and why some are left out."""
    inside = (legend + panels(contents) if contents else "") + "".join(left_out)
    return f"<figure>{inside}<figcaption>{caption}</figcaption></figure>"


def described(drawn: str, alt: str) -> str:
    """Return a figure and, for those who cannot see it, what it shows."""
    return f'<div role="img" aria-label="{text(alt)}">{drawn}</div>'


def absent(reason: str) -> str:
    """Return a box in place of a figure that there cannot be."""
    return f'<p class="none">{reason}</p>'


def run_variable(place: int) -> str:
    """Return the CSS variable of a run's colour."""
    return figures.THEME[figures.run_colour(place)]


def key(place: int) -> str:
    """Return a run's line and marker, as in the training curves."""
    marker = SHAPES[figures.MARKERS[place % len(figures.MARKERS)]]
    return (
        f'<svg class="key" style="color: var(--{run_variable(place)})" viewBox="0 0 32 14" aria-hidden="true">'
        f'<path class="stroke" d="M1 7h30"/>{marker}</svg>'
    )


def heading(place: int, name: str) -> str:
    """Return a run's key and name."""
    return f"<h3>{key(place)}{text(name)}</h3>"


def theme() -> str:
    """CSS variables of both themes; paper is always light."""
    colours = {
        **{f"run-{place}": pair for place, pair in enumerate(figures.RUN_COLOURS)},
        **{f"group-{place}": pair for place, pair in enumerate(figures.GROUP_COLOURS)},
        "paper": ("#ffffff", "#14171b"),
        "card": ("#f6f7f9", "#1c2026"),
        "ink": ("#1b1f24", "#e8eaed"),
        "muted": ("#5f6873", "#a0a8b3"),
        "grid": ("#e3e6ea", "#2d333b"),
        "other": ("#a3abb5", "#6d7681"),
    }
    light, dark = ("; ".join(f"--{name}: {pair[place]}" for name, pair in colours.items()) for place in (0, 1))
    return f":root {{ {light} }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"


STYLE = """
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Helvetica Neue", sans-serif }
main { max-width: 1144px; margin: 0 auto; padding: 48px 28px 32px }
h1 { margin: 0; font-size: 32px; line-height: 1.2; letter-spacing: -.01em; text-wrap: balance }
.lead { margin: 10px 0 0; max-width: 46em; font-size: 18px; color: var(--muted) }
.lead strong { color: var(--ink) }
section { margin-top: 52px }
h2 { margin: 0 0 16px; padding-top: 14px; border-top: 1px solid var(--grid); font-size: 21px; line-height: 1.3 }
h3 { margin: 0 0 6px; font-size: 16px; line-height: 1.4; overflow-wrap: anywhere }
p { margin: 0 }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 28px }
.text { grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)) }
.panels > * { min-width: 0; max-width: 530px }
.card { padding: 16px 20px; border-left: 5px solid; border-radius: 4px; background: var(--card) }
.card .key { display: none }
.card .first { margin-bottom: 6px; font-size: 18px; line-height: 1.4 }
.wide { overflow-x: auto }
table { width: 100%; border-collapse: collapse }
th, td { padding: 8px 22px 8px 0; border-bottom: 1px solid var(--grid); text-align: left; vertical-align: baseline }
thead th { border-bottom: 2px solid var(--muted); overflow-wrap: anywhere }
th { font-weight: 600 }
tbody th { min-width: 11em }
td { font-variant-numeric: tabular-nums; white-space: nowrap }
td small { white-space: normal; min-width: 11em }
td.reading { white-space: normal; color: var(--muted) }
th.reading, td.reading { padding-right: 0; min-width: 19em; font-size: 14px }
small { display: block; font-size: 13px; font-weight: 400; line-height: 1.35; color: var(--muted) }
figure { margin: 0 }
figcaption, .note { margin-top: 14px; max-width: 60em; font-size: 15px; color: var(--muted) }
.note + h3, .none + h3 { margin-top: 32px }
.fact { margin-bottom: 8px; font-size: 14px; line-height: 1.4 }
.none { padding: 20px; max-width: 1088px; border: 1px dashed var(--other); border-radius: 4px; text-align: center;
  color: var(--muted) }
.legend { display: flex; flex-wrap: wrap; gap: 4px 22px; margin: 0 0 14px; padding: 0; list-style: none;
  font-size: 15px }
.key { width: 32px; height: 14px; margin-right: 8px; vertical-align: -1px; fill: currentColor }
.key .stroke { stroke: currentColor; stroke-width: 2 }
.legend i { display: inline-block; width: 24px; height: 12px; margin-right: 8px; vertical-align: -1px }
.legend .bar { opacity: .75 }
figure > .none { margin-top: 20px }
.legend .line { height: 0; border-top: 2px solid var(--muted); vertical-align: 4px }
.legend .dashed { border-top: 2px dashed var(--ink) }
.legend .dotted { border-top: 3px dotted var(--ink) }
.meters { display: grid; grid-template-columns: max-content minmax(90px, 1fr) auto; gap: 3px 10px;
  align-items: center; margin: 10px 0; font-size: 13px; color: var(--muted) }
.meters b { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums }
.meter { position: relative; height: 12px; border-radius: 2px; background: var(--grid); overflow: hidden }
.meter i { position: absolute; inset: 0 auto 0 0 }
.meter .pale { opacity: .45 }
.meter .mark { width: 2px; background: var(--ink) }
.examples li { margin-bottom: 8px }
.examples small { font-size: 15px; line-height: 1.4 }
.legend .dot { width: 12px; border-radius: 50% }
.plot { display: block; width: 100%; height: auto }
.plot * { stroke-linejoin: round; stroke-linecap: butt }
.plot text { font-family: system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif !important }
ol { margin: 0; padding-left: 2em; overflow-wrap: anywhere }
li::marker { color: var(--muted); font-size: 13px; font-variant-numeric: tabular-nums }
li + li { margin-top: 4px }
.legend li + li { margin-top: 0 }
.again { color: var(--muted); opacity: .75 }
footer { margin-top: 52px; padding-top: 14px; border-top: 1px solid var(--grid); font-size: 13px;
  color: var(--muted) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 6px 0 0 }
dt { max-width: 16em; overflow-wrap: anywhere }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere }
code { font: 12px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace }
@media (max-width: 560px) {
  main { padding: 28px 16px }
  dl { grid-template-columns: 1fr }
}
@media print {
  body { font-size: 10.5pt }
  main { max-width: none; padding: 0 }
  section { margin-top: 24px }
  .panels { grid-template-columns: 1fr 1fr; gap: 20px }
  figure, .panels > *, .card, tr { break-inside: avoid }
  h2, h3, .legend { break-after: avoid }
  .wide { overflow: visible }
  .card, .plot, .key, .legend i, .meter, .meter i { print-color-adjust: exact; -webkit-print-color-adjust: exact }
}
"""
