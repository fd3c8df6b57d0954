"""A language model as a judge of pairs: which of two answers to a conversation is better?

Models favour the answer they read first, so the order is drawn for each prompt from the judge's seed and the prompt's
id alone. A reply without a verdict is kept and counted as unjudged; it is no win for either side.
"""

import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from jobs.compare.alpaca_eval import as_text
from jobs.compare.config import LlmJudge
from jobs.compare.judges.chat_client import Ask, Message, chat_client
from jobs.compare.judges.verdict_store import VerdictStore, verdict_key
from pipeline.runs.run_rows import Floats, RunRows

INSTRUCTION = (
    "You compare two answers to a user. Judge how helpful, correct, relevant and harmless each one is. Do not favour "
    "an answer for its length or for being shown first. Think it over if you must, then end with exactly one line: "
    "'Verdict: A', 'Verdict: B' or 'Verdict: tie'."
)
QUESTION = "[Conversation]\n{conversation}\n\n[Answer A]\n{first}\n\n[Answer B]\n{second}"
VERDICT = re.compile(r"verdict\W*\b(A|B|tie)\b", re.IGNORECASE)
ALONE = re.compile(r"\W*(A|B|tie)\W*", re.IGNORECASE)
THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)
WINS = {"a": 1.0, "b": 0.0, "tie": 0.5}


class LlmPairJudge:
    """Asks the endpoint about each pair once, as long as its store exists.

    Args:
        judge: the endpoint, the model, the seed of the order.
        store: the file of the known verdicts.
    """

    def __init__(self, judge: LlmJudge, store: Path) -> None:
        self.judge = judge
        self.store = VerdictStore(store)

    def __call__(self, ours: RunRows, theirs: RunRows, pairs: Sequence[tuple[int, int]]) -> Floats:
        """1, 0.5 or 0 per pair for ours, nan for a reply without a verdict. Raises ModelError: the endpoint failed."""
        with chat_client(self.judge) as ask, ThreadPoolExecutor(self.judge.parallel_calls) as pool:
            pending = [pool.submit(partial(self._win, ask, ours, theirs, *pair)) for pair in pairs]
            try:
                return np.array([future.result() for future in pending], dtype=np.float64)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _win(self, ask: Ask, ours: RunRows, theirs: RunRows, our_row: int, their_row: int) -> float:
        first, second = ours.responses[our_row], theirs.responses[their_row]
        is_swapped = shows_second_first(self.judge.seed, ours.ids[our_row])
        if is_swapped:
            first, second = second, first
        text = QUESTION.format(conversation=as_text(ours.conversations[our_row]), first=first, second=second)
        win = self._first_wins(ask, [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": text}])
        return 1.0 - win if is_swapped else win

    def _first_wins(self, ask: Ask, messages: list[Message]) -> float:
        judge = self.judge
        key = verdict_key(judge.base_url, judge.model, judge.temperature, judge.max_tokens, messages)
        reply = self.store.get(key)
        if reply is None:
            reply = ask(messages)
            self.store.put(key, reply)
        return parse_verdict(reply)


def shows_second_first(seed: int, prompt_id: str) -> bool:
    """A fair coin per prompt, the same for every contender."""
    return bool(hashlib.blake2b(f"{seed}\x00{prompt_id}".encode("utf-8", "surrogatepass")).digest()[0] & 1)


def parse_verdict(reply: str) -> float:
    """1 for the first answer, 0 for the second, 0.5 for a tie, nan where there is none; the last verdict counts."""
    said = THOUGHTS.sub("", reply).strip()
    found = VERDICT.findall(said)
    alone = ALONE.fullmatch(said)
    word = found[-1] if found else alone[1] if alone else None
    return float("nan") if word is None else WINS[word.lower()]
