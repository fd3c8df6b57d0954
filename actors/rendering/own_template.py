"""A Jinja template of the user's own, in the sandbox that chat templates are rendered in."""

from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipeline.errors import ConfigError, RowError


class OwnTemplate:
    """A template file.

    Args:
        file: its path.

    Raises:
        ConfigError: it cannot be read, or is no template.
    """

    def __init__(self, file: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )
        try:
            self._template = environment.from_string(Path(file).expanduser().read_text("utf-8"))
        except (OSError, UnicodeDecodeError, jinja2.TemplateError) as error:
            raise ConfigError(f"template {file!r}: {error}") from None

    def render(self, **values: Any) -> str:
        """The text; raises RowError where the template refuses these values."""
        try:
            return self._template.render(**values)
        except (jinja2.TemplateError, TypeError, ValueError) as error:  # templates compute with what they are given
            raise RowError("template_error", f"the reward's template refuses this row: {error}") from None
