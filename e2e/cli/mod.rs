//! The client commands, through the real `app` against real servers: in a pipe and on a terminal.

mod data;
mod exits;
mod follow;
mod many;
mod screens;
mod submit;

use crate::harness::{App, Client, Deployment, Finished, Site, Terminal};

/// `serve` and `work`, with the task types that tests need.
struct House {
    serve: App,
    _work: App,
    api: Client,
    url: String,
    site: Site,
    _deployment: Deployment<'static>,
}

impl House {
    fn open() -> Self {
        let deployment = Deployment::new().set("APP_TEST_TYPES", 1).set("APP_OUTBOUND_ALLOW", "127.0.0.0/8");
        Self::of(deployment)
    }

    /// With the program of the tests, which has a hostile type.
    fn with_hostile_types() -> Self {
        Self::of(Deployment::new().with_test_types())
    }

    fn of(deployment: Deployment<'static>) -> Self {
        let (mut serve, work) = (deployment.serve(), deployment.work());
        let (api, url) = (serve.client(), format!("http://{}", serve.address()));
        Self { serve, _work: work, api, url, site: Site::start(), _deployment: deployment }
    }

    /// Runs a client command in a pipe, to its end.
    fn run(&self, arguments: &[&str]) -> Finished {
        self.start(arguments).finish()
    }

    /// Starts one in a pipe.
    fn start(&self, arguments: &[&str]) -> App {
        App::start(arguments, &[("APP_URL".to_owned(), self.url.clone())])
    }

    /// Starts one on a terminal.
    fn on_terminal(&self, arguments: &[&str]) -> Terminal {
        Terminal::start(arguments, &[("APP_URL", &self.url)])
    }

    /// Submits with `app` and returns the id.
    #[track_caller]
    fn submit(&self, arguments: &[&str]) -> String {
        let words: Vec<&str> = ["submit"].iter().chain(arguments).copied().collect();
        let done = self.run(&words);
        assert_eq!(done.code, Some(0), "{}", done.output());
        done.stdout.trim_end().to_owned()
    }

    /// A task that has failed for good.
    #[track_caller]
    fn failed(&self) -> String {
        let url = format!("url={}", self.site.url("/404"));
        let id = self.submit(&["web_scrape", &url]);
        self.api.wait_status(&id, "FAILED", crate::harness::LONG);
        id
    }
}

/// Runs a client command against this address, to its end.
fn run_at(url: &str, arguments: &[&str]) -> Finished {
    App::run(arguments, &[("APP_URL".to_owned(), url.to_owned()), ("APP_RETRY_FOR".to_owned(), "300ms".to_owned())])
}

/// The last letters of an id, as tables show it.
fn ending(id: &str) -> &str {
    &id[id.len() - 4..]
}
