//! Which device a run takes, and what there is.

use karat_core::port::{DeviceFacts, DeviceReport};

use super::{
    Api, DeviceName,
    child::{Prober, Question},
    open::not_built,
};
use crate::error::DeviceError;

const NO_ADAPTER: &str = "no adapter found: no driver, or none with compute shaders";

/// What was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// A name that is not `auto`.
    pub name: String,
    /// What the device says of itself; nothing for `cpu`.
    pub facts: Option<DeviceFacts>,
    /// What `auto` left aside, each with its reason.
    pub passed_over: Vec<String>,
}

/// Makes a device of what was asked. GPUs are tried in another process first, also those asked for by name.
pub(crate) fn choose(prober: &Prober, asked: &str) -> Result<Choice, DeviceError> {
    let is_built = |api: &Api| api.is_built();
    choose_among(prober, asked, &Api::ALL.into_iter().filter(is_built).collect::<Vec<_>>())
}

fn choose_among(prober: &Prober, asked: &str, built: &[Api]) -> Result<Choice, DeviceError> {
    let cpu = |passed_over| Choice { name: "cpu".to_owned(), facts: None, passed_over };
    match DeviceName::parse(asked)? {
        DeviceName::Cpu => Ok(cpu(Vec::new())),
        DeviceName::Auto => {
            let mut passed_over = Vec::new();
            for api in built {
                let best = DeviceName::Gpu { api: *api, number: 0 };
                match try_out(prober, best) {
                    Ok(facts) if facts.is_software => passed_over.push(format!(
                        "`{best}` ({}) is a program on the CPU, where `cpu` is faster",
                        facts.adapter
                    )),
                    Ok(facts) => {
                        return Ok(Choice {
                            name: best.to_string(),
                            facts: Some(facts),
                            passed_over,
                        });
                    }
                    Err(reason) => passed_over.push(format!("`{best}`: {reason}")),
                }
            }
            Ok(cpu(passed_over))
        }
        name @ DeviceName::Gpu { api, number } => {
            let found = if built.contains(&api) { names(prober, api) } else { Err(not_built(api)) };
            if !found.is_ok_and(|names| usize::from(number) < names.len()) {
                return Err(absent(prober, asked, built));
            }
            match try_out(prober, name) {
                Ok(facts) => Ok(Choice {
                    name: name.to_string(),
                    facts: Some(facts),
                    passed_over: Vec::new(),
                }),
                Err(reason) => Err(DeviceError::Unusable { name: name.to_string(), reason }),
            }
        }
    }
}

/// Opens a device in another process and has it multiply.
fn try_out(prober: &Prober, name: DeviceName) -> Result<DeviceFacts, String> {
    let reports = prober.ask(Question::Open, &name.to_string())?;
    let report = reports.into_iter().next().ok_or("the probe said nothing of it")?;
    match report.facts {
        Some(facts) if report.is_usable => Ok(facts),
        _ => Err(report.remark),
    }
}

/// What `api` reaches.
fn names(prober: &Prober, api: Api) -> Result<Vec<String>, String> {
    let reports = prober.ask(Question::List, api.word())?;
    match reports.as_slice() {
        [] => Err(NO_ADAPTER.to_owned()),
        [one] if !one.is_usable => Err(one.remark.clone()),
        _ => Ok(reports.into_iter().map(|it| it.name).collect()),
    }
}

fn absent(prober: &Prober, asked: &str, built: &[Api]) -> DeviceError {
    let (mut known, mut missing) = (vec!["cpu".to_owned()], Vec::new());
    for api in Api::ALL {
        let found = if built.contains(&api) { names(prober, api) } else { Err(not_built(api)) };
        match found {
            Ok(names) => known.extend(names),
            Err(reason) => missing.push(format!("{}: {reason}", api.word())),
        }
    }
    DeviceError::Absent { asked: asked.to_owned(), known, missing }
}

/// Every device there is, and a line for each interface that reaches none. Opens none.
pub(crate) fn list(prober: &Prober) -> Vec<DeviceReport> {
    let cpu = DeviceReport {
        name: "cpu".to_owned(),
        is_usable: true,
        remark: super::cpu_remark(),
        facts: None,
    };
    let mut reports = vec![cpu];
    for api in Api::ALL {
        if !api.is_built() {
            reports.push(DeviceReport::absent(api.word(), not_built(api)));
            continue;
        }
        match prober.ask(Question::List, api.word()) {
            Ok(found) if found.is_empty() => {
                reports.push(DeviceReport::absent(api.word(), NO_ADAPTER.to_owned()));
            }
            Ok(found) => reports.extend(found),
            Err(reason) => reports.push(DeviceReport::absent(api.word(), reason)),
        }
    }
    reports
}

