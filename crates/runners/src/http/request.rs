//! What an endpoint is sent.
//!
//! Decides: the address, the headers and the body of a call. Beside the model's own headers the endpoint is told whose
//! attempt it is (`Soloist-Task`, `-Run`, `-Attempt`, `-Epoch`: the fencing token, so that it can refuse an older one),
//! the trace of who started the run, and an `Idempotency-Key`, by which it can tell that it is called twice for one
//! attempt. Never sends a header that could end early: a value with a control character is refused.

use reqwest::{
    Client, RequestBuilder, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use sha2::{Digest as _, Sha256};
use soloist::{Context, Json, limits};

use super::options::{Checked, Method, is_header_text};
use crate::template::{Part, Template};

/// What is asked for: events, if the endpoint can.
const ACCEPTED: &str = "text/event-stream, application/x-ndjson;q=0.9, */*;q=0.8";

/// The part of a call that the input decides.
pub(super) struct Target {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
}

/// The part of a call that the input decides, or what does not fit, naming the field.
pub(super) fn target(options: &Checked, input: &Json) -> Result<Target, String> {
    let mut headers = HeaderMap::new();
    for (name, template) in &options.headers {
        headers.insert(name.clone(), header_value(name, template, input)?);
    }
    Ok(Target { url: options.address.fill(input)?, headers })
}

/// The call of one attempt.
pub(super) fn request(
    client: &Client,
    method: Method,
    target: Target,
    input: &Json,
    context: &Context,
) -> RequestBuilder {
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: &str| {
        let value =
            HeaderValue::from_str(value).expect("keys, numbers, digests and traces are visible ASCII");
        headers.insert(HeaderName::from_static(name), value);
    };
    set("soloist-task", &context.key().to_string());
    set("soloist-run", &context.run().to_string());
    set("soloist-attempt", &context.attempt().to_string());
    set("soloist-epoch", &context.epoch().to_string());
    set("idempotency-key", &idempotency_key(context));
    if let Some(trace) = context.trace() {
        set("traceparent", trace.traceparent());
        if let Some(state) = trace.tracestate() {
            set("tracestate", state);
        }
    }
    headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
    let call = match method {
        Method::Get => client.get(target.url),
        Method::Post => client.post(target.url),
        Method::Put => client.put(target.url),
        Method::Patch => client.patch(target.url),
    };
    let call = if method == Method::Get {
        call
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        call.body(input.as_str().to_owned())
    };
    // What the model says counts.
    call.headers(headers).headers(target.headers)
}

/// One key for one attempt of one run. The time of its start keeps it apart from a run of the same number on another store,
/// or on one that was set up anew: whoever remembers keys would give that one the old answer.
fn idempotency_key(context: &Context) -> String {
    let (key, run, begun) = (context.key(), context.run(), context.started_at());
    let mut digest = Sha256::new();
    digest.update(format!("{key}\n{run}\n{begun}\n{}", context.attempt()));
    digest.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn header_value(name: &HeaderName, template: &Template, input: &Json) -> Result<HeaderValue, String> {
    let mut text = String::new();
    for part in template.parts() {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Field(field) => {
                let value = field.value(input)?;
                if !is_header_text(&value) {
                    return Err(format!(
                        "the input field {:?} stands in the header {name}, which holds visible ASCII characters and \
                         spaces only",
                        field.name()
                    ));
                }
                text.push_str(&value);
            }
        }
    }
    if text.len() > limits::HTTP_HEADER_MAX_BYTES {
        return Err(format!(
            "the input makes a header {name} of {} bytes; at most {} are allowed",
            text.len(),
            limits::HTTP_HEADER_MAX_BYTES
        ));
    }
    let mut value = HeaderValue::try_from(text).map_err(|_| format!("the header {name} cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}
