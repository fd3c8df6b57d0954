"""A language model behind an OpenAI-compatible chat endpoint as a reward: asked by a rubric; its reply holds a score.

A reply without a score is asked for again, as a failed request is (`remote_calls`); what is left then is the row's
fault. Replies that have a score are kept (`reply_store`), so that nothing is paid twice.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from actors.rewards.conversation_template import ConversationTemplate
from actors.rewards.conversations import RESPONSE
from actors.rewards.interface import RewardContext, RewardTraits
from actors.rewards.remote_calls import PASSING, BackgroundLoop, GivenUp, RemoteCalls, TryAgain, retry_after_s
from actors.rewards.reply_store import ReplyStore, question_key
from actors.rewards.score_reading import NoScore, read_score
from pipeline.config.called_rewards import JudgeReward
from pipeline.errors import ConfigError, RowError
from pipeline.protocol import CallStats, ScoreCohort, Scores
from pipeline.records import PromptRow

Message = dict[str, str]
MAX_CAUSE_CHARACTERS = 300
CHARACTERS_PER_TOKEN = 4  # where an endpoint does not count


class ChatJudge:
    """Asks the judge about each row of a cohort.

    Args:
        section: the endpoint and the rubric.
        context: how many actors share its limits, and where replies are kept.

    Raises:
        ConfigError: the client, the key or the folder is missing.
    """

    def __init__(self, section: JudgeReward, context: RewardContext) -> None:
        self.section = section
        self.template = ConversationTemplate(section.template_text)
        folder = section.cache or context.reply_folder
        try:
            self.store = ReplyStore(None if folder is None else Path(folder).expanduser())
        except OSError as error:
            raise ConfigError(f"reward.cache: replies cannot be kept in {folder!r}: {error.strerror}") from None
        self.loop = BackgroundLoop()
        self.client, self.headers = _client(section)
        self.calls = RemoteCalls(section, context.num_actors)
        self.asking: dict[str, asyncio.Future[float]] = {}

    def score(self, cohort: ScoreCohort) -> Scores:
        """The judge's score of each row, or the row's fault."""
        started_s = time.time()
        rewards_R, faults, busy_s = self.loop.run(self._scores(cohort))
        stats = CallStats(
            np.zeros(len(cohort), np.int32), started_s, time.time(), shared_busy_s=busy_s / self.calls.width
        )
        return Scores(rewards_R, stats, faults)

    def close(self) -> None:
        """End the connections and the thread."""
        self.loop.run(self.client.close())
        self.loop.close()

    async def _scores(self, cohort: ScoreCohort) -> tuple[Any, dict[int, tuple[str, str]], float]:
        assert cohort.texts is not None
        rows = zip(cohort.rows, cohort.texts, cohort.finished_R.tolist(), strict=True)
        outcomes = await asyncio.gather(*(self._outcome(*row) for row in rows))
        rewards_R, faults = np.full(len(cohort), np.nan), dict[int, tuple[str, str]]()
        for place, (outcome, _) in enumerate(outcomes):
            if isinstance(outcome, RowError):
                faults[place] = (outcome.error_type, f"reward {self.section.title}: {outcome.message}")
            else:
                rewards_R[place] = outcome
        return rewards_R, faults, sum(busy_s for _, busy_s in outcomes)

    async def _outcome(self, row: PromptRow, text: str, finished: bool) -> tuple[float | RowError, float]:
        """The score of one row or its fault, and the seconds for which the endpoint was busy with it."""
        started_s = time.monotonic()
        try:
            messages = self._question(row, text, finished)
            key = self._key(messages)
            reply = self.store.get(key)
            if reply is not None:
                return self._read(reply), 0.0
            return await self._asked_once(messages, key), time.monotonic() - started_s
        except RowError as error:
            return error, time.monotonic() - started_s
        except GivenUp as error:
            return RowError("reward_failed", str(error)), time.monotonic() - started_s

    async def _asked_once(self, messages: list[Message], key: str) -> float:
        """The score by a request, or by the one that another row has under way for the same question."""
        asking = self.asking.get(key)
        if asking is None:
            asking = self.asking[key] = asyncio.ensure_future(self.calls.call(lambda: self._attempt(messages, key)))
            asking.add_done_callback(lambda _: self.asking.pop(key))
        return await asking

    def _question(self, row: PromptRow, text: str, finished: bool) -> list[Message]:
        return question(self.section, self.template, row, text, finished)

    def _key(self, messages: list[Message]) -> str:
        asked = self.section
        how = (asked.base_url, asked.model, asked.temperature, asked.max_tokens, asked.extra_body)
        return question_key(*how, messages)

    def _read(self, reply: str) -> float:
        return read_score(reply, self.section.score_key, self.section.scale)

    async def _attempt(self, messages: list[Message], key: str) -> float:
        """Ask once; raises TryAgain, GivenUp or RowError."""
        limit = self.section.max_tokens_spent
        if limit is not None and self.store.spent_tokens >= limit:
            raise RowError("token_budget", f"{self.store.spent_tokens} tokens are spent of max_tokens_spent = {limit}")
        reply, is_cut, tokens = await self._reply(messages)
        try:
            if is_cut:
                raise NoScore(f"the reply was cut after max_tokens = {self.section.max_tokens}")
            number = self._read(reply)
        except NoScore as error:
            self.store.put(key, tokens, None)
            raise TryAgain(str(error)) from None
        self.store.put(key, tokens, reply)
        return number

    async def _reply(self, messages: list[Message]) -> tuple[str, bool, int]:
        """What the judge wrote, whether it was cut, and the tokens it cost."""
        from openai import APIConnectionError, APIStatusError, OpenAIError

        try:
            completion = await self.client.chat.completions.create(
                model=self.section.model,
                messages=messages,
                temperature=self.section.temperature,
                max_tokens=self.section.max_tokens,
                extra_headers=self.headers,
                extra_body=self.section.extra_body,
            )
            choice = completion.choices[0]
            reply = choice.message.content or ""
            if not isinstance(reply, str):
                raise TypeError(type(reply).__name__)
            return reply, choice.finish_reason == "length", _tokens(completion, messages, reply)
        except APIStatusError as error:
            cause = f"HTTP {error.status_code} {_line(error.response.text)}"
            if error.status_code not in PASSING:
                raise GivenUp(cause) from None
            pause_s = retry_after_s(error.response.headers)
            raise TryAgain(cause, pause_s, is_busy=error.status_code in (429, 503)) from None
        except APIConnectionError as error:
            raise TryAgain(f"no whole answer: {_line(str(error.__cause__ or error))}") from None
        except (OpenAIError, ValueError, AttributeError, IndexError, TypeError):  # JSON of another shape, or no JSON
            raise TryAgain("the answer is no chat completion") from None


def question(
    section: JudgeReward, template: ConversationTemplate, row: PromptRow, text: str, finished: bool
) -> list[Message]:
    """What the judge is asked; raises RowError."""
    asked = {"role": "user", "content": template.render(row, text, finished)}
    return [asked] if section.system is None else [{"role": "system", "content": section.system}, asked]


def _client(section: JudgeReward) -> tuple[Any, dict[str, Any]]:
    """The client, and headers that keep it from sending a key that is not this endpoint's."""
    try:
        from openai import AsyncOpenAI, Omit
    except ImportError:
        raise ConfigError("reward.kind judge asks by the openai client: pip install -e '.[judge]'") from None
    key = os.environ.get(section.api_key_env or "", "").strip()
    if section.api_key_env is not None and not key:
        raise ConfigError(f"reward.api_key_env: {section.api_key_env} is not set on the node of the reward")
    foreign = ["OpenAI-Organization", "OpenAI-Project", *([] if key else ["Authorization"])]
    client = AsyncOpenAI(base_url=section.base_url, api_key=key or "none", timeout=section.timeout_s, max_retries=0)
    return client, dict.fromkeys(foreign, Omit())


def _tokens(completion: Any, messages: list[Message], reply: str) -> int:
    total = getattr(completion.usage, "total_tokens", None)
    if isinstance(total, int):
        return total
    return (sum(len(message["content"]) for message in messages) + len(reply)) // CHARACTERS_PER_TOKEN


def _line(text: str) -> str:
    return " ".join(text.split())[:MAX_CAUSE_CHARACTERS]


def traits(section: JudgeReward, context: RewardContext) -> RewardTraits:
    """A row a call: what costs is the waiting, and a call that is answered early makes room early."""
    return RewardTraits(reads_text=True, rows_per_call=1, max_calls=section.width(context.num_actors))


def load(section: JudgeReward, context: RewardContext) -> ChatJudge:
    """The client, and the replies that are kept."""
    return ChatJudge(section, context)


def shown(section: JudgeReward, context: RewardContext, row: PromptRow) -> str:
    """The question about this row."""
    asked = question(section, ConversationTemplate(section.template_text), row, RESPONSE, True)
    return "\n".join(f"{message['role']}: {message['content']}" for message in asked)
