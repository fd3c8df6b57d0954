"""The report as Markdown."""

from collections.abc import Sequence

from jobs.compare.report.document import Answers, Block, Heading, Paragraph, Picture, Points, Table

SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]<>#|"})


def to_markdown(blocks: Sequence[Block]) -> str:
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Paragraph(text):
            return text
        case Points(items):
            return "\n".join(f"- {item}" for item in items)
        case Picture(file, text):
            return f"![{text}]({file})"
        case Table(header, rows):
            ruler = ["---", *["---:"] * (len(header) - 1)]
            return "\n".join(_row(cells) for cells in (header, ruler, *rows))
        case Answers(prompt, answers):
            texts = [f"**Prompt:** {_quoted(prompt)}", *(f"**{who}:** {_quoted(text)}" for who, text in answers)]
            return "\n>\n".join(f"> {text}" for text in texts)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _quoted(text: str) -> str:
    """Foreign text as it is: nothing in it is markup, and every line stays in the quote."""
    return "\n> ".join(text.translate(SPECIAL).splitlines())
