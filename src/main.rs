//! The `birdwire` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    birdwire::cli::main()
}
