//! `karat`: train models and score data behind gates.
//!
//! The only crate that meets the outside: arguments, environment, terminal, signals, clock, exit codes. It wires the
//! ports to their adapters and renders what the pipeline observes.
//!
//! Reading order: [`args`], [`context`], `command/`, `render/`.

mod args;
mod command;
mod context;
mod dvc;
mod env;
mod folder;
mod git;
mod render;
mod signals;
mod track;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, error::ErrorKind};
use karat_core::Exit;

use crate::{args::Cli, context::Session};

/// Fresh activations every update cost much in page faults with the system allocator (benches/README.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::command().try_get_matches().and_then(|it| Cli::from_arg_matches(&it)) {
        Ok(cli) => cli,
        Err(error) => {
            let exit = match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Pass,
                _ => Exit::Usage,
            };
            // A closed pipe behind `karat --help | head` is not worth a message.
            let _ = error.print();
            if let Some(advice) = args::advice_for_foreign_words(&error) {
                render::line_to_stderr(&advice);
            }
            return ExitCode::from(exit.code());
        }
    };
    let (common, command) = (cli.common, cli.command);
    let session = Session::new(&common, command::first_signal(&command));
    let mut exit = match command::dispatch(&session, command) {
        Ok(exit) => exit,
        Err(failure) => {
            session.failed(&failure);
            failure.exit
        }
    };
    if let Some(failure) = session.take_stdout_failure() {
        exit = exit.worst(failure.exit);
        session.failed(&failure);
    }
    ExitCode::from(exit.code())
}
