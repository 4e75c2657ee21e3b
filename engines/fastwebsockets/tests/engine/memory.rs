//! What a peer can make resident: measured in a process of its own, as other tests take memory too.

use std::{
    future::poll_fn,
    io::{Read as _, Write as _},
    process::Command,
    time::Duration,
};

use drivetrain_fastwebsockets::FastWebSockets;

use crate::peer::{encode, open, peer, run};

/// The memory of this process without the pages of its program, which come in by many at a time.
fn resident() -> usize {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("Linux");
    let line = rollup.lines().find(|line| line.starts_with("Anonymous:")).expect("a sum");
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok());
    kib.expect("KiB") * 1024
}

/// Set in the process that measures.
const MEASURES: &str = "DRIVETRAIN_MEASURES_MEMORY";

#[test]
fn memory_follows_what_was_received() {
    if std::env::var_os(MEASURES).is_none() {
        let program = std::env::current_exe().expect("this program");
        let name = "memory::memory_follows_what_was_received";
        let mut alone = Command::new(program);
        let status = alone.args(["--exact", name, "--nocapture"]).env(MEASURES, "1").status();
        assert!(status.expect("it ran").success(), "see above");
        return;
    }
    announced_is_not_resident();
    an_idle_connection_gives_a_large_buffer_back();
}

fn announced_is_not_resident() {
    let mut announced = vec![0x82, 127];
    announced.extend(((1_u64 << 30) - 1).to_be_bytes());
    announced.extend([1; 10_000]);
    let (address, server) = peer(vec![], move |mut socket| {
        // The first frame warms up what the process needs anyhow.
        socket.write_all(&encode(0x82, b"x")).expect("open");
        std::thread::sleep(Duration::from_millis(100));
        socket.write_all(&announced).expect("open");
        let _ = socket.read(&mut [0]); // returns when the client is gone
    });
    run(async {
        let engine = FastWebSockets::new();
        let mut transport = open(&engine, address).await.expect("opens").into_transport();
        let mut receive = async || poll_fn(|cx| transport.poll_receive(cx, usize::MAX)).await;
        receive().await.expect("sound");
        let before = resident();
        let waiting = tokio::time::timeout(Duration::from_millis(500), receive());
        assert!(waiting.await.is_err(), "the frame is not complete");
        let grown = resident().saturating_sub(before);
        assert!(grown < 10_000 + (128 << 10), "{grown} bytes more");
    });
    server.join().expect("no panic");
}

fn an_idle_connection_gives_a_large_buffer_back() {
    let before = resident();
    let (address, server) = peer(vec![], |mut socket| {
        socket.write_all(&encode(0x82, &vec![1; 40 << 20])).expect("open");
        let _ = socket.read(&mut [0]); // returns when the client is gone
    });
    run(async {
        let engine = FastWebSockets::new();
        let mut transport = open(&engine, address).await.expect("opens").into_transport();
        let mut receive = async || poll_fn(|cx| transport.poll_receive(cx, 64 << 20)).await;
        drop(receive().await.expect("sound"));
        let waiting = tokio::time::timeout(Duration::from_millis(500), receive());
        assert!(waiting.await.is_err(), "nothing more comes");
        let kept = resident().saturating_sub(before);
        assert!(kept < 4 << 20, "{kept} bytes more");
    });
    server.join().expect("no panic");
}