/// The devices of [`list`], or the one called `what`, each measured in a process of its own.
pub(crate) fn examine(prober: &Prober, what: &str) -> Result<Vec<DeviceReport>, DeviceError> {
    if what != "all" {
        let choice = choose(prober, what)?;
        return Ok(vec![measured(prober, &choice.name)]);
    }
    let one = |report: DeviceReport| match report.is_usable {
        true => measured(prober, &report.name),
        false => report,
    };
    Ok(list(prober).into_iter().map(one).collect())
}

fn measured(prober: &Prober, name: &str) -> DeviceReport {
    match prober.ask(Question::Measure, name) {
        Ok(reports) => reports.into_iter().next().unwrap_or_else(|| {
            DeviceReport::absent(name, "the probe said nothing of it".to_owned())
        }),
        Err(reason) => DeviceReport::absent(name, reason),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::time::Duration;

    use karat_core::Failure;

    use super::{super::Api, Prober, choose, choose_among};

    /// A machine as a shell script: `$1` is the question, `$2` the device.
    fn machine(script: &str) -> Prober {
        Prober {
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned(), "machine".to_owned()],
            patience: Duration::from_secs(20),
        }
    }

    const GOOD: &str = r#"echo '[{"name":"'$2':0","is_usable":true,"remark":"","facts":{"adapter":"A 1","driver":"d","interface":"Vulkan","is_software":false}}]'"#;
    const SOFT: &str = r#"echo '[{"name":"'$2':0","is_usable":true,"remark":"","facts":{"adapter":"llvmpipe","driver":"d","interface":"Vulkan","is_software":true}}]'"#;

    #[test]
    fn auto_takes_the_first_that_works_and_says_why_not_the_others() {
        let prober = machine(&format!("case $2 in cuda*) kill -SEGV $$;; *) {GOOD};; esac"));
        let choice = choose_among(&prober, "auto", &Api::ALL).expect("there is always `cpu`");
        assert_eq!(choice.name, "vulkan:0");
        assert_eq!(choice.facts.expect("it was opened").adapter, "A 1");
        assert_eq!(choice.passed_over, ["`cuda:0`: the driver crashed the probe (signal 11)"]);
    }

    #[test]
    fn auto_never_takes_a_program_on_the_cpu_before_the_cpu() {
        let choice = choose_among(&machine(SOFT), "auto", &[Api::Wgpu]).expect("`cpu`");
        assert_eq!((choice.name.as_str(), choice.passed_over.len()), ("cpu", 1));
        assert!(choice.passed_over[0].contains("llvmpipe"), "{:?}", choice.passed_over);
        // Asked for by name it is taken.
        let asked = choose_among(&machine(SOFT), "wgpu", &[Api::Wgpu]).expect("it works");
        assert_eq!(asked.name, "wgpu:0");
    }

    #[test]
    fn cpu_needs_no_other_process() {
        let nobody = Prober { program: "/nonexistent".into(), ..machine("") };
        assert_eq!(choose(&nobody, "cpu").expect("cpu").name, "cpu");
        assert_eq!(choose_among(&nobody, "auto", &[]).expect("cpu").name, "cpu");
        let choice = choose_among(&nobody, "auto", &[Api::Wgpu]).expect("cpu");
        assert!(choice.passed_over[0].contains("the probe does not start"), "{choice:?}");
    }

    #[test]
    fn an_absent_device_lists_what_there_is_and_why_others_are_not() {
        let failure = Failure::from(
            choose_among(&machine(GOOD), "wgpu:1", &[Api::Wgpu]).expect_err("there is only one"),
        );
        assert_eq!(failure.code.as_str(), "device-absent");
        assert_eq!(failure.message, "device `wgpu:1` not found: this machine has `cpu`, `wgpu:0`");
        let lacks =
            |api: &str| format!("{api}: not in this build, which lacks the cargo feature `{api}`");
        assert_eq!(failure.details, [lacks("cuda"), lacks("vulkan")]);
    }

    #[test]
    fn a_driver_that_fails_at_start_is_an_error_with_its_reason() {
        let script =
            format!("case $1 in list) {GOOD};; *) echo 'no kernel module' >&2; exit 1;; esac");
        let failure = Failure::from(
            choose_among(&machine(&script), "cuda", &Api::ALL).expect_err("the driver fails"),
        );
        assert_eq!((failure.code.as_str(), failure.exit.code()), ("device-unusable", 3));
        assert_eq!(
            failure.message,
            "device `cuda:0` does not work: the probe failed (exit 1): no kernel module"
        );
    }
}
