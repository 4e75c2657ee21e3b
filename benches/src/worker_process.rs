//! Child processes of this program with a line protocol.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::Result;

/// A child process of this program, which ends with this value.
#[derive(Debug)]
pub(crate) struct WorkerProcess {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl WorkerProcess {
    /// Starts this program with these arguments.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        Self::start_with(arguments, [])
    }

    /// Starts this program with arguments and environment variables.
    pub(crate) fn start_with<const N: usize>(
        arguments: &[&str],
        variables: [(&str, &str); N],
    ) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .envs(variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let answers = BufReader::new(child.stdout.take().ok_or("a process has no output")?);
        Ok(Self { child, answers })
    }

    /// The process id.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line and waits for the answer.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, line: &str) -> Result<T> {
        let input = self.child.stdin.as_mut().ok_or("a process has no input")?;
        writeln!(input, "{line}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        if answer.is_empty() {
            return Err("a process has ended before it answered".into());
        }
        serde_json::from_str::<Result<T, String>>(&answer)?.map_err(Into::into)
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // It ends with its input; it is waited for so that it is not left as a zombie.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// In the other process: answers each line of the input until it ends.
pub(crate) fn answer<T: Serialize>(mut answer: impl FnMut(&str) -> Result<T>) -> Result<()> {
    for line in std::io::stdin().lines() {
        let answer = answer(&line?).map_err(|error| error.to_string());
        println!("{}", serde_json::to_string(&answer)?);
    }
    Ok(())
}
