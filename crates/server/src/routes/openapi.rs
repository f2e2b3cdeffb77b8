//! The description of all calls, for machines.

use axum::{http::header, response::IntoResponse};

/// OpenAPI 3.1, as `GET /openapi.json` answers it.
pub const OPENAPI: &str = include_str!("../../openapi.json");

/// `GET /openapi.json`
pub(crate) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;
    use soloist_wire::{RawJson, TaskRecord, problem};

    use super::OPENAPI;

    fn openapi() -> Value {
        serde_json::from_str(OPENAPI).unwrap()
    }

    fn every_ref<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| every_ref(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| every_ref(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_everything_that_is_defined_is_used() {
        let openapi = openapi();
        let mut refs = Vec::new();
        every_ref(&openapi, &mut refs);
        for reference in &refs {
            assert!(openapi.pointer(&reference[1..]).is_some(), "{reference}");
        }
        for kind in ["schemas", "parameters"] {
            for name in openapi["components"][kind].as_object().unwrap().keys() {
                let reference = format!("#/components/{kind}/{name}");
                assert!(refs.contains(&&*reference), "{reference} is not used");
            }
        }
    }

    #[test]
    fn every_operation_declares_its_path_and_answers_and_has_a_name_of_its_own() {
        let openapi = openapi();
        assert_eq!(openapi["openapi"], "3.1.0");
        assert_eq!(openapi["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut names = BTreeSet::new();
        for (path, methods) in openapi["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                assert!(names.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
                let answers = operation["responses"].as_object().unwrap();
                assert!(
                    !answers.is_empty() && answers.values().all(|a| a["description"].is_string()),
                    "{method} {path}"
                );
                let none = Vec::new();
                let declared: BTreeSet<_> = operation["parameters"]
                    .as_array()
                    .unwrap_or(&none)
                    .iter()
                    .map(|p| p["$ref"].as_str().map_or(p, |r| openapi.pointer(&r[1..]).unwrap()))
                    .filter(|p| p["in"] == "path" && p["required"] == true)
                    .map(|p| p["name"].as_str().unwrap())
                    .collect();
                let wanted: BTreeSet<_> =
                    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
                assert_eq!(declared, wanted, "{method} {path}");
            }
        }
    }

    #[test]
    fn codes_and_the_record_are_described_as_they_are_sent() {
        let openapi = openapi();
        let schemas = &openapi["components"]["schemas"];
        let described: Vec<_> = schemas["Problem"]["properties"]["code"]["enum"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c.as_str().unwrap())
            .collect();
        let sent: Vec<_> = problem::ALL.iter().map(|code| code.slug).collect();
        assert_eq!(described, sent);

        let null: RawJson = serde_json::from_str("null").unwrap();
        let text = String::new;
        let record = TaskRecord {
            app: text(),
            model: text(),
            id: text(),
            input: null,
            status: text(),
            run: 0,
            attempt: 0,
            epoch: 0,
            owner: None,
            created_at: text(),
            updated_at: text(),
            started_at: None,
            completed_at: None,
            failed_at: None,
            cancelled_at: None,
            final_value: None,
            error_type: None,
            error_message: None,
            error_traceback: None,
            cancellation_reason: None,
            retry_count: 0,
            max_retries: 0,
            timeout_seconds: None,
            deadline_seconds: None,
            run_at: None,
            due_at: None,
            position: None,
            next_run: None,
            node: None,
            last_seq: 0,
        };
        let sent = serde_json::to_value(record).unwrap();
        let described = &schemas["TaskRecord"]["properties"];
        let names = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(described), names(&sent));
    }
}
