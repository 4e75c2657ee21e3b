//! One program, unchanged, on every engine: it logs in and opens a `wss` session through an HTTP proxy that asks
//! for a password, with a private certificate authority, a cookie and redirects. When the proxy refuses,
//! nothing reaches the targets.
#![cfg(all(feature = "cookies", feature = "rustls"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{future::Future, sync::Arc, time::Duration};

use drivetrain::{
    Capability, CloseReason, CookieJar, Error, ErrorKind, Frame, HttpClient, HttpClientBuilder,
    Outcome, Proxy, Redirects, Result, WebSockets,
    engine::{self, Engine},
};
use drivetrain_conformance::peer::{Conn, EchoServer, ProxyScript, Server, TestCa, http_proxy};

/// The name of the application; nobody but the proxy can resolve it.
const NAME: &str = TestCa::PRIVATE_NAME;
const USER: &str = "user";
const PASSWORD: &str = "pass:w@rd";

/// What the program is told: where to log in, where to talk, and through what.
#[derive(Clone, Debug)]
struct Config {
    login: String,
    socket: String,
    proxy: Proxy,
}

/// The answer that came, and how the session ended.
type Talk = (Option<Frame>, Outcome);

/// The program. It does not know which engine it runs on.
async fn program(builder: HttpClientBuilder, config: &Config) -> Result<Talk> {
    let client = client(builder, config)?;
    client.get(&config.login).send().await?.error_for_status().await?;
    talk(&client, config).await
}

fn client(builder: HttpClientBuilder, config: &Config) -> Result<HttpClient> {
    builder
        .install(WebSockets::new())
        .proxy(config.proxy.clone())
        .cookie_jar(CookieJar::new())
        .redirects(Redirects::new().limit(2))
        .build()
}

async fn talk(client: &HttpClient, config: &Config) -> Result<Talk> {
    let mut session = client.web_socket(&config.socket).connect().await?;
    session.send("hello").await?;
    let answer = session.receive().await?;
    let outcome = session.close(CloseReason::normal()).await?;
    Ok((answer, outcome))
}

#[test]
fn one_program_on_every_engine() {
    for (name, make) in engines() {
        let world = World::start(PASSWORD);
        // A busy machine does not meet the default time limits.
        let long = Duration::from_secs(60);
        let patient = WebSockets::new().handshake_timeout(long).close_timeout(long);
        let builder = HttpClient::builder(make(world.ca.ca_pem().as_bytes())).install(patient);
        let result = within(program(builder, &world.config));
        if is_refused(name, &result) {
            assert_eq!(world.connections(), [0, 0, 0], "{name} dialled");
            continue;
        }
        let (answer, outcome) = result.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(answer, Some("hello".into()), "{name}");
        assert!(outcome.clean, "{name}: {outcome}");

        // Both servers were reached by tunnels that the proxy was asked for by name and with the password.
        let asked = world.script.asked();
        assert!(!asked.is_empty(), "{name}");
        for asked in &asked {
            assert_eq!(asked.method, "CONNECT", "{name}");
            assert_eq!(asked.credentials, Some(format!("{USER}:{PASSWORD}")), "{name}");
        }
        let tunnels = |to: &str| asked.iter().filter(|asked| asked.target == to).count();
        let [proxy, door, application] = world.connections();
        assert_eq!(proxy, asked.len(), "{name}");
        assert_eq!((door, tunnels(&world.door_authority())), (1, 1), "{name}");
        assert_eq!(application, tunnels(&world.application_authority()), "{name}");
        // The login, the first redirect's target, and the second's, which is the session.
        assert_eq!((world.door.requests(), world.application.requests()), (1, 3), "{name}");
    }
}

#[test]
fn nothing_reaches_the_targets_if_the_proxy_refuses() {
    for (name, make) in engines() {
        let mut world = World::start("another password");
        // A name that everybody can resolve, so that nothing but the client keeps to the proxy.
        world.config.login = world.application.http_url("/login");
        let builder = || HttpClient::builder(make(world.ca.ca_pem().as_bytes()));
        let result = within(program(builder(), &world.config));
        if is_refused(name, &result) {
            assert_eq!(world.connections(), [0, 0, 0], "{name} dialled");
            continue;
        }
        // The program ends at its first request; the handshake alone fares no better.
        let session = || async { talk(&client(builder(), &world.config)?, &world.config).await };
        for result in [result, within(session())] {
            assert_eq!(world.connections()[1..], [0, 0], "{name} went past the proxy");
            let error = result.err().unwrap_or_else(|| panic!("{name} went past the proxy"));
            assert_eq!(error.kind(), ErrorKind::Connect, "{name}: {error:?}");
            let text = chain(&error);
            assert!(text.contains(&world.proxy.addr().to_string()), "{name}: {text}");
            let has_status = text.contains("with 407 ") || text.contains("(407)");
            assert!(has_status, "{name}: {text}");
            assert!(!text.contains(PASSWORD), "{name}: {text}");
        }
        let asked = world.connections()[0];
        assert!(asked >= 2, "{name}: the proxy was asked {asked} times");
    }
}

