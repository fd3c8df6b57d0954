"""Jinja templates over a conversation: which names they may use, and which input columns they read, found unrendered.

{{ messages }}  the conversation, a list of {role, content}; a text prompt is one user turn
{{ prompt }}    the text prompt, or what the user said last
{{ response }}  the response so far
{{ finished }}  whether it has ended
{{ columns.NAME }}  an input column
"""

from pathlib import Path

import jinja2
from jinja2 import meta, nodes

GIVEN_NAMES = ("messages", "prompt", "response", "finished", "columns")


def read_template(path: str) -> str:
    """The text of a template file; raises ValueError where there is none."""
    try:
        return Path(path).expanduser().read_text("utf-8")
    except OSError as error:
        raise ValueError(f"{path!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path!r} is not text in UTF-8") from None


def template_columns(template: str) -> tuple[str, ...]:
    """The input columns that a template reads.

    Raises:
        ValueError: it is no template, uses a name that it is not given, or reads columns that rendering alone shows.
    """
    try:
        tree = jinja2.Environment().parse(template)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"line {error.lineno} is no Jinja: {error.message}") from None
    unknown = sorted(meta.find_undeclared_variables(tree) - set(GIVEN_NAMES))
    if unknown:
        known = ", ".join((*GIVEN_NAMES[:-1], "columns.NAME"))
        raise ValueError(f"uses {', '.join(map(repr, unknown))}; a template may use {known}")
    read = [name for node in tree.find_all((nodes.Getattr, nodes.Getitem)) if (name := _column(node)) is not None]
    if len(read) != sum(node.name == "columns" for node in tree.find_all(nodes.Name)):
        raise ValueError("reads columns in another way than columns.NAME, so that it is not known which")
    return tuple(dict.fromkeys(read))


def _column(node: nodes.Expr) -> str | None:
    assert isinstance(node, nodes.Getattr | nodes.Getitem)
    if not (isinstance(node.node, nodes.Name) and node.node.name == "columns"):
        return None
    if isinstance(node, nodes.Getattr):
        return node.attr
    key = node.arg.value if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) else None
    return key if isinstance(key, str) else None
