//! The pipeline between work and its writer.

use std::sync::{Arc, LazyLock, Mutex};

use interleaved::pause;
use tokio::task::spawn;

use crate::{
    Error, Timestamp,
    event::{Data, NewEvent},
    limits,
    pipeline::{Closed, Pipeline, Taken, TimedOut},
};

/// So much that the pipeline holds one of them.
static DATA: LazyLock<Arc<str>> = LazyLock::new(|| "x".repeat(limits::PIPELINE_MAX_BYTES * 2 / 3).into());

fn event(sender: usize, number: usize, is_large: bool) -> NewEvent {
    let event_type = format!("{sender}.{number}");
    let data = Data::Text(if is_large { DATA.clone() } else { "x".into() });
    NewEvent::from_work(&event_type, data, Timestamp::from_micros(0)).expect("it is allowed")
}

/// Two send, one takes; at some moment it is closed, and the time may be over before.
async fn sent_and_taken(why: Option<Closed>) {
    let pipeline = Arc::new(Pipeline::new());
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let senders: Vec<_> = (0..2)
        .map(|sender| {
            let (pipeline, accepted) = (pipeline.clone(), accepted.clone());
            spawn(async move {
                for number in 0..3 {
                    match pipeline.send(event(sender, number, number != 1)).await {
                        Ok(()) => accepted.lock().expect("nobody panics with it").push((sender, number)),
                        Err(Error::Refused { .. } | Error::Fenced { .. }) => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    let taker = {
        let pipeline = pipeline.clone();
        spawn(async move {
            let (mut events, mut times) = (Vec::new(), 0);
            while let Some(taken) = pipeline.take().await {
                match taken {
                    Taken::Events(some) => events.extend(some),
                    Taken::TimedOut(_) => times += 1,
                }
                pause().await;
            }
            (events, times)
        })
    };
    let over = {
        let pipeline = pipeline.clone();
        spawn(async move { pipeline.time_out(TimedOut { reason: "over".into(), is_retried: false }) })
    };
    if let Some(why) = why {
        pause().await;
        pipeline.close(why);
    }
    for sender in senders {
        sender.await.expect("nobody aborts it");
    }
    over.await.expect("nobody aborts it");
    pipeline.close(why.unwrap_or(Closed::Ended));
    let (events, times) = taker.await.expect("nobody aborts it");
    let taken: Vec<_> = events.iter().map(|event| event.event_type.as_str().to_owned()).collect();
    for sender in 0..2 {
        let of = |all: &[String]| -> Vec<String> {
            all.iter().filter(|name| name.starts_with(&format!("{sender}."))).cloned().collect()
        };
        let accepted = accepted.lock().expect("nobody panics with it");
        let sent: Vec<_> = accepted.iter().map(|(sender, number)| format!("{sender}.{number}")).collect();
        if why == Some(Closed::Fenced) {
            assert!(of(&sent).starts_with(&of(&taken)), "in order, and nothing that was not sent");
        } else {
            assert_eq!(of(&taken), of(&sent), "all that was accepted is taken, in its order");
        }
    }
    assert!(times <= 1);
    assert!(why.is_some() || times == 1, "that the time is over is said once");
}

/// It is closed when all is sent.
pub async fn all_is_taken() {
    sent_and_taken(None).await;
}

/// It is closed while work sends.
pub async fn closed_by_the_end() {
    sent_and_taken(Some(Closed::Ended)).await;
}

/// It is closed because somebody else has the task.
pub async fn closed_by_a_fence() {
    sent_and_taken(Some(Closed::Fenced)).await;
}
