"""The rewards that call something which is no model of ours, one section a kind: a function, a judge, a server."""

import os
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator

from pipeline.config.function_source import find_function
from pipeline.config.reward_section import RewardSection
from pipeline.config.reward_template import read_template, template_columns

LONGEST_PAUSE_S = 60.0  # between two tries of a request, whatever the endpoint asks for
RUBRIC = """\
You judge an assistant's answer to a user. Rate how helpful, correct, relevant and harmless it is, as one integer from
1 (useless or harmful) to 10 (could not be better). Do not favour an answer for its length.
{% if not finished %}
The answer is not finished: judge what is there, and where it is going.
{% endif %}

[Conversation]
{% for message in messages %}
{{ message.role }}: {{ message.content }}
{% endfor %}

[Answer]
{{ response }}

Reply with the integer alone."""
FUNCTION_TRIES = 4  # a call for all its rows, and three of its rows alone, until the others are given up with them


class FunctionReward(RewardSection):
    """A Python function of yours with TRL's signature, `(prompts, completions, **columns) -> list[float]`, sync or
    async. It gets lists, one entry a row: `prompts` are strings, and `completions` too; for rows with messages they are
    lists of messages. What else its signature names without a default are input columns; `finished` says whether a
    response has ended. What it raises is its row's error."""

    throughput_only: ClassVar[frozenset[str]] = frozenset({"num_cpus", "processes", "rows_per_call", "timeout_s"})

    kind: Literal["function"] = "function"
    function: str = Field(description="file.py:name or module:name")
    input_columns: tuple[str, ...] | None = Field(
        None,
        description="input columns that it gets, beside those above; null: the parameters without a default in its "
        "signature, which is read off its source: nothing of it runs before the models load",
    )
    processes: int = Field(
        1, ge=1, description="processes of an actor that run it, each a call at a time; more for a slow one"
    )
    num_cpus: float = Field(
        0.0, ge=0.0, description="CPUs that Ray keeps for each actor; 0: it shares what is idle, as models on CPUs do"
    )
    rows_per_call: int = Field(64, ge=1, description="most rows of one call of the function")
    timeout_s: float = Field(
        120.0, gt=0.0, description="a call that lasts longer is ended, with its process; its rows are tried one by one"
    )

    @field_validator("function")
    @classmethod
    def _exists(cls, function: str) -> str:
        find_function(function)
        return function

    @field_validator("input_columns")
    @classmethod
    def _are_known(cls, columns: tuple[str, ...] | None, known: ValidationInfo) -> tuple[str, ...] | None:
        if columns is None and (function := known.data.get("function")) is not None:
            columns = find_function(function).parameters
            if columns is None:
                raise ValueError(
                    f"the signature of {function!r} cannot be read without running it; name the input columns that it "
                    "takes ([] for none)"
                )
        return columns

    @property
    def title(self) -> str:
        return self.function

    @property
    def files(self) -> tuple[str, ...]:
        path = find_function(self.function).path
        return () if path is None else (str(path),)

    @property
    def columns(self) -> tuple[str, ...]:
        return self.input_columns or ()

    @property
    def cpus(self) -> float:
        return self.num_cpus

    @property
    def width_key(self) -> str:
        return "processes"

    @property
    def longest_call_s(self) -> float:
        return FUNCTION_TRIES * self.timeout_s


