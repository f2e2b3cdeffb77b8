//! A viewer behind a proxy that hands out one thing after the other as it comes.

use std::{collections::VecDeque, time::Duration};

use soloist_wire::sse::{Decoder, Frame, Message};

/// Generous: the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(60);

/// An open stream. Dropping it is how this viewer leaves.
pub(crate) struct View {
    answer: reqwest::Response,
    decoder: Decoder,
    /// What was read and not yet handed out; none is the heartbeat.
    here: VecDeque<Option<Message>>,
}

impl View {
    /// Sends the request, and comes back with the head of its answer.
    pub(crate) async fn open(request: reqwest::RequestBuilder) -> Self {
        let answer = tokio::time::timeout(DEADLINE, request.header("accept", "text/event-stream").send())
            .await
            .expect("the head comes before any event")
            .unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert!(!answer.headers().contains_key("content-encoding"));
        Self { answer, decoder: Decoder::new(), here: VecDeque::new() }
    }

    /// The next event; none where a heartbeat came before it.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(next) = self.here.pop_front() {
                return next;
            }
            let chunk = tokio::time::timeout(DEADLINE, self.answer.chunk())
                .await
                .expect("something comes within every 15 s")
                .expect("the proxy does not cut the stream")
                .expect("the stream has not ended");
            let mut frames = Vec::new();
            self.decoder.feed(&chunk, &mut frames).unwrap();
            for frame in frames {
                match frame {
                    Frame::Event(message) => self.here.push_back(Some(message)),
                    Frame::Comment(text) if text.trim() == "heartbeat" => self.here.push_back(None),
                    _ => {}
                }
            }
        }
    }

    /// The next event, and its type.
    pub(crate) async fn event(&mut self) -> (String, Message) {
        loop {
            if let Some(message) = self.next().await {
                return (message.event_type.clone(), message);
            }
        }
    }

    /// Everything to the end of the stream.
    pub(crate) async fn rest(mut self) -> Vec<Message> {
        let mut rest = Vec::new();
        loop {
            let (event_type, message) = self.event().await;
            rest.push(message);
            if let "complete" | "error" | "cancelled" = &event_type[..] {
                return rest;
            }
        }
    }
}
