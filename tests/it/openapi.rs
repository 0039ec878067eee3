//! The OpenAPI document: it follows the specification, its copy in docs is what the gateway serves, and every answer that
//! a test sees is one that it promises.

use std::{collections::BTreeSet, fs, path::Path, sync::LazyLock};

use serde_json::{Map, Value, json};

use crate::{
    harness::{Answer, Gateway},
    people::{People, on_host},
};

/// The copy for people.
static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap());
/// Writes the copy anew.
const UPDATE: &str = "TAILOPS_UPDATE_OPENAPI";

/// Fails unless the document promises `answer` to this request.
#[track_caller]
pub fn fits(method: &str, path: &str, answer: &Answer) {
    if std::env::var_os(UPDATE).is_some() {
        return;
    }
    let path = path.split('?').next().unwrap();
    let Some(operation) = operation(method, path) else {
        assert!(answer.status >= 400, "{method} {path} is not in docs/openapi.json; {UPDATE}=1 writes it anew");
        return;
    };
    let status = answer.status.to_string();
    let response = operation["responses"].get(&status).unwrap_or(&operation["responses"]["default"]);
    assert!(answer.status == 200 || answer.status >= 400, "{method} {path}: {}", answer.status);
    let validator = validator(&response["content"]["application/json"]["schema"]);
    let faults: Vec<String> =
        validator.iter_errors(&answer.body).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(faults.is_empty(), "{method} {path} answered what the document does not say: {faults:#?}\n{}", answer.body);
}

/// The operation whose path, with its parameters, this is.
fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let fits = |template: &str| {
        let (template, path): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
        template.len() == path.len()
            && template
                .iter()
                .zip(path)
                .all(|(part, given)| (part.starts_with('{') && !given.is_empty()) || *part == given)
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    // A literal path goes before one with parameters.
    let mut found: Vec<(&String, &Value)> = paths.iter().filter(|(template, _)| fits(template)).collect();
    found.sort_by_key(|(template, _)| template.matches('{').count());
    found.first().and_then(|(_, item)| item.get(method.to_lowercase()))
}

/// `schema`, which refers to the document's components.
fn validator(schema: &Value) -> jsonschema::Validator {
    let mut whole: Map<String, Value> = schema.as_object().unwrap().clone();
    whole.insert("components".to_owned(), DOCUMENT["components"].clone());
    whole.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    jsonschema::validator_for(&Value::Object(whole)).unwrap()
}

#[tokio::test]
async fn the_copy_in_docs_is_what_is_served_to_people() {
    let gateway = Gateway::start().await;
    let bob = People::of(&gateway).approver("bob", json!(true));
    let served = bob.get("/api/v1/openapi.json").await;
    assert_eq!(served.status, 200);
    assert_eq!(served.body, on_host(&gateway, "GET", "/api/v1/openapi.json", None).await.body);
    gateway.stop().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let text = format!("{}\n", serde_json::to_string_pretty(&served.body).unwrap());
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap() == text, "docs/openapi.json is out of date: {UPDATE}=1 writes it anew");
}

#[test]
fn the_document_follows_the_specification() {
    let specification = serde_json::from_str(include_str!("../cases/openapi/schema-3.1.json")).unwrap();
    let validator = jsonschema::validator_for(&specification).unwrap();
    assert!(
        !validator.is_valid(&json!({"openapi": "3.1.0"})),
        "the specification's schema holds documents to something"
    );
    let faults: Vec<String> =
        validator.iter_errors(&DOCUMENT).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let components = DOCUMENT["components"]["schemas"].as_object().unwrap();
    for (name, schema) in components {
        assert!(jsonschema::draft202012::meta::is_valid(schema), "{name} is no JSON Schema");
        self::validator(&json!({"$ref": format!("#/components/schemas/{name}")}));
    }
    // Every schema that is named is there, and none is there for nothing.
    let text = DOCUMENT.to_string();
    let named: BTreeSet<&str> =
        text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(named, components.keys().map(String::as_str).collect());
}

#[test]
fn every_operation_says_what_it_wants_of_people() {
    let mut ids = BTreeSet::new();
    let mut count = 0;
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            count += 1;
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{path}");
            assert!(
                !operation["summary"].as_str().unwrap().is_empty() && operation["responses"]["default"].is_object()
            );
            let header =
                operation["parameters"].as_array().unwrap().iter().any(|one| one["name"] == "X-Tailops-Request");
            assert_eq!(header, !path.starts_with("/api/v1/webhooks/"), "{method} {path}");
        }
    }
    assert!(count >= 5, "{count}");
}
