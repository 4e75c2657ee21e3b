//! Three server processes with a real broker, which is killed and started again. Without the broker's program a test says so
//! and ends: `apt-get install nats-server redis-server`.

use std::{
    error::Error,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use drivetrain::{HttpClient, Session, engine::Native};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time::timeout,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Long enough for a machine that is busy.
const LONG: Duration = Duration::from_secs(60);

struct Broker {
    name: &'static str,
    arguments: Vec<String>,
    url: String,
    process: Option<Child>,
    _folder: TempDir,
}

impl Broker {
    /// `None` where its program is not installed.
    fn nats() -> Outcome<Option<Self>> {
        // It cannot be told a port of the system's choice that it has again when it is started again.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let arguments = ["-a", "127.0.0.1", "-p", &port.to_string()].map(String::from);
        Self::new(
            "nats-server",
            arguments.into(),
            format!("nats://127.0.0.1:{port}"),
            tempfile::tempdir()?,
        )
    }

    fn redis() -> Outcome<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("redis").display().to_string();
        let arguments = ["--port", "0", "--save", "", "--unixsocket", &socket].map(String::from);
        Self::new("redis-server", arguments.into(), format!("redis+unix://{socket}"), folder)
    }

    fn new(
        name: &'static str,
        arguments: Vec<String>,
        url: String,
        _folder: TempDir,
    ) -> Outcome<Option<Self>> {
        let mut broker = Self { name, arguments, url, process: None, _folder };
        match broker.start() {
            Ok(()) => Ok(Some(broker)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                println!("skipped: there is no {name}");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn start(&mut self) -> std::io::Result<()> {
        let mut command = Command::new(self.name);
        command.args(&self.arguments).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn()?);
        Ok(())
    }

    fn kill(&mut self) -> std::io::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill().ok();
    }
}

struct Server {
    url: String,
    _process: tokio::process::Child,
}

impl Server {
    /// As soon as the broker is there.
    async fn start(broker: &Broker) -> Outcome<Self> {
        let start = async {
            loop {
                let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_cluster"));
                command
                    .args(["127.0.0.1:0", &broker.url])
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null());
                let mut process = command.kill_on_drop(true).spawn()?;
                let output = process.stdout.take().ok_or("no output")?;
                let line = BufReader::new(output).lines().next_line().await?;
                if let Some(url) =
                    line.as_deref().and_then(|line| line.strip_prefix("listening on "))
                {
                    return Outcome::Ok(Self { url: url.into(), _process: process });
                }
            }
        };
        timeout(LONG, start).await?
    }

    async fn member(&self) -> Outcome<Session> {
        let mut session = self.open("/room").await?;
        assert_eq!(next(&mut session).await?, "ready");
        Ok(session)
    }

    async fn open(&self, path: &str) -> Outcome<Session> {
        Ok(HttpClient::new(Native::new())
            .web_socket(format!("{}{path}", self.url))
            .connect()
            .await?)
    }

    async fn stats(&self) -> Outcome<String> {
        next(&mut self.open("/stats").await?).await
    }

    async fn stat(&self, name: &str) -> Outcome<u64> {
        let stats = self.stats().await?;
        let (_, rest) = stats.split_once(&format!(" {name}: ")).ok_or(stats.clone())?;
        Ok(rest.split([',', ' ']).next().unwrap_or_default().parse()?)
    }
}

async fn next(session: &mut Session) -> Outcome<String> {
    let frame = timeout(LONG, session.receive()).await??.ok_or("it was closed")?;
    Ok(frame.read_text().ok_or("no text")?.into())
}

async fn survives(mut broker: Broker) -> Outcome {
    let servers = [
        Server::start(&broker).await?,
        Server::start(&broker).await?,
        Server::start(&broker).await?,
    ];
    let mut members = Vec::new();
    for server in &servers {
        members.push(server.member().await?);
    }
    let mut neighbour = servers[0].member().await?;

    for sender in 0..3 {
        for i in 0..100 {
            members[sender].send(format!("{sender} {i}")).await?;
        }
        for receiver in (0..3).filter(|receiver| *receiver != sender) {
            for i in 0..100 {
                assert_eq!(next(&mut members[receiver]).await?, format!("{sender} {i}"));
            }
        }
        for i in 0..100 {
            assert_eq!(next(&mut neighbour).await?, format!("{sender} {i}"));
        }
    }
    for server in &servers {
        let stats = server.stats().await?;
        assert_eq!(
            (server.stat("duplicates").await?, server.stat("missed").await?),
            (0, 0),
            "{stats}"
        );
        assert_eq!(
            (server.stat("sent").await?, server.stat("received").await?),
            (100, 200),
            "{stats}"
        );
    }

    broker.kill()?;
    for i in 0..100 {
        members[0].send(format!("meanwhile {i}")).await?;
        assert_eq!(next(&mut neighbour).await?, format!("meanwhile {i}"), "its own server");
    }
    broker.start()?;

    // It takes a time until all are back: what is sent before does not arrive everywhere, in order and once.
    let mut number = 0;
    let mut seen = [None::<u64>; 2];
    let mut all_since = 0;
    let back = async {
        while all_since < 20 {
            members[0].send(format!("after {number}")).await?;
            next(&mut neighbour).await?;
            for (seen, member) in seen.iter_mut().zip(&mut members[1..]) {
                while let Ok(text) = timeout(Duration::from_millis(100), next(member)).await {
                    let text = text?;
                    if let Some(new) = text.strip_prefix("after ") {
                        let new = new.parse()?;
                        assert!(*seen < Some(new), "{seen:?} and then {new}");
                        *seen = Some(new);
                    }
                    if *seen == Some(number) {
                        break;
                    }
                }
            }
            all_since = if seen == [Some(number); 2] { all_since + 1 } else { 0 };
            number += 1;
        }
        Outcome::Ok(())
    };
    timeout(LONG, back).await??;
    // Each message was received, or is counted as missed.
    for server in &servers[1..] {
        let (received, missed) = (server.stat("received").await?, server.stat("missed").await?);
        let stats = server.stats().await?;
        assert_eq!(received + missed, 200 + 100 + number, "{stats}");
        assert_eq!(server.stat("duplicates").await?, 0, "{stats}");
        println!("{}: {stats}", broker.name);
    }
    // The other way too.
    members[2].send("and back").await?;
    assert_eq!(next(&mut members[0]).await?, "and back");
    Ok(())
}

#[tokio::test]
async fn sessions_survive_the_loss_of_nats() -> Outcome {
    match Broker::nats()? {
        Some(broker) => survives(broker).await,
        None => Ok(()),
    }
}

#[tokio::test]
async fn sessions_survive_the_loss_of_redis() -> Outcome {
    match Broker::redis()? {
        Some(broker) => survives(broker).await,
        None => Ok(()),
    }
}
