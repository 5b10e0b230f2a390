"""One self-contained HTML page of words, tables and pictures; opens from a mail or a USB stick."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from PIL import Image

_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1320px; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.data { display: inline-block; background: #fff3d6; border: 1px solid #e0b84c; border-radius: 4px;
  padding: .1rem .6rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid #888; } tr:hover td { background: #f6f8fa; }
img { max-width: 100%; border: 1px solid #eee; } p.note { color: #555; max-width: 60rem; }
</style></head><body>
<h1>{{ title }}</h1>
<p class="data">{{ data }}</p>
{% for words in lead %}<p>{{ words }}</p>
{% endfor %}{% for section in sections %}<h2>{{ section.heading }}</h2>
{% if section.note %}<p class="note">{{ section.note }}</p>
{% endif %}{% if section.rows %}<div class="wide"><table><thead><tr>
{% for name in section.columns %}<th>{{ name }}</th>{% endfor %}</tr></thead><tbody>
{% for row in section.rows %}<tr>{% for value in row %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% endif %}{% for picture in section.pictures %}<p><img alt="{{ section.heading }}" src="{{ picture | embed }}"></p>
{% endfor %}{% endfor %}</body></html>
"""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with words, a table of ready texts, and PNG files."""

    heading: str
    note: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    pictures: Sequence[Path] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page; `data` says what data its numbers are from."""

    title: str
    data: str
    lead: Sequence[str]
    sections: Sequence[Section]

    def save(self, path: Path) -> Path:
        """Write the page with its pictures inside."""
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
        environment.filters["embed"] = _embed
        template = environment.from_string(_TEMPLATE)
        text = template.render(title=self.title, data=self.data, lead=self.lead, sections=self.sections)
        path.write_text(text, encoding="utf-8")
        return path


def _embed(picture: Path) -> str:
    """Return a PNG as a JPEG data address: a tenth of the size, so that a page with fifty pictures can be mailed."""
    packed = io.BytesIO()
    with Image.open(picture) as opened:
        opened.convert("RGB").save(packed, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode()
