"""Writes the comparison down: compare.json, the pictures, report.md and report.html."""

from jobs.compare.figures.figures import CompareFigures
from jobs.compare.report.markdown import to_markdown
from jobs.compare.report.page import to_page
from jobs.compare.report.pictures import draw_pictures
from jobs.compare.report.sections import report_blocks
from pipeline.storage import Location


def write_report(figures: CompareFigures, folder: Location) -> None:
    """Each file appears whole or not at all."""
    folder.create_directory()
    figures.save(folder / "compare.json")
    drawn = draw_pictures(figures)
    for file, (_, png) in drawn.items():
        with (folder / file).atomic_writer() as stream:
            stream.write(png)
    blocks = report_blocks(figures, {file: caption for file, (caption, _) in drawn.items()})
    title = f"Comparison: {', '.join(c.name for c in figures.contenders)}"
    (folder / "report.md").write_text(to_markdown(blocks))
    (folder / "report.html").write_text(to_page(title, blocks, {file: png for file, (_, png) in drawn.items()}))
