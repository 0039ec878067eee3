//! The OpenAPI document, made from the routes and their types. Made here, from schemars' schemas: of the crates that do
//! the same, aide speaks schemars 1 only in its alpha releases, and utoipa wants a second description of every type.

use std::collections::BTreeMap;

use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde_json::{Map, Value, json};

use super::{
    Fault, Visit, Written, is_for_programs,
    route::{Nothing, Route, Shape},
    routes,
};

/// Makes the schemas of the types that are used.
pub(super) struct Schemas {
    taken: SchemaGenerator,
    given: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let generator = |contract| {
            SchemaSettings::draft2020_12()
                .with(|settings| {
                    settings.definitions_path = "/components/schemas".into();
                    settings.meta_schema = None;
                    settings.contract = contract;
                })
                .into_generator()
        };
        Self { taken: generator(Contract::Deserialize), given: generator(Contract::Serialize) }
    }

    /// The schema of what a request holds.
    pub(super) fn taken<T: JsonSchema>(&mut self) -> Schema {
        self.taken.subschema_for::<T>()
    }

    /// The schema of what an answer holds.
    pub(super) fn given<T: JsonSchema>(&mut self) -> Schema {
        self.given.subschema_for::<T>()
    }
}

/// `GET /api/v1/openapi.json`
pub(super) async fn openapi(_: Visit, _: Nothing) -> Result<Map<String, Value>, Fault> {
    Ok(document(&routes()))
}

fn document(routes: &[Route]) -> Map<String, Value> {
    let mut schemas = Schemas::new();
    let refusal = schemas.given::<Written>();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in routes {
        let method = route.method.as_str().to_lowercase();
        paths.entry(route.path).or_default().insert(method, operation(route, &mut schemas, &refusal));
    }
    let mut components = schemas.taken.take_definitions(true);
    components.extend(schemas.given.take_definitions(true));
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "tailops: the API for people",
            "version": "1",
            "description": "Who you are is known from the connection: the tailnet's WhoIs, or on the control socket the kernel. \
                No token is looked at. docs/api.md says more.",
            "license": {"name": "Apache-2.0 OR MIT"},
        },
        "paths": paths,
        "components": {"schemas": components},
    });
    match document {
        Value::Object(document) => document,
        _ => Map::new(),
    }
}

fn operation(route: &Route, schemas: &mut Schemas, refusal: &Schema) -> Value {
    let Shape { query, body, answer } = (route.shape)(schemas);
    let mut parameters: Vec<Value> = in_path(route.path)
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    if !is_for_programs(route.path) {
        parameters.push(json!({
            "name": "X-Tailops-Request", "in": "header", "required": true, "schema": {"const": "1"},
            "description": "says that the request is meant for this API",
        }));
    }
    parameters.extend(query.into_iter().flat_map(|schema| in_query(schemas, &schema)));
    let content = |schema: &Schema| json!({"application/json": {"schema": schema}});
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "done", "content": content(&answer)},
            "default": {"description": "refused; the status says in which way, the code why", "content": content(refusal)},
        },
    });
    if let (Some(body), Some(operation)) = (body, operation.as_object_mut()) {
        operation.insert("requestBody".to_owned(), json!({"required": true, "content": content(&body)}));
    }
    operation
}

/// `get_approvals_id` for `GET /api/v1/approvals/{id}`.
fn operation_id(route: &Route) -> String {
    let words = route.path.trim_start_matches("/api/v1/").split(|letter: char| !letter.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    format!("{}_{}", route.method.as_str().to_lowercase(), words.join("_"))
}

/// The names between braces.
fn in_path(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// One parameter for each field of the query's schema, which is then needed no more.
fn in_query(schemas: &mut Schemas, schema: &Schema) -> Vec<Value> {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.rsplit('/').next());
    let whole = name.and_then(|name| schemas.taken.definitions_mut().remove(name)).unwrap_or_default();
    let required = |name: &str| {
        whole.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|one| one == name))
    };
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = schema.clone();
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        not_null(&mut schema);
        json!({"name": name, "in": "query", "required": required(name), "schema": schema, "description": description})
    };
    whole.get("properties").and_then(Value::as_object).into_iter().flatten().map(parameter).collect()
}

/// Takes null out of what `schema` allows: in a query a field is there or not.
fn not_null(schema: &mut Value) {
    let null = json!({"type": "null"});
    if let Some(choices) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        choices.retain(|choice| *choice != null);
        if let [only] = choices.as_slice() {
            *schema = only.clone();
        }
    } else if let Some(kinds) = schema.get_mut("type").and_then(Value::as_array_mut) {
        kinds.retain(|kind| kind != "null");
    }
}
