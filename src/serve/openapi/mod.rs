//! The description of the API (OpenAPI 3.1), made from what answers requests: the task types' schemas, the views that
//! are written to the wire, and the table of problems. By hand is only what no type says: which operation takes and
//! answers what, in `operations`.
//!
//! A test holds it against the router, route by route and in both directions, and every example against its schema.

mod examples;
mod operation;
mod operations;
mod parameters;
mod schemas;

use std::collections::HashMap;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
    web::{Bytes, Data},
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Api, access, problem::Problem, routes, session};
use crate::tasks::Registry;

const ABOUT: &str = "\
A client submits a task and gets `202 Accepted` with an id; it polls, holds a poll, or streams until the task has \
ended, and finds a `result` or an `error` in it.

- Every path that answers GET answers HEAD, and every path answers OPTIONS with its methods in `Allow`.
- Every error is `application/problem+json` with a stable `code`.
- Every answer carries `X-Request-Id`: the caller's, where the request had one, or a new one.
- Unknown query parameters and unknown keys in a body are refused, so that a slip of the pen is not silently ignored.
- Without a key every caller is an administrator, as long as the server has none; with the first key, all but the \
public operations ask for one. Each operation tells which roles may use it; an `admin` may use all.
- Clients should ignore members of an answer that they do not know: new ones may come.
";

/// The document of this program with the task types of one moment.
pub struct Document {
    text: Bytes,
    etag: String,
}

impl Document {
    /// Describes the API with these task types.
    pub fn new(registry: &Registry) -> Self {
        let text = describe(registry).to_string();
        let digest = Sha256::digest(&text);
        let etag = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        // Weak, because a proxy may compress it on its way.
        Self { text: Bytes::from(text), etag: format!("W/\"{etag}\"") }
    }

    /// 200 with the document, or 304 when the client has it.
    fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let known = request.headers().get_all(IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
        let opaque = self.etag.trim_start_matches("W/");
        let mut known = known.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
        let is_known = known.any(|tag| tag == opaque || tag == "*");
        let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        response
            .insert_header((ETAG, self.etag.as_str()))
            // It changes with the program: after a rollout, a client may have the old one for a minute.
            .insert_header((CACHE_CONTROL, "public, max-age=60"));
        if is_known {
            return response.finish();
        }
        response.insert_header((CONTENT_TYPE, "application/json")).body(self.text.clone())
    }
}

/// `GET /openapi.json`.
pub async fn document(api: Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Ok(api.types.now().openapi.answer(&request))
}

