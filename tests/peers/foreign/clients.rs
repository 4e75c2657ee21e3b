//! The clients of Ktor, Go and Java against the server of `examples/echo-server.rs`, with each of its framings.
//!
//! The server is this program again, in a process of its own, so that it can be ended with SIGTERM.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, ChildStdout, Command, ExitCode, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;

use crate::{
    server::{self, Program},
    site::{Verdict, ensure, same},
};

/// The only argument but one of a process that serves.
const SERVE: &str = "--serve";

const FRAMINGS: &[&str] = &["native", "tungstenite", "fastwebsockets"];

/// Program, library, and how many checks it makes.
const CLIENTS: &[(Program, &str, usize)] = &[
    (Program::Ktor, "cio", 11),
    (Program::Ktor, "okhttp", 11),
    (Program::Ktor, "java", 11),
    (Program::Go, "gorilla", 12),
    (Program::Go, "coder", 12),
    (Program::Go, "gobwas", 12),
    (Program::Go, "gws", 11),
    (Program::Go, "nbio", 11),
    (Program::Java, "jetty", 29),
    (Program::Java, "tomcat", 29),
    (Program::Java, "javaws", 29),
    (Program::Java, "vertx", 29),
    (Program::Java, "okhttp", 29),
    (Program::Java, "jdk", 29),
];

/// No client runs longer, and no socket is read longer.
const LIMIT: Duration = Duration::from_secs(300);

/// Serves, if that is what the process is for.
pub(crate) fn serve_if_asked() -> Option<ExitCode> {
    let mut arguments = env::args().skip(1);
    if arguments.next().as_deref() != Some(SERVE) {
        return None;
    }
    let framing = arguments.next().unwrap_or_default();
    let served = tokio::runtime::Runtime::new()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(echo_server::run("127.0.0.1:0", &framing)));
    Some(match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for &framing in FRAMINGS {
        let shared = Arc::new(Mutex::new(None));
        for &(program, library, checks) in CLIENTS {
            let shared = Arc::clone(&shared);
            let name = format!("clients::{framing}::{program:?}-{library}").to_lowercase();
            let trial = Trial::test(name, move || {
                let url = {
                    let mut server = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    if server.is_none() {
                        *server = Some(Served::start(framing)?);
                    }
                    server.as_ref().map(|server| server.url.clone()).unwrap_or_default()
                };
                Ok(checked(program, library, checks, &url)?)
            });
            trials.push(trial.with_ignored_flag(server::missing(program).is_some()));
        }
        let missing = server::missing(Program::Go).is_some();
        trials.push(
            Trial::test(format!("clients::{framing}::sigterm_when_all_have_left"), move || {
                Ok(all_have_left(framing)?)
            })
            .with_ignored_flag(missing),
        );
        trials.push(Trial::test(
            format!("clients::{framing}::sigterm_under_clients_that_do_not_answer"),
            move || Ok(none_answers(framing)?),
        ));
    }
    trials
}

/// Runs a client, which makes all of its checks.
fn checked(program: Program, library: &str, checks: usize, url: &str) -> Verdict {
    let mut command = Command::new("timeout");
    command.arg(LIMIT.as_secs().to_string());
    server::start(&mut command, program);
    let output = command.args(["client", library, url]).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let (made, failed): (Vec<_>, Vec<_>) = said
        .lines()
        .filter(|line| line.starts_with(library))
        .partition(|line| line.contains(" ok ") || line.ends_with(" ok") || is_lacking(line));
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure(failed.is_empty(), failed.join("; "))?;
    ensure(output.status.success(), format!("{}: {said}{errors}", output.status))?;
    same("how many checks were made", made.len(), checks)
}

/// Something that the library cannot do.
fn is_lacking(line: &str) -> bool {
    line.contains(": n/a the library cannot")
}

