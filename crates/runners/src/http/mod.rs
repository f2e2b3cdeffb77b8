//! Http: an endpoint that streams does the work of an attempt.
//!
//! Decides: how an attempt runs from the call to its end, and what that end means. An answer that ends well is the
//! final value: by the end of its body or, where the options name an event that ends it, by that event. Everything else
//! is a [`Failure`], told without the address and the headers, which may hold secrets:
//!
//! - `HttpConnect`: there was no connection; `HttpTimeout`: nothing came for too long; `HttpStatus`: the status was no
//!   success (the beginning of the body is the traceback; `Retry-After` is kept to);
//! - `HttpCutOff`: the stream broke off; `HttpTooLarge`: an event over [`soloist::limits::EVENT_DATA_MAX_BYTES`];
//!   `HttpContent`: an answer that cannot be relayed; `HttpEndpoint`: the endpoint said that it has failed.
//!
//! Each attempt has a connection of its own. An attempt that is asked to stop, or dropped, closes it: this is how the
//! endpoint learns of a cancel. The module `relay` says what becomes an event, `address` where a call may go, `request`
//! what it carries, `answer` which answers are refused.
//!
//! Never buffers: while the store is slower than the endpoint, nothing is read, and TCP slows the endpoint down. Never
//! sends a call twice for one attempt, and never decides about another attempt: that is the model's rules.

mod address;
mod answer;
mod options;
mod relay;
mod request;

use std::{error::Error as _, sync::Arc};

use async_trait::async_trait;
use reqwest::{Certificate, Client, redirect};
use soloist::{Context, Error, Failure, Json, Result, Runner, limits};
use tokio::time::timeout;

use self::{
    options::Checked,
    relay::{Flow, Relay, cut_off},
};
use crate::OptionError;

pub use self::options::{HttpOptions, Method, Proxy, Redirects};

/// Calls an endpoint for each attempt. Cheap to clone.
#[derive(Clone)]
pub struct HttpRunner {
    options: Arc<Checked>,
    client: Client,
}

impl HttpRunner {
    /// Checks the options, and reads the file of certificates where one is named.
    ///
    /// # Errors
    /// The first key that is not allowed, and why.
    pub fn new(options: HttpOptions) -> Result<Self, OptionError> {
        let options = Arc::new(options.check()?);
        let client = client(&options.given)?;
        Ok(Self { options, client })
    }

    async fn attempt(&self, input: &Json, context: &Context) -> Result<Json, Failure> {
        let given = &self.options.given;
        // The input and the templates are the same at every attempt.
        let target = request::target(&self.options, input)
            .map_err(|message| Failure::new("InvalidInput", message).is_final())?;
        let call = request::request(&self.client, self.options.method, target, input, context);
        let answer = match timeout(given.first_byte_timeout, call.send()).await {
            Ok(answer) => answer.map_err(|error| not_answered(&error, given))?,
            Err(_) => return Err(silent("did not answer", given.first_byte_timeout)),
        };
        let mut answer = answer::accepted(answer, given).await?;
        let end = answer::end(&answer);
        let mut relay = Relay::new(context, given, &answer::media_type(&answer))?;
        let flow = loop {
            let chunk = match timeout(given.idle_timeout, answer.chunk()).await {
                Ok(chunk) => chunk.map_err(|error| cut_off(&causes(&error)))?,
                Err(_) => return Err(silent("stopped answering", given.idle_timeout)),
            };
            let flow = match &chunk {
                Some(chunk) => relay.take(chunk).await?,
                None => relay.finish(end).await?,
            };
            if chunk.is_none() || flow == Flow::Over {
                break flow;
            }
        };
        if flow == Flow::On && (given.terminal_event.is_some() || given.terminal_data.is_some()) {
            return Err(cut_off("the event that ends it, by terminal_event or terminal_data, has not come"));
        }
        relay.value()
    }
}

impl std::fmt::Debug for HttpRunner {
    /// Nothing of the options: addresses and headers may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HttpRunner")
    }
}

