//! Many nodes on one PostgreSQL database: `soloist serve` processes, really killed, stopped and cut off.
#![allow(missing_docs, clippy::unwrap_used)]

mod crossing;
mod deaths;
mod outage;
mod quiet;
mod rolling;
mod starts;

use std::{sync::Arc, time::Duration};

use futures::join_all;
use system_tests::{
    checker::Watched,
    eventually,
    server::Server,
    viewer::{Connection, End, Seen},
};

/// What several futures become, side by side.
mod futures {
    pub(crate) async fn join_all<T: Send + 'static>(
        all: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
    ) -> Vec<T> {
        let tasks: Vec<_> = all.into_iter().map(tokio::spawn).collect();
        let mut done = Vec::new();
        for task in tasks {
            done.push(task.await.unwrap());
        }
        done
    }
}

/// A node on a database, with these lines in its configuration.
async fn node(url: &str, config: &str) -> Server {
    Server::start_with(&format!("store = \"{url}\"\n{config}"), "127.0.0.1:0").await
}

/// So many nodes.
async fn nodes(count: usize, url: &str, config: &'static str) -> Vec<Arc<Server>> {
    let url = url.to_owned();
    let starting = (0..count).map(|_| {
        let url = url.clone();
        async move { Arc::new(node(&url, config).await) }
    });
    join_all(starting).await
}

/// Creates a task that may be retried so often.
async fn create(server: &Server, key: &str, input: &str, max_retries: u32) {
    let body = format!(r#"{{"input":{input},"max_retries":{max_retries}}}"#);
    let (status, answer) = server.call("PUT", &format!("/tasks/{key}"), &body).await;
    assert_eq!(status, 201, "{answer}");
}

/// Watches a task from the beginning of its run to the end, coming back by its cursor, each time at the next address.
async fn watch(addresses: Vec<String>, key: String) -> Watched {
    let mut seen = Seen::default();
    for address in addresses.iter().cycle() {
        let read = async {
            let mut viewer = Connection::open_raw(address, &key, &seen).await?;
            // What was read before a connection breaks counts as well.
            loop {
                match viewer.read(&mut seen, 4096).await {
                    Ok(End::Cut) => {}
                    end => break end,
                }
            }
        };
        let end = tokio::time::timeout(Duration::from_secs(120), read).await.expect("it ends or breaks");
        if matches!(end, Ok(End::NoContent)) || !seen.endings.is_empty() {
            break;
        }
        // As an EventSource does, though it waits longer.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(seen.gaps, 0, "{key}: nothing was lost, so there is no gap");
    Watched { after: None, ids: seen.ids, shown: seen.shown }
}

/// Waits until a task has a status, as a node shows it; one that cannot ask its store yet is asked again.
async fn until(server: &Server, key: &str, status: &str) -> serde_json::Value {
    let path = format!("/tasks/{key}");
    let there = || async { server.call("GET", &path, "").await.1["status"] == status };
    eventually(&format!("{key} is {status}"), there).await;
    server.task(key).await
}
