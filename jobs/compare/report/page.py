"""The report as one HTML file with its pictures inside: nothing is loaded from anywhere."""

import base64
import html
from collections.abc import Mapping, Sequence

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430; }
h1 { font-size: 1.6rem; margin-bottom: .5rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; }
h1 + ul { background: #eef5f1; border-left: 4px solid #2a7f62; padding: .6rem 1.2rem .6rem 2.2rem; }
table { display: block; overflow-x: auto; border-collapse: collapse; font-size: .88rem; margin: .8rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #d8dee6; vertical-align: top; text-align: left; }
th { border-bottom: 2px solid #9aa6b5; } td:first-child { white-space: nowrap; }
img { max-width: 100%; height: auto; } img ~ em { font-style: normal; font-size: .88rem; color: #55606e; }
blockquote { border: 1px solid #d8dee6; border-radius: 6px; padding: .2rem 1rem; margin: 1rem 0; font-size: .92rem; }
blockquote ul { display: grid; grid-template-columns: 1fr 1fr; gap: 1.2rem; list-style: none; padding: 0; }
blockquote { overflow-wrap: anywhere; } blockquote strong { color: #55606e; }
@media (max-width: 700px) { blockquote ul { grid-template-columns: 1fr; } }
"""


def to_page(title: str, markdown: str, pictures: Mapping[str, bytes]) -> str:
    """The report as a page; `pictures` holds the PNG of every picture by its file name."""
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    renderer.add_render_rule("image", _embedded_image)
    body = renderer.render(markdown, {"pictures": pictures})
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{html.escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _embedded_image(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    png = env["pictures"][tokens[index].attrs["src"]]
    tokens[index].attrs["src"] = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return renderer.image(tokens, index, options, env)
