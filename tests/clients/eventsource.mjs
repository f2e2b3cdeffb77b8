// Opens the stream that the argument names with the npm package `eventsource`, keeps what comes, and prints it once the
// EventSource has given up. It closes nothing and opens nothing again, and it ends only because nothing is left to do.
import { createRequire } from "node:module";

const { EventSource } = createRequire(`${process.env.SOLOIST_TEST_NODE_MODULES}/`)("eventsource");
const source = new EventSource(process.argv[2]);
const events = [];
const keep = (event) => events.push([event.lastEventId, event.type, event.data]);

for (const type of ["burst", "complete", "cancelled", "gap", "retry", "message"]) {
  source.addEventListener(type, keep);
}
// A server's event of the type `error` and a lost connection share a name; only the first carries data.
source.addEventListener("error", (event) => {
  if (event.data !== undefined) {
    keep(event);
  } else if (source.readyState === EventSource.CLOSED) {
    console.log(JSON.stringify(events));
  }
});
