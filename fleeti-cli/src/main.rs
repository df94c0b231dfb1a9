//! The `fleeti` command; its code is in the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    fleeti_cli::main()
}
