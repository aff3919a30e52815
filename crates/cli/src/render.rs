//! What a person or a program sees: readers of the event stream. stdout carries what can be piped, stderr the rest.
//!
//! Reading order: [`Screen`], then [`summary`] (the closing screen) and [`table`].

pub(crate) mod replay;
pub(crate) mod summary;
pub(crate) mod table;

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use karat_core::{Event, Exit, Failure, Outcome, UpdateRecord};
use serde_json::{Value, json};

use crate::{args::GlobalFlags, env};

/// Steps shorter than this never show a bar.
const BAR_AFTER: Duration = Duration::from_secs(1);
/// How often a bar moves by itself.
const TICK: Duration = Duration::from_millis(200);

/// The terminal, or the JSON stream.
pub(crate) struct Screen {
    is_json: bool,
    is_quiet: bool,
    is_verbose: bool,
    paint: Paint,
    shows_bars: bool,
    bar: Option<Bar>,
    /// Why stdout could not be written, the first time.
    stdout_failure: Option<Failure>,
}

struct Bar {
    word: &'static str,
    bar: ProgressBar,
}

impl Screen {
    pub(crate) fn new(common: &GlobalFlags) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self {
            is_json: common.json,
            is_quiet: common.quiet,
            is_verbose: common.verbose,
            paint: Paint { is_on: is_terminal && !env::no_color() },
            shows_bars: is_terminal && !common.quiet && !common.json,
            bar: None,
            stdout_failure: None,
        }
    }

    /// Colours for text that goes to stdout.
    pub(crate) fn stdout_paint(&self) -> Paint {
        Paint { is_on: std::io::stdout().is_terminal() && !env::no_color() }
    }

    pub(crate) fn event(&mut self, event: &Event) {
        if self.is_json {
            // Progress is for eyes; a stream of thousands of them helps no program.
            if !matches!(event, Event::Progress { .. }) {
                self.json(&serde_json::to_value(event).unwrap_or(Value::Null));
            }
            return;
        }
        match event {
            Event::StepStarted { step, subject, total } => self.begin(step.word(), subject, *total),
            Event::Progress { step, done, total, note } => {
                self.progress(step.word(), *done, *total, note)
            }
            Event::StepFinished { step, is_cached, seconds, summary, .. } => {
                self.end_bar();
                if !self.is_quiet {
                    let (mark, time) = if *is_cached {
                        (self.paint.dim("="), self.paint.dim("cached"))
                    } else {
                        (self.paint.green("+"), self.paint.dim(&format!("{seconds:.1} s")))
                    };
                    self.line(&format!("{mark} {:<9} {summary}  {time}", step.word()));
                }
            }
            Event::Warned { code, message } => {
                self.line(&format!(
                    "{}: {message}",
                    self.paint.yellow(&format!("warning[{code}]"))
                ));
            }
            Event::Found(finding) => {
                let is_shown = match finding.outcome {
                    Outcome::Pass => self.is_verbose,
                    _ => !self.is_quiet,
                };
                if is_shown {
                    let word = self.paint.outcome(finding.outcome);
                    self.line(&format!(
                        "  {word:<4} {} {}: {}",
                        finding.rule, finding.subject, finding.message
                    ));
                    for example in &finding.examples {
                        self.line(&format!("         {example}"));
                    }
                    if let Some(advice) = &finding.advice
                        && finding.outcome != Outcome::Pass
                    {
                        self.line(&format!("         {}: {advice}", self.paint.cyan("hint")));
                    }
                }
            }
            Event::Evaluated { update, loss, is_best, metric, value } if self.is_verbose => {
                let best = if *is_best { ", best so far" } else { "" };
                let metric = metric.word();
                self.line(&format!(
                    "  update {update}: eval loss {loss:.5}, {metric} {value:.4}{best}"
                ));
            }
            Event::CheckpointCommitted { update, digest } if self.is_verbose => {
                self.line(&format!("  update {update}: checkpoint {} is durable", digest.short()));
            }
            Event::Updated(UpdateRecord { .. })
            | Event::Evaluated { .. }
            | Event::CheckpointCommitted { .. }
            | Event::Decided(_) => {}
        }
    }

    /// A piece of work begins that may take long enough for a bar.
    pub(crate) fn begin(&mut self, word: &'static str, subject: &str, total: Option<u64>) {
        self.end_bar();
        if !self.shows_bars {
            return;
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        bar.set_style(style(total.is_some()));
        bar.set_prefix(format!("  {word:<9}"));
        bar.set_message(shorten(subject, 40));
        // From another thread, because a step may work for long without telling how far it is.
        let later = bar.clone();
        std::thread::spawn(move || {
            std::thread::sleep(BAR_AFTER);
            if !later.is_finished() {
                later.set_draw_target(ProgressDrawTarget::stderr());
                later.enable_steady_tick(TICK);
            }
        });
        self.bar = Some(Bar { word, bar });
    }

    /// How far it is.
    pub(crate) fn progress(
        &mut self,
        word: &'static str,
        done: u64,
        total: Option<u64>,
        note: &str,
    ) {
        let Some(bar) = self.bar.as_mut().filter(|it| it.word == word) else { return };
        if let Some(total) = total
            && bar.bar.length() != Some(total)
        {
            bar.bar.set_length(total);
            bar.bar.set_style(style(true));
        }
        bar.bar.set_position(done);
        if !note.is_empty() {
            bar.bar.set_message(shorten(note, 40));
        }
    }

    pub(crate) fn end_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.bar.finish_and_clear();
        }
    }

    pub(crate) fn failed(&mut self, failure: &Failure) {
        self.end_bar();
        if self.is_json {
            self.json(&json!({
                "event": "failed",
                "code": failure.code.as_str(),
                "exit": failure.exit.code(),
                "message": failure.message,
                "details": failure.details,
                "causes": failure.causes,
                "hints": failure.hints,
            }));
            return;
        }
        self.line(&format!(
            "{}: {}",
            self.paint.red(&format!("error[{}]", failure.code)),
            failure.message
        ));
        for detail in &failure.details {
            self.line(&format!("  {detail}"));
        }
        for cause in &failure.causes {
            self.line(&format!("  caused by: {cause}"));
        }
        if !failure.hints.is_empty() {
            self.line("");
        }
        for hint in &failure.hints {
            self.line(&format!("{}: {hint}", self.paint.cyan("hint")));
        }
    }

    /// A value in a message ends no line: what follows would look like something that karat said.
    fn line(&self, text: &str) {
        let text = printable(&text.replace('\n', "\\n"));
        match &self.bar {
            Some(bar) => bar.bar.suspend(|| line_to_stderr(&text)),
            None => line_to_stderr(&text),
        }
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.end_bar();
        if !self.is_json {
            self.stdout(&printable(text));
        }
    }

    pub(crate) fn json(&mut self, value: &Value) {
        if self.is_json {
            self.stdout(&value.to_string());
        }
    }

    fn stdout(&mut self, text: &str) {
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Ok(()) => {}
            // A reader that closed the pipe has what it wanted.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(error) if self.stdout_failure.is_none() => {
                self.stdout_failure = Some(
                    Failure::new("stdout-failed", Exit::Run, "cannot write to stdout")
                        .because(&error),
                );
            }
            Err(_) => {}
        }
    }

    /// The first failure of writing to stdout. It goes to stderr: the events' stream is what broke.
    pub(crate) fn take_stdout_failure(&mut self) -> Option<Failure> {
        let failure = self.stdout_failure.take();
        self.is_json &= failure.is_none();
        failure
    }
}

