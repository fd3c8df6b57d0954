"""The HTTP interface: OpenAI's endpoints over one coordinator. Whatever goes wrong leaves as OpenAI's error object."""

import asyncio
import html
import logging
import time
from collections.abc import Coroutine
from importlib.resources import files
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from actors.coordination.coordinator import SegmentCoordinator
from actors.rendering.readers import make_reader
from actors.serving.admission import Admission
from actors.serving.answer_plan import Plan, plan_chat, plan_completion
from actors.serving.api_errors import ApiError, server_failed
from actors.serving.api_keys import client_of
from actors.serving.fair_slots import FairSlots
from actors.serving.generation import Answering, Generation
from actors.serving.handles import ReplicaSupervisor
from actors.serving.prompt_queue import PromptQueue
from actors.serving.replies import Endpoint, Replies
from actors.serving.request_guard import RequestGuard
from actors.serving.request_schema import ChatRequest, CompletionRequest, GenerationRequest, parse
from actors.serving.server_config import ServeConfig
from actors.serving.server_metrics import ServerMetrics, Watch
from actors.serving.streaming import event_stream
from pipeline.records import RowResult

T = TypeVar("T")
logger = logging.getLogger("ray.serve")
HEALTH_TIMEOUT_S = 3.0
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


class Server:
    """What the routes share.

    Args:
        config: with `engine.slots` and `engine.max_model_len` set.
        policies: handles of the policies.
        rewards: handles of the reward models.
        api_key_digests: SHA-256 of each key that requests may carry; none: no key is asked for.
    """

    def __init__(
        self, config: ServeConfig, policies: list[Any], rewards: list[Any], api_key_digests: tuple[bytes, ...] = ()
    ) -> None:
        self.config = config
        self.models = [*policies, *rewards]
        self.api_key_digests = api_key_digests
        roles = {"policy": policies, "reward": rewards}
        supervisors = {role: [ReplicaSupervisor(f"{role}-{i}") for i in range(len(h))] for role, h in roles.items()}
        self.coordinator = SegmentCoordinator(config, policies, rewards, supervisors=supervisors)
        assert config.engine.max_model_len is not None
        reader = make_reader("policy", config.policy, config.prompt_as, config.engine.max_model_len)
        self.prompts = PromptQueue(reader, config.engine.max_model_len)
        limits = config.serve.limits
        self.admission = Admission(config.serve.max_ongoing_requests, limits.max_request_s)
        slots = FairSlots(self.coordinator.slots.num_slots, limits.max_client_share)
        self.answering = Answering(self.coordinator, self.admission, slots, limits.max_request_s)
        self.metrics = ServerMetrics()
        self.started = int(time.time())

    async def answer(self, endpoint: Endpoint, request: Request) -> Response:
        """One request to a generating endpoint."""
        try:
            client = self.client_of(request)
            body = await self._body(request)
            if endpoint == "chat":
                chat = parse(ChatRequest, body)
                return await self._generate(endpoint, request, client, chat, plan_chat(chat, self.config))
            completion = parse(CompletionRequest, body)
            plan = plan_completion(completion, self.config)
            return await self._generate(endpoint, request, client, completion, plan)
        except ApiError as error:
            self.metrics.requests.labels(endpoint, str(error.status)).inc()
            raise

    def client_of(self, request: Request) -> str:
        """Whose request it is; raises ApiError 401."""
        return client_of(request, self.api_key_digests)

    def model(self) -> dict[str, Any]:
        """The model as OpenAI lists one, with how it answers and what a request may set."""
        config = self.config
        stars = {"strategy": config.strategy.model_dump(), "allow": list(config.serve.allow)}
        return {
            "id": config.served_name,
            "object": "model",
            "created": self.started,
            "owned_by": "stars",
            "max_model_len": config.engine.max_model_len,
            "stars": stars,
        }

    async def are_models_up(self) -> bool:
        """Whether all models answer at once."""
        pings = [asyncio.ensure_future(model.ping.remote()) for model in self.models]
        done, waiting = await asyncio.wait(pings, timeout=HEALTH_TIMEOUT_S)
        for ping in waiting:
            ping.cancel()
        return not waiting and not any(ping.exception() for ping in done)

    async def _body(self, request: Request) -> bytes:
        limits = self.config.serve.limits

        async def read() -> bytes:
            parts, size = [], 0
            async for part in request.stream():
                size += len(part)
                if size > limits.max_body_bytes:
                    raise ApiError(413, f"the body is larger than {limits.max_body_bytes} bytes", code="body_too_large")
                parts.append(part)
            return b"".join(parts)

        try:
            return await asyncio.wait_for(read(), limits.max_body_s)
        except TimeoutError:
            raise ApiError(408, "the body did not come in time", code="timeout") from None

    async def _generate(
        self, endpoint: Endpoint, http: Request, client: str, request: GenerationRequest, plan: Plan
    ) -> Response:
        if request.stream_options is not None and not request.stream:
            raise ApiError(400, "stream_options needs stream", "stream_options", "invalid_value")
        generation = Generation(plan, self.answering, client)
        replies, watch = (
            Replies(endpoint, self.config.served_name, generation),
            Watch(self.metrics, endpoint, generation),
        )
        is_streaming = False
        try:
            await while_connected(http, generation.begin(self.prompts, self.config))
            if request.stream:
                include_usage = request.stream_options is not None and request.stream_options.include_usage
                begun = event_stream(generation, replies, watch, request.stars.show_rejected, include_usage)
                stream = await while_connected(http, begun)
                is_streaming = True
                return stream
            await while_connected(http, _finish(generation, watch))
            return JSONResponse(replies.whole())
        finally:
            if not is_streaming:
                await generation.close()


async def _finish(generation: Generation, watch: Watch) -> None:
    async for event in generation.events():
        if isinstance(event.what, RowResult):
            watch.done(event.what)
        elif event.what.is_kept:
            watch.segment()


async def while_connected(http: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of some work, given up as soon as the client is gone; its body must have been read."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(http.receive())
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(499, "the client is gone", code="client_gone")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


def build_api(server: Server) -> FastAPI:
    """The routes."""
    api = FastAPI(title="STARS", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    api.add_middleware(RequestGuard, hosts=(server.config.serve.host, *server.config.serve.allowed_hosts))
    page = files("actors.serving").joinpath("page.html").read_text(encoding="utf-8")
    page = page.replace("MODEL_NAME", html.escape(server.config.served_name))

    @api.get("/")
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": PAGE_POLICY})

    @api.get("/health")
    async def health() -> Response:
        is_up = await server.are_models_up()
        return JSONResponse({"status": "ok" if is_up else "models are not available"}, 200 if is_up else 503)

    @api.get("/metrics")
    async def metrics() -> Response:
        body = server.metrics.text(server.admission, server.coordinator.usage)
        return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")

    @api.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        server.client_of(request)
        return {"object": "list", "data": [server.model()]}

    @api.get("/v1/models/{name:path}")
    async def model(name: str, request: Request) -> dict[str, Any]:
        server.client_of(request)
        if name != server.config.served_name:
            raise ApiError(404, f"the model {name!r} does not exist", "model", "model_not_found")
        return server.model()

    @api.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        return await server.answer("chat", request)

    @api.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await server.answer("completion", request)

    _handle_errors(api)
    return api


def _handle_errors(api: FastAPI) -> None:
    @api.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return error.response()

    @api.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        return ApiError(error.status_code, str(error.detail), None, code, dict(error.headers or {})).response()

    @api.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        logger.error("a request failed", exc_info=error)
        return server_failed().response()
