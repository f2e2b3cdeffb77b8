"""Reads the stream that the argument names with httpx-sse, keeps what comes, and prints it at the end.

httpx-sse leaves coming back to its user: with the last id as `Last-Event-ID`, after the pause that the server asked
for, until an answer says that there is nothing more.
"""

import json
import sys
import time

import httpx
import httpx_sse

events = []
last_event_id = ""
pause_ms = 3000

with httpx.Client(timeout=60, trust_env=False) as client:
    while True:
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        try:
            with httpx_sse.connect_sse(client, "GET", sys.argv[1], headers=headers) as source:
                source.response.raise_for_status()
                if source.response.status_code == 204:
                    break
                for event in source.iter_sse():
                    last_event_id = event.id or last_event_id
                    pause_ms = event.retry or pause_ms
                    # A block without data is no event; httpx-sse hands it out all the same.
                    if event.data:
                        events.append([event.id, event.event, event.data])
        except httpx.TransportError as error:
            print(f"cut off: {error!r}", file=sys.stderr)
        time.sleep(pause_ms / 1000)

print(json.dumps(events))