/// One line to stderr; a closed stderr is nobody's error.
pub(crate) fn line_to_stderr(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Text from files and names never controls the terminal: control bytes other than our own colours are shown as
/// `\u{…}`.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let colour =
            ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"]
                .into_iter()
                .find(|it| rest.starts_with(it));
        if let Some(colour) = colour {
            out.push_str(colour);
            rest = &rest[colour.len()..];
            continue;
        }
        if c.is_control() && c != '\n' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        rest = &rest[c.len_utf8()..];
    }
    out
}

fn style(is_bounded: bool) -> ProgressStyle {
    let template = if is_bounded {
        "{prefix} {bar:28} {percent:>3} % {human_pos}/{human_len} {msg}  eta {eta}"
    } else {
        "{prefix} {spinner} {msg}  {elapsed}"
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

fn shorten(text: &str, n: usize) -> String {
    if text.chars().count() <= n {
        text.to_owned()
    } else {
        text.chars().take(n - 1).chain(['…']).collect()
    }
}

/// Colours, or none.
#[derive(Clone, Copy)]
pub(crate) struct Paint {
    pub(crate) is_on: bool,
}

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.is_on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }
    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }
    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }
    pub(crate) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }
    pub(crate) fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }
    pub(crate) fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }
    /// The outcome's word in its colour.
    pub(crate) fn outcome(self, outcome: Outcome) -> String {
        let word = outcome.word();
        match outcome {
            Outcome::Pass => self.green(word),
            Outcome::Waived | Outcome::Warn | Outcome::Inconclusive => self.yellow(word),
            Outcome::NotApplied | Outcome::Fail => self.red(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn control_bytes_never_reach_the_terminal() {
        assert_eq!(printable("a\x1b]0;title\x07b"), "a\\u{1b}]0;title\\u{7}b");
        assert_eq!(printable("\x1b[31mred\x1b[0m\n"), "\x1b[31mred\x1b[0m\n");
    }
}
