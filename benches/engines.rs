//! `cargo bench -p drivetrain-benches`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    drivetrain_benches::main()
}
