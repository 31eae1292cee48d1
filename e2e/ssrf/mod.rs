//! SSRF: whoever submits a scrape cannot reach what only this machine should reach, whatever the spelling, the name, the
//! answer of the name server or the redirect.
//!
//! A canary listens on the loopback addresses, on the one port that is open to tasks. The site that redirects has an
//! address of its own that the operator has allowed.

mod corpus;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};

use crate::harness::{Client, Deployment, Dns, HttpServer, Reply, free_port};

/// The site that may be reached.
const SITE: Ipv4Addr = Ipv4Addr::new(127, 99, 0, 1);
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 99, 0, 53);
/// What a refused task's error may be called. A name without addresses is as good as refused.
const REFUSED: [&str; 4] = ["invalid_url", "address_not_allowed", "port_not_allowed", "insecure_redirect"];
/// All of it.
const WITHIN: Duration = Duration::from_secs(240);

/// Notes down who connects.
struct Canary {
    seen: Arc<Mutex<Vec<String>>>,
}

impl Canary {
    fn on(addresses: &[SocketAddr]) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        for address in addresses {
            // A machine without IPv6 cannot be reached by it either.
            let Ok(listener) = TcpListener::bind(address) else {
                assert!(address.is_ipv6(), "{address} is taken");
                continue;
            };
            let (seen, address) = (seen.clone(), *address);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    seen.lock().unwrap().push(format!("{address} from {:?}", stream.peer_addr()));
                }
            });
        }
        Self { seen }
    }

    #[track_caller]
    fn has_seen_nobody(&self) {
        assert_eq!(*self.seen.lock().unwrap(), Vec::<String>::new());
    }
}

/// The names of the test, and what they lead to.
fn zone(name: &str, earlier: usize) -> Vec<IpAddr> {
    let v4 = |a, b, c, d| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    let v6 = |text: &str| IpAddr::V6(text.parse().unwrap());
    let site = IpAddr::V4(SITE);
    let Some(label) = name.strip_suffix(".attack.test") else {
        // Cloud metadata by its name, and names that look like addresses.
        return if name.ends_with(".internal") { vec![v4(169, 254, 169, 254)] } else { Vec::new() };
    };
    match label {
        "good" => vec![site],
        "loop" => vec![v4(127, 0, 0, 1)],
        "loop6" => vec![v6("::1")],
        "mapped" => vec![v6("::ffff:127.0.0.1")],
        "compatible" => vec![v6("::127.0.0.1")],
        "nat64" => vec![v6("64:ff9b::7f00:1")],
        "6to4" => vec![v6("2002:7f00:1::")],
        "teredo" => vec![v6("2001:0:7f00:1::")],
        "unique-local" => vec![v6("fd00::1")],
        "link-local6" => vec![v6("fe80::1")],
        "private10" => vec![v4(10, 0, 0, 1)],
        "private172" => vec![v4(172, 16, 0, 1)],
        "private192" => vec![v4(192, 168, 0, 1)],
        "metadata" => vec![v4(169, 254, 169, 254)],
        "cgnat" => vec![v4(100, 64, 0, 1)],
        "zero" => vec![v4(0, 0, 0, 0)],
        "broadcast" => vec![v4(255, 255, 255, 255)],
        "multicast" => vec![v4(224, 0, 0, 1)],
        "all-private" => vec![v4(10, 0, 0, 1), v4(127, 0, 0, 1), v6("::1")],
        // One good address among bad ones: only the good one may be used.
        "mixed" => vec![v4(127, 0, 0, 1), site, v6("::1"), v4(127, 0, 0, 2)],
        // Good when it is judged, bad when it is asked again.
        "rebind" => vec![if earlier == 0 { site } else { v4(127, 0, 0, 1) }],
        "rebind-late" => vec![if earlier < 2 { site } else { v4(127, 0, 0, 1) }],
        _ => Vec::new(),
    }
}

fn submit(client: &Client, url: &str) -> Result<String, u16> {
    let body = json!({"task_type": "web_scrape", "url": url, "options": {"max_attempts": 1}});
    let answer = client.post("/tasks", body.to_string(), &[]);
    match answer.status {
        202 => Ok(answer.json()["task_id"].as_str().unwrap().to_owned()),
        status => Err(status),
    }
}

