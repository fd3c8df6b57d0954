"""What keep_rejected keeps: every candidate once, as text that joins up to the response, whatever the batching."""

from itertools import groupby

import numpy as np
import pytest

from actors.coordination.candidates import CandidateLog
from pipeline.config.align import AlignConfig
from pipeline.records import Judgement, Segment
from pipeline.strategies.task import report_nothing
from tests.actors.coordination.test_coordinator import align_all, make_config, prompts

STARS = {"name": "stars", "segment_size": 8, "max_attempts": 4, "reward_threshold": 0.6}


@pytest.mark.parametrize("strategy", [STARS, {"name": "best_of_n", "n": 3}], ids=["stars", "best_of_n"])
def test_kept_texts_join_up_to_the_response_and_every_candidate_is_there(strategy):
    config = make_config(keep_rejected=True)
    config = AlignConfig.model_validate(config.model_dump() | {"strategy": strategy})
    results, _ = align_all(config, prompts(12))
    num_rejected = 0
    for result in results:
        kept = [c for c in result.candidates if c.is_kept]
        assert "".join(c.text for c in kept) == result.response
        assert kept[-1].finished == (result.finish_reason == "stop") and kept[-1].reward == result.reward
        num_rejected += len(result.candidates) - len(kept)
        for so_far, place in groupby(result.candidates, key=lambda c: c.response_so_far):
            assert result.response.startswith(so_far) and sum(c.is_kept for c in place) == 1
        for segment, record in enumerate(result.segments):
            judged = [c for c in result.candidates if c.segment == segment]
            assert len(judged) == record.num_attempts and {c.attempt for c in judged} == set(range(len(judged)))
            (kept_here,) = (c for c in judged if c.is_kept)
            assert (kept_here.reward, kept_here.threshold) == (record.reward, record.threshold)
            if record.accepted_by == "fallback":
                assert kept_here.reward == max(c.reward for c in judged)
    assert num_rejected >= 12


def test_without_the_config_nothing_is_kept_and_no_response_changes():
    config = make_config()
    plain, _ = align_all(config, prompts(6))
    keeping, _ = align_all(config.model_copy(update={"keep_rejected": True}), prompts(6))
    assert all(result.candidates == () for result in plain)
    assert [(r.response, r.reward, r.segments) for r in plain] == [(r.response, r.reward, r.segments) for r in keeping]


def utf8(tokens):
    return bytes(tokens.tolist()).decode("utf-8", "replace")


def test_a_character_cut_in_two_belongs_to_the_candidate_that_completes_it():
    log, so_far = CandidateLog(report_nothing), np.frombuffer("né".encode()[:-1], np.uint8).astype(np.int32)
    for attempt, rest in enumerate((b"\xa9t\xc3", b"\xa8s")):
        tokens = np.frombuffer(rest, np.uint8).astype(np.int32)
        log(Judgement(0, attempt, so_far, Segment(tokens, False), float(attempt), 0.5, attempt == 1))
    rejected, kept = log.records(utf8)
    assert (rejected.response_so_far, rejected.text) == ("n", "ét")
    assert (kept.response_so_far, kept.text, kept.is_kept) == ("n", "ès", True)
