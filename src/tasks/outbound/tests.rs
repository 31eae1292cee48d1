//! Tests of the guard: over address ranges and spellings, and with real sockets that must see no connection.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{
    Abort, Client, Limits, OutboundError, Request, Response,
    guard::{Policy, Refusal, is_global, parse_url},
};
use crate::tasks::test_site::{Site, answer, gzip};

fn strict() -> Policy {
    Policy::Public { allow: Vec::new(), ports: Vec::new() }
}

fn local() -> Policy {
    Policy::Public { allow: vec!["127.0.0.0/8".parse().unwrap()], ports: Vec::new() }
}

fn get(policy: Policy, url: &str) -> Result<Response, OutboundError> {
    Client::new(policy).send(&Request::get(url))
}

fn refusal(outcome: Result<Response, OutboundError>) -> Refusal {
    match outcome {
        Err(OutboundError::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn the_edges_of_every_reserved_range_are_not_global() {
    // First, last and something inside; then the neighbours, which are.
    let reserved = [
        "0.0.0.0 0.255.255.255 0.1.2.3",
        "10.0.0.0 10.255.255.255 10.1.2.3",
        "100.64.0.0 100.127.255.255 100.100.100.200",
        "127.0.0.0 127.255.255.255 127.0.0.1",
        "169.254.0.0 169.254.255.255 169.254.169.254",
        "172.16.0.0 172.31.255.255 172.20.0.1",
        "192.0.0.0 192.0.0.255 192.0.0.170",
        "192.0.2.0 192.0.2.255 198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255",
        "192.168.0.0 192.168.255.255 192.168.1.1",
        "198.18.0.0 198.19.255.255 192.88.99.1",
        "224.0.0.0 239.255.255.255 240.0.0.0 255.255.255.254 255.255.255.255",
        ":: ::1 ::2 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::127.0.0.1 ::8.8.8.8",
        "fe80:: fe80::1 febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff fec0::1 feff::1",
        "fc00:: fc00::1 fd00::1 fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "ff00:: ff02::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:db8:: 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 3fff:: 3fff:fff:ffff::",
        "64:ff9b:: 64:ff9b::7f00:1 64:ff9b:1:: 64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
        "2002:: 2002:7f00:1:: 2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:: 2001:0:ffff:ffff:ffff:ffff:ffff:ffff 2001:2::1 2001:10::1 2001:1ff:ffff::",
        "100:: 100::ffff:ffff:ffff:ffff 5f00::1 4000::1 1fff::1",
    ];
    for address in reserved.iter().flat_map(|range| range.split(' ')) {
        assert!(!is_global(address.parse().unwrap()), "{address}");
    }
    let global = [
        "1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255",
        "169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.167.255.255 192.169.0.0 198.17.255.255",
        "198.20.0.0 223.255.255.255 8.8.8.8 2000::1 2001:200::1 2001:4860:4860::8888 2003::1 2606:4700::1111",
        "3ffe:ffff::1 3fff:1000::1 2001:db7:ffff::1 2001:db9::1",
    ];
    for address in global.iter().flat_map(|range| range.split(' ')) {
        assert!(is_global(address.parse().unwrap()), "{address}");
    }
}

#[test]
fn no_spelling_of_loopback_is_connected_to() {
    let canary = Site::always(answer(200, &[], "secret"));
    let port = canary.port();
    let spellings = [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0",
        "0.0.0.0",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[0:0:0:0:0:0:0:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "１２７.０.０.１",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "loca\u{ad}lhost",
        "%31%32%37.0.0.1",
    ];
    for host in spellings {
        for url in [format!("http://{host}:{port}/"), format!("HTTP://{host}:{port}/"), format!("http://{host}/")] {
            let error = get(strict(), &url).expect_err(&url);
            assert!(
                matches!(error, OutboundError::Refused(Refusal::Address(_) | Refusal::Url(_)))
                    // A spelling that the system's resolver does not know at all leads nowhere either.
                    || matches!(&error, OutboundError::Network(why) if why.contains("cannot be resolved")),
                "{url}: {error:?}"
            );
        }
    }
    assert_eq!(canary.connections(), 0);
}

#[test]
fn parsers_cannot_be_played_off_against_each_other() {
    let canary = Site::always(answer(200, &[], "secret"));
    let port = canary.port();
    for (url, expected) in [
        (format!("http://good@127.0.0.1:{port}/"), Refusal::UserInfo),
        (format!("http://good:80@127.0.0.1:{port}/"), Refusal::UserInfo),
        (format!("http://@127.0.0.1:{port}/"), Refusal::UserInfo),
        ("ftp://example.com/".to_owned(), Refusal::Scheme),
        ("file:///etc/passwd".to_owned(), Refusal::Scheme),
        ("gopher://127.0.0.1:6379/_FLUSHALL".to_owned(), Refusal::Scheme),
        ("javascript:alert(1)".to_owned(), Refusal::Scheme),
        ("//127.0.0.1/".to_owned(), Refusal::Scheme),
        ("http:127.0.0.1".to_owned(), Refusal::Scheme),
        ("http:/127.0.0.1".to_owned(), Refusal::Scheme),
        (String::new(), Refusal::Scheme),
        ("example.com".to_owned(), Refusal::Scheme),
    ] {
        assert_eq!(refusal(get(local(), &url)), expected, "{url}");
    }
    for url in [
        format!("http://good\\@127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}\\@good/"),
        format!("http://127.0.0.1:{port}/\r\nHost: x"),
        format!("http://127.0.\t0.1:{port}/"),
        format!("ht\ntp://127.0.0.1:{port}/"),
        format!("http://127.0.0.1 :{port}/"),
        format!("http://127.0.0.1:{port}/a b"),
        "http://".to_owned(),
        "http:///path".to_owned(),
        "http://:80/".to_owned(),
        "http://example.com:99999/".to_owned(),
        "http://example.com:0/".to_owned(),
        "http://[::1/".to_owned(),
        "http://[fe80::1%25eth0]/".to_owned(),
        format!("http://example.com/{}", "a".repeat(9000)),
    ] {
        let refused = refusal(get(local(), &url));
        assert!(matches!(refused, Refusal::Url(_) | Refusal::Scheme), "{url}: {refused:?}");
    }
    assert_eq!(canary.connections(), 0);
}

#[test]
fn usual_spellings_are_read() {
    for (written, read) in [
        ("https://example.com", "https://example.com/"),
        (" HTTPS://Example.COM/A?b=c#d ", "https://example.com/A?b=c"),
        ("https://münchen.de/straße", "https://xn--mnchen-3ya.de/stra%C3%9Fe"),
        ("http://example.com:80/", "http://example.com/"),
        ("http://[2606:4700::1111]/", "http://[2606:4700::1111]/"),
    ] {
        assert_eq!(parse_url(written).unwrap().to_string(), read);
    }
}

#[test]
fn names_are_judged_by_all_of_their_addresses_and_resolved_once() {
    let canary = Site::always(answer(200, &[], "secret"));
    let here = SocketAddr::from(([127, 0, 0, 1], canary.port()));
    let client = Client::new(strict()).with_lookup(move |_, _| Ok(vec![here]));
    let url = "http://innocent.example/";
    assert_eq!(refusal(client.send(&Request::get(url))), Refusal::Address("innocent.example".into()));
    assert_eq!(canary.connections(), 0);

    // Mixed answers: the public one is kept, the private one never tried.
    let public = "8.8.8.8:80".parse::<SocketAddr>().unwrap();
    let uri = parse_url(url).unwrap();
    assert_eq!(strict().admit_addresses(&uri, [here, public]), Ok(vec![public]));

    // An answer that changes: the first one is judged and connected to, and there is no second question.
    let asked = std::sync::Arc::new(AtomicUsize::new(0));
    let times = asked.clone();
    let client = Client::new(local()).with_lookup(move |_, _| {
        times.fetch_add(1, Ordering::SeqCst);
        Ok(vec![here])
    });
    assert_eq!(client.send(&Request::get(url)).unwrap().body, b"secret");
    assert_eq!((asked.load(Ordering::SeqCst), canary.connections()), (1, 1));
}

#[test]
fn ports_are_closed_unless_opened() {
    let uri = parse_url("http://example.com:8080/").unwrap();
    let public = "8.8.8.8:8080".parse::<SocketAddr>().unwrap();
    assert_eq!(strict().admit_addresses(&uri, [public]), Err(Refusal::Port(8080)));
    let opened = Policy::Public { allow: Vec::new(), ports: vec![8080] };
    assert_eq!(opened.admit_addresses(&uri, [public]), Ok(vec![public]));
    let allowed = Policy::Public { allow: vec!["8.8.0.0/16".parse().unwrap()], ports: Vec::new() };
    assert_eq!(allowed.admit_addresses(&uri, [public]), Ok(vec![public]));
    assert_eq!(refusal(get(strict(), "http://8.8.8.8:22/")), Refusal::Port(22));
}

#[test]
fn an_operators_policy_reaches_one_place() {
    let sink = Site::always(answer(200, &[], "ok"));
    let other = Site::always(answer(200, &[], "secret"));
    let client = Client::new(Policy::exactly(&parse_url(&sink.url("/in")).unwrap()));
    assert_eq!(client.send(&Request::get(&sink.url("/elsewhere"))).unwrap().body, b"ok");
    assert_eq!(refusal(client.send(&Request::get(&other.url("/")))), Refusal::Elsewhere);
    assert_eq!(other.connections(), 0);
}

#[test]
fn redirects_are_followed_and_each_hop_is_judged() {
    let site = Site::start(|asked, stream| {
        let response = match asked.path.as_str() {
            "/relative" => answer(302, &[("location", "end?x=1#frag")], ""),
            "/end?x=1" => answer(200, &[], "arrived"),
            "/loop" => answer(301, &[("location", "/loop")], ""),
            "/private" => answer(307, &[("location", "http://10.0.0.1/")], ""),
            "/metadata" => answer(302, &[("location", "http://169.254.169.254/latest")], ""),
            "/file" => answer(302, &[("location", "file:///etc/passwd")], ""),
            "/user" => answer(302, &[("location", "http://a:b@127.0.0.1/")], ""),
            "/no-location" => answer(302, &[], ""),
            _ => answer(404, &[], ""),
        };
        stream.write_all(&response).unwrap();
    });
    let arrived = get(local(), &site.url("/relative")).unwrap();
    assert_eq!((arrived.body.as_slice(), arrived.final_url), (&b"arrived"[..], site.url("/end?x=1")));
    assert!(matches!(get(local(), &site.url("/loop")), Err(OutboundError::TooManyRedirects)));
    assert_eq!(site.requests().iter().filter(|asked| asked.path == "/loop").count(), 6);
    assert_eq!(refusal(get(local(), &site.url("/private"))), Refusal::Address("10.0.0.1".into()));
    assert_eq!(refusal(get(local(), &site.url("/metadata"))), Refusal::Address("169.254.169.254".into()));
    assert_eq!(refusal(get(local(), &site.url("/file"))), Refusal::Scheme);
    assert_eq!(refusal(get(local(), &site.url("/user"))), Refusal::UserInfo);
    assert_eq!(get(local(), &site.url("/no-location")).unwrap().status, 302);
    // A POST's body was meant for this address.
    let posted = Client::new(local()).send(&Request::post_json(&site.url("/relative"), b"{}".to_vec())).unwrap();
    assert_eq!(posted.status, 302);
    let secure = parse_url("https://example.com/").unwrap();
    assert_eq!(super::guard::redirect_target(&secure, b"http://example.com/"), Err(Refusal::Downgrade));
}

#[test]
fn headers_of_the_step_and_of_the_trace_are_sent() {
    let site = Site::always(answer(200, &[], ""));
    let client = Client::new(local()).with_trace_headers(|| vec![("traceparent", "00-1-2-01".to_owned())]);
    let task = crate::core::model::TaskId::new();
    let url = site.url("/");
    let request = Request::post_json(&url, b"[1]".to_vec()).step_of(task, "chunk-3", 2);
    client.send(&request).unwrap();
    let [asked] = &site.requests()[..] else { panic!("one request") };
    assert_eq!((asked.method.as_str(), asked.body.as_slice()), ("POST", &b"[1]"[..]));
    assert_eq!(asked.header("traceparent"), Some("00-1-2-01"));
    assert_eq!(asked.header("idempotency-key"), Some(format!("{task}:chunk-3").as_str()));
    assert_eq!(asked.header("x-task-delivery"), Some("2"));
    assert_eq!(asked.header("content-type"), Some("application/json"));
}

#[test]
fn bodies_are_bounded_by_their_decoded_size() {
    let limits = Limits { max_bytes: 3 * 1024 * 1024, ..Limits::default() };
    let fetch = |site: &Site| Client::new(local()).send(&Request::get(&site.url("/")).limits(limits));
    let text = "all work and no play ".repeat(1000);

    let packed = Site::always(answer(200, &[("content-encoding", "gzip")], gzip(text.as_bytes())));
    assert_eq!(fetch(&packed).unwrap().body, text.as_bytes());

    let declared = Site::always("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n");
    assert!(matches!(fetch(&declared), Err(OutboundError::TooLarge { .. })));

    let endless = Site::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 65536]).is_ok() {}
    });
    assert!(matches!(fetch(&endless), Err(OutboundError::TooLarge { .. })));

    let bomb = gzip(&vec![0; 2 * 1024 * 1024]);
    assert!(bomb.len() < 4096, "two megabytes in {} bytes", bomb.len());
    let small_bomb = Site::always(answer(200, &[("content-encoding", "gzip")], bomb));
    assert!(matches!(fetch(&small_bomb), Err(OutboundError::TooLarge { .. })), "within the limit, but a bomb");

    let broken = Site::always(answer(200, &[("content-encoding", "gzip")], "not gzip"));
    assert!(matches!(fetch(&broken), Err(OutboundError::Network(_))));
    let unknown = Site::always(answer(200, &[("content-encoding", "br")], "?"));
    assert!(matches!(fetch(&unknown), Err(OutboundError::UnknownEncoding)));
    let cut = Site::always("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this");
    assert!(matches!(fetch(&cut), Err(OutboundError::Network(_))));
}

