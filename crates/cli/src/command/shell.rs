//! `karat completions`, `karat man`: from the same definitions that parse the arguments.

use clap::CommandFactory;
use clap_complete::aot::{Shell as Target, generate};
use karat_core::{Exit, Failure};

use crate::args::{Cli, CompletionsArgs, Shell};

pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let target = match args.shell {
        Shell::Bash => Target::Bash,
        Shell::Zsh => Target::Zsh,
        Shell::Fish => Target::Fish,
        Shell::PowerShell => Target::PowerShell,
        Shell::Elvish => Target::Elvish,
    };
    let mut script = Vec::new();
    generate(target, &mut Cli::command(), "karat", &mut script);
    write(&script)
}

pub(crate) fn man() -> Result<Exit, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(|error| {
        Failure::new("internal", Exit::Run, "cannot render the manual page").because(&error)
    })?;
    write(&page)
}

fn write(bytes: &[u8]) -> Result<Exit, Failure> {
    use std::io::Write;
    match std::io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new("stdout-failed", Exit::Run, "cannot write to stdout").because(&error))
        }
        _ => Ok(Exit::Pass),
    }
}
