//! The harness, tried by itself: a test that leans on a broken part proves nothing.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::harness::{
    Client, Direction, Flow, HttpServer, LONG, Proxy, Reply, Services, Site, Sql, Stopwatch, raw_request, until,
};

#[test]
fn the_shared_servers_answer() {
    let services = Services::shared();
    let sql = Sql::connect(&services.postgres.url("postgres")).unwrap();
    assert_eq!(sql.value::<i32>("SELECT 1 + $1::integer", &[&1]), 2);
    let number = services.take_redis_database();
    services.redis.command::<()>(number, &["SET", "a", "b"]);
    assert_eq!(services.redis.command::<String>(number, &["GET", "a"]), "b");
    assert_ne!(services.take_redis_database(), number);
}

#[test]
fn a_private_pair_comes_back_where_it_was() {
    let services = Services::private();
    let url = services.postgres.url("postgres");
    Sql::connect(&url).unwrap().run("CREATE TABLE kept (n integer)").unwrap();
    services.redis.command::<()>(0, &["SET", "a", "b"]);
    services.postgres.stop(Signal::SIGQUIT);
    services.redis.stop();
    assert!(Sql::connect(&url).is_err());
    services.postgres.start();
    services.redis.start();
    assert_eq!(services.postgres.url("postgres"), url);
    assert_eq!(Sql::connect(&url).unwrap().value::<i64>("SELECT count(*) FROM kept", &[]), 0);
    assert_eq!(services.redis.command::<Option<String>>(0, &["GET", "a"]), None);
    let pids = [services.postgres.pid(), services.redis.pid()];
    drop(services);
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "dropping a pair stops it");
}

fn is_alive(pid: u32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), None).is_ok()
}

/// This binary, started again with one test in it, stands for a run that is interrupted.
#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "harness_itself::the_run_that_is_interrupted", "--nocapture"])
        .env("LONGRUN_E2E_INTERRUPTED", folder.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let told = until("the run has started its servers", LONG, || {
        let text = std::fs::read_to_string(folder.path().join("told")).ok()?;
        text.ends_with('\n').then_some(text)
    });
    let mut words = told.split_whitespace();
    let place = words.next().unwrap().to_owned();
    let pids: Vec<u32> = words.map(|word| word.parse().unwrap()).collect();
    assert!(pids.len() == 2 && pids.iter().all(|pid| is_alive(*pid)));
    assert!(std::path::Path::new(&place).exists());
    run.kill().unwrap();
    run.wait().unwrap();
    until("its servers have gone", LONG, || pids.iter().all(|pid| !is_alive(*pid) || is_zombie(*pid)).then_some(()));
    until("its folder has gone", LONG, || (!std::path::Path::new(&place).exists()).then_some(()));
}

/// Where process 1 does not wait for orphans, they stay as zombies.
fn is_zombie(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

/// See above; by itself it does nothing.
#[test]
fn the_run_that_is_interrupted() {
    let Some(folder) = std::env::var_os("LONGRUN_E2E_INTERRUPTED") else { return };
    let services = Services::shared();
    let place = crate::harness::run_folder().display();
    let told = format!("{place} {} {}\n", services.postgres.pid(), services.redis.pid());
    std::fs::write(std::path::Path::new(&folder).join("told"), told).unwrap();
    std::thread::sleep(LONG);
}

/// This binary, started again with one test in it, stands for a machine that stands still.
#[test]
fn a_standstill_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let told = |name: &str| std::fs::read_to_string(folder.path().join(name)).ok().filter(|text| text.ends_with('\n'));
    let mut run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "harness_itself::the_run_that_stands_still", "--nocapture"])
        .env("LONGRUN_E2E_STANDS_STILL", folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("the stopwatch runs", LONG, || told("runs"));
    let pid = nix::unistd::Pid::from_raw(run.id().cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGSTOP).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    nix::sys::signal::kill(pid, Signal::SIGCONT).unwrap();
    std::fs::write(folder.path().join("go on"), "\n").unwrap();
    assert!(run.wait().unwrap().success());
    let text = told("measured").expect("it has measured");
    let seconds: Vec<f64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let [elapsed, lost, on_the_wall] = seconds[..] else { panic!("{text}") };
    assert!(on_the_wall >= 2.0 && lost >= 1.5, "{text}");
    assert!(elapsed <= on_the_wall - 1.5, "{text}");
}

/// See above; by itself it does nothing.
#[test]
fn the_run_that_stands_still() {
    let Some(folder) = std::env::var_os("LONGRUN_E2E_STANDS_STILL") else { return };
    let folder = std::path::PathBuf::from(folder);
    let watch = Stopwatch::start();
    std::fs::write(folder.join("runs"), "\n").unwrap();
    until("it goes on", Duration::from_secs(60), || folder.join("go on").exists().then_some(()));
    let seconds = [watch.elapsed(), watch.lost(), watch.on_the_wall()].map(|time| time.as_secs_f64());
    std::fs::write(folder.join("measured"), format!("{} {} {}\n", seconds[0], seconds[1], seconds[2])).unwrap();
}

