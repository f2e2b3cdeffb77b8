//! Whether this process lives, and what it has in hand.

use axum::{Json, extract::State};
use soloist::{Coordinator, Readiness, limits};
use soloist_wire::{Health, StatsBody, problem};

use crate::{convert, problem::Problem};

/// `GET /health`: alive, also while it drains.
pub(crate) async fn health(State(coordinator): State<Coordinator>) -> Json<Health> {
    let status = if coordinator.draining().is_cancelled() { "draining" } else { "ok" };
    Json(answer(status, &coordinator))
}

/// `GET /health/ready`: whether a load balancer should send requests here.
pub(crate) async fn ready(State(coordinator): State<Coordinator>) -> Result<Json<Health>, Problem> {
    let (code, detail) = match coordinator.readiness(limits::READY_WAIT).await {
        Readiness::Ready => return Ok(Json(answer("ready", &coordinator))),
        Readiness::Draining => (problem::SHUTTING_DOWN, "this server is shutting down"),
        Readiness::NoLease => {
            (problem::STORE_UNAVAILABLE, "this server could not renew its lease in the store")
        }
        Readiness::NoStore => (problem::STORE_UNAVAILABLE, "the store does not answer"),
    };
    Err(Problem::new(code, detail))
}

fn answer(status: &str, coordinator: &Coordinator) -> Health {
    Health {
        status: status.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: coordinator.node().to_string(),
    }
}

/// `GET /stats`
pub(crate) async fn stats(State(coordinator): State<Coordinator>) -> Json<StatsBody> {
    Json(convert::stats(coordinator.node().as_str(), coordinator.stats()))
}
