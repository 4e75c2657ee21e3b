//! The documentation's pages: a tutorial, how-tos, reference and explanation.
//!
//! | to | read |
//! |---|---|
//! | learn | [Your first session](first_session) |
//! | reach one goal | [Coming from Ktor](coming_from_ktor) ([options](ktor_options), [the message loop](ktor_loop), [the callbacks](ktor_callbacks), [more about sessions](ktor_sessions), [HTTP, events, reconnecting](ktor_http), [the server](ktor_server), [more about it](ktor_server_sessions)), [reach a server](reach_a_server), [test a program](test_a_program), [observe a program](observe_a_program), [serve WebSockets](server), [broadcast], [write an engine](writing_an_engine) ([a framing](write_a_framing), [a connector](write_a_connector)) |
//! | look up | [the engine contract](engine_contract), [limitations], [options of a session](session_options), [Ktor's names](ktor_names), [observability], [hostile peers](hostile_peers), [tests](testing), [benchmarks], [crates] |
//! | understand | [architecture], [the life of a request](request), [the session](session), [options], [differences from Ktor](differences_from_ktor) |

// The links of a page lead to files. In rustdoc, the definitions of `links.md` come first and win.
macro_rules! pages {
    ($($(#[$attribute:meta])* $name:ident: $path:literal,)*) => {$(
        $(#[$attribute])*
        #[doc = include_str!("guide/links.md")]
        #[doc = include_str!(concat!("../docs/", $path))]
        pub mod $name {}
    )*};
}

pages! {
    #[cfg(any(not(doctest), feature = "testing"))]
    first_session: "tutorial/first-session.md",
    coming_from_ktor: "how-to/coming-from-ktor.md",
    ktor_options: "how-to/ktor-options.md",
    ktor_loop: "how-to/ktor-loop.md",
    ktor_callbacks: "how-to/ktor-callbacks.md",
    ktor_sessions: "how-to/ktor-sessions.md",
    ktor_http: "how-to/ktor-http.md",
    #[cfg(any(not(doctest), feature = "axum"))]
    ktor_server: "how-to/ktor-server.md",
    #[cfg(any(not(doctest), feature = "axum"))]
    ktor_server_sessions: "how-to/ktor-server-sessions.md",
    #[cfg(any(not(doctest), feature = "full"))]
    reach_a_server: "how-to/reach-a-server.md",
    #[cfg(any(not(doctest), all(feature = "server", feature = "testing")))]
    test_a_program: "how-to/test-a-program.md",
    observe_a_program: "how-to/observe-a-program.md",
    #[cfg(any(not(doctest), feature = "axum"))]
    server: "how-to/server.md",
    #[cfg(any(not(doctest), feature = "server"))]
    broadcast: "how-to/broadcast.md",
    writing_an_engine: "how-to/writing-an-engine.md",
    write_a_framing: "how-to/write-a-framing.md",
    write_a_connector: "how-to/write-a-connector.md",
    engine_contract: "reference/engine-contract.md",
    limitations: "reference/limitations.md",
    session_options: "reference/session-options.md",
    ktor_names: "reference/ktor-names.md",
    observability: "reference/observability.md",
    hostile_peers: "reference/hostile-peers.md",
    testing: "reference/testing.md",
    benchmarks: "reference/benchmarks.md",
    crates: "reference/crates.md",
    architecture: "explanation/architecture.md",
    request: "explanation/request.md",
    session: "explanation/session.md",
    options: "explanation/options.md",
    differences_from_ktor: "explanation/differences-from-ktor.md",
}
