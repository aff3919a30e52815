//! What a run demands before its first update: that its device computes what the CPU does, and that nothing will make it
//! compute otherwise tomorrow.

use karat_core::{
    Event, Failure, TrainSpec,
    port::{Parity, TrainIo},
};
use karat_models::Config;

use crate::{
    device::{self, Opened},
    error::{DeviceError, TrainError},
    parity,
    schedule::Schedule,
    update::Setting,
};

/// Refuses a device that is not to be trusted with this run, and returns what the run's record should say.
pub(crate) fn demand(
    opened: &Opened,
    spec: &TrainSpec,
    config: &Config,
    setting: &Setting,
    schedule: &Schedule,
    io: &mut dyn TrainIo,
) -> Result<Vec<String>, Failure> {
    let mut remarks = Vec::new();
    if opened.is_cpu() {
        return Ok(remarks);
    }
    if let Some(remark) = stray(opened, spec)? {
        io.observe(Event::Warned {
            code: "device-config-stray".to_owned(),
            message: remark.clone(),
        });
        remarks.push(remark);
    }
    remarks.push(if spec.device_policy.skips_probe {
        "not compared with `cpu` before the first update (`--no-probe`)".to_owned()
    } else {
        probe(opened, config, setting, schedule, io)?
    });
    Ok(remarks)
}

/// Files that burn and cubecl take their settings from, where there are any.
fn stray(opened: &Opened, spec: &TrainSpec) -> Result<Option<String>, DeviceError> {
    let folder = std::env::current_dir().unwrap_or_default();
    let files: Vec<String> =
        device::stray_files(&folder).iter().map(|file| file.display().to_string()).collect();
    if files.is_empty() {
        return Ok(None);
    }
    if spec.device_policy.is_deterministic {
        return Err(DeviceError::ConfigStray { device: opened.name.to_string(), files });
    }
    Ok(Some(format!("`{}` may change how `{}` computes", files.join("`, `"), opened.name)))
}

/// The run's own first updates, with few rows, here and on the CPU.
fn probe(
    opened: &Opened,
    config: &Config,
    setting: &Setting,
    schedule: &Schedule,
    io: &mut dyn TrainIo,
) -> Result<String, Failure> {
    let n_rows = io.train_rows().n_rows();
    let mut batches = Vec::new();
    for update in 0..=parity::N_UPDATES {
        // Rows in their own order, begun again where there are few: only the arithmetic is of interest.
        let first = update * parity::N_ROWS as u64;
        let n = n_rows.min(parity::N_ROWS as u64);
        let rows: Vec<u64> = (first..first + n).map(|row| row % n_rows).collect();
        let mut batch = setting.shape.empty();
        io.train_rows().fetch(&rows, &mut batch)?;
        setting.shape.check(&batch, true)?;
        batches.push(batch);
    }
    let rate = |update| schedule.learning_rate_at(update);
    let found = parity::compare("this model", config, setting, &batches, rate, opened)?;
    if found.iter().all(Parity::holds) {
        let text = found.iter().map(|it| format!("{:.0e}", it.error.unwrap_or(f64::NAN)));
        let text: Vec<String> = text.collect();
        return Ok(format!("agrees with `cpu` to {} after 1 and 10 updates", text.join(" and ")));
    }
    Err(TrainError::Parity { device: opened.name.to_string(), found }.into())
}
