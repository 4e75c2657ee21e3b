//! Faults of the servers' own, which any client sees: what a trial has to show instead, and why.

/// What is wrong with a server.
#[derive(Debug)]
pub(crate) struct Fault {
    server: &'static str,
    /// With what stands before its name.
    scenario: &'static str,
    pub(crate) why: &'static str,
    /// What is in the scenario's error. `None` if the fault is seen by chance, or disturbs other trials: such a trial is
    /// left out.
    pub(crate) shows: Option<&'static str>,
}

const fn fault(
    server: &'static str,
    scenario: &'static str,
    why: &'static str,
    shows: &'static str,
) -> Fault {
    Fault { server, scenario, why, shows: Some(shows) }
}

const fn left_out(server: &'static str, scenario: &'static str, why: &'static str) -> Fault {
    Fault { server, scenario, why, shows: None }
}

/// They stand in the README of each program, or were seen with a client that is not ours.
const FAULTS: &[Fault] = &[
    left_out(
        "jetty",
        "h2c::an_early_refusal_is_read",
        "may end a connection on which DATA still comes",
    ),
    left_out(
        "tomcat",
        "h2c::an_early_refusal_is_read",
        "may end a connection on which DATA still comes",
    ),
    left_out(
        "tomcat",
        "h2c::bodies_are_counted",
        "resets a stream now and then; the cause is not known",
    ),
    fault(
        "jetty",
        "h2c::a_small_window_is_granted_or_refused",
        "does not grant the window it accepts",
        "asked for and not granted",
    ),
    fault(
        "tomcat",
        "h2c::an_end_within_a_body",
        "ends a body whose handler threw as if it were whole",
        "Io was expected, not b",
    ),
    fault(
        "undertow",
        "h2c::an_end_within_a_body",
        "ends a body whose handler threw as if it were whole",
        "Io was expected, not b",
    ),
    fault(
        "vertx",
        "h2c::trailers_are_no_body",
        "ends gzip in the middle if trailers follow",
        "ends in the middle",
    ),
    fault(
        "ktor-netty",
        "a_small_window_is_granted_or_refused",
        "answers 500 to an offer of a window",
        "500 Internal Server Error",
    ),
    fault(
        "ktor-cio",
        "a_small_window_is_granted_or_refused",
        "answers 500 to an offer of a window",
        "500 Internal Server Error",
    ),
    fault(
        "go-gorilla",
        "a_small_window_is_granted_or_refused",
        "does not grant the window it accepts",
        "asked for and not granted",
    ),
    fault(
        "go-fasthttp",
        "a_small_window_is_granted_or_refused",
        "does not grant the window it accepts",
        "asked for and not granted",
    ),
    fault(
        "go-nbio",
        "a_small_window_is_granted_or_refused",
        "does not grant the window it accepts",
        "asked for and not granted",
    ),
    fault(
        "go-gws",
        "a_small_window_is_granted_or_refused",
        "answers with a window that was not offered",
        "above the one that was offered",
    ),
    fault(
        "go-xnet",
        "messages_come_back",
        "hands out frames: long messages are echoed in fragments",
        "was echoed as",
    ),
    fault("go-xnet", "frames_come_back", "cannot be asked for frames", "1003"),
    fault("go-gorilla", "frames_come_back", "closes with 1003", "1003"),
    fault("go-coder", "frames_come_back", "closes with 1003", "1003"),
    fault("go-gws", "frames_come_back", "closes with 1003", "1003"),
    fault("go-nbio", "frames_come_back", "closes with 1003", "1003"),
    fault("go-fasthttp", "frames_come_back", "closes with 1003", "1003"),
    fault(
        "go-xnet",
        "deflated_messages_come_back",
        "hands out frames: long messages are echoed in fragments",
        "was echoed as",
    ),
    fault(
        "go-xnet",
        "deflated_without_context_take_over",
        "hands out frames: long messages are echoed in fragments",
        "was echoed as",
    ),
    fault(
        "go-xnet",
        "a_small_window_is_granted_or_refused",
        "hands out frames: long messages are echoed in fragments",
        "was echoed as",
    ),
    fault(
        "undertow",
        "an_end_within_a_body",
        "ends a body whose handler threw as if it were whole",
        "Io was expected, not b",
    ),
    fault("netty", "an_end_within_a_body", "gives its answers whole", "Io was expected, not b"),
    fault(
        "vertx",
        "frames_come_back",
        "echoes no frame but those of a message in fragments",
        "not over in 20s",
    ),
    left_out(
        "javaws",
        "a_peer_that_never_reads_is_left",
        "has two threads for all handlers: those that wait stop the others",
    ),
    fault(
        "jetty",
        "a_small_window_is_granted_or_refused",
        "does not grant the window it accepts",
        "asked for and not granted",
    ),
    fault(
        "undertow",
        "a_small_window_is_granted_or_refused",
        "does not grant the window it accepts",
        "asked for and not granted",
    ),
    fault(
        "javaws",
        "a_small_window_is_granted_or_refused",
        "does not grant the window it accepts",
        "asked for and not granted",
    ),
    fault("undertow", "frames_come_back", "has no such route", "404 Not Found"),
    fault("javaws", "frames_come_back", "has no such route", "404 Not Found"),
];

/// What is wrong with this behaviour of the server.
pub(crate) fn of(server: &str, scenario: &str) -> Option<&'static Fault> {
    FAULTS.iter().find(|fault| (fault.server, fault.scenario) == (server, scenario))
}

/// Ktor on Netty leaves some Closes unanswered when many sessions close at once.
pub(crate) fn leaves_closes_unanswered(server: &str) -> bool {
    server == "ktor-netty"
}

/// nbio hands out no empty message unless it is compressed.
pub(crate) fn loses_empty_messages(server: &str) -> bool {
    server == "go-nbio"
}

/// gws ends the connection with its Close, under the answer to it.
pub(crate) fn ends_with_its_close(server: &str) -> bool {
    server == "go-gws"
}
