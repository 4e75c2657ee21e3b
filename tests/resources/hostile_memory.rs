//! What a frame that is announced and does not come costs in resident memory, measured on the whole
//! process: engine, session and runtime. The peer is a thread with one small buffer.
#![cfg(target_os = "linux")]

use std::{
    fs,
    io::{self, Write as _},
    net::{Shutdown, TcpListener},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use drivetrain::{
    ErrorKind, HttpClient, WebSockets,
    engine::{self, Engine},
};
use drivetrain_conformance::peer::{LengthEncoding, accept_key, frame_header, opcode};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// What is announced: as much as every engine may be told to take, and far more than there is.
const LARGE: u64 = (1 << 30) - 1;
const HUGE: u64 = 1 << 62;

/// What an engine may hold beyond what it received.
const SLACK: usize = 128 * KIB;
/// And where nothing has to be held.
const REFUSED: usize = 64 * KIB;

/// How often is measured; the middle one counts.
const ROUNDS: usize = 3;

/// Says to the process of one measurement which it is.
const MEASURE: &str = "DRIVETRAIN_MEASURE";
const RESULT: &str = "grown by ";

/// The memory of this process, in bytes: counted page by page, as `statm` may lag behind, without the pages of its
/// program, which come in by many at a time.
fn held() -> usize {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * KIB
}

pub(crate) fn what_is_announced_costs_nothing() {
    if let Ok(what) = std::env::var(MEASURE) {
        return measure(&what);
    }
    for engine in crate::engines() {
        let name = engine.name();
        // fastwebsockets refuses more than 1 GiB whatever the limit (docs/reference/limitations.md).
        let promises: &[u64] = if name == "fastwebsockets" { &[LARGE] } else { &[LARGE, HUGE] };
        for &promise in promises {
            let stalled = median(name, MIB, promise, usize::MAX);
            let little = median(name, 10, promise, usize::MAX);
            println!(
                "{name}, 2^{} bytes announced: {} KiB for 1 MiB of them, {} KiB for 10 bytes of them",
                (promise + 1).ilog2(),
                stalled / KIB,
                little / KIB,
            );
            assert!(stalled >= MIB, "{name}: {stalled}: is anything measured?");
            assert!(stalled <= MIB + SLACK, "{name}: {stalled}");
            assert!(little <= SLACK, "{name}: {little}");
        }
        let refused = median(name, 0, HUGE, 64 * MIB);
        println!("{name}, 2^62 bytes announced above the limit: {} KiB", refused / KIB);
        assert!(refused <= REFUSED, "{name}: {refused}");
    }
}

/// Each measurement is a process of its own: an allocator that was used keeps memory.
fn median(engine: &str, received: usize, promise: u64, limit: usize) -> usize {
    let mut growths: Vec<usize> = (0..ROUNDS)
        .map(|_| {
            let output = Command::new(std::env::current_exe().unwrap())
                .env(MEASURE, format!("{engine} {received} {promise} {limit}"))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let result = said.lines().find_map(|line| line.split_once(RESULT));
            let (_, result) = result.unwrap_or_else(|| panic!("{engine}: {output:?}"));
            result.parse().unwrap()
        })
        .collect();
    growths.sort_unstable();
    growths[ROUNDS / 2]
}

fn measure(what: &str) {
    let words: Vec<_> = what.split(' ').collect();
    let engine = engine::all().into_iter().find(|engine| engine.name() == words[0]).unwrap();
    let (received, promise) = (words[1].parse().unwrap(), words[2].parse().unwrap());
    let limit = words[3].parse().unwrap();
    let tokio =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // Once with little, for what is made at first use.
    growth(&tokio, &engine, 0, promise, 64 * MIB);
    growth(&tokio, &engine, 10, promise, usize::MAX);
    println!("\n{RESULT}{}", growth(&tokio, &engine, received, promise, limit));
}

/// What a session grows by when this is announced, and `received` bytes of it come.
fn growth(
    tokio: &tokio::runtime::Runtime,
    engine: &Arc<dyn Engine>,
    received: usize,
    promise: u64,
    limit: usize,
) -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let (go, gone) = mpsc::channel();
    let written = Arc::new(AtomicBool::new(false));
    let peer = peer(listener, received, promise, Arc::clone(&written), gone);
    let plugin = WebSockets::new().max_frame_size(limit).max_message_size(limit);
    let client = HttpClient::builder(Arc::clone(engine)).install(plugin).build().unwrap();
    let growth = tokio.block_on(async {
        let mut session = client.web_socket(url).connect().await.unwrap();
        let before = held();
        go.send(()).unwrap();
        if received == 0 {
            assert_eq!(session.receive().await.unwrap_err().kind(), ErrorKind::TooBig);
        } else {
            // Again, if nothing of what comes is there yet: a machine may stand still.
            for _ in 0..100 {
                let limit = Duration::from_millis(300);
                let is_written = written.load(Ordering::SeqCst);
                let waited = tokio::time::timeout(limit, session.receive()).await;
                assert!(waited.is_err(), "it has not come: {waited:?}");
                let is_read = received < MIB || held().saturating_sub(before) >= received;
                if is_written && is_read {
                    break;
                }
            }
        }
        held().saturating_sub(before)
    });
    drop(go);
    peer.join().unwrap().unwrap();
    growth
}

/// A peer that, when told, announces what it does not have, sends `received` bytes of it, says that they are `written`, and
/// stalls until `gone`.
fn peer(
    listener: TcpListener,
    received: usize,
    promise: u64,
    written: Arc<AtomicBool>,
    gone: mpsc::Receiver<()>,
) -> JoinHandle<io::Result<()>> {
    thread::spawn(move || {
        let (mut socket, _) = listener.accept()?;
        let request = head(&mut socket)?;
        let key = request
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
            .map_or("", |(_, key)| key);
        write!(
            socket,
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-accept: {}\r\n\r\n",
            accept_key(key)
        )?;
        let told = gone.recv();
        assert!(told.is_ok(), "the session was opened");
        let encoding = LengthEncoding::Minimal;
        let header = frame_header(true, 0, opcode::BINARY, false, encoding, promise);
        socket.write_all(&header)?;
        // Not a buffer of a MiB: that would be measured, too.
        let block = [7; KIB];
        let mut left = received;
        while left > 0 {
            let len = left.min(block.len());
            socket.write_all(&block[..len])?;
            left -= len;
        }
        written.store(true, Ordering::SeqCst);
        if received == 0 {
            // So that nobody waits for the answer to the Close.
            socket.shutdown(Shutdown::Write)?;
        }
        // Until the measurement is over.
        let _ = gone.recv();
        Ok(())
    })
}

/// The request's head, and nothing behind it.
fn head(socket: &mut impl io::Read) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
