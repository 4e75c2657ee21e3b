//! Proxies: what goes through them with a name and a password, and that nothing gets past them without.

use drivetrain::{Capability, CloseReason, Error, ErrorKind, HttpClient, Proxy, http::StatusCode};
use drivetrain_conformance::peer::Server;
use serde_json::Value;

use crate::{
    Scenario,
    lab::{CLOSED_PORT, Failure, Lab, chain, close, ensure, expect, same},
};

pub(crate) const EVERY: &[Scenario] = &[
    ("http_goes_through", |lab| Box::pin(goes_through(lab, "http"))),
    ("https_goes_through", |lab| Box::pin(goes_through(lab, "https"))),
    ("ws_goes_through", |lab| Box::pin(goes_through(lab, "ws"))),
    ("wss_goes_through", |lab| Box::pin(goes_through(lab, "wss"))),
    ("nothing_gets_past_without_credentials", |lab| Box::pin(nothing_gets_past(lab, None))),
    ("nothing_gets_past_with_a_wrong_password", |lab| {
        Box::pin(nothing_gets_past(lab, Some("guessed")))
    }),
    ("target_that_is_down", |lab| Box::pin(target_that_is_down(lab))),
];

/// As `start` has set it up.
const USER: &str = "user";
const PASSWORD: &str = "pass-w0rd";

/// It is asked for the target by name, as its log tells, and one connection reaches the target.
async fn goes_through(lab: &Lab, scheme: &str) -> Result<(), Failure> {
    let target = Target::start(lab, scheme)?;
    let Some(client) = client(lab, Some(PASSWORD))? else { return Ok(()) };
    if scheme.starts_with("http") {
        let response =
            client.get(target.url("/some/path")).send().await?.error_for_status().await?;
        same("the path it saw", &response.json::<Value>().await?["path"], "/some/path")?;
    } else {
        let mut session = client.web_socket(target.url("/echo")).connect().await?;
        for message in ["hello".to_owned(), "x".repeat(5 << 20)] {
            session.send(message.clone()).await?;
            expect(&mut session, message).await?;
        }
        close(&mut session, CloseReason::normal()).await?;
    }
    let name = format!("localhost:{}", target.server.addr().port());
    ensure(lab.logged(&name)?, format!("the proxy's log has no {name}"))?;
    same("the number of connections", target.server.connections(), 1)
}

/// A client without the password is refused by the proxy, and nothing reaches the target.
async fn nothing_gets_past(lab: &Lab, password: Option<&str>) -> Result<(), Failure> {
    let Some(client) = client(lab, password)? else { return Ok(()) };
    // tinyproxy asks for credentials with 407, and says 401 of wrong ones.
    let status = match password {
        None => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        Some(_) => StatusCode::UNAUTHORIZED,
    };
    for scheme in ["http", "https", "ws", "wss"] {
        let target = Target::start(lab, scheme)?;
        let result = match scheme.strip_prefix("http") {
            Some(_) => client.get(target.url("/")).send().await.map(Some),
            None => client.web_socket(target.url("/echo")).connect().await.map(|_| None),
        };
        match result {
            // Asked for a plain request, the proxy answers it.
            Ok(Some(response)) if scheme == "http" && !is_socks(lab) => {
                same("the status", response.status(), status)?;
            }
            Ok(_) => return Err(format!("{scheme} got past").into()),
            Err(error) => {
                names_the_proxy(lab, &error)?;
                let has_status = chain(&error).contains("407");
                let is_asked = !is_socks(lab) && password.is_none();
                ensure(has_status || !is_asked, format!("no 407 in {}", chain(&error)))?;
            }
        }
        same("the number of connections", target.server.connections(), 0)?;
    }
    Ok(())
}

/// The proxy says that it cannot connect.
async fn target_that_is_down(lab: &Lab) -> Result<(), Failure> {
    let Some(client) = client(lab, Some(PASSWORD))? else { return Ok(()) };
    for scheme in ["https", "ws", "wss"] {
        let url = format!("{scheme}://localhost:{CLOSED_PORT}/echo");
        let result = match scheme {
            "https" => client.get(url).send().await.map(drop),
            _ => client.web_socket(url).connect().await.map(drop),
        };
        names_the_proxy(lab, &result.err().ok_or("nobody is there, and it worked")?)?;
    }
    Ok(())
}

fn names_the_proxy(lab: &Lab, error: &Error) -> Result<(), Failure> {
    same(&format!("the error ({})", chain(error)), error.kind(), ErrorKind::Connect)?;
    let name = format!("127.0.0.1:{}", lab.port());
    ensure(error.to_string().contains(&name), format!("no {name} in {error}"))
}

fn is_socks(lab: &Lab) -> bool {
    lab.peer == "microsocks"
}

/// A client that goes through the proxy; `None` if the engine has none of its kind, and said so.
fn client(lab: &Lab, password: Option<&str>) -> Result<Option<HttpClient>, Failure> {
    let (proxy, capability) = match is_socks(lab) {
        true => (Proxy::socks5("127.0.0.1", lab.port())?, Capability::SocksProxies),
        false => (Proxy::http("127.0.0.1", lab.port())?, Capability::Proxies),
    };
    let proxy = match password {
        Some(password) => proxy.basic_auth(USER, password)?,
        None => proxy,
    };
    let made = lab.trusting()?.proxy(proxy).build();
    if lab.client.support(capability).is_offered() {
        return Ok(Some(made?));
    }
    let error = made.err().ok_or("an engine took what it does not offer")?;
    same("what is lacking", error.capability(), Some(capability))?;
    Ok(None)
}

/// The server behind the proxy: one that counts, in front of Python `websockets` or nginx.
struct Target {
    scheme: String,
    server: Server,
}

impl Target {
    fn start(lab: &Lab, scheme: &str) -> Result<Self, Failure> {
        let behind = if matches!(scheme, "https" | "wss") { "nginx" } else { "websockets" };
        let server = lab.counting(lab.port_of(behind)?);
        Ok(Self { scheme: scheme.to_owned(), server })
    }

    fn url(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.server.addr().port())
    }
}
