"""Renders a template over one conversation (`pipeline.config.reward_template` says what it is given)."""

from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from actors.rendering.prompt_reader import messages_of
from pipeline.errors import RowError
from pipeline.records import PromptRow


class ConversationTemplate:
    """A template that is compiled once.

    Args:
        text: of the template.
    """

    def __init__(self, text: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False
        )
        self.template = environment.from_string(text)

    def render(self, row: PromptRow, response: str, finished: bool) -> str:
        """Raises RowError where the template fails on this conversation."""
        messages = messages_of(row)
        prompt = row.prompt if row.messages is None else messages[-1]["content"]
        given: dict[str, Any] = {"messages": messages, "prompt": prompt, "response": response, "finished": finished}
        try:
            return self.template.render(given, columns=row.columns)
        except Exception as error:  # a template computes with what it is given, and may fail in any way
            line = " ".join(str(error).split())
            raise RowError("template_error", f"the reward's template: {type(error).__name__}: {line}") from None
