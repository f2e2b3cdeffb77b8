"""An endpoint that streams tokens as LLM endpoints do: POST /generate, answered by Server-Sent Events.

Nothing in it knows Soloist. The page at `/` and the counts at `/calls` are for the example only.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.http import require_POST

asgi = get_asgi_application()


@require_POST
async def generate(request: HttpRequest) -> HttpResponse:
    try:
        asked = json.loads(request.body)
        prompt, tokens, delay_ms = asked["prompt"], asked.get("tokens", 50), asked.get("delay_ms", 40)
        if not isinstance(prompt, str) or tokens not in range(100_001) or delay_ms not in range(60_001):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        return JsonResponse({"detail": "prompt is a text, tokens and delay_ms are numbers"}, status=422)
    note_call(request)
    return StreamingHttpResponse(
        answer(prompt, tokens, delay_ms),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-cache"},
    )


async def answer(prompt: str, tokens: int, delay_ms: int) -> AsyncIterator[str]:
    finished = False
    try:
        for number in range(tokens):
            await asyncio.sleep(delay_ms / 1000)
            yield event({"token": token(prompt, number)})
        yield event({"usage": {"tokens": tokens}})
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


def note_call(request: HttpRequest) -> None:
    headers = {name.lower(): value for name, value in request.headers.items()}
    calls["started"] += 1
    calls["last_headers"] = {
        name: value
        for name, value in headers.items()
        if name.startswith("soloist-") or name in ("idempotency-key", "traceparent", "tracestate")
    }


async def count(request: HttpRequest) -> HttpResponse:
    return JsonResponse(calls)


async def page(request: HttpRequest) -> HttpResponse:
    html = (Path(__file__).parent.parent / "page" / "index.html").read_text()
    return HttpResponse(html.replace("{{SOLOIST}}", os.environ.get("PAGE_SOLOIST", "http://127.0.0.1:8888")))


urlpatterns = [path("generate", generate), path("calls", count), path("", page)]
