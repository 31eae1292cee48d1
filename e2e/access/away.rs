//! Away: who comes in while PostgreSQL accepts connections and answers nothing.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::harness::{Answer, Client, Deployment, Direction, Flow, LONG, Proxy, Services, Stopwatch, until};

/// A look-up is given up after three seconds; the rest is for a busy machine.
const BOUNDED: Duration = Duration::from_secs(20);
/// What is known grows old five seconds after a reading began, and there is one every two.
const SURELY_KNOWN: Duration = Duration::from_secs(2);
/// More than may wait for a look-up at a time.
const CROWD: usize = 1_100;

#[track_caller]
fn is_put_off(answer: &Answer) {
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("unavailable")), "{answer}");
    assert!(answer.header("retry-after").is_some(), "{answer}");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("cannot be looked up") || detail.contains("cannot be reached"), "{detail}");
}

#[test]
fn a_postgresql_that_hangs_holds_up_nobody_for_long() {
    let deployment = Deployment::new();
    let root = deployment.key("root", "admin");
    let proxy = Proxy::before(Services::shared().postgres.port());
    let url = deployment.database_url_by(&proxy);
    let deployment = deployment.set("DATABASE_URL", url);
    let mut serve = deployment.serve();
    let known = serve.client().with_key(&root);
    // The right form, and nobody's.
    let forged = format!("{}{}", &root[..root.len() - 64], "0".repeat(64)).replacen(&root[4..20], &"f".repeat(16), 1);
    let unknown = serve.client().with_key(&forged);
    unknown.fetch("/session").expect(401);
    known.fetch("/session").expect(200);

    until("who is known is let in at once, whoever waits", LONG, || {
        let went_on = beside_guesses(&proxy, &known, &unknown);
        if went_on.is_none() {
            // The machine was busy for so long that what is known had grown old: once more.
            proxy.set(Direction::ToClient, Flow::Pass);
            until("it is as before", LONG, || (known.status("GET", "/session", None) == 200).then_some(()));
        }
        went_on
    });

    // Nobody is let in on old knowledge.
    let refused = until("what is known is too old", LONG, || Some(known.fetch("/session")).filter(|a| a.status != 200));
    is_put_off(&refused);
    assert_eq!(serve.client().status("GET", "/livez", None), 200);

    // However many come, no more than a thousand wait. Where sending them takes long, the first have been given up
    // before the last are there: once more.
    until("somebody is told that too many wait", LONG, || {
        let answers = crowd(serve.address(), &forged);
        let other = answers.iter().find(|answer| !answer.starts_with("HTTP/1.1 503"));
        assert_eq!(other, None, "nobody is let in, and everybody is answered");
        answers.iter().any(|answer| answer.contains("too many requests wait for that already")).then_some(())
    });

    proxy.set(Direction::ToClient, Flow::Pass);
    until("it is as before", LONG, || (known.status("GET", "/session", None) == 200).then_some(()));
    unknown.fetch("/session").expect(401);
}

/// PostgreSQL falls silent, requests with a forged key wait, and one with a known key comes. `None` when it came late.
fn beside_guesses(proxy: &Proxy, known: &Client, unknown: &Client) -> Option<()> {
    let silent = Stopwatch::start();
    proxy.set(Direction::ToClient, Flow::Hold);
    std::thread::scope(|scope| {
        let guess = || {
            let began = Stopwatch::start();
            (unknown.fetch("/session"), began.elapsed())
        };
        let guesses: Vec<_> = (0..20).map(|_| scope.spawn(guess)).collect();
        let answer = known.fetch("/session");
        let came_late = silent.on_the_wall() > SURELY_KNOWN;
        for guess in guesses {
            let (answer, took) = guess.join().unwrap();
            is_put_off(&answer);
            assert!(took < BOUNDED, "it took {took:?}");
        }
        if answer.status != 200 {
            assert!(came_late, "{answer}");
            return None;
        }
        Some(())
    })
}

/// Answers to as many requests at once.
fn crowd(address: SocketAddr, key: &str) -> Vec<String> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let request =
        format!("GET /session HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n");
    let open = || {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        socket
    };
    let sockets: Vec<_> = (0..CROWD).map(|_| open()).collect();
    let answer = |mut socket: TcpStream| {
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        answer
    };
    sockets.into_iter().map(answer).collect()
}
