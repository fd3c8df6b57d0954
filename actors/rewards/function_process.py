"""A user's function in a process of its own, so that whatever it does stays there: it may print, end the process, hang.

    parent   FunctionProcess.call(arguments, R) ──▶ child: function(**arguments) ──▶ R numbers, or faults

Invariants:
- every number that comes back is finite and is the entry of its row in a list of R; all else is a fault;
- a call that lasts too long, or whose process ends, is a fault, and the next call gets a new process;
- the child ends with its parent, also while the function hangs.
"""

import asyncio
import importlib
import importlib.util
import inspect
import math
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from pipeline.config.function_source import GIVEN, is_file, split_name
from pipeline.errors import ConfigError

MODULE_NAME = "stars_reward_function"  # of a file's code; a name that no package has
MAX_LINE_CHARACTERS = 500
CHILD = f"import sys; from {__name__} import run_child; run_child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))"


@dataclass(frozen=True, slots=True)
class CallFault:
    """Why a call gave no numbers, or a row none: a short word, and a sentence."""

    error_type: str
    message: str


class FunctionProcess:
    """One child process and the calls to it, one at a time.

    Args:
        function: `file.py:name` or `module:name`.
        timeout_s: the longest call.

    Raises:
        ConfigError: the function cannot be loaded.
    """

    def __init__(self, function: str, timeout_s: float) -> None:
        self.function = function
        self.timeout_s = timeout_s
        self._child: subprocess.Popen[bytes] | None = None
        self._start()

    def call(self, arguments: dict[str, Any], num_rows: int) -> list[float | CallFault] | CallFault:
        """One number or fault per row; one fault where the call as a whole failed."""
        if self._child is None:
            try:
                self._start()
            except ConfigError as error:
                return CallFault("reward_failed", str(error))
        try:
            self._connection.send((arguments, num_rows))
            if not self._connection.poll(self.timeout_s):
                self.close()
                return CallFault("reward_timeout", f"gave no answer for {self.timeout_s:g} s (reward.timeout_s)")
            return self._connection.recv()
        except (EOFError, OSError):
            exit_code = self._exit_code()
            return CallFault("reward_failed", f"its process ended ({_ending(exit_code)})")

    def close(self) -> None:
        """End the process; the next call starts another."""
        if self._child is not None:
            self._child.kill()
            self._exit_code()

    def _exit_code(self) -> int:
        assert self._child is not None
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout=1.0)  # it has closed its end, so it is about to
        self._child.kill()
        code = self._child.wait()
        self._connection.close()
        os.close(self._lifeline)
        self._child = None
        return code

    def _start(self) -> None:
        self._connection, theirs = Pipe()
        their_lifeline, self._lifeline = os.pipe()
        handles = (theirs.fileno(), their_lifeline)
        command = [sys.executable, "-c", CHILD, self.function, *map(str, handles)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        self._child = subprocess.Popen(
            command, pass_fds=handles, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
        )
        theirs.close()
        os.close(their_lifeline)
        try:
            failure: str | None = self._connection.recv()
        except EOFError:
            failure = f"its process ended ({_ending(self._exit_code())})"
        if failure is not None:
            if self._child is not None:
                self._exit_code()
            raise ConfigError(f"reward.function {self.function!r} cannot be loaded: {failure}")


def _ending(exit_code: int) -> str:
    return f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"


def run_child(function: str, handle: int, lifeline: int) -> None:
    """Answer calls until the parent closes the connection."""
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    connection = Connection(handle)
    try:
        call = load_function(function)
    except BaseException as error:
        connection.send(last_line(error))
        return
    connection.send(None)
    caller = Caller(call)
    with suppress(EOFError):
        while True:
            connection.send(caller.answer(*connection.recv()))


def _end_with_parent(lifeline: int) -> None:
    """The parent holds the other end and writes nothing, so that reading it ends with the parent."""
    os.read(lifeline, 1)
    os._exit(1)


def load_function(function: str) -> Callable[..., Any]:
    """Import it; raises whatever its code raises."""
    place, name = split_name(function)
    if is_file(place):
        path = Path(place).expanduser().resolve()
        sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(MODULE_NAME, path)
        assert spec is not None and spec.loader is not None
        module = sys.modules[MODULE_NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    found = getattr(module, name)
    if not callable(found):
        raise TypeError(f"{name} is a {type(found).__name__}, not a function")
    return found


class Caller:
    """Calls a function, sync or async, and reads what it gives. All of its calls share an event loop.

    Args:
        function: called with lists by name.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.runner = asyncio.Runner()

    def answer(self, arguments: dict[str, Any], num_rows: int) -> list[float | CallFault] | CallFault:
        """See `FunctionProcess.call`."""
        try:
            result = self.function(**_wanted(self.function, arguments))
            if inspect.isawaitable(result):
                result = self.runner.run(_awaited(result))
            if not isinstance(result, list | tuple) and hasattr(result, "tolist"):
                result = result.tolist()  # arrays, tensors and series
            if not isinstance(result, list | tuple):
                return CallFault("bad_reward", f"gave a {type(result).__name__}, not a list of {num_rows} numbers")
            if len(result) != num_rows:
                return CallFault("bad_reward", f"gave a list of {len(result)} for {num_rows} rows")
            return [_number(value) for value in result]
        except BaseException as error:  # SystemExit too: it would end the process, and the call with it
            return CallFault("reward_failed", f"raised {last_line(error)}{_place(error)}")


async def _awaited(result: Any) -> Any:
    return await result


def _wanted(function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """All arguments, but of what every function may ask for only what this one does."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return arguments
    return {name: value for name, value in arguments.items() if name in parameters or name not in GIVEN}


def _number(value: Any) -> float | CallFault:
    if value is None or isinstance(value, str | bytes):
        return CallFault("bad_reward", f"gave {_shortened(repr(value))}, not a number")
    try:
        number = float(value)
    except Exception:
        return CallFault("bad_reward", f"gave a {type(value).__name__}, not a number")
    return number if math.isfinite(number) else CallFault("bad_reward", f"gave {number}, not a finite number")


def last_line(error: BaseException) -> str:
    """The last line of a traceback."""
    lines = [line for part in traceback.format_exception_only(error) for line in part.splitlines() if line.strip()]
    return _shortened(lines[-1].strip() if lines else type(error).__name__)


def _place(error: BaseException) -> str:
    """Where the function raised; nothing where it was not reached."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def _shortened(line: str) -> str:
    return line if len(line) <= MAX_LINE_CHARACTERS else f"{line[:MAX_LINE_CHARACTERS]} …"
