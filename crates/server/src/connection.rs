//! One connection: requests to the router, one after the other, until it is closed or becomes a viewer.
//!
//! Decides: when a connection leaves HTTP behind. An answer that is a stream of events has passed the same guards as every
//! other by the time it is seen here; then its head is written as hyper would have written it, and the socket goes to the
//! loop that serves viewers, which costs a viewer a few hundred bytes where a connection of hyper costs many thousands. Such
//! a connection takes no further request, and its answer says so.
//!
//! It stays with hyper where the client speaks HTTP/1.0, or where the socket took not all of the answer before.

use std::{
    future::{pending, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    http::{Method, Request, Version, header, response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use soloist::{Timestamp, limits};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use crate::{
    frames::{Frames, Handover},
    viewers::{IntoSocket, Viewers},
};

/// What a connection is made of.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection for S {}

/// A stream of events that leaves its connection to the loop.
struct Leaving {
    head: Vec<u8>,
    frames: Box<Frames>,
}

/// Serves requests until the connection is over, or hands it over.
pub(crate) async fn serve<S: Connection + IntoSocket>(
    stream: S,
    router: Router,
    viewers: Arc<Viewers>,
    stop: CancellationToken,
) -> io::Result<()> {
    let leaving = Arc::new(Mutex::new(None));
    let is_stuck = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(Watched { stream, is_stuck: is_stuck.clone() });
    let service = {
        let leaving = leaving.clone();
        service_fn(move |request: Request<Incoming>| {
            let (mut router, leaving, is_stuck) = (router.clone(), leaving.clone(), is_stuck.clone());
            async move {
                let may_leave = request.version() == Version::HTTP_11 && request.method() != Method::HEAD;
                let mut response = router.call(request.map(Body::new)).await?;
                if let Some(handover) = response.extensions_mut().remove::<Handover>()
                    && may_leave
                    && !is_stuck.load(Ordering::Relaxed)
                    && let Some(frames) = handover.take()
                {
                    let left = Leaving { head: head(&response.into_parts().0), frames };
                    *leaving.lock().expect("no code panics while it holds it") = Some(left);
                    // The connection is taken apart where it is polled.
                    return pending().await;
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        })
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::REQUEST_READ_MAX)
        .max_buf_size(limits::CONNECTION_BUFFER_BYTES)
        .serve_connection(io, service);
    let mut stopped = pin!(stop.cancelled_owned());
    let mut is_stopping = false;
    let left = poll_fn(|context: &mut Context<'_>| {
        if !is_stopping && stopped.as_mut().poll(context).is_ready() {
            is_stopping = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        let over = Pin::new(&mut connection).poll(context);
        match (leaving.lock().expect("no code panics while it holds it").take(), over) {
            (Some(left), _) => Poll::Ready(Ok(Some(left))),
            (None, Poll::Ready(over)) => Poll::Ready(over.map(|()| None).map_err(io::Error::other)),
            (None, Poll::Pending) => Poll::Pending,
        }
    })
    .await?;
    if let Some(Leaving { head, frames }) = left {
        // What the client has sent after its request is read by nobody.
        let socket = connection.into_parts().io.into_inner().stream.into_socket()?;
        viewers.admit(socket, head, *frames);
    }
    Ok(())
}

/// The head of the answer, as RFC 9112 has it. A connection that is handed over takes no further request.
fn head(response: &response::Parts) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    let status = response.status;
    let reason = status.canonical_reason().unwrap_or_default();
    head.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
    let ours = [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH];
    for (name, value) in response.headers.iter().filter(|(name, _)| !ours.contains(name)) {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    let date = httpdate::fmt_http_date(Timestamp::now().into());
    head.extend_from_slice(
        format!("connection: close\r\ntransfer-encoding: chunked\r\ndate: {date}\r\n\r\n").as_bytes(),
    );
    head
}

/// A connection of which it is known whether it took all that hyper wrote last.
struct Watched<S> {
    stream: S,
    is_stuck: Arc<AtomicBool>,
}

impl<S> Watched<S> {
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.is_stuck.store(written.is_pending(), Ordering::Relaxed);
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
