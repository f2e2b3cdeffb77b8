//! Whether this process lives, and what it has in hand.

use axum::{Json, extract::State};
use soloist::Coordinator;
use soloist_wire::{Health, StatsBody};

use crate::convert;

/// `GET /health`: alive, also while it drains.
pub(crate) async fn health(State(coordinator): State<Coordinator>) -> Json<Health> {
    let status = if coordinator.draining().is_cancelled() { "draining" } else { "ok" };
    Json(Health {
        status: status.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: coordinator.node().to_string(),
    })
}

/// `GET /stats`
pub(crate) async fn stats(State(coordinator): State<Coordinator>) -> Json<StatsBody> {
    Json(convert::stats(coordinator.node().as_str(), coordinator.stats()))
}