#[async_trait]
impl Runner for HttpRunner {
    fn kind(&self) -> &'static str {
        "http"
    }

    fn check(&self, input: &Json) -> Result<()> {
        request::target(&self.options, input)
            .map(drop)
            .map_err(|message| Error::invalid("invalid_input", message))
    }

    async fn run(&self, input: Json, context: Context) -> Result<Json, Failure> {
        tokio::select! {
            biased;
            done = self.attempt(&input, &context) => done,
            // The connection is closed with the attempt.
            () = context.cancelled() => Err(Failure::new("Cancelled", "the call was given up as it was asked to")),
        }
    }
}

fn client(options: &HttpOptions) -> Result<Client, OptionError> {
    // The first provider of this process stays; an error only says that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .connect_timeout(options.connect_timeout)
        .user_agent(concat!("soloist/", env!("CARGO_PKG_VERSION")))
        .redirect(match options.redirects {
            Redirects::None => redirect::Policy::none(),
            Redirects::SameOrigin => redirect::Policy::custom(to_same_origin(options.method)),
        })
        // A connection that was kept may be closed at the other end just now, and whether a call has then been carried out
        // is not known. Streams are long; one more handshake is not.
        .pool_max_idle_per_host(0)
        .referer(false);
    builder = match &options.proxy {
        Proxy::None => builder.no_proxy(),
        Proxy::Environment => builder,
        Proxy::Address(address) => {
            let proxy = reqwest::Proxy::all(address);
            builder.proxy(proxy.map_err(|error| OptionError::at("proxy", error.without_url().to_string()))?)
        }
    };
    if let Some(path) = &options.ca_file {
        let wrong = |why: String| OptionError::at("ca_file", format!("{}: {why}", path.display()));
        let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(causes(&error)))?;
        if certificates.is_empty() {
            return Err(wrong("it holds no certificate in PEM".into()));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    if options.url.starts_with("http://") && options.proxy != Proxy::Environment {
        // No certificate is looked at (but perhaps that of a proxy). A system that has none would else be an error here.
        builder = builder.tls_certs_only([]);
    }
    // What is wrong with a certificate shows only now.
    let key = if options.ca_file.is_some() { "ca_file" } else { "url" };
    builder.build().map_err(|error| OptionError::at(key, causes(&error)))
}

/// Follows a redirect to where the call went anyway, if it is made as it was: by most redirects a call with a body becomes
/// one without. Any other one is handed back, and is a failure by its status.
fn to_same_origin(method: Method) -> impl Fn(redirect::Attempt<'_>) -> redirect::Action {
    move |attempt| {
        let is_same =
            attempt.previous().first().is_some_and(|first| first.origin() == attempt.url().origin());
        let is_kept = method == Method::Get || matches!(attempt.status().as_u16(), 307 | 308);
        if is_same && is_kept && attempt.previous().len() <= limits::HTTP_REDIRECTS_MAX {
            attempt.follow()
        } else {
            attempt.stop()
        }
    }
}

fn not_answered(error: &reqwest::Error, options: &HttpOptions) -> Failure {
    if error.is_connect() && error.is_timeout() {
        return Failure::new(
            "HttpConnect",
            format!("no connection to the endpoint within {} s", options.connect_timeout.as_secs_f64()),
        );
    }
    if error.is_connect() {
        return Failure::new("HttpConnect", format!("no connection to the endpoint: {}", causes(error)));
    }
    Failure::new("HttpCutOff", format!("the endpoint gave no answer that can be read: {}", causes(error)))
}

fn silent(what: &str, waited: std::time::Duration) -> Failure {
    Failure::new("HttpTimeout", format!("the endpoint {what}: nothing came for {} s", waited.as_secs_f64()))
}

/// The innermost cause and what led to it. The outermost error names the address, and says little besides.
fn causes(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        // It goes on with both names, and the endpoint's own may be nobody's business.
        let for_another = text.find("certificate not valid for name");
        causes.push(
            for_another
                .map_or(text.clone(), |at| format!("{}its certificate is for another name", &text[..at])),
        );
        cause = inner.source();
    }
    // The layer in between says only that it has failed.
    if causes.len() > 1 && causes[0].starts_with("client error") {
        causes.remove(0);
    }
    if causes.is_empty() { "the call failed".to_owned() } else { causes.join(": ") }
}
