"""The forms of Markdown that the report is made of. Text from elsewhere (prompts, responses, paths) goes through
`literal`: nothing in it is markup."""

import re
from collections.abc import Sequence

from jobs.compare.report.formatting import NOTHING

SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]<>#|&~"})
BLOCK_START = re.compile(r"^([ \t]*)([-+=]|\d+[.)])")
SPACES = re.compile(r"^[ \t]+|[ \t]{2,}")
HARD_BREAK = "\\\n"


def literal(text: str, indent: str = "") -> str:
    """Foreign text as it is, line by line and space by space; `indent` begins every line but the first."""
    lines = [BLOCK_START.sub(_escaped, line.translate(SPECIAL)) for line in text.strip("\r\n").splitlines()]
    return f"{HARD_BREAK}{indent}".join(SPACES.sub(lambda found: "&nbsp;" * len(found[0]), line) for line in lines)


def _escaped(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2][:-1]}\\{found[2][-1]}"


def heading(text: str, level: int = 2) -> str:
    return f"{'#' * level} {text}"


def points(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column is text, all others are figures."""
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(_row(cells) for cells in (header, ruler, *rows))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def picture(file: str, caption: str) -> str:
    return f"![{caption}]({file}){HARD_BREAK}*{caption}*"


def answers(prompt: str, given: Sequence[tuple[str, str]]) -> str:
    """Responses to one prompt: (who gave it, with figures; the response)."""
    items = [f"> - **{who}**{HARD_BREAK}>   {literal(response, '>   ') or NOTHING}" for who, response in given]
    return "\n".join([f"> **Prompt:** {literal(prompt, '> ')}", ">", *items])
