// An endpoint that streams tokens as LLM endpoints do: POST /generate, answered by Server-Sent Events.
//
// Nothing in it knows Soloist. The page at `/` and the counts at `/calls` are for the example only.
"use strict";

const { readFileSync } = require("node:fs");
const path = require("node:path");
const { setTimeout: sleep } = require("node:timers/promises");
const express = require("express");

const app = express();

app.post("/generate", express.json({ limit: "1mb" }), async (req, res) => {
  const { prompt, tokens = 50, delay_ms = 40 } = req.body ?? {};
  if (typeof prompt !== "string" || !isCount(tokens, 100_000) || !isCount(delay_ms, 60_000)) {
    res.status(422).json({ detail: "prompt is a text, tokens and delay_ms are numbers" });
    return;
  }
  noteCall(req);

  const gone = new AbortController();
  res.on("close", () => {
    // `close` comes after every answer; where the answer was not whole by then, the client has gone.
    calls[res.writableFinished ? "finished" : "aborted"] += 1;
    gone.abort();
  });

  res.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
  try {
    for (let number = 0; number < tokens; number++) {
      await sleep(delay_ms, undefined, { signal: gone.signal });
      send(res, { token: token(prompt, number) });
    }
    send(res, { usage: { tokens } });
    res.end("data: [DONE]\n\n");
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  }
});

function send(res, data) {
  res.write(`data: ${JSON.stringify(data)}\n\n`);
}

function isCount(value, most) {
  return Number.isInteger(value) && value >= 0 && value <= most;
}

// The model of this example: the same words for the same prompt.
const WORDS = "the a river light under stone slowly every house and wind over green that we morning of small turns".split(" ");

function token(prompt, number) {
  const seed = Array.from(prompt).reduce((sum, char) => sum + char.codePointAt(0), 0);
  return WORDS[(seed + number * (7 + (seed % 5))) % WORDS.length] + " ";
}

// From here on for the example only: how often it was called and with which headers, and the page.
const calls = { started: 0, finished: 0, aborted: 0, last_headers: {} };

function noteCall(req) {
  calls.started += 1;
  calls.last_headers = Object.fromEntries(
    Object.entries(req.headers).filter(
      ([name]) => name.startsWith("soloist-") || ["idempotency-key", "traceparent", "tracestate"].includes(name),
    ),
  );
}

app.get("/calls", (req, res) => res.json(calls));

app.get("/", (req, res) => {
  const html = readFileSync(path.join(__dirname, "../page/index.html"), "utf8");
  res.type("html").send(html.replaceAll("{{SOLOIST}}", process.env.PAGE_SOLOIST ?? "http://127.0.0.1:8888"));
});

app.listen(Number(process.env.PORT ?? 9000), "127.0.0.1");
