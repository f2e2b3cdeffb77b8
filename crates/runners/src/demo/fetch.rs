//! `HttpFetchTask`: reads an address on the web and tells how far it is.

use std::error::Error;

use reqwest::{Client, Response, Url};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::json;
use soloist::{Context, Failure, Json, StreamTask, limits};

use super::until_cancelled;

/// Fetches an http or https address: a `status` event, `progress` events with the bytes so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpFetchTask {
    /// The address.
    #[serde(deserialize_with = "web_address")]
    pub url: String,
}

fn web_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(text),
        Ok(url) => Err(de::Error::custom(format!("the scheme {:?} is not http or https", url.scheme()))),
        Err(e) => Err(de::Error::custom(format!("not an address: {e}"))),
    }
}

impl StreamTask for HttpFetchTask {
    const MODEL: &'static str = "HttpFetchTask";
    type Output = Json;

    async fn process(self, context: Context) -> Result<Json, Failure> {
        until_cancelled(&context, async {
            let answer = client()?.get(&self.url).send().await.map_err(|e| failure(&e))?;
            let status = answer.status();
            context
                .send_event("status", &json!({"status": status.as_u16(), "url": answer.url().as_str()}))
                .await?;
            if !status.is_success() {
                return Err(Failure::new("HttpStatus", format!("the server answered {status}")));
            }
            let bytes = read(answer, &context).await?;
            Ok(Json::of(&json!({"status": status.as_u16(), "bytes": bytes}))?)
        })
        .await
    }
}

fn client() -> Result<Client, Failure> {
    // The first provider of this process stays; an error only says that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .connect_timeout(limits::DEMO_FETCH_WAIT)
        .read_timeout(limits::DEMO_FETCH_WAIT)
        .build()
        .map_err(|e| failure(&e))
}

/// Reads the body, keeps none of it and returns its length.
async fn read(mut answer: Response, context: &Context) -> Result<u64, Failure> {
    let total = answer.content_length();
    let mut bytes = 0;
    while let Some(chunk) = answer.chunk().await.map_err(|e| failure(&e))? {
        bytes += chunk.len() as u64;
        if bytes > limits::DEMO_FETCH_MAX_BYTES {
            let max = limits::DEMO_FETCH_MAX_BYTES;
            return Err(Failure::new("TooLarge", format!("the answer has more than {max} bytes")));
        }
        context.send_event("progress", &json!({"bytes": bytes, "total_bytes": total})).await?;
    }
    Ok(bytes)
}

/// With its causes in the message: the outermost error says little by itself.
fn failure(error: &reqwest::Error) -> Failure {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        message.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    Failure::new("HttpError", message)
}
