//! Requests, bodies and event streams.
#![cfg(all(feature = "full", feature = "testing"))]

mod decoding;
mod environment;
mod patterns;
mod runtimes;

use drivetrain::{
    HttpClient, Json, WebSockets,
    testing::{MockEngine, Script},
};

/// As in a response.
#[test]
fn a_message_in_json_may_begin_with_a_byte_order_mark() {
    let mock = MockEngine::new();
    let script = Script::new().send("\u{feff}[1]").send("\u{feff} null").send("\u{feff}{}").eof();
    mock.web_socket("/").script(script);
    let plugin = WebSockets::new().converter(Json);
    let client = HttpClient::builder(mock.clone()).install(plugin).build().expect("a client");
    mock.clock()
        .block_on(async {
            let mut session = client.web_socket("ws://example.com/").connect().await?;
            assert_eq!(session.receive_deserialized::<Vec<u8>>().await?, [1]);
            assert_eq!(session.receive_deserialized::<Option<u8>>().await?, None);
            let error = session.receive_deserialized::<Vec<u8>>().await.expect_err("an object");
            let cause = std::error::Error::source(&error).expect("a cause");
            let cause = cause.downcast_ref().expect("a ConvertError");
            assert!(matches!(cause, drivetrain::ConvertError::WrongType(_)), "{cause:?}");
            Ok::<_, drivetrain::Error>(())
        })
        .expect("values");
}
