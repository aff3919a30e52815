//! Asking about a device in another process, so that a driver that crashes or hangs is a reason and not our end.
//!
//! The other process is this program again, with a hidden command whose answer is one line of JSON: [`super::answer`].

use std::{
    io::Read,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use karat_core::port::DeviceReport;

/// How to start the other process.
#[derive(Clone, Debug)]
pub struct Prober {
    /// Program.
    pub program: PathBuf,
    /// Words before the question.
    pub arguments: Vec<String>,
    /// How long opening a device may take. Measuring may take ten times as long.
    pub patience: Duration,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which devices an interface reaches, without opening them.
    List,
    /// Whether a device opens and multiplies.
    Open,
    /// How fast it is, and how close to `cpu`.
    Measure,
}

impl Question {
    /// The word on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Open => "open",
            Self::Measure => "measure",
        }
    }

    /// The question that `word` is.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        [Self::List, Self::Open, Self::Measure].into_iter().find(|it| it.word() == word)
    }
}

impl Prober {
    /// Asks about `name`. An error is a reason for people.
    pub(crate) fn ask(&self, question: Question, name: &str) -> Result<Vec<DeviceReport>, String> {
        let patience = match question {
            Question::List | Question::Open => self.patience,
            Question::Measure => self.patience * 10,
        };
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .args([question.word(), name])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("the probe does not start: {error}"))?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        // Both are read while waiting: a driver that says much would block on a full pipe.
        let (status, out, err) = thread::scope(|scope| {
            let out = scope.spawn(|| text_of(out));
            let err = scope.spawn(|| text_of(err));
            let status = wait(&mut child, patience);
            (status, out.join().unwrap_or_default(), err.join().unwrap_or_default())
        });
        let Some(status) = status else {
            return Err(format!("the probe gave no answer within {} s", patience.as_secs()));
        };
        if !status.success() {
            return Err(with_last_words(&ended(status), &err));
        }
        let answer = out.lines().find_map(|line| serde_json::from_str(line).ok());
        answer.ok_or_else(|| with_last_words("the probe's answer cannot be read", &err))
    }
}

fn text_of(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    // What was read until an error is still worth showing.
    let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The end of `child`, or nothing when it had to be killed.
fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let began = Instant::now();
    let mut nap = Duration::from_millis(1);
    while began.elapsed() < patience {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn ended(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("the driver crashed the probe (signal {signal})");
    }
    match status.code() {
        Some(code) => format!("the probe failed (exit {code})"),
        None => "the probe failed".to_owned(),
    }
}

/// Drivers say why on stderr, and the last line is nearest to the end.
fn with_last_words(fact: &str, err: &str) -> String {
    match err.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(line) => format!("{fact}: {}", line.chars().take(200).collect::<String>()),
        None => fact.to_owned(),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Prober, Question};

    /// A prober that runs a line of shell instead of karat.
    pub(crate) fn shell(line: &str) -> Prober {
        Prober {
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), line.to_owned()],
            patience: Duration::from_secs(20),
        }
    }

    fn reason(line: &str) -> String {
        shell(line).ask(Question::Open, "wgpu:0").expect_err(line)
    }

    #[test]
    fn whatever_happens_to_the_other_process_is_a_reason() {
        let crash = reason("echo 'vk: lost' >&2; kill -SEGV $$");
        assert_eq!(crash, "the driver crashed the probe (signal 11): vk: lost");
        assert_eq!(reason("exit 3"), "the probe failed (exit 3)");
        assert_eq!(reason("echo hello"), "the probe's answer cannot be read");
        let missing = Prober { program: "/nonexistent".into(), ..shell("") };
        let missing = missing.ask(Question::Open, "wgpu:0").expect_err("no such program");
        assert!(missing.starts_with("the probe does not start: "), "{missing}");
    }

    #[test]
    fn a_driver_that_hangs_is_killed() {
        let began = Instant::now();
        let prober = Prober { patience: Duration::from_millis(200), ..shell("exec sleep 600") };
        let reason = prober.ask(Question::Open, "wgpu:0").expect_err("hangs");
        assert!(reason.starts_with("the probe gave no answer within"), "{reason}");
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn an_answer_is_read_whatever_the_driver_says_beside_it() {
        let noise = "yes 'warning: lavapipe is not conformant' | head -c 300000 >&2";
        let line = r#"echo 'hello'; echo '[{"name":"wgpu:0","is_usable":true,"remark":"fine"}]'"#;
        let reports =
            shell(&format!("{noise}; {line}")).ask(Question::Open, "wgpu:0").expect("answers");
        assert_eq!((reports[0].name.as_str(), reports[0].is_usable), ("wgpu:0", true));
    }
}