fn describe(registry: &Registry) -> Value {
    let mut paths = Map::new();
    let access: HashMap<_, _> = routes::table()
        .into_iter()
        .flat_map(|at| at.methods.iter().zip(&at.access).map(|(m, a)| ((at.path.clone(), *m), *a)).collect::<Vec<_>>())
        .collect();
    for operation in operations::all(registry) {
        let known = access.get(&(operation.path.to_owned(), operation.method)).copied();
        let operation = operation.open_to(known.unwrap_or(access::ADMIN));
        let (path, method) = (operation.path, operation.method.to_ascii_lowercase());
        if let Value::Object(path) = paths.entry(path).or_insert_with(|| json!({})) {
            path.insert(method, operation.describe());
        }
    }
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": env!("CARGO_PKG_NAME"),
            "version": env!("CARGO_PKG_VERSION"),
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "description": ABOUT,
            "license": {"name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE")},
        },
        "servers": [{"url": "/", "description": "The server that this document comes from"}],
        "tags": operations::tags(),
        "paths": paths,
        "components": {
            "schemas": schemas::all(registry),
            "parameters": parameters::parameters(),
            "headers": parameters::headers(),
            "examples": examples::problems(),
            "securitySchemes": {
                "key": {
                    "type": "http", "scheme": "bearer",
                    "description": "An API key, which `app keys create` prints, or a token of the identity provider.",
                },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": session::NAME,
                    "description": "What `POST /session` gives to a browser.",
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        serve::{problem::Code, routes},
        tasks::{scrape::WebScrape, vector::VectorProcessing},
    };

    fn document() -> Value {
        describe(&Registry::new().with(VectorProcessing).with(WebScrape))
    }

    #[test]
    fn the_router_and_the_document_have_the_same_operations() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let described: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().keys();
                methods.map(|method| (path.clone(), method.to_ascii_uppercase())).collect::<Vec<_>>()
            })
            .collect();
        // HEAD goes with GET, and the text at the head of the document says so.
        let routed: BTreeSet<(String, String)> = routes::table()
            .into_iter()
            .flat_map(|at| {
                let methods = at.methods.iter().filter(|method| **method != "HEAD");
                methods.map(|method| (at.path.clone(), (*method).to_owned())).collect::<Vec<_>>()
            })
            .collect();
        let missing: Vec<_> = routed.difference(&described).collect();
        let invented: Vec<_> = described.difference(&routed).collect();
        assert!(missing.is_empty() && invented.is_empty(), "not described: {missing:?}; not routed: {invented:?}");
        assert!(routes::table().iter().all(|at| at.methods.contains(&"GET") == at.methods.contains(&"HEAD")));
    }

    /// Every `$ref` of the document, with what it points at.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    match value {
                        Value::String(target) if key == "$ref" => found.push(target),
                        value => references(value, found),
                    }
                }
            }
            Value::Array(elements) => elements.iter().for_each(|element| references(element, found)),
            _ => {}
        }
    }

    #[test]
    fn a_client_that_has_the_document_is_told_so() {
        let document = Document::new(&Registry::new().with(WebScrape));
        let ask = |tag: &str| {
            let request = actix_web::test::TestRequest::get().insert_header((IF_NONE_MATCH, tag)).to_http_request();
            document.answer(&request).status().as_u16()
        };
        assert_eq!((ask(&document.etag), ask("*"), ask(&format!("\"x\", {}", &document.etag[2..]))), (304, 304, 304));
        assert_eq!((ask("\"x\""), ask("")), (200, 200));
        assert_ne!(document.etag, Document::new(&Registry::new()).etag);
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_component_is_used() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        let found: BTreeSet<&str> = found.into_iter().collect();
        for target in &found {
            let pointer = target.strip_prefix('#').expect("references stay in the document");
            assert!(document.pointer(pointer).is_some(), "{target} leads nowhere");
        }
        for (kind, components) in document["components"].as_object().unwrap() {
            for name in components.as_object().unwrap().keys() {
                let target = format!("#/components/{kind}/{name}");
                // OpenAPI has no words for the methods that a path lacks.
                let is_for_people = name == "method_not_allowed";
                // A header is described as always there and as optional, whichever is needed. Security schemes are
                // referred to by their names.
                assert!(
                    found.contains(target.as_str()) || is_for_people || kind == "headers" || kind == "securitySchemes",
                    "{target} is not used"
                );
            }
        }
    }

    #[test]
    fn operations_have_unique_ids_and_links_lead_to_them() {
        let document = document();
        let operations: Vec<&Value> = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|item| item.as_object().unwrap().values())
            .collect();
        let ids: BTreeSet<&str> =
            operations.iter().map(|operation| operation["operationId"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), operations.len());
        let mut links = 0;
        for response in operations.iter().flat_map(|operation| operation["responses"].as_object().unwrap().values()) {
            for link in response["links"].as_object().into_iter().flat_map(|links| links.values()) {
                assert!(ids.contains(link["operationId"].as_str().unwrap()), "{link}");
                links += 1;
            }
        }
        assert!(links > 0);
    }

    #[test]
    fn every_problem_has_an_operation_that_tells_of_it() {
        let text = document()["paths"].to_string();
        for code in Code::ALL {
            // These come before any operation is found, or instead of one.
            if matches!(code, Code::MethodNotAllowed) {
                continue;
            }
            let target = format!("#/components/examples/{}", code.as_str());
            assert!(text.contains(&target), "no operation answers {}", code.as_str());
        }
    }

    /// Collects every media type of the document with its schema and its examples.
    fn media<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::Object(content)) = members.get("content") {
                    found.extend(content.values());
                }
                members.values().for_each(|value| media(value, found));
            }
            Value::Array(elements) => elements.iter().for_each(|element| media(element, found)),
            _ => {}
        }
    }

    #[test]
    fn every_example_fits_its_schema() {
        let document = document();
        let mut found = Vec::new();
        media(&document["paths"], &mut found);
        let mut checked = 0;
        for media in found {
            let mut schema = json!({"components": document["components"], "allOf": [media["schema"]]});
            schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
            let validator = jsonschema::draft202012::new(&schema).unwrap();
            for (name, example) in media["examples"].as_object().into_iter().flatten() {
                let example = match example["$ref"].as_str() {
                    Some(target) => document.pointer(&target[1..]).unwrap(),
                    None => example,
                };
                if let Err(error) = validator.validate(&example["value"]) {
                    panic!("the example {name}: {error} in {}", example["value"]);
                }
                checked += 1;
            }
        }
        assert!(checked > 20, "only {checked} examples");
    }

    #[test]
    fn a_submit_is_described_for_every_type() {
        let document = document();
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "components": document["components"], "$ref": "#/components/schemas/Submit",
        });
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        for right in [
            json!({"vector_data": [1.0]}),
            json!({"task_type": "vector_processing", "vector_data": [[1.0], [2.0]], "metadata": {"a": [null]}}),
            json!({"task_type": "web_scrape", "url": "https://example.com", "options": {"priority": "low"}}),
            json!({"vector_data": [1], "options": {"delay": "1h 30m", "timeout": "500ms", "max_attempts": 1}}),
        ] {
            assert!(validator.is_valid(&right), "{right}");
        }
        for wrong in [
            json!({}),
            json!({"task_type": "web_scrape"}),
            json!({"url": "https://example.com"}),
            json!({"task_type": "web_scrape", "url": "https://example.com", "vector_data": [1]}),
            json!({"task_type": "unknown", "vector_data": [1]}),
            json!({"vector_data": [1], "owner": "me"}),
            json!({"vector_data": [1], "options": {"owner": "me"}}),
            json!({"vector_data": [1], "options": {"delay": "1s", "run_at": "2026-01-01T00:00:00Z"}}),
            json!({"vector_data": [1], "metadata": null}),
        ] {
            assert!(!validator.is_valid(&wrong), "{wrong}");
        }
    }

    #[test]
    fn a_program_without_the_default_type_has_no_default() {
        let document = describe(&Registry::new().with(WebScrape));
        assert_eq!(
            document["components"]["schemas"]["Submit"]["discriminator"]["mapping"].as_object().unwrap().len(),
            1
        );
        assert_eq!(document["components"]["schemas"]["Submit.web_scrape"]["required"], json!(["task_type", "url"]));
    }
}
