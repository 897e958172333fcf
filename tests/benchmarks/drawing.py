"""The one drawing of docs/performance.md: bars, as an SVG that a browser shows alone."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

_WIDTH = 860
_LABEL = 300
_LONGEST = 440
_LINE = 26
_HEAD = 44
_STYLE = """\
text { font: 14px system-ui, sans-serif; fill: #1f2937 }
.title { font-weight: 600 }
rect { fill: #94a3b8 }
.ours { fill: #0f766e }
@media (prefers-color-scheme: dark) { text { fill: #e5e7eb } .ours { fill: #2dd4bf } }
"""


def bars(groups: Mapping[str, Mapping[str, float]]) -> str:
    """Bars by title and name; those of the portal stand out."""
    parts: list[str] = []
    y = 0
    for title, values in groups.items():
        y += _HEAD
        parts.append(f'<text class="title" x="0" y="{y - 14}">{escape(title)}</text>')
        most = max(values.values(), default=1)
        for name, value in sorted(values.items(), key=lambda one: -one[1]):
            width = max(1, round(value / most * _LONGEST))
            ours = ' class="ours"' if name.startswith("this portal") else ""
            parts += [
                f'<text x="{_LABEL - 10}" y="{y + 15}" text-anchor="end">{escape(name)}</text>',
                f'<rect{ours} x="{_LABEL}" y="{y}" width="{width}" height="20" rx="2"/>',
                f'<text x="{_LABEL + width + 8}" y="{y + 15}">{value:,.0f}</text>',
            ]
            y += _LINE
    body = "\n".join(parts)
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 8}" role="img">
<title>Records a second, taken and queued</title>
<style>
{_STYLE}</style>
{body}
</svg>
"""
