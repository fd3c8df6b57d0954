"""The README's picture: a real run in a terminal, as an animated SVG.

    python docs/make_picture.py --recording run.json      # runs the embedded example, keeps what it wrote, draws it
    python docs/make_picture.py --recording run.json      # again: draws the recording that is there

Invariants: every character in the picture was written to the terminal by the command that it shows, except the prompt
line; only time is changed: waiting is cut short, and the rest is played faster. The picture begins with the last
screen, and shows only that where there is no animation (reduced motion, a printer). Colours follow the reader's theme.
"""

import argparse
import json
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fcntl import ioctl
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.sax.saxutils import escape

COMMAND = (
    "python -m jobs.align --config jobs/configs/embedded.yaml max_rows=200 baseline_rows=200 output=outputs/aligned"
)
COLUMNS, ROWS = 112, 60
LONGEST_WAIT_S, SPEED = 1.0, 4
SHORTEST_SCREEN_S, LAST_SCREEN_S = 0.1, 10.0
CELL_WIDTH, CELL_HEIGHT, MARGIN = 8.4, 16.4, 18.0
CONTROL = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|([\r\n])")
NAMED = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")

Recording = list[tuple[float, str]]

STYLE = """
svg { --back: #ffffff; --edge: #d0d7de; --text: #24292f; --faint: #6e7781; --green: #1a7f37; --red: #cf222e;
      --yellow: #9a6700; --blue: #0969da; --magenta: #bf3989; --cyan: #1b7c83; --bar: #d0d7de; }
@media (prefers-color-scheme: dark) {
  svg { --back: #0d1117; --edge: #30363d; --text: #e6edf3; --faint: #8b949e; --green: #3fb950; --red: #ff7b72;
        --yellow: #d29922; --blue: #58a6ff; --magenta: #f778ba; --cyan: #39c5cf; --bar: #30363d; } }
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: var(--text);
       white-space: pre; }
.bold { font-weight: 700 } .italic { font-style: italic } .dim { fill: var(--faint) }
.green { fill: var(--green) } .red { fill: var(--red) } .yellow { fill: var(--yellow) } .blue { fill: var(--blue) }
.magenta { fill: var(--magenta) } .cyan { fill: var(--cyan) } .bar { fill: var(--bar) } .done { fill: var(--magenta) }
.gone { visibility: hidden }
@media (prefers-reduced-motion: reduce) { g { animation: none !important } }
"""


@dataclass(frozen=True)
class Look:
    """How a character is written."""

    bold: bool = False
    italic: bool = False
    dim: bool = False
    colour: str = ""

    @property
    def classes(self) -> str:
        names = [name for name in ("bold", "italic", "dim") if getattr(self, name)]
        return " ".join([*names, self.colour] if self.colour else names)


Line = tuple[tuple[str, Look], ...]


class Terminal:
    """As much of a terminal as rich uses: lines, colours, and a cursor that goes up and starts lines again."""

    def __init__(self) -> None:
        self.lines: list[list[tuple[str, Look]]] = [[]]
        self.row, self.column, self.look = 0, 0, Look()

    def write(self, text: str) -> None:
        at = 0
        for control in CONTROL.finditer(text):
            self._print(text[at : control.start()])
            self._obey(control[2] or control[3], control[1] or "")
            at = control.end()
        self._print(text[at:])

    def screen(self) -> list[Line]:
        return [tuple(line) for line in self.lines]

    def _print(self, text: str) -> None:
        line = self.lines[self.row]
        for character in text:
            line.extend((" ", Look()) for _ in range(self.column + 1 - len(line)))
            line[self.column] = (character, self.look)
            self.column += 1

    def _obey(self, name: str, parameters: str) -> None:
        if name == "\r":
            self.column = 0
        elif name == "\n":
            self.row += 1
            self.lines.extend([] for _ in range(self.row + 1 - len(self.lines)))
        elif name == "A":
            self.row = max(0, self.row - int(parameters or 1))
        elif name == "K":
            del self.lines[self.row][0 if parameters == "2" else self.column :]
        elif name == "m":
            self.look = restyled(self.look, [int(code or 0) for code in parameters.split(";")])
        elif name not in "hl":  # those hide and show the cursor
            raise ValueError(f"the terminal does not know the control sequence {parameters}{name}")


def restyled(look: Look, codes: list[int]) -> Look:
    """`look` after a sequence of SGR codes."""
    while codes:
        code = codes.pop(0)
        if code == 38:
            look = replace(look, colour=extended_colour(codes))
        elif code in (0, 39) or 30 <= code <= 37 or 90 <= code <= 97:
            look = Look() if code == 0 else replace(look, colour="" if code == 39 else NAMED[code % 10])
        elif code in (1, 2, 3):
            look = replace(look, **{{1: "bold", 2: "dim", 3: "italic"}[code]: True})
        elif code in (22, 23):
            look = replace(look, bold=False, dim=False) if code == 22 else replace(look, italic=False)
        else:
            raise ValueError(f"the terminal does not know the style {code}")
    return look


def extended_colour(codes: list[int]) -> str:
    """The class of a colour given by number or by red, green, blue: rich's progress bars use them."""
    if codes.pop(0) == 5:
        return "bar" if codes.pop(0) >= 232 else "done"
    red, green, blue = (codes.pop(0) for _ in range(3))
    return "bar" if red == green == blue else "green" if green > red else "done"