/// Whether the engine has no WebSockets, and said so.
fn is_refused(name: &str, result: &Result<Talk>) -> bool {
    let offered = engine::all()
        .iter()
        .find(|engine| engine.name() == name)
        .is_some_and(|engine| engine.support(Capability::WebSockets).is_offered());
    if !offered {
        let capability = result.as_ref().err().and_then(Error::capability);
        assert_eq!(capability, Some(Capability::WebSockets), "{name}: {result:?}");
    }
    !offered
}

/// Makes an engine that trusts one more certificate authority.
type Make = fn(&[u8]) -> Arc<dyn Engine>;

/// Every engine in the build.
fn engines() -> Vec<(&'static str, Make)> {
    let mut engines: Vec<(&str, Make)> = Vec::new();
    macro_rules! push {
        (futures $executor:ident, $Engine:ident, $name:literal) => {
            engines.push(($name, |ca| Arc::new(engine::$Engine::new().root_certificate_pem(ca))));
        };
        (tokio, $Engine:ident, $name:literal) => {
            engines.push(($name, |ca| {
                let http = engine::Reqwest::new().root_certificate_pem(ca);
                Arc::new(engine::$Engine::new().http(http))
            }));
        };
        (http, $Engine:ident, $name:literal) => {
            engines.push(($name, |ca| Arc::new(engine::$Engine::new().root_certificate_pem(ca))));
        };
    }
    for_each_engine!(push);
    engines
}

#[test]
fn every_engine_in_the_build_runs_it() {
    let run: Vec<_> = engines().iter().map(|(name, _)| (*name).to_owned()).collect();
    let built: Vec<_> = engine::all().iter().map(|engine| engine.name().to_owned()).collect();
    assert_eq!(run, built);
}

/// The proxy, and two servers behind it: a door that sends everybody on to the application, and the
/// application, whose entrance sends those who have logged in to their session.
struct World {
    ca: TestCa,
    application: Server,
    door: Server,
    script: ProxyScript,
    proxy: Server,
    config: Config,
}

impl World {
    /// With a proxy that takes this password.
    fn start(password: &str) -> Self {
        let ca = TestCa::new();
        let application = Server::start_tls(serve_application, &ca);
        let entrance = format!("wss://{NAME}:{}/entrance", application.addr().port());
        let serve_door = move |conn: &mut Conn| {
            while let Some(request) = conn.read_request()? {
                // The application's cookie is not this host's.
                let status = if request.header("cookie").is_none() { 302 } else { 400 };
                conn.respond(status, &[("location", &entrance)], "")?;
            }
            Ok(())
        };
        let door = Server::start_tls(serve_door, &ca);
        let script =
            ProxyScript::new().with_credentials(USER, password).knowing(NAME, application.addr());
        let proxy = Server::start(http_proxy(&script));
        let config = Config {
            login: format!("https://{NAME}:{}/login", application.addr().port()),
            socket: door.ws_url("/"),
            proxy: Proxy::http("127.0.0.1", proxy.addr().port())
                .and_then(|proxy| proxy.basic_auth(USER, PASSWORD))
                .unwrap(),
        };
        Self { ca, application, door, script, proxy, config }
    }

    /// How many the proxy, the door and the application have accepted.
    fn connections(&self) -> [usize; 3] {
        [&self.proxy, &self.door, &self.application].map(|server| server.connections())
    }

    fn door_authority(&self) -> String {
        format!("localhost:{}", self.door.addr().port())
    }

    fn application_authority(&self) -> String {
        format!("{NAME}:{}", self.application.addr().port())
    }
}

/// `/login` sets a cookie; without it the other paths are forbidden.
fn serve_application(conn: &mut Conn) -> std::io::Result<()> {
    EchoServer::serve_but(conn, |conn, request| {
        let cookie = [("set-cookie", "session=1; Path=/; Secure; HttpOnly")];
        match request.path.as_str() {
            "/login" => conn.respond(200, &cookie, "welcome")?,
            _ if request.header("cookie") != Some("session=1") => conn.respond(403, &[], "who?")?,
            "/entrance" => conn.respond(302, &[("location", "/echo")], "")?,
            _ => return Ok(false),
        }
        Ok(true)
    })
}

/// The error with its causes.
fn chain(error: &Error) -> String {
    let mut text = format!("{error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// The tokio engines need their runtime, the others do not mind.
fn within<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limited = async { tokio::time::timeout(Duration::from_secs(300), future).await };
    runtime.block_on(limited).expect("it is over in time")
}
