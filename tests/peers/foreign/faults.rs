//! Faults of the servers' own, which any client sees: what is left out on each, and why.

/// Server, scenario, reason. They stand in the README of each program, or were seen with a client that is not ours.
const FAULTS: &[(&str, &str, &str)] = &[
    ("ktor-netty", "a_small_window_is_granted_or_refused", "answers 500 to an offer of a window"),
    ("ktor-cio", "a_small_window_is_granted_or_refused", "answers 500 to an offer of a window"),
    ("go-gorilla", "a_small_window_is_granted_or_refused", "does not grant the window it accepts"),
    ("go-fasthttp", "a_small_window_is_granted_or_refused", "does not grant the window it accepts"),
    ("go-nbio", "a_small_window_is_granted_or_refused", "does not grant the window it accepts"),
    (
        "go-gws",
        "a_small_window_is_granted_or_refused",
        "answers with a window that was not offered",
    ),
    ("go-gws", "deflated_messages_come_back", "answers with a window that was not offered"),
    ("go-gws", "deflated_without_context_take_over", "answers with a window that was not offered"),
    ("go-gws", "the_peer_closes", "ends the connection with its Close, under what is being sent"),
    ("go-xnet", "fragments_come_as_one_message", "knows no messages, only frames"),
    ("go-xnet", "messages_come_back", "hands out frames: long messages are echoed in fragments"),
    ("go-xnet", "a_ping_is_answered", "tells no Pong"),
    ("go-xnet", "frames_come_back", "cannot be asked for frames"),
    ("go-xnet", "small_frames_are_one_message", "cannot write a message in frames"),
    ("go-gorilla", "frames_come_back", "closes with 1003"),
    ("go-coder", "frames_come_back", "closes with 1003"),
    ("go-gws", "frames_come_back", "closes with 1003"),
    ("go-nbio", "frames_come_back", "closes with 1003"),
    ("go-fasthttp", "frames_come_back", "closes with 1003"),
    (
        "go-xnet",
        "deflated_messages_come_back",
        "hands out frames: long messages are echoed in fragments",
    ),
    (
        "go-xnet",
        "deflated_without_context_take_over",
        "hands out frames: long messages are echoed in fragments",
    ),
    (
        "go-xnet",
        "a_small_window_is_granted_or_refused",
        "hands out frames: long messages are echoed in fragments",
    ),
    ("undertow", "an_end_within_a_body", "ends a body whose handler threw as if it were whole"),
    ("netty", "an_end_within_a_body", "gives its answers whole"),
    ("vertx", "frames_come_back", "echoes no frame but those of a message in fragments"),
    (
        "javaws",
        "a_peer_that_never_reads_is_left",
        "has two threads for all handlers: those that wait stop the others",
    ),
    ("jetty", "a_small_window_is_granted_or_refused", "does not grant the window it accepts"),
    ("undertow", "a_small_window_is_granted_or_refused", "does not grant the window it accepts"),
    ("javaws", "a_small_window_is_granted_or_refused", "does not grant the window it accepts"),
    ("undertow", "frames_come_back", "has no such route"),
    ("vertx", "a_message_above_the_servers_limit", "has no such route"),
    ("vertx", "an_idle_session_is_closed_by_the_server", "has no such route"),
];

/// Why the server does not have this behaviour.
pub(crate) fn of(server: &str, scenario: &str) -> Option<&'static str> {
    let found = FAULTS.iter().find(|(name, what, _)| (*name, *what) == (server, scenario));
    found.map(|(_, _, why)| *why)
}

/// Ktor on Netty leaves some Closes unanswered when many sessions close at once.
pub(crate) fn leaves_closes_unanswered(server: &str) -> bool {
    server == "ktor-netty"
}

/// nbio hands out no empty message unless it is compressed.
pub(crate) fn loses_empty_messages(server: &str) -> bool {
    server == "go-nbio"
}
