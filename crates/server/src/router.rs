//! Which call goes where.

use std::sync::Arc;

use axum::{
    Router,
    http::Method,
    middleware::from_fn_with_state,
    routing::{MethodRouter, get, post},
};
use soloist::Coordinator;
use soloist_wire::problem;

use crate::{
    guard,
    problem::Problem,
    routes::{attach, cancel, events, health, openapi, signals, start, stream, tasks},
    state::{AppState, ServerOptions},
};

/// All calls, to be served alone or nested into another app under any path.
pub fn router(coordinator: Coordinator, options: ServerOptions) -> Router {
    let state = AppState { coordinator, options: Arc::new(options) };
    let mut router = Router::new();
    for (path, methods) in table() {
        router = router.route(path, methods);
    }
    router
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(state.clone(), guard::guard))
        .with_state(state)
}

/// Every path and what it answers to. The API description is held to this table.
fn table() -> Vec<(&'static str, MethodRouter<AppState>)> {
    vec![
        ("/tasks", get(tasks::list)),
        ("/tasks/{app}/{model}", post(tasks::create)),
        ("/tasks/{app}/{model}/{id}", get(tasks::show).put(tasks::put).delete(tasks::delete)),
        ("/tasks/{app}/{model}/{id}/start", post(start::start)),
        ("/tasks/{app}/{model}/{id}/cancel", post(cancel::cancel)),
        ("/tasks/{app}/{model}/{id}/signals/{name}", post(signals::signal)),
        ("/tasks/{app}/{model}/{id}/events", get(events::events)),
        ("/stream/{app}/{model}", post(attach::attach_new)),
        ("/stream/{app}/{model}/{id}", get(stream::watch).head(stream::look).post(attach::attach)),
        ("/cancel/{app}/{model}/{id}", post(cancel::cancel_and_wait)),
        ("/health", get(health::health)),
        ("/health/ready", get(health::ready)),
        ("/stats", get(health::stats)),
        ("/openapi.json", get(openapi::openapi)),
    ]
}

async fn unknown_route() -> Problem {
    Problem::new(problem::UNKNOWN_ROUTE, "there is no such call; /openapi.json lists all of them")
}

async fn method_not_allowed(method: Method) -> Problem {
    Problem::new(
        problem::METHOD_NOT_ALLOWED,
        format!("this call does not take {method}; Allow lists what it takes"),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use axum::{body::Body, http::Request};
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;
    use crate::OPENAPI;

    /// What the router says that each of its paths takes.
    async fn routed() -> BTreeMap<String, BTreeSet<String>> {
        let store = std::sync::Arc::new(soloist::MemoryStore::new());
        let coordinator = Coordinator::builder(store).open().await.unwrap();
        let router = router(coordinator, ServerOptions::default());
        let mut routed = BTreeMap::new();
        for (path, _) in table() {
            let request =
                Request::builder().method("BREW").uri(path.replace(['{', '}'], "x")).body(Body::empty());
            let answer = router.clone().oneshot(request.unwrap()).await.unwrap();
            assert_eq!(answer.status(), 405, "{path}");
            let allow = answer.headers()["allow"].to_str().unwrap();
            routed.insert(path.to_owned(), allow.split(',').map(|m| m.trim().to_lowercase()).collect());
        }
        routed
    }

    #[tokio::test]
    async fn the_description_names_every_path_and_method_of_the_router_and_no_other() {
        let openapi: Value = serde_json::from_str(OPENAPI).unwrap();
        let described: BTreeMap<String, BTreeSet<String>> = openapi["paths"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(path, methods)| {
                let mut methods: BTreeSet<_> = methods.as_object().unwrap().keys().cloned().collect();
                // Whatever takes GET takes HEAD as well.
                if methods.contains("get") {
                    methods.insert("head".into());
                }
                (path.clone(), methods)
            })
            .collect();
        assert_eq!(described, routed().await);
    }
}