class RemoteLimits(RewardSection):
    """How an endpoint of somebody else may be called."""

    throughput_only: ClassVar[frozenset[str]] = frozenset(
        {"api_key_env", "concurrency", "requests_per_minute", "max_tries", "first_pause_s", "timeout_s"}
    )

    api_key_env: str | None = Field(
        None, min_length=1, description="environment variable with the key, sent as a bearer token; null: none is sent"
    )
    concurrency: int = Field(
        16, ge=1, description="requests under way at once; all reward actors of a run share them evenly"
    )
    requests_per_minute: int | None = Field(
        None, ge=1, description="most requests that start in a minute, shared evenly; null: no limit"
    )
    max_tries: int = Field(
        4,
        ge=1,
        description="times that a row is asked about until it is an error row: without a connection, a whole answer in "
        "time or a score in it, and after HTTP 408, 409, 425, 429 and 5xx",
    )
    first_pause_s: float = Field(
        1.0, gt=0.0, le=LONGEST_PAUSE_S, description="pause before the second try; it doubles; Retry-After wins"
    )
    timeout_s: float = Field(60.0, gt=0.0, description="longest wait for a whole answer")

    @field_validator("api_key_env")
    @classmethod
    def _is_set(cls, name: str | None) -> str | None:
        if name is not None and not os.environ.get(name, "").strip():
            raise ValueError(f"the environment variable {name} is not set")
        return name

    def width(self, num_actors: int) -> int:
        """Requests of one actor at once."""
        return max(1, self.concurrency // num_actors)

    @property
    def is_remote(self) -> bool:
        return True

    @property
    def width_key(self) -> str:
        return "concurrency"

    @property
    def longest_call_s(self) -> float:
        return self.max_tries * self.timeout_s + (self.max_tries - 1) * LONGEST_PAUSE_S


class JudgeReward(RemoteLimits):
    """A language model behind an OpenAI-compatible chat endpoint, asked for a score. It needs the extra `judge`."""

    throughput_only: ClassVar[frozenset[str]] = RemoteLimits.throughput_only | {"cache", "max_tokens_spent"}

    kind: Literal["judge"] = "judge"
    base_url: str = Field(description="up to /v1, such as https://api.example.com/v1")
    model: str = Field(min_length=1, description="the model's name there")
    template: str | None = Field(
        None,
        description="a file with a Jinja template of what the judge is asked, over messages, prompt (what the user "
        "said last), response, finished and columns.NAME; null: a rubric of ours, one integer from 1 to 10",
    )
    system: str | None = Field(None, description="a system message before it")
    score_key: str | None = Field(
        None,
        min_length=1,
        description="the reply is a JSON object, and the score its number under this key; null: text",
    )
    scale: tuple[float, float] | None = Field(
        (1.0, 10.0),
        description="the least and the greatest score; a number outside is no score. The reward is as given",
    )
    temperature: float = Field(0.0, ge=0.0, description="of the judge's reply")
    max_tokens: int = Field(512, ge=1, description="most tokens of a reply; one that is cut there has no score")
    extra_body: dict[str, Any] = Field(
        {}, description="further fields of the request, such as {response_format: {type: json_object}}"
    )
    max_tokens_spent: int | None = Field(
        None,
        ge=1,
        description="most tokens that the endpoint may count, prompts and replies together, in all starts of a run; "
        "rows beyond are error rows, and what is under way then is paid too",
    )
    cache: str | None = Field(
        None,
        description="folder of the replies, by what was asked, so that nothing is paid twice; null: _run/replies of "
        "the output; a server keeps none then",
    )

    _text: str = PrivateAttr(RUBRIC)
    _columns: tuple[str, ...] = PrivateAttr(())

    def model_post_init(self, context: Any) -> None:
        """Read the template here, where the config is, so that no other machine needs the file."""
        if self.template is not None:
            self._text = read_template(self.template)
            self._columns = template_columns(self._text)

    @field_validator("template")
    @classmethod
    def _is_template(cls, path: str | None) -> str | None:
        if path is not None:
            template_columns(read_template(path))
        return path

    @field_validator("scale")
    @classmethod
    def _rises(cls, scale: tuple[float, float] | None) -> tuple[float, float] | None:
        if scale is not None and scale[0] >= scale[1]:
            raise ValueError("must be [least, greatest]")
        return scale

    @property
    def title(self) -> str:
        return f"{self.model} at {self.base_url}"

    @property
    def files(self) -> tuple[str, ...]:
        return () if self.template is None else (self.template,)

    @property
    def columns(self) -> tuple[str, ...]:
        return self._columns

    @property
    def template_text(self) -> str:
        """The template's text as it was when the config was read."""
        return self._text

    @property
    def keeps_replies(self) -> bool:
        return self.cache is None
