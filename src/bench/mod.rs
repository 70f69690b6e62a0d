//! The load generator, `leasehold bench`: what a server can do, and what its users would feel.

mod mix;
mod options;
mod popularity;
mod server;
mod sizes;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

pub use self::mix::{Mix, Task};
pub use self::options::{Options, Plan};
pub use self::popularity::Popularity;
pub use self::server::{Dialect, Server};
pub use self::sizes::Sizes;

/// `leasehold bench`, from its name to its exit code.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let options = match Options::try_parse_from(arguments) {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    if let Err(sentence) = options.plan.check(options.servers()) {
        let _ = Options::command().error(ErrorKind::ValueValidation, sentence).print();
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
