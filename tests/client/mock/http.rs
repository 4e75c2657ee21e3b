//! Requests and their answers.

use drivetrain::{
    ErrorKind, HttpClient, Result,
    http::{HeaderValue, Method, StatusCode},
    testing::{MockEngine, Reply},
};

use super::{client, on, problems};

const API: &str = "https://example.com/users";

#[test]
fn a_request_is_answered_and_written_down() {
    let (client, mock) = client();
    mock.on(Method::GET, "/users").respond("ann");
    let text = on(&mock, async {
        let request = client.get(API).query(&[("page", "2")]).header("x-a", "b");
        let response = request.header("authorization", "Token secret").send().await?;
        assert_eq!(response.status(), 200);
        response.text().await
    });
    assert_eq!(text.unwrap(), "ann");
    let request = &mock.requests()[0];
    assert_eq!((request.path(), request.query()), ("/users", Some("page=2")));
    assert_eq!(request.header("x-a"), Some("b"));
    assert_eq!(request.header("authorization"), Some("Token secret"));
    assert!(!format!("{request:?}").contains("secret"), "what is printed of it is public");
    assert_eq!(request.to_string(), format!("GET {API}?page=2"));
    mock.assert_done();
}

#[cfg(feature = "json")]
#[test]
fn json_goes_both_ways() {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    struct User {
        name: String,
    }

    let (client, mock) = client();
    mock.on(Method::POST, "/users").respond_with(|request| async move {
        let User { name } = request.json().expect("a user");
        Reply::json(&User { name: format!("{name}!") }).status(StatusCode::CREATED)
    });
    let user = User { name: "ann".into() };
    let answer: User = on(&mock, async {
        let response = client.post(API).json(&user).send().await?;
        assert_eq!(response.status(), 201);
        response.json().await
    })
    .unwrap();
    assert_eq!(answer.name, "ann!");
    assert_eq!(mock.requests()[0].json::<User>().unwrap(), user);
    assert_eq!(mock.requests()[0].header("content-type"), Some("application/json"));
    assert_eq!(mock.requests()[0].json::<u8>().unwrap_err().kind(), ErrorKind::Convert);
}

#[test]
fn what_nothing_matches_is_an_error_that_names_it() {
    let (client, mock) = client();
    let error = on(&mock, client.get(API).send()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the mock has no answer to GET {API}: nothing was set up")
    );
    mock.on(Method::POST, "/users").times(1).respond("");
    on(&mock, client.post(API).send()).unwrap();
    let error = on(&mock, client.post(API).send()).unwrap_err();
    assert!(error.to_string().contains(&format!("POST {API}: it has POST /users (used up)")));
    assert_eq!((error.kind(), error.engine()), (ErrorKind::Other, Some("mock")));
    assert!(!error.is_transient(), "trying again does not help");
    let error = on(&mock, client.web_socket("wss://example.com/users").connect()).unwrap_err();
    assert!(error.to_string().contains("to WebSocket https://example.com/users"), "{error}");
    assert_eq!(mock.requests().len(), 4, "they are written down too");
    assert_eq!(problems(&mock).lines().count(), 3, "{}", problems(&mock));
}

#[test]
fn the_first_route_that_matches_and_is_not_used_up_answers() {
    let (client, mock) = client();
    mock.on(Method::GET, "https://other.example/users").optional().respond("another host");
    mock.on(Method::GET, "/users?page=2").respond("page 2");
    mock.on(Method::GET, "/users").times(2).respond("twice");
    mock.on(Method::GET, "/use*").respond("prefix");
    mock.on(Method::GET, "*").respond("rest");
    let text = |url: &'static str| {
        on(&mock, async { client.get(url).send().await?.text().await }).unwrap()
    };
    assert_eq!(text(API), "twice");
    assert_eq!(text("https://example.com/users?page=2"), "page 2");
    assert_eq!(text(API), "twice");
    assert_eq!(text(API), "prefix");
    assert_eq!(text("https://example.com/"), "rest");
    mock.assert_done();
    assert_eq!(text("https://other.example/users"), "another host");
}

#[test]
fn what_was_expected_and_did_not_come_is_told() {
    let (client, mock) = client();
    mock.on(Method::GET, "/a").respond("");
    mock.on(Method::GET, "/b").times(2).respond("");
    mock.on(Method::GET, "/c").optional().respond("");
    mock.web_socket("/d").open();
    on(&mock, client.get("http://example.com/b").send()).unwrap();
    assert_eq!(
        problems(&mock),
        "GET /a was asked for 0 times, and 1 were expected\n\
         GET /b was asked for 1 times, and 2 were expected\n\
         WebSocket /d was asked for 0 times, and 1 were expected"
    );
    let told = std::panic::catch_unwind(|| mock.assert_done()).unwrap_err();
    assert!(told.downcast_ref::<String>().unwrap().contains("GET /a was asked for 0 times"));
}

