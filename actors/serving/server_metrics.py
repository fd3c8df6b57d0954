"""What /metrics tells, in Prometheus' text format: requests, tokens, and the times that clients feel."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from actors.serving.admission import Admission
from actors.serving.generation import Generation
from pipeline.records import RowResult
from pipeline.runs.usage import CoordinatorUsage

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class ServerMetrics:
    """One ingress replica's figures since its start."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "stars_requests", "requests by endpoint and status", ["endpoint", "status"], registry=registry
        )
        self.tokens = Counter("stars_tokens", "response tokens, by whether they were kept", ["kept"], registry=registry)
        self.to_first = Histogram(
            "stars_first_segment_seconds", "to the first segment", buckets=SECONDS, registry=registry
        )
        self.between = Histogram("stars_segment_seconds", "between two segments", buckets=SECONDS, registry=registry)
        self.latency = Histogram("stars_answer_seconds", "to the whole answer", buckets=SECONDS, registry=registry)
        self.under_way = Gauge("stars_answers_under_way", "answers under way", registry=registry)
        self.busy = Gauge("stars_model_busy_seconds", "time a model spent in calls", ["model"], registry=registry)
        self.pushed = Gauge("stars_model_tokens", "tokens pushed through a model", ["model"], registry=registry)

    def text(self, admission: Admission, usage: CoordinatorUsage) -> bytes:
        """The page, up to date."""
        self.under_way.set(admission.num_under_way)
        for role, of_model in (("policy", usage.policy), ("reward", usage.reward)):
            self.busy.labels(role).set(of_model.busy_s)
            self.pushed.labels(role).set(of_model.num_tokens)
        return generate_latest(self.registry)


class Watch:
    """Takes the times of one request."""

    def __init__(self, metrics: ServerMetrics, endpoint: str, generation: Generation) -> None:
        self.metrics = metrics
        self.endpoint = endpoint
        self.generation = generation
        self.started_s = time.monotonic()
        self.last_segment_s: float | None = None
        self.num_left = len(generation.plan.rows)

    def segment(self) -> None:
        """A segment was kept."""
        now_s = time.monotonic()
        if self.last_segment_s is None:
            self.metrics.to_first.observe(now_s - self.started_s)
        else:
            self.metrics.between.observe(now_s - self.last_segment_s)
        self.last_segment_s = now_s

    def done(self, result: RowResult) -> None:
        """A choice is complete."""
        self.metrics.tokens.labels("yes").inc(result.num_response_tokens)
        self.num_left -= 1
        if not self.num_left:
            self.metrics.tokens.labels("no").inc(max(0, self.generation.discarded.num_tokens))
            self.metrics.latency.observe(time.monotonic() - self.started_s)
            self.metrics.requests.labels(self.endpoint, "200").inc()

    def failed(self, status: int) -> None:
        """The request failed after it had begun to stream."""
        self.metrics.requests.labels(self.endpoint, str(status)).inc()
