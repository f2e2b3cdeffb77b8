//! The trace of a request: the headers `traceparent` and `tracestate` (W3C Trace Context).
//!
//! Decides: how headers become one trace context. What is invalid is ignored, as the specification asks for, and fails no
//! request; what is valid the library says.

use axum::http::HeaderMap;
use soloist::TraceContext;

/// The trace that a request is part of, if it names one. Several `tracestate` are one list; several `traceparent` are none.
pub(crate) fn context(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all("traceparent").iter();
    let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
    let states = headers.get_all("tracestate").iter().map(|state| state.to_str().ok());
    let states = states.filter(|state| *state != Some("")).collect::<Option<Vec<_>>>();
    TraceContext::new(parent.to_str().ok()?, states.map(|states| states.join(",")).as_deref())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(headers: &[(&'static str, &'static [u8])]) -> Option<TraceContext> {
        let headers = headers.iter().map(|(name, value)| {
            (axum::http::HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        });
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        context(&map)
    }

    #[test]
    fn the_states_of_several_headers_are_one_list() {
        let parent = ("traceparent", PARENT.as_bytes());
        let state = |headers: &[(&'static str, &'static [u8])]| {
            let trace = of(&[&[parent], headers].concat()).unwrap();
            assert_eq!(trace.traceparent(), PARENT);
            trace.tracestate().map(str::to_owned)
        };
        assert_eq!(state(&[]), None);
        assert_eq!(state(&[("tracestate", b"a=1")]).as_deref(), Some("a=1"));
        let several: [(_, &[u8]); 3] =
            [("tracestate", b"a=1,b=2"), ("tracestate", b""), ("tracestate", b"c=3")];
        assert_eq!(state(&several).as_deref(), Some("a=1,b=2,c=3"));
        assert_eq!(state(&[("tracestate", b"a=1"), ("tracestate", b"b=\xff")]), None);
    }

    #[test]
    fn no_parent_or_more_than_one_is_no_trace() {
        let parent = ("traceparent", PARENT.as_bytes());
        assert_eq!(of(&[("tracestate", b"a=1")]), None);
        assert_eq!(of(&[parent, parent]), None);
        assert_eq!(of(&[("traceparent", b"00-\xff")]), None);
    }
}
