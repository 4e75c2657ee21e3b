//! HTTP, HTTPS and SOCKS5 proxies: one is gone through, or nothing is reached.

use std::{error::Error as _, net::SocketAddr, sync::Arc, time::Duration};

use drivetrain::{
    Capability, Error, ErrorKind, HttpClient, HttpTimeout, Proxies, Proxy, WebSockets,
};
use serde_json::Value;

use super::{handshake::described, http::closed_port};
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE, builder_for},
    expect::echoes,
    failure::{Failure, Verdict},
    peer::{Asked, EchoServer, ProxyScript, Refusal, Server, TestCa, http_proxy, socks5_proxy},
    watched::Watched,
};

/// A name that only the proxy can resolve; the test authority's server certificate has it.
const NAME: &str = TestCa::PRIVATE_NAME;
const USER: &str = "user";
const PASSWORD: &str = "pass:w@rd";
/// A connect timeout that passes.
const SHORT: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Http,
    Https,
    Socks5,
}

impl Kind {
    const ALL: [(Self, &str); 3] = [
        (Self::Http, "an_http_proxy"),
        (Self::Https, "an_https_proxy"),
        (Self::Socks5, "a_socks5_proxy"),
    ];

    /// Whether it answers requests of HTTP.
    fn is_http(self) -> bool {
        self != Self::Socks5
    }

    fn capability(self) -> Capability {
        match self {
            Self::Http => Capability::Proxies,
            Self::Https => Capability::HttpsProxies,
            Self::Socks5 => Capability::SocksProxies,
        }
    }

    fn proxy(self, address: SocketAddr) -> Verdict<Proxy> {
        let host = address.ip().to_string();
        Ok(match self {
            Self::Http => Proxy::http(host, address.port())?,
            Self::Https => Proxy::https(host, address.port())?,
            Self::Socks5 => Proxy::socks5(host, address.port())?,
        })
    }

    fn start(self, cx: &Context, script: &ProxyScript, ca: &TestCa) -> Arc<Server> {
        match self {
            Self::Http => cx.server(http_proxy(script)),
            Self::Https => cx.keep(Server::start_tls(http_proxy(script), ca)),
            Self::Socks5 => cx.server(socks5_proxy(script)),
        }
    }
}

/// A scheme of the target's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scheme(&'static str);

impl Scheme {
    const ALL: [Self; 4] = [Self("http"), Self("https"), Self("ws"), Self("wss")];

    fn is_secure(self) -> bool {
        self.0.ends_with('s') && self.0 != "ws"
    }

    fn is_web_socket(self) -> bool {
        self.0.starts_with("ws")
    }

    fn needs(self) -> Vec<Capability> {
        let own = if self.is_web_socket() { Capability::WebSockets } else { Capability::Http1 };
        if self.is_secure() { vec![own, Capability::Tls] } else { vec![own] }
    }

    /// Whether a proxy's refusal is a response like any other: it answers the request itself.
    fn is_answered_by(self, kind: Kind) -> bool {
        self.0 == "http" && kind.is_http()
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, proxy) in Kind::ALL {
        for scheme in Scheme::ALL {
            let mut needs = [scheme.needs(), vec![kind.capability()]].concat();
            if kind == Kind::Https && !scheme.is_secure() {
                needs.push(Capability::Tls);
            }
            let mut add = |name: String, case: Case| {
                cases.push(case.named("proxies", name).needs(&needs));
            };
            for with_credentials in [false, true] {
                let suffix = if with_credentials { "_with_credentials" } else { "" };
                let case = case(move |cx| goes_through(cx, kind, scheme, with_credentials));
                add(format!("{}_goes_through_{proxy}{suffix}", scheme.0), case);
            }
            let failing = move |how| case(move |cx| fails_with_the_proxy(cx, kind, scheme, how));
            let name = scheme.0;
            add(
                format!("{name}_fails_if_{proxy}_wants_other_credentials"),
                case(move |cx| wrong_credentials_are_refused(cx, kind, scheme)),
            );
            add(
                format!("{name}_fails_if_{proxy}_is_down"),
                case(move |cx| a_proxy_that_is_down_is_an_error(cx, kind, scheme)),
            );
            add(format!("{name}_fails_if_{proxy}_refuses"), failing(Refusal::Status(403)));
            add(
                format!("{name}_fails_if_{proxy}_speaks_something_else"),
                failing(Refusal::Garbage),
            );
            add(format!("{name}_fails_if_{proxy}_leaves"), failing(Refusal::End));
            if !scheme.is_answered_by(kind) {
                add(
                    format!("{name}_gives_up_{proxy}_that_stalls"),
                    case(move |cx| a_proxy_that_stalls_is_given_up(cx, kind, scheme)),
                );
            }
        }
        cases.push(
            case(move |cx| exceptions_go_directly(cx, kind))
                .named("proxies", format_args!("exceptions_to_{proxy}_go_directly"))
                .needs(&[kind.capability(), Capability::Http1]),
        );
        cases.push(
            case(move |cx| connections_are_not_shared(cx, kind))
                .named("proxies", format_args!("connections_through_{proxy}_are_not_shared"))
                .needs(&[kind.capability(), Capability::Http1]),
        );
    }
    for scheme in Scheme::ALL {
        let needs = [scheme.needs(), vec![Capability::HttpsProxies, Capability::Tls]].concat();
        let name = format!("{}_refuses_an_https_proxy_of_an_unknown_authority", scheme.0);
        let case = case(move |cx| an_unknown_authority_is_refused(cx, scheme));
        cases.push(case.named("proxies", name).needs(&needs));
    }
    cases.push(case(a_proxy_by_scheme_is_for_that_scheme).needs(&[
        Capability::Proxies,
        Capability::WebSockets,
        Capability::Tls,
    ]));
    cases
}

