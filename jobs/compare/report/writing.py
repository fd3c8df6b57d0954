"""Writes a comparison's files: compare.json, the pictures, report.md and report.html."""

from jobs.compare.figures.records import CompareFigures
from jobs.compare.report.page import to_page
from jobs.compare.report.pictures import draw_pictures
from jobs.compare.report.sections import report_markdown
from pipeline.storage import Location


def write_report(figures: CompareFigures, folder: Location) -> None:
    """Each file is written atomically."""
    folder.create_directory()
    figures.save(folder / "compare.json")
    drawn = draw_pictures(figures)
    pictures = {file: png for file, (_, png) in drawn.items()}
    for file, png in pictures.items():
        with (folder / file).atomic_writer() as stream:
            stream.write(png)
    markdown = report_markdown(figures, {file: caption for file, (caption, _) in drawn.items()})
    title = f"Comparison: {', '.join(c.name for c in figures.contenders)}"
    (folder / "report.md").write_text(markdown)
    (folder / "report.html").write_text(to_page(title, markdown, pictures))
