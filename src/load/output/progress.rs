//! What moves on standard error while a load runs: one line, drawn over and over. Nothing where standard
//! error is no terminal, and no colours, so that there is nothing to switch off.

use super::figures;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// The moving line.
pub(super) struct Progress {
    bar: ProgressBar,
}

/// Redraws a second at most.
const REDRAWS: u8 = 10;

impl Progress {
    /// The line, or nothing if it is to be quiet.
    pub(super) fn new(quiet: bool) -> Self {
        let target = match quiet {
            true => ProgressDrawTarget::hidden(),
            // It hides itself where this is no terminal.
            false => ProgressDrawTarget::stderr_with_hz(REDRAWS),
        };
        Self { bar: ProgressBar::with_draw_target(None, target) }
    }

    /// Connections are being made.
    pub(super) fn ramping(&self, connected: u32, given_up: u32, of: u32) {
        self.style(" connect [{bar:30}] {pos}/{len} {msg}");
        self.bar.set_length(of.into());
        self.bar.set_position(connected.into());
        let failed = if given_up > 0 { format!("{given_up} given up") } else { String::new() };
        self.bar.set_message(failed);
    }

    /// The warm-up, or the window with how much of it is over; `last` is what to say beside it.
    pub(super) fn passing(&self, measured: Option<Duration>, of: Option<Duration>, last: &str) {
        match (measured, of) {
            (None, _) => {
                self.style(" {msg}");
                self.bar.set_message(format!("warming up  {last}"));
            }
            (Some(measured), Some(of)) => {
                self.style(" [{bar:30}] {msg}");
                self.bar.set_length(of.as_millis() as u64);
                self.bar.set_position(measured.as_millis() as u64);
                let time = figures::time(Some(measured.as_micros() as f64));
                self.bar.set_message(format!("{time}  {last}"));
            }
            (Some(measured), None) => {
                self.style(" {msg}");
                let time = figures::time(Some(measured.as_micros() as f64));
                self.bar.set_message(format!("{time}  {last}"));
            }
        }
    }

    /// Lets something else be written meanwhile, with the line out of the way.
    pub(super) fn aside<R>(&self, write: impl FnOnce() -> R) -> R {
        self.bar.suspend(write)
    }

    /// Takes the line away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn style(&self, template: &str) {
        if self.bar.is_hidden() {
            return;
        }
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bar.set_style(style.progress_chars("##-"));
    }
}
