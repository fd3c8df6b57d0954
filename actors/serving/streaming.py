"""A streamed reply: server-sent events of accepted segments, each as it is accepted.

Invariants: a request that fails before anything was accepted fails as a plain error, since nothing is sent until then;
one that fails later ends with an event that holds the error; the request is closed however the stream ends.
"""

from collections.abc import AsyncIterator

import numpy as np
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from actors.serving.api_errors import ApiError
from actors.serving.generation import Event, Generation
from actors.serving.replies import DONE, Replies, judged, sse
from actors.serving.server_metrics import Watch
from actors.serving.text_stream import TextStream
from pipeline.records import Judgement, RowResult


class EventStream(StreamingResponse):
    """Closes its request when it ends, also when the client is gone."""

    def __init__(self, generation: Generation, chunks: AsyncIterator[bytes]) -> None:
        super().__init__(chunks, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self.generation = generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.generation.close()


async def event_stream(
    generation: Generation, replies: Replies, watch: Watch, show_rejected: bool, include_usage: bool
) -> EventStream:
    """The response, begun once there is something to send.

    Raises:
        ApiError: the request failed before that.
    """
    chunks = _chunks(generation, replies, watch, show_rejected)
    first = await anext(chunks)
    return EventStream(generation, _framed(first, chunks, replies, watch, include_usage))


async def _framed(
    first: bytes, chunks: AsyncIterator[bytes], replies: Replies, watch: Watch, include_usage: bool
) -> AsyncIterator[bytes]:
    try:
        yield first
        async for chunk in chunks:
            yield chunk
    except ApiError as error:
        watch.failed(error.status)
        yield sse(error.body)
        return
    if include_usage:
        yield replies.usage_chunk()
    yield DONE


async def _chunks(generation: Generation, replies: Replies, watch: Watch, show_rejected: bool) -> AsyncIterator[bytes]:
    text = generation.coordinator.reader.text
    streams = [TextStream(text, generation.plan.stop) for _ in generation.plan.rows]
    begun: set[int] = set()
    async for event in generation.events():
        stream = streams[event.choice]
        if isinstance(event.what, RowResult):
            rest = stream.end(event.what.response or "")
            if rest or event.choice not in begun:
                yield replies.text_chunk(event.choice, rest, {}, event.choice not in begun)
            watch.done(event.what)
            yield replies.finish_chunk(event.choice)
        elif event.what.is_kept:
            watch.segment()
            delta = stream.grow(_so_far(event.what))
            yield replies.text_chunk(event.choice, delta, judged(event.what, delta), event.choice not in begun)
        elif show_rejected:
            yield replies.silent_chunk(event.choice, judged(event.what, _rejected_text(event, stream)))
            continue
        else:
            continue
        begun.add(event.choice)


def _so_far(judgement: Judgement) -> np.ndarray:
    return np.concatenate([judgement.response_tokens, judgement.candidate.tokens])


def _rejected_text(event: Event, stream: TextStream) -> str:
    assert isinstance(event.what, Judgement)
    return stream.text(_so_far(event.what)).removeprefix(stream.text(event.what.response_tokens))