/// The row of the table: by whatever the engine has.
pub(super) async fn works(cx: Context, kind: Kind) -> Verdict {
    let is_offered = |scheme: &Scheme| scheme.needs().iter().all(|&need| cx.offers(need));
    for scheme in Scheme::ALL.into_iter().filter(is_offered) {
        goes_through(cx.clone(), kind, scheme, true).await?;
    }
    Ok(())
}

/// The proxy gets the credentials and the target's name, which only the proxy can resolve.
async fn goes_through(cx: Context, kind: Kind, scheme: Scheme, with_credentials: bool) -> Verdict {
    let target = Target::start(&cx, scheme)?;
    let mut script = target.script();
    if with_credentials {
        script = script.with_credentials(USER, PASSWORD);
    }
    let server = kind.start(&cx, &script, &target.ca);
    let mut proxy = kind.proxy(server.addr())?;
    if with_credentials {
        proxy = proxy.basic_auth(USER, PASSWORD)?;
    }
    target.works(&target.client(proxy)?).await?;
    let url = target.url();
    let authority = format!("{NAME}:{}", target.server.addr().port());
    let credentials = with_credentials.then(|| format!("{USER}:{PASSWORD}"));
    let (method, target_asked) = match kind {
        Kind::Socks5 => ("SOCKS5", authority),
        _ if scheme.is_answered_by(kind) => ("GET", url),
        Kind::Http | Kind::Https => ("CONNECT", authority),
    };
    let asked = Asked { method: method.into(), target: target_asked, credentials };
    assert_eq!(script.asked(), [asked]);
    assert_eq!((server.connections(), target.server.connections()), (1, 1));
    Ok(())
}

/// Credentials that the proxy does not take, or none, are an error that does not tell them.
async fn wrong_credentials_are_refused(cx: Context, kind: Kind, scheme: Scheme) -> Verdict {
    let target = Target::start(&cx, scheme)?;
    let script = target.script().with_credentials("somebody", "else");
    let server = kind.start(&cx, &script, &target.ca);
    let proxy = kind.proxy(server.addr())?;
    for proxy in [proxy.clone(), proxy.basic_auth(USER, PASSWORD)?] {
        let client = target.client(proxy)?;
        if scheme.is_answered_by(kind) {
            assert_eq!(client.get(target.url()).send().await?.status(), 407);
        } else {
            target.fails_at(&client, server.addr()).await?;
        }
    }
    assert_eq!(target.server.connections(), 0, "it went past the proxy");
    Ok(())
}

/// A proxy that fails is an error, and the target is not reached.
async fn fails_with_the_proxy(cx: Context, kind: Kind, scheme: Scheme, how: Refusal) -> Verdict {
    let target = Target::start(&cx, scheme)?;
    let script = target.script().failing(how);
    let server = kind.start(&cx, &script, &target.ca);
    let client = target.client(kind.proxy(server.addr())?.basic_auth(USER, PASSWORD)?)?;
    match how {
        Refusal::Status(status) if scheme.is_answered_by(kind) => {
            assert_eq!(client.get(target.url()).send().await?.status(), status);
        }
        _ if scheme.is_answered_by(kind) => {
            let error = target.fails(&client).await?;
            let is_peers = matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Io);
            assert!(is_peers, "{error:?}");
        }
        _ => target.fails_at(&client, server.addr()).await?,
    }
    assert_eq!(target.server.connections(), 0, "it went past the proxy");
    assert!(server.connections() > 0);
    Ok(())
}

