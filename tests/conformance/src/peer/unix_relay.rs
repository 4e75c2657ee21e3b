//! A Unix socket in front of a server.

use std::{
    fs, io,
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// A Unix socket whose connections are carried on to a [`Server`](super::Server), on threads of their own. The file is
/// removed, and nothing more accepted, when the value is dropped.
#[derive(Debug)]
pub struct UnixRelay {
    path: PathBuf,
    accepted: Arc<AtomicUsize>,
}

impl UnixRelay {
    /// Starts one in the directory for temporary files.
    ///
    /// # Errors
    /// Those of binding.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let path = Self::free_path();
        let listener = UnixListener::bind(&path)?;
        let accepted = Arc::new(AtomicUsize::new(0));
        let relay = Self { path, accepted: Arc::clone(&accepted) };
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                // The connection with which the value says goodbye.
                if Arc::strong_count(&accepted) == 1 {
                    return;
                }
                accepted.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || carry_both_ways(client, target));
            }
        });
        Ok(relay)
    }

    /// A path that nothing has.
    pub fn free_path() -> PathBuf {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        std::env::temp_dir().join(format!("drivetrain-{}-{number}.sock", process::id()))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for UnixRelay {
    fn drop(&mut self) {
        self.accepted = Arc::default();
        // Each of them fails only if there is nothing to end.
        let _ = UnixStream::connect(&self.path);
        let _ = fs::remove_file(&self.path);
    }
}

fn carry_both_ways(client: UnixStream, target: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    server.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let back = io::copy(&mut &server, &mut &client);
            client.shutdown(if back.is_ok() { Shutdown::Write } else { Shutdown::Both })
        });
        let there = io::copy(&mut &client, &mut &server);
        server.shutdown(if there.is_ok() { Shutdown::Write } else { Shutdown::Both })
    })
}
