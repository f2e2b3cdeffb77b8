//! What every handler is given.

use std::{sync::Arc, time::Duration};

use axum::extract::FromRef;
use soloist::{Coordinator, limits};
use tokio_util::sync::CancellationToken;

/// How the server behaves. The default suits a router that is nested into another app.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Whether a viewer starts a task that is pending.
    pub autostart: Autostart,
    /// Other sites whose pages may call this server, as browsers write them in `Origin`: `https://app.example.com`.
    pub cors_origins: Vec<String>,
    /// Whether the `Host` of a request is looked at. [`serve`](crate::serve) looks wherever it listens on loopback.
    pub host_check: HostCheck,
    /// Names besides loopback names and addresses that [`HostCheck::On`] lets pass.
    pub allowed_hosts: Vec<String>,
    /// Silence on a stream after which a heartbeat comment is sent.
    pub heartbeat: Duration,
    /// What the `id` of an event says.
    pub ids: Ids,
    /// Cancelled to stop: streams tell their viewers to come back and end. [`serve`](crate::serve) then takes no more
    /// connections and returns once the requests under way are answered.
    pub stop: CancellationToken,
    /// How long [`serve`](crate::serve) waits for those.
    pub stop_wait: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            autostart: Autostart::On,
            cors_origins: Vec::new(),
            host_check: HostCheck::Off,
            allowed_hosts: Vec::new(),
            heartbeat: limits::SSE_HEARTBEAT,
            ids: Ids::Seq,
            stop: CancellationToken::new(),
            stop_wait: limits::STOP_WAIT_MAX,
        }
    }
}

/// Whether a viewer starts a task that is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Autostart {
    /// Its first viewer starts it.
    On,
    /// Viewers wait for the start.
    Off,
}

/// Whether the `Host` of a request is looked at. A server on loopback must: otherwise a web page whose name was made
/// to point at this machine (DNS rebinding) could call it as its own origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostCheck {
    /// Any passes.
    Off,
    /// Only loopback names, addresses and [`ServerOptions::allowed_hosts`] pass.
    On,
}

/// What the `id` of an event says. A cursor of either kind is always understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// Its seq. Enough where nothing that was shown is ever taken back.
    Seq,
    /// `seq-epoch`: for a store of which a power cut may take the last events. A new attempt then writes other events in
    /// their places, under another epoch, and a viewer that has seen the old ones is told so.
    SeqEpoch,
}

/// The state of the router.
#[derive(Clone)]
pub(crate) struct AppState {
    pub(crate) coordinator: Coordinator,
    pub(crate) options: Arc<ServerOptions>,
}

impl FromRef<AppState> for Coordinator {
    fn from_ref(state: &AppState) -> Self {
        state.coordinator.clone()
    }
}
