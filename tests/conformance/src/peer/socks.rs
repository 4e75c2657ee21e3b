//! A SOCKS5 proxy (RFC 1928), with or without a password (RFC 1929).

use std::io;
use std::net::Ipv6Addr;

use super::conn::Conn;
use super::proxy_script::{ProxyScript, Refusal, fail};
use super::wire::invalid;

const NOTHING: u8 = 0;
const PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;

const SUCCEEDED: u8 = 0;
const NOT_ALLOWED: u8 = 2;
const UNREACHABLE: u8 = 4;

/// The handler of a proxy that speaks SOCKS5, for a [`Server`](super::Server).
pub fn socks5_proxy(
    script: &ProxyScript,
) -> impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + use<> {
    let script = script.clone();
    move |conn| {
        if let Some(refusal) = script.refusal().filter(|it| !matches!(it, Refusal::Status(_))) {
            conn.read_some(&mut [0])?;
            return fail(conn, refusal).map(drop);
        }
        let credentials = match greet(conn, &script)? {
            Ok(credentials) => credentials,
            Err(given) => {
                script.note("SOCKS5", "", given);
                return Ok(());
            }
        };
        let target = target(conn)?;
        script.note("SOCKS5", &target, credentials);
        let upstream = match script.refusal() {
            Some(_) => Err(NOT_ALLOWED),
            None => script.dial(&target).map_err(|_| UNREACHABLE),
        };
        let code = upstream.as_ref().map_or_else(|code| *code, |_| SUCCEEDED);
        conn.write_all(&[5, code, 0, 1, 127, 0, 0, 1, 0, 1])?;
        match upstream {
            Ok(upstream) => conn.relay(&upstream),
            Err(_) => Ok(()),
        }
    }
}

/// Agrees on a method, and asks for the password; `Err` with what was given if it is not let in.
fn greet(
    conn: &mut Conn,
    script: &ProxyScript,
) -> io::Result<Result<Option<String>, Option<String>>> {
    let [version, count] = read(conn)?;
    if version != 5 {
        return Err(invalid("it is not SOCKS5"));
    }
    let mut methods = vec![0; count.into()];
    conn.read_exact(&mut methods)?;
    let method = if script.wants_credentials() { PASSWORD } else { NOTHING };
    if !methods.contains(&method) {
        conn.write_all(&[5, NO_METHOD])?;
        return Ok(Err(None));
    }
    conn.write_all(&[5, method])?;
    if method == NOTHING {
        return Ok(Ok(None));
    }
    let [_version] = read(conn)?;
    let (user, password) = (text(conn)?, text(conn)?);
    let given = format!("{user}:{password}");
    let is_right = script.accepts(Some(&given));
    conn.write_all(&[1, u8::from(!is_right)])?;
    Ok(if is_right { Ok(Some(given)) } else { Err(Some(given)) })
}

/// What `CONNECT` is to connect to.
fn target(conn: &mut Conn) -> io::Result<String> {
    let [version, command, _, kind] = read(conn)?;
    if (version, command) != (5, 1) {
        return Err(invalid("it is not a CONNECT of SOCKS5"));
    }
    let host = match kind {
        1 => read::<4>(conn)?.map(|byte| byte.to_string()).join("."),
        3 => text(conn)?,
        4 => Ipv6Addr::from(read::<16>(conn)?).to_string(),
        _ => return Err(invalid("the kind of address is unknown")),
    };
    Ok(format!("{host}:{}", u16::from_be_bytes(read(conn)?)))
}

fn text(conn: &mut Conn) -> io::Result<String> {
    let [length] = read(conn)?;
    let mut bytes = vec![0; length.into()];
    conn.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8"))
}

fn read<const N: usize>(conn: &mut Conn) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    conn.read_exact(&mut bytes)?;
    Ok(bytes)
}
