//! What is left of a request whose body nobody has read.
//!
//! Decides: that the answer to a request which is refused unread can be heard, and that its connection is either good for
//! the next one or said to be closed. A server that closes a connection without a word loses the call that a client or a
//! proxy has sent on it meanwhile. Never decides what a body says; that is for whoever asks for it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::{HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use soloist::limits;
use tokio::sync::oneshot;

/// The body of a request, which comes back where it is dropped before its end.
struct Lent {
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) {
            self.back = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(back) = self.back.take().filter(|_| !self.body.is_end_stream()) {
            // Nobody waits for it where the whole call was given up.
            let _ = back.send(std::mem::take(&mut self.body));
        }
    }
}

/// What becomes of a body that was lent.
pub(crate) struct Rest {
    back: Option<oneshot::Receiver<Body>>,
    /// The client waits to be asked for its body; one that was refused is not.
    waits: bool,
}

/// The same request; what nobody reads of its body is found in [`Rest`].
pub(crate) fn lend(request: Request) -> (Request, Rest) {
    let waits = request.headers().contains_key(header::EXPECT);
    if request.body().is_end_stream() {
        return (request, Rest { back: None, waits });
    }
    let (back, rest) = oneshot::channel();
    let request = request.map(|body| Body::new(Lent { body, back: Some(back) }));
    (request, Rest { back: Some(rest), waits })
}

impl Rest {
    /// Reads and drops what was left, within bounds, before the answer goes out. Where it does not come to its end the answer
    /// says that the connection is closed.
    pub(crate) async fn settle(self, mut answer: Response) -> Response {
        let Some(mut body) = self.back.and_then(|mut back| back.try_recv().ok()) else { return answer };
        let read = async {
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return false };
                bytes += frame.data_ref().map_or(0, Bytes::len);
                if bytes > limits::BODY_DISCARD_MAX_BYTES {
                    return false;
                }
            }
            true
        };
        let is_whole = !self.waits && tokio::time::timeout(limits::BODY_REST_WAIT, read).await == Ok(true);
        if !is_whole {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}
