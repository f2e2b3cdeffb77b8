//! The trace that a run belongs to, as its caller named it (W3C Trace Context).
//!
//! Decides: what a trace context is ([`TraceContext`]): valid from birth, and handed on as it came. What cannot be read is
//! ignored and never an error, as the specification asks for: nobody's start fails because of his tracing.
//!
//! Never decides what becomes of it: the store keeps it with the run, and the work is given it with every attempt.

use std::sync::Arc;

use crate::limits;

/// The hexadecimal digits of the id of a trace.
const TRACE_ID: usize = 32;
/// The hexadecimal digits of the id of a span.
const PARENT_ID: usize = 16;
/// `version-trace_id-parent_id-flags`.
const LENGTH: usize = 2 + 1 + TRACE_ID + 1 + PARENT_ID + 1 + 2;

/// `traceparent` and `tracestate` of whoever started a run. Cheap to clone.
///
/// ```
/// use soloist::TraceContext;
/// let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let trace = TraceContext::new(parent, Some("rojo=00f067aa0ba902b7")).unwrap();
/// assert_eq!((trace.traceparent(), trace.tracestate()), (parent, Some("rojo=00f067aa0ba902b7")));
/// assert!(TraceContext::new("none", None).is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TraceContext {
    parent: Arc<str>,
    state: Option<Arc<str>>,
}

impl TraceContext {
    /// From the values of the two headers. None where `traceparent` is invalid: then `tracestate` says nothing, either. A
    /// `tracestate` that is empty, longer than [`limits::TRACE_STATE_MAX_BYTES`] or more than printable ASCII is left out
    /// alone.
    #[must_use]
    pub fn new(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        is_parent(traceparent).then(|| Self {
            parent: traceparent.into(),
            state: tracestate.filter(|state| is_state(state)).map(Into::into),
        })
    }

    /// Which trace the run belongs to, and under which span: `00-<trace id>-<parent id>-<flags>`.
    #[must_use]
    pub fn traceparent(&self) -> &str {
        &self.parent
    }

    /// What the tracing systems on the way have to say of it, if anything.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

fn is_parent(text: &str) -> bool {
    if text.len() > limits::TRACE_PARENT_MAX_BYTES || !is_printable(text) || text.len() < LENGTH {
        return false;
    }
    // All of it is ASCII: it may be cut anywhere.
    let (known, rest) = text.split_at(LENGTH);
    let mut parts = known.split('-');
    let mut part = |digits| parts.next().filter(|part| part.len() == digits && is_hex(part));
    let (Some(version), Some(trace_id), Some(parent_id), Some(_flags)) =
        (part(2), part(TRACE_ID), part(PARENT_ID), part(2))
    else {
        return false;
    };
    let is_whole = match version {
        "ff" => false,
        "00" => rest.is_empty(),
        // What later versions add is not ours to judge.
        _ => rest.is_empty() || rest.starts_with('-'),
    };
    let is_zero = |id: &str| id.bytes().all(|digit| digit == b'0');
    is_whole && !is_zero(trace_id) && !is_zero(parent_id)
}

fn is_state(text: &str) -> bool {
    !text.is_empty() && text.len() <= limits::TRACE_STATE_MAX_BYTES && is_printable(text)
}

/// Lower case, as the specification has it.
fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_parent_is_handed_on_as_it_came() {
        let later = PARENT.replacen("00", "cc", 1);
        for parent in
            [PARENT, &later, &format!("{later}-what the future will be like."), &format!("{later}-")]
        {
            let trace = TraceContext::new(parent, None).unwrap();
            assert_eq!((trace.traceparent(), trace.tracestate()), (parent, None));
        }
    }

    #[test]
    fn an_invalid_parent_is_no_trace() {
        let later = PARENT.replacen("00", "01", 1);
        for parent in [
            "",
            "00",
            &PARENT[..54],
            &format!("{PARENT}-"),
            &format!("{PARENT}-01"),
            &format!("{PARENT}0"),
            &format!("{later}0"),
            &format!("{later}.what"),
            &format!("{later}-\u{e9}"),
            &format!("{later}-\t"),
            &format!("{later}-{}", "x".repeat(limits::TRACE_PARENT_MAX_BYTES)),
            &format!(" {PARENT}"),
            &PARENT.replacen("00", "ff", 1),
            &PARENT.replacen("00", "0x", 1),
            &PARENT.to_uppercase(),
            &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &PARENT.replace("-01", "-0g"),
            &PARENT.replace('-', "_"),
            &PARENT.replace("4736-", "473-6"),
            &"\u{e9}".repeat(40),
        ] {
            assert_eq!(TraceContext::new(parent, Some("a=1")), None, "{parent:?}");
        }
    }

    #[test]
    fn a_state_that_cannot_be_kept_is_left_out_alone() {
        let state = |text: &str| {
            let trace = TraceContext::new(PARENT, Some(text)).unwrap();
            assert_eq!(trace.traceparent(), PARENT);
            trace.tracestate().map(str::to_owned)
        };
        let longest = "x".repeat(limits::TRACE_STATE_MAX_BYTES);
        for kept in ["rojo=00f067aa0ba902b7, congo=t61rcWkgMzE", " a=1 ", &longest] {
            assert_eq!(state(kept).as_deref(), Some(kept));
        }
        for left_out in ["", "a=\u{e9}", "a=1\n", "a=\u{7f}", &format!("{longest}x")] {
            assert_eq!(state(left_out), None, "{left_out:?}");
        }
    }
}
