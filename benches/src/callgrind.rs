//! Counting: callgrind around work over an in-memory connection.
//!
//! Each subject runs in its own valgrind. It does each work with two numbers of messages and has
//! callgrind write its counters at [`mark`]; the difference of the two, divided by the difference of the
//! numbers, excludes one-time work.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    Result, libraries,
    profile::Profile,
    work::{Shape, Work},
};

/// What is counted.
pub(crate) const WORKS: [Work; 5] = [
    Work::new(Shape::Receive, 32),
    Work::new(Shape::Send, 32),
    Work::PING_PONG,
    Work::new(Shape::EchoSend(256), 32),
    Work::new(Shape::EchoFeed(256), 32),
];

/// One work, counted.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) work: Work,
    /// Instructions per message.
    pub(crate) each: u64,
    profile: Profile,
}

impl Counted {
    /// The costliest functions, one a line, with instructions and calls per message.
    pub(crate) fn top(&self, functions: usize) -> String {
        let [_, messages] = numbers(self.work);
        self.profile.top(functions, messages).into_iter().fold(
            String::new(),
            |mut lines, (name, cost, calls)| {
                // Writing to a string does not fail.
                let _ = writeln!(lines, "{cost:9.1} {calls:6.2}  {name}");
                lines
            },
        )
    }
}

/// Where callgrind writes its counters, once on each call.
#[inline(never)]
fn mark() {
    std::hint::black_box(());
}

/// Inside valgrind: does all work.
pub(crate) fn work(subject: &str) -> Result<()> {
    let subject = libraries::named(subject)?;
    for work in WORKS.into_iter().filter(|&work| subject.can(work)) {
        subject.count(work, numbers(work), mark)?;
    }
    Ok(())
}

fn numbers(work: Work) -> [usize; 2] {
    match work.shape {
        Shape::PingPong => [500, 2_500],
        // Whole windows.
        Shape::EchoSend(window) | Shape::EchoFeed(window) => [16 * window, 64 * window],
        _ => [4_000, 20_000],
    }
}

/// Counts all work that a subject can do. The profiles stay in the folder if there is one.
pub(crate) fn count(subject: &str, works: &[Work], kept: Option<&Path>) -> Result<Vec<Counted>> {
    let folder = match kept {
        Some(folder) => folder.to_owned(),
        None => std::env::temp_dir().join(format!("drivetrain-benches-{}", std::process::id())),
    };
    fs::create_dir_all(&folder)?;
    let counted = count_in(&folder, subject, works);
    if kept.is_none() {
        // What stays in the folder for temporary files is not ours to keep.
        let _ = fs::remove_dir_all(&folder);
    }
    counted
}

fn count_in(folder: &Path, subject: &str, works: &[Work]) -> Result<Vec<Counted>> {
    let profiles = folder.join(subject.replace([' ', ','], "-")).display().to_string();
    output(
        Command::new("valgrind")
            .args(["--tool=callgrind", "--dump-before=*callgrind::mark*"])
            // Counting stops where these begin, until they return: they stand for the system and the peer.
            .args(["--toggle-collect=*Wire::read*", "--toggle-collect=*Wire::write*"])
            .arg("--collect-atstart=yes")
            .arg(format!("--callgrind-out-file={profiles}"))
            .arg(std::env::current_exe()?)
            .args(["count", subject])
            // `Executor::hold` takes that there is one thread for tasks.
            .envs([("ASYNC_STD_THREAD_COUNT", "1"), ("SMOL_THREADS", "1")]),
    )?;
    let counted = |(at, &work): (usize, &Work)| {
        // Three marks a work: before the first number of messages, between the two, after both.
        let dump =
            |number: usize| Profile::read(format!("{profiles}.{}", 3 * at + number).as_ref());
        let (few, profile) = (dump(2)?, dump(3)?);
        let [first, second] = numbers(work);
        let more = profile.total.checked_sub(few.total).ok_or("more messages cost less")?;
        Ok(Counted { work, each: more / (second - first) as u64, profile })
    };
    works.iter().enumerate().map(counted).collect()
}

/// What a program prints.
///
/// # Errors
/// If valgrind cannot run, or with valgrind's message.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name} cannot be run: {error}"))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name} failed: {message}").into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