#[test]
fn a_place_that_matches_nothing_is_refused_before_anything_is_sent() {
    let (client, mock) = client();
    mock.on(Method::GET, "users").respond("");
    let error = on(&mock, client.get(API).send()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("`users` matches nothing"), "{error}");
    assert!(mock.requests().is_empty());
}

#[test]
fn a_closure_answers_everything() {
    let mock = MockEngine::with_http(|request| async move {
        match request.path() {
            "/echo" => Reply::from(request.text()),
            _ => StatusCode::NOT_FOUND.into(),
        }
    });
    let client = HttpClient::new(mock.clone());
    let text: Result<_> = on(&mock, async {
        let echo = client.put("http://example.com/echo").body("echo").send().await?;
        assert_eq!(client.get("http://example.com/").send().await?.status(), 404);
        echo.text().await
    });
    assert_eq!(text.unwrap(), "echo");
}

#[test]
fn redirects_are_followed_hop_by_hop() {
    let (client, mock) = client();
    mock.on(Method::GET, "/old").respond(Reply::redirect("https://new.example/here"));
    mock.on(Method::GET, "https://new.example/here").respond("moved");
    let (text, url) = on(&mock, async {
        let response = client.get("https://example.com/old").bearer_auth("secret").send().await?;
        let url = response.url().clone();
        Ok((response.text().await?, url))
    })
    .unwrap();
    assert_eq!((text.as_str(), url.as_str()), ("moved", "https://new.example/here"));
    let sent: Vec<_> =
        mock.requests().iter().map(|request| request.header("authorization").is_some()).collect();
    assert_eq!(sent, [true, false], "credentials stay at home");
    assert!(!format!("{:?}", mock.requests()).contains("secret"));
}

#[cfg(feature = "cookies")]
#[test]
fn cookies_are_kept_and_sent_with_handshakes_too() {
    let mock = MockEngine::new();
    mock.on(Method::GET, "/login").respond(Reply::from("").header("set-cookie", "id=7; Path=/"));
    mock.web_socket("/chat").open();
    let jar = drivetrain::CookieJar::new();
    let client = HttpClient::builder(mock.clone())
        .install(drivetrain::WebSockets::new())
        .cookie_jar(jar)
        .build()
        .unwrap();
    on(&mock, async {
        client.get("http://example.com/login").send().await?;
        client.web_socket("ws://example.com/chat").connect().await
    })
    .unwrap();
    assert_eq!(mock.requests()[1].header("cookie"), Some("id=7"));
}

#[test]
fn a_401_is_answered_once() {
    let mock = MockEngine::new();
    mock.on(Method::GET, "/users").respond_with(|request| async move {
        match request.header("authorization") {
            Some("Bearer new") => Reply::from("welcome"),
            _ => Reply::new(StatusCode::UNAUTHORIZED),
        }
    });
    let client = HttpClient::builder(mock.clone())
        .on_unauthorized(|_| async { Ok(Some(HeaderValue::from_static("Bearer new"))) })
        .build()
        .unwrap();
    let text = on(&mock, async { client.get(API).bearer_auth("old").send().await?.text().await });
    assert_eq!(text.unwrap(), "welcome");
    assert_eq!(mock.requests().len(), 2);
}

#[test]
fn a_response_has_a_body_only_where_http_has_one() {
    let (client, mock) = client();
    let reply = || Reply::from("body").header("x-kept", "yes");
    mock.on(Method::HEAD, "*").respond(reply());
    mock.on(Method::GET, "/empty").respond(reply().status(StatusCode::NO_CONTENT));
    mock.on(Method::GET, "/full").respond(reply().body(" in").body(" chunks"));
    for (method, path, expected) in [
        (Method::HEAD, "/full", ""),
        (Method::GET, "/empty", ""),
        (Method::GET, "/full", "body in chunks"),
    ] {
        let url = format!("http://example.com{path}");
        let text = on(&mock, async {
            let response = client.request(method.clone(), &url).send().await?;
            assert_eq!(response.headers()["x-kept"], "yes");
            response.text().await
        });
        assert_eq!(text.unwrap(), expected, "{method} {path}");
    }
}
