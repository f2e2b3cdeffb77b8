//! What an input may do to the address and the headers of a call: fill its place, and nothing else.

use serde_json::json;
use soloist::{Error, Json, Key, NewTask, Status, limits};
use soloist_runners::{
    OptionError,
    http::{HttpOptions, HttpRunner},
};

use super::{SSE, options, upstream::Upstream, whole, world};

/// What somebody may try who chooses an input.
const ATTACKS: [&str; 34] = [
    "",
    ".",
    "..",
    "../admin",
    "a/../../admin",
    "..\\admin",
    "a/..",
    "./a",
    "...",
    "....//",
    "..;/admin",
    "%2e%2e",
    "%2f",
    "%2e%2e%2fadmin",
    "%252e%252e",
    "/",
    "//evil.example",
    "\\\\evil.example",
    "http://evil.example/",
    "@evil.example",
    ":80",
    "?a=b",
    "#x",
    "&a=b",
    "a b",
    "a\tb",
    "a\r\nX-Evil: 1",
    "a\r\n\r\nGET /evil HTTP/1.1",
    "a\nb",
    "\0",
    "\u{7f}",
    "\u{ff0e}\u{ff0e}/x",
    "\u{2025}\u{2028}",
    "b\u{fc}cher\u{1f600}",
];

/// Creates and runs a task with this input: the error of the create, if it is refused.
async fn try_input(world: &crate::world::World, id: usize, input: &serde_json::Value) -> Result<(), Error> {
    let key: Key = format!("t/Model/{id}").parse().unwrap();
    world.coordinator.create(NewTask::named(key.clone(), Json::of(input).unwrap())).await?;
    world.coordinator.start(&key, soloist::StartOptions::default()).await.unwrap();
    let ran = world.ended(&key, 1).await;
    assert_eq!(ran.task.status, Status::Completed, "{:?}", ran.task.failure);
    Ok(())
}

fn refused(error: &Error, field: &str) {
    let Error::Invalid { code, message, .. } = error else { panic!("{error:?}") };
    assert_eq!(*code, "invalid_input");
    assert!(message.contains(field), "{message}");
}

#[tokio::test]
async fn an_attack_on_the_path_is_refused_or_stays_one_segment() {
    let upstream = Upstream::saying(whole(SSE, "data: 1\n\n")).await;
    let url = upstream.url("/v1/{input.field}/generate");
    let world = world(HttpOptions { url, ..HttpOptions::default() }).await;
    let mut sent = Vec::new();
    for (id, attack) in ATTACKS.into_iter().enumerate() {
        match try_input(&world, id, &json!({ "field": attack })).await {
            Err(error) => refused(&error, "field"),
            Ok(()) => {
                let request = upstream.requests().pop().unwrap();
                let path =
                    request.line.strip_prefix("POST /v1/").and_then(|l| l.strip_suffix("/generate HTTP/1.1"));
                let segment = path.unwrap_or_else(|| panic!("{attack:?}: {}", request.line));
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
                assert!(segment.bytes().all(plain), "{attack:?}: {segment}");
                assert_eq!(percent_encoding::percent_decode_str(segment).decode_utf8().unwrap(), attack);
                assert_eq!(request.header("host"), Some(&*format!("127.0.0.1:{}", upstream.port)));
                assert_eq!(request.header("x-evil"), None);
                assert!(!attack.split(['/', '\\']).any(|step| matches!(step, "." | "..")), "{attack:?}");
                sent.push(attack);
            }
        }
    }
    assert_eq!(upstream.connections(), sent.len());
    println!("these were sent: {sent:?}");
}

#[tokio::test]
async fn values_that_make_a_step_only_together_are_refused() {
    let upstream = Upstream::saying(whole(SSE, "data: 1\n\n")).await;
    for (path, a, b) in [
        ("/{input.a}{input.b}", ".", "."),
        ("/.{input.a}", ".", ""),
        ("/%2e{input.a}", ".", ""),
        ("/..{input.a}", "/admin", ""),
        ("/{input.a}..{input.b}", "x/", "/admin"),
        ("/{input.a}..", "x\\", ""),
        ("/x%2f{input.a}{input.b}", ".", "."),
    ] {
        let world = world(HttpOptions { url: upstream.url(path), ..HttpOptions::default() }).await;
        let error = try_input(&world, 1, &json!({ "a": a, "b": b })).await.expect_err(path);
        refused(&error, "'..'");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn an_attack_on_the_query_stays_in_its_value() {
    let upstream = Upstream::saying(whole(SSE, "data: 1\n\n")).await;
    let url = upstream.url("/generate?q={input.field}&z=1");
    let world = world(HttpOptions { url, ..HttpOptions::default() }).await;
    for (id, attack) in ATTACKS.into_iter().enumerate() {
        try_input(&world, id, &json!({ "field": attack })).await.unwrap();
        let request = upstream.requests().pop().unwrap();
        let value =
            request.line.strip_prefix("POST /generate?q=").and_then(|l| l.strip_suffix("&z=1 HTTP/1.1"));
        let value = value.unwrap_or_else(|| panic!("{attack:?}: {}", request.line));
        assert!(!value.contains(['&', '#', ' ', '?', '+']), "{value}");
        assert_eq!(percent_encoding::percent_decode_str(value).decode_utf8().unwrap(), attack);
        assert_eq!(request.header("x-evil"), None);
    }
}

#[tokio::test]
async fn an_attack_on_a_header_is_refused_or_stays_its_value() {
    let upstream = Upstream::saying(whole(SSE, "data: 1\n\n")).await;
    let headers = [("X-Field".to_owned(), "<{input.field}>".to_owned())].into();
    let world = world(HttpOptions { headers, ..options(&upstream) }).await;
    let mut refusals = 0;
    for (id, attack) in ATTACKS.into_iter().enumerate() {
        match try_input(&world, id, &json!({ "field": attack })).await {
            Err(error) => {
                refused(&error, "field");
                assert!(!attack.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{attack:?}");
                refusals += 1;
            }
            Ok(()) => {
                let request = upstream.requests().pop().unwrap();
                assert_eq!(request.header("x-field"), Some(&*format!("<{attack}>")));
                assert_eq!((request.header("x-evil"), request.body.len() > 2), (None, true));
            }
        }
    }
    assert_eq!(upstream.connections(), ATTACKS.len() - refusals);
    assert!(refusals >= 8);
}

#[tokio::test]
async fn a_field_that_is_missing_or_has_no_text_is_refused_by_its_name() {
    let upstream = Upstream::saying(whole(SSE, "data: 1\n\n")).await;
    let url = upstream.url("/{input.field}");
    let world = world(HttpOptions { url, ..HttpOptions::default() }).await;
    let long = "x".repeat(limits::HTTP_ADDRESS_MAX_BYTES);
    for (input, named) in [
        (json!({}), "field"),
        (json!({ "field": null }), "field"),
        (json!({ "field": [1] }), "field"),
        (json!({ "field": { "a": 1 } }), "field"),
        (json!({ "field": long }), "address"),
        (json!([]), "field"),
        (json!("field"), "field"),
    ] {
        refused(&try_input(&world, 1, &input).await.unwrap_err(), named);
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn what_the_address_of_a_model_may_not_be_is_an_error_of_its_options() {
    for url in [
        "http://{input.host}/",
        "http://127.0.0.1:{input.port}/",
        "http://h@evil/",
        "ftp://h/",
        "http://h/../x",
    ] {
        let error: OptionError =
            HttpRunner::new(HttpOptions { url: url.into(), ..HttpOptions::default() }).unwrap_err();
        assert_eq!(error.key, "url", "{url}");
    }
}