/// The site: `/to/302/7` redirects to the seventh target, everything else is a page.
fn redirecting(path: &str, targets: &Mutex<Vec<String>>) -> Reply {
    let Some(rest) = path.strip_prefix("/to/") else {
        let html = vec![("content-type", "text/html".to_owned())];
        return Reply::Whole(200, html, b"<title>reached</title>".to_vec());
    };
    let (status, number) = rest.split_once('/').unwrap();
    let target = targets.lock().unwrap()[number.parse::<usize>().unwrap()].clone();
    Reply::Whole(status.parse().unwrap(), vec![("location", target)], Vec::new())
}

#[test]
fn nothing_private_is_reached() {
    let Some(dns) = Dns::start(NAME_SERVER, zone) else {
        // Port 53 and a mount namespace are root's; CI and the containers of this project are root.
        assert!(!nix::unistd::geteuid().is_root(), "root may listen on port 53");
        return;
    };
    // The targets of its redirects name its port, which is known only when it listens.
    let targets = Arc::new(Mutex::new(Vec::new()));
    let told = targets.clone();
    let site = HttpServer::start_on((SITE, free_port(SITE)), move |request, _| redirecting(&request.path, &told));
    let port = site.address().port();
    *targets.lock().unwrap() = corpus::redirect_targets(port);
    let here = |address: IpAddr| SocketAddr::new(address, port);
    let canary = Canary::on(&[
        here(Ipv4Addr::LOCALHOST.into()),
        here(Ipv4Addr::new(127, 0, 0, 2).into()),
        here(Ipv4Addr::new(127, 255, 255, 254).into()),
        here(Ipv6Addr::LOCALHOST.into()),
    ]);
    let deployment = Deployment::new()
        .set("APP_OUTBOUND_ALLOW", format!("{SITE}/32"))
        .set("APP_OUTBOUND_PORTS", port)
        .set("APP_CONCURRENCY", 64)
        .set("HTTP_PROXY", format!("http://127.0.0.1:{port}"))
        .set("http_proxy", format!("http://127.0.0.1:{port}"))
        .set("ALL_PROXY", format!("http://127.0.0.1:{port}"));
    let (mut serve, _work) = (deployment.serve(), deployment.work_resolving_by(&dns));
    let client = serve.client();

    // The test could fail: the same worker reaches what it may reach, by address, by name, by redirect.
    for url in [
        format!("http://{SITE}:{port}/"),
        format!("http://good.attack.test:{port}/"),
        format!("http://mixed.attack.test:{port}/"),
        format!("http://rebind.attack.test:{port}/"),
        format!("http://{SITE}:{port}/to/302/0"),
    ] {
        let task = client.wait_final(&submit(&client, &url).unwrap(), WITHIN);
        assert_eq!(
            (&task["status"], &task["result"]["title"]),
            (&json!("SUCCESS"), &json!("reached")),
            "{url}: {task}"
        );
    }

    let mut urls = corpus::urls(port);
    let redirects = corpus::redirect_targets(port).len();
    for status in [301, 302, 303, 307, 308] {
        urls.extend((1..redirects).map(|number| format!("http://{SITE}:{port}/to/{status}/{number}")));
    }
    let submitted: Vec<(String, Result<String, u16>)> =
        urls.into_iter().map(|url| (url.clone(), submit(&client, &url))).collect();
    let mut outcomes: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    let mut wrong = Vec::new();
    for (url, submitted) in &submitted {
        let outcome = match submitted {
            Err(status) => format!("{status} at the submit"),
            Ok(id) => outcome_of(&client.wait_final(id, WITHIN)),
        };
        let is_refused = outcome == "422 at the submit" || REFUSED.contains(&outcome.as_str());
        // A name that leads nowhere connects to nobody.
        let is_nowhere = outcome == "network" && corpus::is_unknown(url);
        if !is_refused && !is_nowhere {
            wrong.push(format!("{url}: {outcome}"));
        }
        *outcomes.entry(outcome).or_default() += 1;
    }
    println!("{} URLs: {outcomes:?}", submitted.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(submitted.len() >= 150);
    canary.has_seen_nobody();
}

fn outcome_of(task: &Value) -> String {
    match task["status"].as_str() {
        Some("FAILED") => task["error"]["code"].as_str().unwrap_or("none").to_owned(),
        other => format!("{other:?}"),
    }
}
