//! One file a command: parse, call, render.

mod check;
mod ci;
mod compare;
mod doctor;
mod gate;
mod init;
mod init_files;
mod inspect;
mod judge;
mod ledger;
mod maintain;
mod plan_eval;
mod promote;
mod replay;
mod run;
mod score;
mod shell;
mod sign;
mod snapshot;
mod train;
mod ui;

use karat_core::{Exit, Failure};

use crate::{args::Command, context::Session, signals::FirstSignal};

/// Commands that look at the stop flag between units of work are asked to stop; the others just end.
pub(crate) fn first_signal(command: &Command) -> FirstSignal {
    match command {
        Command::Run(_)
        | Command::Ci(_)
        | Command::Train(_)
        | Command::Score(_)
        | Command::Gate(_)
        | Command::PlanEval(_)
        | Command::Ui(_) => FirstSignal::Asks,
        _ => FirstSignal::Ends,
    }
}

/// Runs one command.
pub(crate) fn dispatch(session: &Session, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Init(args) => init::run(session, &args),
        Command::Run(args) => run::run(session, &args),
        Command::Ci(args) => ci::run(session, &args),
        Command::Judge(args) => judge::run(session, &args),
        Command::Snapshot(args) => snapshot::run(session, &args),
        Command::Check(args) => check::run(session, &args),
        Command::Train(args) => train::run(session, &args),
        Command::Score(args) => score::run(session, &args),
        Command::Compare(args) => compare::run(session, &args),
        Command::Gate(args) => gate::run(session, &args),
        Command::PlanEval(args) => plan_eval::run(session, &args),
        Command::Promote(args) => promote::promote(session, &args),
        Command::Rollback(args) => promote::rollback(session, &args),
        Command::Replay(args) => replay::run(session, &args),
        Command::Runs(args) => inspect::runs(session, &args),
        Command::Show(args) => inspect::show(session, &args),
        Command::Alias(args) => inspect::alias(session, &args),
        Command::Ui(args) => ui::run(session, &args),
        Command::Ledger => ledger::run(session),
        Command::Sign(args) => sign::run(session, &args),
        Command::Verify(args) => match &args.what {
            Some(what) => sign::verify(session, &args, what),
            None => maintain::verify(session, &args),
        },
        Command::Gc(args) => maintain::gc(session, &args),
        Command::Doctor => doctor::run(session),
        Command::ProbeDevice(args) => doctor::probe(session, &args),
        Command::Completions(args) => shell::completions(&args),
        Command::Man => shell::man(),
    }
}