def record(command: str) -> Recording:
    """Run the command in a terminal of its own; what it wrote there, with the seconds since its start."""
    ours, its = pty.openpty()
    ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    program, *arguments = shlex.split(command)
    environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "RAY_USAGE_STATS_ENABLED": "0"}
    with TemporaryDirectory() as folder, (Path(folder) / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable if program == "python" else program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=its,
            stderr=errors,
            env=environment,
        )
        os.close(its)
        recording = list(_written(ours))
        if process.wait() != 0:
            raise SystemExit(f"{command} failed:\n{(Path(folder) / 'stderr').read_text()[-2000:]}")
    return recording


def _written(terminal: int) -> Iterator[tuple[float, str]]:
    started = time.monotonic()
    rest = b""
    while True:
        try:
            rest += os.read(terminal, 1 << 16)
        except OSError:  # Linux reports a terminal that nobody writes to any more so
            return
        try:
            yield time.monotonic() - started, rest.decode()
        except UnicodeDecodeError:  # a character was cut in two
            continue
        rest = b""


def screens(recording: Recording, command: str) -> list[tuple[float, list[Line]]]:
    """What stands on the terminal from when on, the waiting cut short."""
    terminal, shown, clock, last = Terminal(), [], 0.0, 0.0
    terminal.write(f"\x1b[1;32m$\x1b[0m {command}\r\n")
    for second, text in [(0.0, ""), *recording]:
        clock += min(second - last, LONGEST_WAIT_S) / SPEED
        last = second
        terminal.write(text)
        if shown and clock - shown[-1][0] < SHORTEST_SCREEN_S:
            shown[-1] = (shown[-1][0], terminal.screen())
        else:
            shown.append((clock, terminal.screen()))
    return shown


def draw(shown: list[tuple[float, list[Line]]]) -> str:
    """The SVG. Each line of a screen is drawn once, and visible for as long as it stood there."""
    end = shown[-1][0] + LAST_SCREEN_S
    rows = max(row + 1 for _, screen in shown for row, line in enumerate(screen) if line)
    width, height = COLUMNS * CELL_WIDTH + 2 * MARGIN, rows * CELL_HEIGHT + 2 * MARGIN
    groups: dict[tuple[float, float], list[str]] = defaultdict(list)
    for row in range(rows):
        for start, stop, line in _lives(shown, row, end):
            groups[start, stop].extend(_drawn(line, row))
    rules, parts = [STYLE], []
    for number, ((start, stop), texts) in enumerate(sorted(groups.items())):
        rules.append(f"@keyframes k{number} {{ {_keyframes(start, stop, end)} }}")
        parts.append(
            f'<g class="{"last" if stop == end else "gone"}" style="animation: k{number} {end:.2f}s step-end '
            f'-{end - LAST_SCREEN_S:.2f}s infinite">{"".join(texts)}</g>'
        )
    rules_text, groups_text = "\n".join(rules), "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="A run in a terminal">\n<style>{rules_text}</style>\n'
        f'<rect x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1:.0f}" rx="8" '
        f'fill="var(--back)" stroke="var(--edge)"/>\n{groups_text}\n</svg>\n'
    )


def _keyframes(start: float, stop: float, end: float) -> str:
    """Visible from `start` to `stop` of `end` seconds."""
    changes = [(0.0, start == 0), (start, True), (stop, stop == end)]
    return " ".join(
        f"{100 * second / end:.3f}% {{ visibility: {'visible' if is_visible else 'hidden'} }}"
        for second, is_visible in changes
    )


def _lives(shown: list[tuple[float, list[Line]]], row: int, end: float) -> Iterator[tuple[float, float, Line]]:
    """The stretches of time in which one row of the terminal stood still."""
    line: Line = ()
    since = 0.0
    for clock, screen in shown:
        now = screen[row] if row < len(screen) else ()
        if now != line:
            yield from [(since, clock, line)] if line else []
            line, since = now, clock
    yield from [(since, end, line)] if line else []


def _drawn(line: Line, row: int) -> Iterator[str]:
    """One text element for each stretch of characters that look alike; blanks are not drawn."""
    y, column = MARGIN + (row + 0.75) * CELL_HEIGHT, 0
    while column < len(line):
        stop = column
        while stop < len(line) and line[stop][1] == line[column][1]:
            stop += 1
        text = "".join(character for character, _ in line[column:stop])
        first = column + len(text) - len(text.lstrip())
        if kept := text.strip():
            classes = f' class="{line[column][1].classes}"' if line[column][1].classes else ""
            yield (
                f'<text x="{MARGIN + first * CELL_WIDTH:.1f}" y="{y:.1f}"{classes} '
                f'textLength="{len(kept) * CELL_WIDTH:.1f}" lengthAdjust="spacingAndGlyphs">{escape(kept)}</text>'
            )
        column = stop


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Draw a run in a terminal as an animated SVG.")
    parser.add_argument("--command", default=COMMAND, help=f"what to run, and to show as run [{COMMAND}]")
    parser.add_argument("--recording", type=Path, help="what it wrote, as JSON; drawn again if it is there")
    parser.add_argument("--output", type=Path, default=Path("docs/run.svg"), help="the picture [docs/run.svg]")
    options = parser.parse_args(arguments)
    if options.recording and options.recording.is_file():
        recording = [(second, text) for second, text in json.loads(options.recording.read_text())]
    else:
        recording = record(options.command)
        if options.recording:
            options.recording.write_text(json.dumps(recording))
    options.output.write_text(draw(screens(recording, options.command)), encoding="utf-8")
    print(f"written: {options.output}, {options.output.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
