"""An endpoint that streams tokens as LLM endpoints do: POST /generate, answered by Server-Sent Events.

Nothing in it knows Soloist. The page at `/` and the counts at `/calls` are for the example only.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BaseModel, Field

app = FastAPI()


class Prompt(BaseModel):
    prompt: str
    tokens: int = Field(default=50, ge=0, le=100_000)
    delay_ms: int = Field(default=40, ge=0, le=60_000)


@app.post("/generate")
async def generate(asked: Prompt, request: Request) -> StreamingResponse:
    note_call(request)
    return StreamingResponse(answer(asked), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def answer(asked: Prompt) -> AsyncIterator[str]:
    finished = False
    try:
        for number in range(asked.tokens):
            await asyncio.sleep(asked.delay_ms / 1000)
            yield event({"token": token(asked.prompt, number)})
        yield event({"usage": {"tokens": asked.tokens}})
        yield "data: [DONE]\n\n"
        finished = True
    finally:
        # Where the client has gone, this generator is cancelled at its `await` or `yield`.
        calls["finished" if finished else "aborted"] += 1


def event(data: object) -> str:
    return "data: " + json.dumps(data, separators=(",", ":")) + "\n\n"


# The model of this example: the same words for the same prompt.
WORDS = "the a river light under stone slowly every house and wind over green that we morning of small turns".split()


def token(prompt: str, number: int) -> str:
    seed = sum(map(ord, prompt))
    return WORDS[(seed + number * (7 + seed % 5)) % len(WORDS)] + " "


# From here on for the example only: how often it was called and with which headers, and the page.
calls = {"started": 0, "finished": 0, "aborted": 0, "last_headers": {}}


def note_call(request: Request) -> None:
    calls["started"] += 1
    calls["last_headers"] = {
        name: value
        for name, value in request.headers.items()
        if name.startswith("soloist-") or name in ("idempotency-key", "traceparent", "tracestate")
    }


@app.get("/calls")
async def count() -> dict:
    return calls


@app.get("/")
async def page() -> HTMLResponse:
    html = (Path(__file__).parent.parent / "page" / "index.html").read_text()
    return HTMLResponse(html.replace("{{SOLOIST}}", os.environ.get("PAGE_SOLOIST", "http://127.0.0.1:8888")))
