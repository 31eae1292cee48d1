//! The routes: the whole table on one screen.

use actix_web::{
    FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder,
    dev::{AppService, HttpServiceFactory},
    guard,
    http::{
        Method,
        header::{ALLOW, HeaderValue},
    },
    web::{self, ServiceConfig},
};

use super::{
    bulk, dashboard, declare, docs, events, health, lease, list, logs, look, openapi,
    problem::{Code, Problem},
    queues, read, session, stream, submit, timeline, workers,
};

/// Every path of the API.
pub fn table() -> Vec<At> {
    vec![
        at("/").get(dashboard::home),
        at("/tasks").get(list::list).post(submit::submit),
        // Before /tasks/{id}, which would take these words for ids.
        at("/tasks/batch").post(submit::submit_batch),
        at("/tasks/cancel").post(bulk::cancel),
        at("/tasks/retry").post(bulk::retry),
        at("/tasks/counts").get(list::counts),
        at("/tasks/{id}").get(read::task).delete(read::cancel),
        at("/tasks/{id}/input").get(read::input),
        at("/tasks/{id}/logs").get(logs::logs),
        at("/tasks/{id}/stream").get(stream::stream),
        at("/tasks/{id}/timeline").get(timeline::timeline),
        at("/tasks/{id}/retry").post(read::retry),
        at("/tasks/{id}/lease/heartbeat").post(lease::heartbeat),
        at("/tasks/{id}/lease/progress").post(lease::progress),
        at("/tasks/{id}/lease/log").post(lease::log),
        at("/tasks/{id}/lease/checkpoint").post(lease::checkpoint),
        at("/tasks/{id}/lease/complete").post(lease::complete),
        at("/tasks/{id}/lease/fail").post(lease::fail),
        at("/queues").get(queues::queues),
        at("/queues/{name}/pause").post(queues::pause),
        at("/queues/{name}/resume").post(queues::resume),
        at("/queues/{queue}/lease").post(lease::lease),
        at("/autoscale/{queue}").get(queues::autoscale),
        at("/workers").get(workers::workers),
        at("/events").get(events::events),
        at("/session").get(session::session),
        at("/task-types").get(look::task_types),
        at("/task-types/{name}").put(declare::declare),
        at("/openapi.json").get(openapi::document),
        at("/docs").get(docs::page),
        at("/docs/{file}").get(docs::file),
        at("/ui").get(dashboard::home),
        at("/ui/boot.js").get(dashboard::boot),
        at("/ui/assets/{hash}/{file}").get(dashboard::asset),
        // Whatever follows: the page's own script knows its addresses.
        at("/ui/{page:.*}").get(dashboard::page),
        at("/livez").get(health::livez),
        at("/readyz").get(health::readyz),
    ]
}

/// The table as actix takes it, and what is answered at every other path.
pub fn all(config: &mut ServiceConfig) {
    for at in table() {
        config.service(at);
    }
    config.default_service(web::to(nothing_here));
}

async fn nothing_here() -> Result<HttpResponse, Problem> {
    Err(Problem::new(
        Code::PathNotFound,
        "Nothing is at this path: GET /openapi.json lists what there is, and /docs shows it.",
    ))
}

fn at(path: &str) -> At {
    At { path: path.replace(":.*}", "}"), resource: web::resource(path), methods: Vec::new() }
}

/// One path with its methods. It answers OPTIONS, and every method that it lacks with 405, by itself.
pub struct At {
    /// The path, its variable parts in braces.
    pub path: String,
    /// The methods that have a handler.
    pub methods: Vec<&'static str>,
    resource: Resource,
}

impl At {
    /// GET, and with it HEAD: the same answer without its body.
    fn get<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let read = web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
        self.with(&["GET", "HEAD"], read.to(handler))
    }

    fn post<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with(&["POST"], web::post().to(handler))
    }

    fn put<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with(&["PUT"], web::put().to(handler))
    }

    fn delete<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with(&["DELETE"], web::delete().to(handler))
    }

    fn with(mut self, methods: &[&'static str], route: actix_web::Route) -> Self {
        self.methods.extend(methods);
        self.resource = self.resource.route(route);
        self
    }
}

impl HttpServiceFactory for At {
    fn register(mut self, config: &mut AppService) {
        self.methods.push("OPTIONS");
        // Names of methods are always a legal header value.
        let allowed = HeaderValue::from_str(&self.methods.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"));
        let other = web::to(move |request: HttpRequest| {
            let allowed = allowed.clone();
            async move {
                if *request.method() == Method::OPTIONS {
                    return Ok(HttpResponse::NoContent().insert_header((ALLOW, allowed)).finish());
                }
                Err(Problem::new(Code::MethodNotAllowed, "The path is right, the method is not: see Allow.")
                    .allowing(allowed))
            }
        });
        self.resource.default_service(other).register(config);
    }
}