/// An unreachable proxy is `Connect`, and the target is not reached.
async fn a_proxy_that_is_down_is_an_error(cx: Context, kind: Kind, scheme: Scheme) -> Verdict {
    let target = Target::start(&cx, scheme)?;
    let address = closed_port()?;
    let proxy = kind.proxy(address)?.basic_auth(USER, PASSWORD)?;
    target.fails_at(&target.client(proxy)?, address).await?;
    let unknown = match kind {
        Kind::Http => Proxy::http("proxy.drivetrain.invalid", 3128)?,
        Kind::Https => Proxy::https("proxy.drivetrain.invalid", 3128)?,
        Kind::Socks5 => Proxy::socks5("proxy.drivetrain.invalid", 1080)?,
    };
    let error = target.fails(&target.client(unknown)?).await?;
    assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
    assert!(error.to_string().contains("proxy.drivetrain.invalid"), "{error}");
    assert_eq!(target.server.connections(), 0, "it went past the proxy");
    Ok(())
}

/// The connect timeout is for the proxy's part as well.
async fn a_proxy_that_stalls_is_given_up(cx: Context, kind: Kind, scheme: Scheme) -> Verdict {
    if !cx.offers(Capability::ConnectTimeout) {
        return super::refused(&cx, Capability::ConnectTimeout).await;
    }
    let target = Target::start(&cx, scheme)?;
    let script = target.script().failing(Refusal::Silence);
    let server = kind.start(&cx, &script, &target.ca);
    let client = target
        .builder(kind.proxy(server.addr())?)
        .install(HttpTimeout::new().connect(SHORT))
        .build()?;
    let error = cx.within(PATIENCE, "the connect timeout passes", target.fails(&client)).await??;
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert_eq!(target.server.connections(), 0, "it went past the proxy");
    Ok(())
}

/// A host that is left out is connected to directly, and the proxy hears nothing.
async fn exceptions_go_directly(cx: Context, kind: Kind) -> Verdict {
    let (target, ca) = (cx.echo(), TestCa::new());
    let script = ProxyScript::new();
    let server = kind.start(&cx, &script, &ca);
    let proxies = || Ok::<_, crate::failure::Failure>(Proxies::from(kind.proxy(server.addr())?));
    let url = target.http_url("/get");
    let client = |proxies| builder_for(engine(&cx, kind, &ca)).proxy(proxies).build();
    client(proxies()?.no_proxy("127.0.0.0/8"))?.get(&url).send().await?.text().await?;
    assert_eq!((server.connections(), target.connections()), (0, 1));
    client(proxies()?.no_proxy("example.com, 10.0.0.0/8"))?.get(&url).send().await?.text().await?;
    assert_eq!((server.connections(), target.connections()), (1, 2));
    Ok(())
}

/// A direct connection is not reused for a request through a proxy, nor a connection
/// through another one.
async fn connections_are_not_shared(cx: Context, kind: Kind) -> Verdict {
    let (target, ca) = (cx.echo(), TestCa::new());
    let scripts = [ProxyScript::new(), ProxyScript::new()];
    let servers = scripts.each_ref().map(|script| kind.start(&cx, script, &ca));
    let engine = Arc::new(engine(&cx, kind, &ca));
    let url = target.http_url("/get");
    let builder = || builder_for(Arc::clone(&engine));
    builder().build()?.get(&url).send().await?.text().await?;
    for server in &servers {
        let client = builder().proxy(kind.proxy(server.addr())?).build()?;
        client.get(&url).send().await?.text().await?;
    }
    builder().build()?.get(&url).send().await?.text().await?;
    assert_eq!(servers.each_ref().map(|server| server.connections()), [1, 1]);
    assert!((3..=4).contains(&target.connections()), "{}", target.connections());
    Ok(())
}

/// A proxy for `https` is one for `wss`, and none for `ws`.
async fn a_proxy_by_scheme_is_for_that_scheme(cx: Context) -> Verdict {
    let secure = Target::start(&cx, Scheme("wss"))?;
    let script = secure.script();
    let server = Kind::Http.start(&cx, &script, &secure.ca);
    let proxies = Proxies::new().https(Kind::Http.proxy(server.addr())?);
    let client = builder_for(cx.engine()).install(WebSockets::new()).proxy(proxies.clone());
    let plain = cx.echo();
    let mut session = client.build()?.web_socket(plain.ws_url("/echo")).connect().await?;
    echoes(&mut session, "directly").await?;
    assert_eq!(server.connections(), 0);
    secure.works(&secure.builder(proxies).build()?).await?;
    assert_eq!(server.connections(), 1);
    Ok(())
}