#[test]
fn a_wait_has_an_end_and_a_time_without_standstills_is_all_there_is() {
    let watch = Stopwatch::start();
    let waited = std::panic::catch_unwind(|| until("never", Duration::from_millis(200), || None::<()>));
    assert!(waited.is_err() && watch.on_the_wall() >= Duration::from_millis(200));
    assert!(watch.is_over(Duration::from_millis(1)) && !watch.is_over(LONG));
}

/// A page that was cut short is no list.
#[test]
fn a_list_is_asked_for_again_until_it_is_whole() {
    let server = HttpServer::start(|request, earlier| {
        let next = vec![("link", "</tasks?cursor=x>; rel=\"next\"".to_owned())];
        match (request.path.as_str(), earlier) {
            ("/tasks?limit=2", _) => Reply::Whole(200, next, b"[1, 2]".to_vec()),
            (_, 0) => Reply::Whole(200, next, b"[1]".to_vec()),
            _ => Reply::Whole(200, vec![], b"[1, 2, 3]".to_vec()),
        }
    });
    let client = Client::new(server.address());
    assert_eq!(client.list("").len(), 3);
    assert_eq!(client.list("?limit=2").len(), 2, "that is a whole page");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn the_site_counts_its_requests() {
    let site = Site::start();
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let status = |path: &str| agent.get(site.url(path)).call().unwrap().status().as_u16();
    assert_eq!([status("/500-twice"), status("/500-twice"), status("/500-twice")], [500, 500, 200]);
    assert_eq!(status("/nowhere"), 404);
    assert_eq!(site.requests("/500-twice").len(), 3);
    assert!(site.requests("/500-twice")[0].header("user-agent").is_some());
}

#[test]
fn raw_requests_read_the_answer() {
    let server = HttpServer::start(|request, _| {
        Reply::Whole(201, vec![("x-seen", request.method.clone())], request.body.clone())
    });
    let answer = raw_request(server.address(), b"PUT /x HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi").unwrap();
    assert_eq!((answer.status, answer.header("x-seen"), answer.body.as_slice()), (201, Some("PUT"), &b"hi"[..]));
}

/// A server that sends back what it gets.
fn echo() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut from, mut to) = (stream.try_clone().unwrap(), stream);
                let _ = std::io::copy(&mut from, &mut to);
            });
        }
    });
    port
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// What comes back for `text`; `Err` holds the kind of the failure.
fn exchange(stream: &mut TcpStream, text: &[u8]) -> Result<Vec<u8>, std::io::ErrorKind> {
    stream.write_all(text).map_err(|error| error.kind())?;
    let mut buffer = [0; 64];
    stream.read(&mut buffer).map(|length| buffer[..length].to_vec()).map_err(|error| error.kind())
}

#[test]
fn the_proxy_passes_holds_and_swallows() {
    let proxy = Proxy::before(echo());
    let mut stream = connect(&proxy);
    assert_eq!(exchange(&mut stream, b"one"), Ok(b"one".to_vec()));

    let silence = Some(Duration::from_millis(300));
    proxy.set(Direction::ToClient, Flow::Hold);
    stream.set_read_timeout(silence).unwrap();
    assert_eq!(exchange(&mut stream, b"two"), Err(std::io::ErrorKind::WouldBlock));
    proxy.set(Direction::ToClient, Flow::Pass);
    let mut buffer = [0; 3];
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"two");

    stream.set_read_timeout(silence).unwrap();
    proxy.set_one(0, Direction::ToServer, Flow::Swallow);
    assert_eq!(exchange(&mut stream, b"three"), Err(std::io::ErrorKind::WouldBlock));
    let mut other = connect(&proxy);
    assert_eq!(exchange(&mut other, b"other"), Ok(b"other".to_vec()));
    assert_eq!((proxy.open(), proxy.accepted()), (2, 2));
}

#[test]
fn the_proxy_cuts_and_resets_and_refuses() {
    let proxy = Proxy::before(echo());
    let mut stream = connect(&proxy);
    assert_eq!(exchange(&mut stream, b"one"), Ok(b"one".to_vec()));
    proxy.cut();
    stream.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);

    let mut stream = connect(&proxy);
    assert_eq!(exchange(&mut stream, b"two"), Ok(b"two".to_vec()));
    stream.set_read_timeout(Some(LONG)).unwrap();
    proxy.reset();
    assert_eq!(stream.read(&mut [0; 8]).map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));

    proxy.refuse(true);
    let mut stream = connect(&proxy);
    stream.set_read_timeout(Some(LONG)).unwrap();
    assert!(matches!(stream.read(&mut [0; 8]), Ok(0) | Err(_)));
    proxy.refuse(false);
    assert_eq!(exchange(&mut connect(&proxy), b"three"), Ok(b"three".to_vec()));
}