/// Clients of five libraries have ended, some without a Close. One HTTP connection is idle, one has sent nothing.
fn all_have_left(framing: &str) -> Verdict {
    let mut server = Served::start(framing)?;
    let libraries = CLIENTS.iter().filter(|(program, ..)| *program == Program::Go);
    thread::scope(|scope| {
        let running: Vec<_> = libraries
            .map(|(program, library, checks)| {
                let url = server.url.clone();
                scope.spawn(move || checked(*program, library, *checks, &url))
            })
            .collect();
        running.into_iter().try_for_each(|client| client.join().map_err(|_| "it panicked")?)
    })?;
    let mut kept = server.connect()?;
    kept.write_all(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    read_until(&mut kept, b"hello")?;
    let silent = server.connect()?;
    let end = server.terminate()?;
    drop((kept, silent));
    ensure(end.status.success(), format!("{}", end.status))?;
    same("what it said", end.said, "ended: 0 of 0 sessions in time")?;
    ensure(end.after < DEADLINE, format!("it took {:?}, as long as the deadline", end.after))
}

/// What `serve` gives sessions and requests by default.
const DEADLINE: Duration = Duration::from_secs(10);

/// Sessions whose peers do not answer the Close, and half a request: `close_timeout` and the shutdown's deadline end them.
fn none_answers(framing: &str) -> Verdict {
    const SESSIONS: usize = 20;
    let mut server = Served::start(framing)?;
    let mut sockets = Vec::new();
    for _ in 0..SESSIONS {
        let mut socket = server.connect()?;
        socket.write_all(
            b"GET /echo HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
            sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )?;
        read_until(&mut socket, b"\r\n\r\n")?;
        sockets.push(socket);
    }
    let mut half = server.connect()?;
    half.write_all(b"GET /hello HTTP/1.1\r\nhost:")?;
    let end = server.terminate()?;
    ensure(end.status.success(), format!("{}", end.status))?;
    for mut socket in sockets {
        let mut rest = Vec::new();
        // A reset behind the Close changes nothing.
        let _ = socket.read_to_end(&mut rest);
        ensure(rest.starts_with(&[0x88]), format!("{rest:?} came instead of a Close"))?;
        same("its code", rest.get(2..4), Some(&1001_u16.to_be_bytes()[..]))?;
    }
    drop(half);
    let (said, after) = (end.said, end.after);
    println!("sigterm: {framing}: {said}, after {after:?}");
    ensure(said.ends_with(&format!("of {SESSIONS} sessions in time")), said)
}

/// A process that serves; it ends with its owner.
struct Served {
    child: Child,
    output: BufReader<ChildStdout>,
    url: String,
}

struct End {
    status: ExitStatus,
    /// The last line.
    said: String,
    after: Duration,
}

impl Served {
    fn start(framing: &str) -> Verdict<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args([SERVE, framing])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = BufReader::new(child.stdout.take().ok_or("it has no output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let url = line.trim().strip_prefix("listening on ").map(str::to_owned);
        let mut server = Self { child, output, url: url.unwrap_or_default() };
        if server.url.is_empty() {
            server.child.kill()?;
            return Err(format!("the server does not start: {line}").into());
        }
        Ok(server)
    }

    fn connect(&self) -> Verdict<TcpStream> {
        let address = self.url.strip_prefix("ws://").ok_or("it is no URL of a WebSocket")?;
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(LIMIT))?;
        Ok(socket)
    }

    /// Sends SIGTERM and waits for the end.
    fn terminate(&mut self) -> Verdict<End> {
        let begin = Instant::now();
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        let mut rest = String::new();
        self.output.read_to_string(&mut rest)?;
        let status = self.child.wait()?;
        let said = rest.lines().last().unwrap_or_default().to_owned();
        Ok(End { status, said, after: begin.elapsed() })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn read_until(socket: &mut TcpStream, end: &[u8]) -> Verdict {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        read.push(byte[0]);
    }
    Ok(())
}

#[path = "../../../examples/echo-server.rs"]
#[allow(dead_code, reason = "the example's `main` is not this program's")]
mod echo_server;
