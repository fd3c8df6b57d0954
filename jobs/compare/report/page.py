"""The report as one HTML file with its pictures inside: nothing is loaded from anywhere."""

import base64
import html
import re
from collections.abc import Mapping, Sequence

from jobs.compare.report.document import Answers, Block, Heading, Paragraph, Picture, Points, Table

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430; }
h1 { font-size: 1.6rem; margin-bottom: .5rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; }
.verdict { background: #eef5f1; border-left: 4px solid #2a7f62; padding: .4rem 1.2rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; margin: .8rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #d8dee6; text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; white-space: nowrap; } th { border-bottom: 2px solid #9aa6b5; }
img { max-width: 100%; height: auto; } figure { margin: 1rem 0; } figcaption { font-size: .88rem; color: #55606e; }
.answers { border: 1px solid #d8dee6; border-radius: 6px; padding: .6rem 1rem; margin: 1rem 0; font-size: .92rem; }
.answers div { display: grid; grid-template-columns: 1fr 1fr; gap: 1.2rem; }
.answers p { white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0; }
.answers b { display: block; color: #55606e; }
@media (max-width: 700px) { .answers div { grid-template-columns: 1fr; } }
"""


def to_page(title: str, blocks: Sequence[Block], pictures: Mapping[str, bytes]) -> str:
    """The blocks as a page; `pictures` holds the PNG of every Picture by its file name."""
    body = "\n".join(_block(block, pictures) for block in blocks)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{html.escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _block(block: Block, pictures: Mapping[str, bytes]) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_inline(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{_inline(text)}</p>"
        case Points(items):
            return f"<ul>{''.join(f'<li>{_inline(item)}</li>' for item in items)}</ul>"
        case Picture(file, text):
            data = base64.b64encode(pictures[file]).decode()
            image = f'<img src="data:image/png;base64,{data}" alt="{html.escape(text)}">'
            return f"<figure>{image}<figcaption>{_inline(text)}</figcaption></figure>"
        case Table(header, rows):
            head = "".join(f"<th>{_inline(cell)}</th>" for cell in header)
            lines = "".join(f"<tr>{''.join(f'<td>{_inline(cell)}</td>' for cell in row)}</tr>" for row in rows)
            return f'<div class="scroll"><table><tr>{head}</tr>{lines}</table></div>'
        case Answers(prompt, answers):
            columns = "".join(
                f"<section><b>{html.escape(who)}</b><p>{html.escape(t)}</p></section>" for who, t in answers
            )
            return f'<div class="answers"><b>Prompt</b><p>{html.escape(prompt)}</p><div>{columns}</div></div>'


def _inline(text: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text, quote=False))
