"""The service: routes, answers and their documentation."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any, final

import numpy as np
from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from mmood import __version__
from mmood.detector.calibration import ties_at_threshold
from mmood.detector.detector import Detector
from mmood.detector.serving.batcher import Batcher
from mmood.detector.serving.limits import Batching, Gate, Limits, RefusedError
from mmood.detector.serving.metrics import Metrics
from mmood.detector.serving.requests import read_uploads

BINS = 40


class Result(BaseModel):
    """The decision on an image."""

    model_config = ConfigDict(extra="forbid")

    file: str | None = Field(description="the name that the client gave")
    status: str = Field(description="`ok`, or `broken` for an image that cannot be decoded")
    accepted: bool | None = Field(description="whether the image is taken for one of the ID classes")
    score: float | None = Field(description="higher = more in-distribution")
    p_value: float | None = Field(description="share of calibration images with a score as low as this")
    class_name: str | None = Field(alias="class", description="the ID class with the largest logit")
    probability: float | None = Field(description="of that class among the ID classes")
    negative_label: str | None = Field(description="the negative label nearest to the image")
    reason: str | None = Field(description="why an image is broken")


class Answer(BaseModel):
    """The decisions on the images of a request, in their order."""

    model_config = ConfigDict(extra="forbid")

    results: list[Result]


class Description(BaseModel):
    """What decides, and by which threshold."""

    score: str
    threshold: float
    id_recall: float
    class_names: list[str]
    calibration_images: int
    ties: str | None = Field(
        description="how many calibration images share the threshold, if that changes what it rejects"
    )
    has_map: bool = Field(description="whether /v1/map shows where in an image the score comes from")
    histogram_edges: list[float] = Field(description="of the calibration scores")
    histogram_counts: list[int]


class Refusal(BaseModel):
    """Why a request was not answered."""

    detail: str


_DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": text}
    for status, text in {
        401: "the token is missing or wrong",
        404: "the score of the detector has no map",
        413: "too many bytes, pixels or images",
        415: "neither an image nor a form",
        422: "no image, or a single one that cannot be decoded",
        429: "too many requests in flight; see Retry-After",
        503: "out of time, or the service is ending; see Retry-After",
    }.items()
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"image": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
        },
    }
}


_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src 'self' blob:; connect-src 'self'"
)


@final
class Service:
    """What the routes share: the batcher, the gate, the counters and the token.

    Args:
        detector: the detector.
        limits: what it takes at most.
        batching: how batches are made.
        token: what clients must send as `Authorization: Bearer TOKEN`; None for anybody.
    """

    def __init__(self, detector: Detector, limits: Limits, batching: Batching, token: str | None) -> None:
        self.limits = limits
        self.token = token
        self.metrics, self.gate = Metrics(), Gate(limits.requests)
        self.metrics.in_flight.set_function(lambda: self.gate.inside)
        self.batcher = Batcher(detector, batching, limits.pixels, self.metrics.batch.observe)
        self.description = describe(detector)

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Run the batcher while the service runs; then finish what was taken."""
        await self.batcher.start()
        yield
        self.gate.open = False
        await self.batcher.stop()

    # `async`, because FastAPI runs plain functions in threads.
    async def authorise(self, request: Request) -> None:
        """Raise RefusedError for a request without the token."""
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.token is not None and not hmac.compare_digest(given.encode(), self.token.encode()):
            raise RefusedError(401, "The token is missing or wrong; send 'Authorization: Bearer TOKEN'.")

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Hold a place among the requests in flight; RefusedError if none is free, or if time runs out."""
        with self.gate:
            try:
                async with asyncio.timeout(self.limits.seconds):
                    yield
            except TimeoutError:
                raise RefusedError(503, f"No answer within {self.limits.seconds:g} s.", retry_after=2) from None

    async def answer(self, request: Request) -> Response:
        """Return the decisions on the images of a request; RefusedError for what is beyond a limit."""
        async with self.admitted():
            uploads = await read_uploads(request, self.limits)
            decisions = await asyncio.gather(*(self.batcher.decide(upload.content) for upload in uploads))
        for decision in decisions:
            self.metrics.decided(decision)
        if len(decisions) == 1 and decisions[0].status != "ok":
            raise RefusedError(422, f"The single image of the request is broken: {decisions[0].reason}.")
        # Plain data: as an `Answer`, every field would be checked, twice.
        named = zip(uploads, decisions, strict=True)
        return JSONResponse({"results": [{"file": upload.name, **decision.as_dict()} for upload, decision in named]})

    async def draw(self, request: Request) -> Response:
        """Return the single image of a request with its map, as PNG; RefusedError for what is beyond a limit."""
        if not self.description.has_map:
            raise RefusedError(404, f"The score '{self.description.score}' of this detector has no map.")
        async with self.admitted():
            uploads = await read_uploads(request, self.limits)
            if len(uploads) != 1:
                raise RefusedError(422, f"The request holds {len(uploads)} images; a map is that of one.")
            return Response(await self.batcher.draw(uploads[0].content), media_type="image/png")

    async def counted(self, answer: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
        """Return what `answer` or `draw` does, and count it by its status."""
        start, status = time.perf_counter(), 500
        try:
            found = await answer(request)
            status = 200
            return found
        except RefusedError as error:
            status = error.status
            raise
        except ClientDisconnect:
            status = 499  # nobody is there to read an answer
            return Response(status_code=400)
        finally:
            self.metrics.requests.labels(str(status)).inc()
            self.metrics.seconds.observe(time.perf_counter() - start)


def build_app(detector: Detector, limits: Limits, batching: Batching, token: str | None = None) -> FastAPI:
    """Return the service of a detector; see `Service` for the arguments."""
    service = Service(detector, limits, batching, token)
    app = FastAPI(title="mmood", version=__version__, lifespan=service.lifespan, docs_url=None, redoc_url=None)

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> JSONResponse:
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        return JSONResponse({"detail": error.detail}, error.status, headers)

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(_page(), headers={"Content-Security-Policy": _PAGE_POLICY})

    _add_detection(app, service)
    _add_probes(app, service)
    return app


def _add_detection(app: FastAPI, service: Service) -> None:
    """Add the routes that need the token."""
    authorised = [Depends(service.authorise)]

    @app.post(
        "/v1/detect",
        dependencies=authorised,
        responses=_DOCUMENTED,
        openapi_extra=_BODY,
        response_model=Answer,
        summary="Decide on the images of a request",
    )
    async def detect(request: Request) -> Response:
        return await service.counted(service.answer, request)

    @app.post(
        "/v1/map",
        dependencies=authorised,
        responses=_DOCUMENTED | {200: {"content": {"image/png": {}}}},
        response_class=Response,
        openapi_extra=_BODY,
        summary="Show where in an image the score comes from",
    )
    async def draw(request: Request) -> Response:
        return await service.counted(service.draw, request)

    @app.get("/v1/detector", dependencies=authorised, summary="What decides, and by which threshold")
    async def described() -> Description:
        return service.description

    @app.get("/metrics", dependencies=authorised, summary="Counters for Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_probes(app: FastAPI, service: Service) -> None:
    """Add the routes that say how the service is."""

    @app.get("/healthz", summary="The process is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", responses={503: _DOCUMENTED[503]}, summary="The service answers requests")
    async def readyz() -> dict[str, str]:
        if not service.gate.open:
            raise RefusedError(503, "The service is ending.", retry_after=5)
        return {"status": "ready"}


def describe(detector: Detector) -> Description:
    """Return what a client may know of a detector: its threshold beside a histogram of the calibration scores."""
    calibration = detector.calibration
    counts, edges = np.histogram(calibration.scores, BINS)
    return Description(
        score=detector.manifest.score.name,
        threshold=calibration.threshold,
        id_recall=calibration.id_recall,
        class_names=list(detector.class_names),
        calibration_images=len(calibration.scores),
        ties=ties_at_threshold(calibration),
        has_map=detector.has_map,
        histogram_edges=edges.astype(float).tolist(),
        histogram_counts=counts.tolist(),
    )


def _page() -> str:
    return resources.files("mmood.detector.serving").joinpath("page.html").read_text(encoding="utf-8")
