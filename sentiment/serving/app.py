"""The web application: a page to type a review on, and the interface that it talks to."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.exceptions import HTTPException as AnyHTTPException

from sentiment.serving.batching import Batcher, OverloadError
from sentiment.serving.guard import Guard, failure
from sentiment.training.predictor import SentimentPredictor

MAX_TEXTS = 256
MAX_CHARACTERS = 20_000
# In characters. To explain an IMDB review costs as much as to predict 500 to 1,000 of them, and
# predictions wait for it: an explanation shares its call with short ones only.
PREDICT_CALL, PREDICT_CAPACITY = 250_000, 4_000_000
EXPLAIN_CALL, EXPLAIN_CAPACITY = 1_000, 30_000
RETRY_AFTER = 2  # seconds
EMPTY = "empty text"
REFUSALS = (400, 408, 413, 415, 422, 500, 503)
"""Statuses of requests with a body that cannot be met."""

Text = Annotated[str, StringConstraints(max_length=MAX_CHARACTERS)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PredictBody(_Body):
    """Texts to label."""

    texts: Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]


class ExplainBody(_Body):
    """A text to explain."""

    text: Text


class Found(BaseModel):
    """What the model says of a text; `probability` is that of the positive label."""

    label: str
    probability: float


class Nothing(BaseModel):
    """What it says of an empty one, and of a request that cannot be met."""

    error: str


class Predictions(BaseModel):
    """An answer for each text, in order."""

    predictions: list[Found | Nothing]


class Token(BaseModel):
    """How far a token moves the logit towards the positive label, from where it stands."""

    start: int
    end: int
    weight: float


class Explanation(Found):
    """The same, and why; tokens that the model did not read are missing.

    The weights add up to `logit - baseline`; the baseline is the logit of as many tokens that say
    next to nothing.
    """

    logit: float
    baseline: float
    tokens: list[Token]


class Health(BaseModel):
    """That the server is up, and what it serves."""

    status: str
    labels: tuple[str, str]
    threshold: float
    max_texts: int
    max_characters: int


def create_app(predictor: SentimentPredictor, names: Iterable[str] | None) -> FastAPI:
    """Make the application.

    Args:
        predictor: what answers. It is called in one thread, and never twice at once.
        names: of the address of loopback that it is served at; `None`: it is another address.
    """
    worker = ThreadPoolExecutor(1, "model")
    predict = Batcher(predictor, worker, PREDICT_CALL, PREDICT_CAPACITY)
    explain = Batcher(predictor.explain, worker, EXPLAIN_CALL, EXPLAIN_CAPACITY)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with worker:
            yield

    # The usual pages of documentation load scripts from elsewhere.
    app = FastAPI(title="sentiment", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(Guard, names=names)
    app.add_exception_handler(AnyHTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(OverloadError, _overloaded)
    app.add_exception_handler(Exception, _broken)

    page = files("sentiment.serving").joinpath("page.html").read_text("utf-8")
    policy = {"content-security-policy": content_security_policy(page)}

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers=policy)

    @app.get("/health")
    async def show_health() -> Health:
        return Health(
            status="ok",
            labels=predictor.checkpoint.label_names,
            threshold=predictor.threshold,
            max_texts=MAX_TEXTS,
            max_characters=MAX_CHARACTERS,
        )

    refusals: dict[int | str, dict[str, Any]] = {code: {"model": Nothing} for code in REFUSALS}

    @app.post("/predict", responses=refusals)
    async def predict_texts(body: PredictBody) -> Predictions:
        return Predictions(
            predictions=[
                Nothing(error=EMPTY)
                if label is None or probability is None
                else Found(label=label, probability=probability)
                for label, probability in await predict(body.texts)
            ]
        )

    @app.post("/explain", responses=refusals)
    async def explain_text(body: ExplainBody) -> Explanation:
        (found,) = await explain([body.text])
        if found.label is None:
            raise HTTPException(422, EMPTY)
        fields = found._asdict() | {"tokens": [token._asdict() for token in found.tokens]}
        return Explanation.model_validate(fields)

    return app


def content_security_policy(page: str) -> str:
    """What the page may do: run its own script and style, and talk to its own server."""
    sources = {
        tag: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
            for content in re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        )
        for tag in ("script", "style")
    }
    return (
        f"default-src 'none'; script-src {sources['script']}; style-src {sources['style']}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


async def _http_error(_: Request, error: Any) -> JSONResponse:
    return failure(error.status_code, error.detail, **(error.headers or {}))


async def _invalid(_: Request, error: Any) -> JSONResponse:
    # Of what was sent nothing is repeated: it may be long, and not even text.
    first, *_rest = error.errors()
    if first["type"] == "json_invalid":
        return failure(400, "the body is not JSON")
    if first["type"] == "extra_forbidden":
        return failure(422, "the body has a field that is unknown")
    place = ".".join(str(part) for part in first["loc"] if isinstance(part, int | str))
    return failure(422, f"{place}: {first['msg']}")


async def _overloaded(_: Request, __: Any) -> JSONResponse:
    message = "too many texts are waiting; ask again later"
    return failure(503, message, **{"retry-after": str(RETRY_AFTER)})


async def _broken(_: Request, __: Any) -> JSONResponse:
    return failure(500, "the server failed; its own output says how")
