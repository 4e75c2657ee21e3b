//! Many sessions at once, on every engine in the build, against a server in a second process.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use drivetrain::{CloseReason, HttpClient, Session, engine::Engine};
use drivetrain_conformance::peer::EchoServer;

const SESSIONS: usize = 5_000;
const SERVE: &str = "DRIVETRAIN_TEST_SERVE";

pub(crate) fn sessions_at_once(engine: Arc<dyn Engine>) {
    if std::env::var_os(SERVE).is_some() {
        return serve();
    }
    let wanted = SESSIONS as u64 + 500;
    let limit = rlimit::increase_nofile_limit(wanted).unwrap();
    assert!(limit >= wanted, "only {limit} files may be open: {wanted} are needed (ulimit -n)");

    let name = engine.name().to_owned();
    let mut server = start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(many(engine, &server.url));
    drop(runtime);
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    println!("{name}: {SESSIONS} sessions at once");
}

async fn many(engine: Arc<dyn Engine>, url: &str) {
    const AT_A_TIME: usize = 50;
    let client = HttpClient::new(engine);
    let before = open_files();
    let mut sessions: Vec<Session> = Vec::with_capacity(SESSIONS);
    while sessions.len() < SESSIONS {
        let opening: Vec<_> = (0..AT_A_TIME)
            .map(|_| {
                // Thousands of them at once on a busy machine.
                let long = Duration::from_secs(120);
                let request = client.web_socket(url).handshake_timeout(long).close_timeout(long);
                tokio::spawn(request.connect())
            })
            .collect();
        for session in opening {
            sessions.push(session.await.unwrap().unwrap());
        }
    }
    assert!(open_files() >= before + SESSIONS, "they are all open at once");
    for (i, session) in sessions.iter().enumerate() {
        session.send(i.to_string()).await.unwrap();
    }
    for (i, session) in sessions.iter_mut().enumerate() {
        let frame = session.receive().await.unwrap().unwrap();
        assert_eq!(frame.read_text(), Some(i.to_string().as_str()), "each has its own answer");
    }
    let closing: Vec<_> = sessions
        .into_iter()
        .map(|session| tokio::spawn(async move { session.close(CloseReason::normal()).await }))
        .collect();
    for outcome in closing {
        assert!(outcome.await.unwrap().unwrap().clean);
    }
    assert!(open_files() < before + 100, "sockets are freed");
}

struct Server {
    process: Child,
    url: String,
}

/// Starts this program again as a server.
fn start() -> Server {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .env(SERVE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
    Server { process, url: url.trim().to_owned() }
}

/// Serves until the parent is gone.
fn serve() {
    rlimit::increase_nofile_limit(SESSIONS as u64 + 500).unwrap();
    let server = EchoServer::start();
    println!("{}", server.ws_url("/echo"));
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}
