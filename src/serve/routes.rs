//! The routes: the whole table on one screen.

use actix_web::{
    FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder,
    dev::{AppService, HttpServiceFactory},
    guard,
    http::{
        Method,
        header::{ALLOW, HeaderValue},
    },
    middleware::from_fn,
    web::{self, ServiceConfig},
};

use super::{
    access::{self, ADMIN, Access, KNOWN, LOOK, MONITOR, PUBLIC, USER, WORKER},
    bulk, dashboard, declare, docs, events, health, lease, list, logs, look, openapi,
    problem::{Code, Problem},
    queues, read, session, stream, submit, timeline, workers,
};

/// Every path of the API, and for each method who may use it.
pub fn table() -> Vec<At> {
    vec![
        at("/").get(PUBLIC, dashboard::home),
        at("/tasks").get(USER, list::list).post(USER, submit::submit),
        // Before /tasks/{id}, which would take these words for ids.
        at("/tasks/batch").post(USER, submit::submit_batch),
        at("/tasks/cancel").post(USER, bulk::cancel),
        at("/tasks/retry").post(ADMIN, bulk::retry),
        at("/tasks/counts").get(USER, list::counts),
        at("/tasks/{id}").get(USER, read::task).delete(USER, read::cancel),
        at("/tasks/{id}/input").get(USER, read::input),
        at("/tasks/{id}/logs").get(USER, logs::logs),
        at("/tasks/{id}/stream").get(USER, stream::stream),
        at("/tasks/{id}/timeline").get(USER, timeline::timeline),
        at("/tasks/{id}/retry").post(ADMIN, read::retry),
        at("/tasks/{id}/lease/heartbeat").post(WORKER, lease::heartbeat),
        at("/tasks/{id}/lease/progress").post(WORKER, lease::progress),
        at("/tasks/{id}/lease/log").post(WORKER, lease::log),
        at("/tasks/{id}/lease/checkpoint").post(WORKER, lease::checkpoint),
        at("/tasks/{id}/lease/complete").post(WORKER, lease::complete),
        at("/tasks/{id}/lease/fail").post(WORKER, lease::fail),
        at("/queues").get(LOOK, queues::queues),
        at("/queues/{name}/pause").post(ADMIN, queues::pause),
        at("/queues/{name}/resume").post(ADMIN, queues::resume),
        at("/queues/{queue}/lease").post(WORKER, lease::lease),
        at("/autoscale/{queue}").get(MONITOR, queues::autoscale),
        at("/workers").get(LOOK, workers::workers),
        at("/events").get(USER, events::events),
        at("/session").get(KNOWN, session::show).post(PUBLIC, session::sign_in).delete(PUBLIC, session::sign_out),
        at("/task-types").get(PUBLIC, look::task_types),
        at("/task-types/{name}").put(ADMIN, declare::declare),
        at("/openapi.json").get(PUBLIC, openapi::document),
        at("/docs").get(PUBLIC, docs::page),
        at("/docs/{file}").get(PUBLIC, docs::file),
        at("/ui").get(PUBLIC, dashboard::home),
        at("/ui/boot.js").get(PUBLIC, dashboard::boot),
        at("/ui/assets/{hash}/{file}").get(PUBLIC, dashboard::asset),
        // Whatever follows: the page's own script knows its addresses.
        at("/ui/{page:.*}").get(PUBLIC, dashboard::page),
        at("/livez").get(PUBLIC, health::livez),
        at("/readyz").get(PUBLIC, health::readyz),
        at("/metrics").get(MONITOR, health::metrics),
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
    At { path: path.replace(":.*}", "}"), resource: web::resource(path), methods: Vec::new(), access: Vec::new() }
}

/// One path with its methods. It answers OPTIONS, and every method that it lacks with 405, by itself.
pub struct At {
    /// The path, its variable parts in braces.
    pub path: String,
    /// The methods that have a handler.
    pub methods: Vec<&'static str>,
    /// Who may use each of them.
    pub access: Vec<Access>,
    resource: Resource,
}

impl At {
    /// GET, and with it HEAD: the same answer without its body.
    fn get<F, Args>(self, access: Access, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let read = web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
        self.with(&["GET", "HEAD"], access, read.to(handler))
    }

    fn post<F, Args>(self, access: Access, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with(&["POST"], access, web::post().to(handler))
    }

    fn put<F, Args>(self, access: Access, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with(&["PUT"], access, web::put().to(handler))
    }

    fn delete<F, Args>(self, access: Access, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with(&["DELETE"], access, web::delete().to(handler))
    }

    fn with(mut self, methods: &[&'static str], access: Access, route: actix_web::Route) -> Self {
        self.methods.extend(methods);
        self.access.extend(methods.iter().map(|_| access));
        self.resource =
            self.resource.route(route.wrap(from_fn(move |request, next| access::check(access, request, next))));
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
