//! A resolver of the user's: it is asked for names, and for nothing else.

use std::{
    error::Error as _,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use drivetrain::{Capability, ErrorKind, Resolver, WebSockets};

use crate::{
    case::{Case, case},
    context::{Context, builder_for},
    failure::{Failure, Verdict},
    peer::TestCa,
};

/// A name that the system's resolver does not know.
const NAME: &str = TestCa::PRIVATE_NAME;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (scheme, need) in [("http", Capability::Http1), ("ws", Capability::WebSockets)] {
        let mut add = |name: &str, case: Case| {
            let needs = [need, Capability::Resolver];
            cases.push(case.named("resolver", format_args!("{scheme}_{name}")).needs(&needs));
        };
        add("asks_it_for_a_name", case(move |cx| a_name_is_asked_for(cx, scheme)));
        add("uses_its_port_without_one", case(move |cx| its_port_is_used(cx, scheme)));
        add("does_not_ask_it_for_an_address", case(move |cx| addresses_are_not(cx, scheme)));
        add("fails_with_its_error", case(move |cx| its_error_is_told(cx, scheme)));
        add("fails_without_an_address", case(move |cx| no_address_is_an_error(cx, scheme)));
    }
    cases
}

/// The row of the table: by whatever the engine has.
pub(super) async fn works(cx: Context) -> Verdict {
    for (scheme, need) in [("http", Capability::Http1), ("ws", Capability::WebSockets)] {
        if cx.offers(need) {
            a_name_is_asked_for(cx.clone(), scheme).await?;
        }
    }
    Ok(())
}

/// The answers of a resolver, and what it was asked for.
#[derive(Clone)]
struct Answers {
    addresses: Result<Vec<SocketAddr>, &'static str>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Answers {
    fn new(addresses: Result<Vec<SocketAddr>, &'static str>) -> Self {
        Self { addresses, asked: Arc::default() }
    }

    fn resolver(&self) -> Resolver {
        let answers = self.clone();
        Resolver::new(move |host| {
            let Answers { addresses, asked } = answers.clone();
            asked.lock().unwrap_or_else(PoisonError::into_inner).push(host);
            async move { addresses.map_err(io::Error::other) }
        })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reaches a server at this host, of which the URL says no more.
    async fn reach(
        &self,
        cx: &Context,
        scheme: &str,
        host: &str,
    ) -> Verdict<drivetrain::Result<()>> {
        let engine = cx.engine_with_resolver(self.resolver());
        let engine = engine.ok_or_else(|| Failure::new("the subject makes no such engine"))?;
        let builder = builder_for(engine);
        let url = format!("{scheme}://{host}/headers");
        Ok(match scheme {
            "ws" => {
                let client = builder.install(WebSockets::new()).build()?;
                client.web_socket(url).connect().await.map(drop)
            }
            _ => builder.build()?.get(url).send().await.map(drop),
        })
    }
}

/// A port of zero is the URL's.
async fn a_name_is_asked_for(cx: Context, scheme: &'static str) -> Verdict {
    let server = cx.echo();
    let answers = Answers::new(Ok(vec![(Ipv4Addr::LOCALHOST, 0).into()]));
    answers.reach(&cx, scheme, &format!("{NAME}:{}", server.addr().port())).await??;
    assert_eq!(answers.asked(), [NAME]);
    assert_eq!(server.connections(), 1);
    Ok(())
}

/// A URL without a port has none to insist on.
async fn its_port_is_used(cx: Context, scheme: &'static str) -> Verdict {
    let server = cx.echo();
    let answers = Answers::new(Ok(vec![server.addr()]));
    answers.reach(&cx, scheme, NAME).await??;
    assert_eq!(server.connections(), 1);
    Ok(())
}

async fn addresses_are_not(cx: Context, scheme: &'static str) -> Verdict {
    let server = cx.echo();
    let answers = Answers::new(Err("it is asked for an address"));
    answers.reach(&cx, scheme, &server.addr().to_string()).await??;
    assert_eq!(answers.asked(), [""; 0]);
    Ok(())
}

/// As an error of connecting, with its own as a cause.
async fn its_error_is_told(cx: Context, scheme: &'static str) -> Verdict {
    let answers = Answers::new(Err("the zone is gone"));
    let Err(error) = answers.reach(&cx, scheme, NAME).await? else {
        return Err(Failure::new("it worked without an address"));
    };
    assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
    assert!(error.to_string().contains(NAME), "{error}");
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    assert!(causes.any(|cause| cause.to_string().contains("the zone is gone")), "{error:#}");
    Ok(())
}

async fn no_address_is_an_error(cx: Context, scheme: &'static str) -> Verdict {
    let Err(error) = Answers::new(Ok(Vec::new())).reach(&cx, scheme, NAME).await? else {
        return Err(Failure::new("it worked without an address"));
    };
    assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
    Ok(())
}
