//! The documentation's pages: a tutorial, how-tos, reference and explanation.
//!
//! | to | read |
//! |---|---|
//! | learn | [Your first session](first_session) |
//! | reach one goal | [Coming from Ktor](coming_from_ktor) ([the message loop](ktor_loop), [more about sessions](ktor_sessions), [HTTP, events, reconnecting](ktor_http), [the server](ktor_server)), [reach a server](reach_a_server), [test a program](test_a_program), [observe a program](observe_a_program), [serve WebSockets](server), [write an engine](writing_an_engine) |
//! | look up | [the engine contract](engine_contract), [limitations], [options of a session](session_options), [Ktor's names](ktor_names), [observability], [tests](testing), [crates] |
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
    ktor_loop: "how-to/ktor-loop.md",
    ktor_sessions: "how-to/ktor-sessions.md",
    ktor_http: "how-to/ktor-http.md",
    #[cfg(any(not(doctest), feature = "axum"))]
    ktor_server: "how-to/ktor-server.md",
    #[cfg(any(not(doctest), feature = "full"))]
    reach_a_server: "how-to/reach-a-server.md",
    #[cfg(any(not(doctest), all(feature = "server", feature = "testing")))]
    test_a_program: "how-to/test-a-program.md",
    observe_a_program: "how-to/observe-a-program.md",
    #[cfg(any(not(doctest), feature = "axum"))]
    server: "how-to/server.md",
    writing_an_engine: "how-to/writing-an-engine.md",
    engine_contract: "reference/engine-contract.md",
    limitations: "reference/limitations.md",
    session_options: "reference/session-options.md",
    ktor_names: "reference/ktor-names.md",
    observability: "reference/observability.md",
    testing: "reference/testing.md",
    crates: "reference/crates.md",
    architecture: "explanation/architecture.md",
    request: "explanation/request.md",
    session: "explanation/session.md",
    options: "explanation/options.md",
    differences_from_ktor: "explanation/differences-from-ktor.md",
}