/// The certificate of an HTTPS proxy is verified, and the target is not reached.
async fn an_unknown_authority_is_refused(cx: Context, scheme: Scheme) -> Verdict {
    let target = Target::start(&cx, scheme)?;
    let script = target.script();
    let server = Kind::Https.start(&cx, &script, &TestCa::new());
    let error = target.fails(&target.client(Kind::Https.proxy(server.addr())?)?).await?;
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Tls, false), "{error:?}");
    assert!(error.to_string().contains(&server.addr().to_string()), "{error}");
    assert_eq!((script.asked().len(), target.server.connections()), (0, 0));
    Ok(())
}

/// The engine for such a proxy.
fn engine(cx: &Context, kind: Kind, ca: &TestCa) -> Watched {
    match kind {
        Kind::Https => cx.engine_with_root(ca).expect("it offers TLS"),
        Kind::Http | Kind::Socks5 => cx.engine(),
    }
}

/// The server behind the proxy.
struct Target {
    cx: Context,
    scheme: Scheme,
    ca: TestCa,
    server: Arc<Server>,
}

impl Target {
    fn start(cx: &Context, scheme: Scheme) -> Verdict<Self> {
        let ca = TestCa::new();
        let server = match scheme.is_secure() {
            true => Server::start_tls(EchoServer::serve, &ca),
            false => Server::start(EchoServer::serve),
        };
        Ok(Self { cx: cx.clone(), scheme, ca, server: cx.keep(server) })
    }

    fn script(&self) -> ProxyScript {
        ProxyScript::new().knowing(NAME, self.server.addr())
    }

    fn url(&self) -> String {
        let path = if self.scheme.is_web_socket() { "/headers" } else { "/anything" };
        format!("{}://{NAME}:{}{path}", self.scheme.0, self.server.addr().port())
    }

    fn engine(&self) -> Watched {
        // Without TLS on the way the root does nothing.
        match self.cx.offers(Capability::Tls) {
            true => self.cx.engine_with_root(&self.ca).expect("it offers TLS"),
            false => self.cx.engine(),
        }
    }

    fn builder(&self, proxies: impl Into<Proxies>) -> drivetrain::HttpClientBuilder {
        let builder = builder_for(self.engine()).proxy(proxies);
        match self.scheme.is_web_socket() {
            true => builder.install(WebSockets::new()),
            false => builder,
        }
    }

    fn client(&self, proxy: Proxy) -> Verdict<HttpClient> {
        Ok(self.builder(proxy).build()?)
    }

    /// The server sees the same as without a proxy.
    async fn works(&self, client: &HttpClient) -> Verdict {
        let seen: Value = match self.scheme.is_web_socket() {
            true => described(client.web_socket(self.url())).await?,
            false => client.get(self.url()).send().await?.json().await?,
        };
        let host = format!("{NAME}:{}", self.server.addr().port());
        assert_eq!(seen["headers"]["host"][0], host, "{seen}");
        assert!(seen["target"].as_str().is_some_and(|target| target.starts_with('/')), "{seen}");
        assert!(seen["headers"].get("proxy-authorization").is_none(), "{seen}");
        if self.scheme.is_secure() {
            assert_eq!(seen["tls"]["server_name"], NAME, "{seen}");
        }
        Ok(())
    }

    /// The error of a request that has to fail, which tells no credentials.
    async fn fails(&self, client: &HttpClient) -> Verdict<Error> {
        let result = match self.scheme.is_web_socket() {
            true => client.web_socket(self.url()).connect().await.map(drop),
            false => client.get(self.url()).send().await.map(drop),
        };
        let error = result.err().ok_or_else(|| Failure::new("it worked without the proxy"))?;
        let mut text = format!("{error} {error:?}");
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(&format!("{cause} {cause:?}"));
            source = cause.source();
        }
        for secret in [PASSWORD, "pass%3A", "dXNlcjpwYXNz"] {
            assert!(!text.contains(secret), "{text}");
        }
        Ok(error)
    }

    /// As [`fails`](Self::fails), as `Connect`, naming the proxy.
    async fn fails_at(&self, client: &HttpClient, proxy: SocketAddr) -> Verdict {
        let error = self.fails(client).await?;
        assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
        assert!(error.to_string().contains(&proxy.to_string()), "{error}");
        Ok(())
    }
}