#[test]
fn no_proxy_is_taken_from_the_environment() {
    // A process cannot change its environment safely while it has threads: the test starts itself once more.
    const TARGET: &str = "LONGRUN_TEST_PROXIED_URL";
    if let Ok(url) = std::env::var(TARGET) {
        assert_eq!(get(local(), &url).unwrap().body, b"direct");
        return;
    }
    let site = Site::always(answer(200, &[], "direct"));
    let proxy = Site::always(answer(200, &[], "from the proxy"));
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "tasks::outbound::tests::no_proxy_is_taken_from_the_environment"]);
    for variable in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        again.env(variable, proxy.url(""));
    }
    let output = again.env(TARGET, site.url("/")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((site.connections(), proxy.connections()), (1, 0));
}

/// Sends the head and then a byte now and then, until the client is gone.
fn dripping() -> Site {
    Site::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    })
}

#[test]
fn a_dripping_body_ends_with_the_time_in_all() {
    let site = dripping();
    let limits = Limits { total: Duration::from_millis(300), ..Limits::default() };
    let began = Instant::now();
    let outcome = Client::new(local()).send(&Request::get(&site.url("/")).limits(limits));
    assert!(matches!(outcome, Err(OutboundError::Timeout(_))), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_silent_server_is_given_up() {
    let site = Site::start(|_, stream| {
        // Until the client goes.
        let _ = std::io::Read::read(stream, &mut [0; 1]);
    });
    let limits = Limits { silence: Duration::from_millis(200), ..Limits::default() };
    let outcome = Client::new(local()).send(&Request::get(&site.url("/")).limits(limits));
    assert!(matches!(outcome, Err(OutboundError::Timeout(_))), "{outcome:?}");
}

#[test]
fn a_request_can_be_cut_off_from_outside() {
    let (started, has_started) = std::sync::mpsc::channel();
    let site = Site::start(move |_, stream| {
        started.send(()).unwrap();
        let _ = std::io::Read::read(stream, &mut [0; 1]);
    });
    let abort = Abort::default();
    let (url, watched) = (site.url("/"), abort.clone());
    let request = std::thread::spawn(move || Client::new(local()).send(&Request::get(&url).abort_with(&watched)));
    has_started.recv().unwrap();
    let began = Instant::now();
    drop(abort.on_drop());
    assert!(matches!(request.join().unwrap(), Err(OutboundError::Aborted)));
    assert!(began.elapsed() < Duration::from_secs(20));
    let again = Client::new(local()).send(&Request::get(&site.url("/")).abort_with(&abort));
    assert!(matches!(again, Err(OutboundError::Aborted)));
    assert_eq!(site.connections(), 1);
}

proptest! {
    #[test]
    fn no_text_makes_the_url_check_panic(text in "(https?://)?\\PC{0,60}") {
        if let Ok(uri) = parse_url(&text) {
            let _ = strict().admit_url(&uri);
        }
    }

    #[test]
    fn no_literal_of_a_reserved_address_passes(
        octets in any::<[u8; 4]>(),
        segments in any::<[u16; 8]>(),
        spelling in 0..5,
        port in prop::sample::select(vec![80, 443, 8080]),
    ) {
        let v4 = IpAddr::from(octets);
        let number = u32::from_be_bytes(octets);
        let (host, address) = match spelling {
            0 => (v4.to_string(), v4),
            1 => (number.to_string(), v4),
            2 => (format!("{number:#x}"), v4),
            3 => (format!("0{:o}.{}.{}", octets[0], octets[1], number & 0xffff), v4),
            _ => {
                let v6 = std::net::Ipv6Addr::from(segments);
                (format!("[{v6}]"), IpAddr::V6(v6))
            }
        };
        let url = format!("http://{host}:{port}/");
        let passes = parse_url(&url).is_ok_and(|uri| strict().admit_url(&uri).is_ok());
        prop_assert_eq!(passes, is_global(address) && (port == 80 || port == 443), "{}", url);
    }
}
