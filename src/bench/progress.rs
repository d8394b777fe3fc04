//! What moves on standard error while a bench runs: one line with the cell, what is known of it and the time
//! that is left at most. Nothing where standard error is no terminal.

use super::compare;
use super::conduct::State;
use crate::result::bench::Purpose;
use crate::statistics::paired::{CONFIDENCE, order_statistics};
use crate::units::print_time;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// The moving line.
pub struct Progress {
    bar: ProgressBar,
}

/// Redraws a second at most; each takes CPU from somebody.
const REDRAWS: u8 = 4;

impl Progress {
    /// The line, or nothing if it is to be quiet.
    #[must_use]
    pub fn new(quiet: bool, budget: Duration) -> Self {
        let target = match quiet {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr_with_hz(REDRAWS),
        };
        let bar = ProgressBar::with_draw_target(Some(budget.as_secs()), target);
        let style = ProgressStyle::with_template(" [{bar:24}] {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("##-"));
        Self { bar }
    }

    /// A slice of this cell begins.
    pub fn turn(&self, states: &[State], cell: usize, left: Duration) {
        if self.bar.is_hidden() {
            return;
        }
        let state = &states[cell];
        let blocks = compare::blocks(&state.slices, Purpose::Cost);
        let server = compare::headlines(&blocks).into_iter().next().unwrap_or_default().ratios;
        let known = order_statistics(&server, CONFIDENCE).map_or_else(String::new, |one| {
            format!("server CPU {:.2} ({:.2}–{:.2})", one.median.exp(), one.low.exp(), one.high.exp())
        });
        let done = states.iter().filter(|state| state.ended.is_some()).count();
        self.bar.set_position(self.bar.length().unwrap_or(0).saturating_sub(left.as_secs()));
        self.bar.set_message(format!(
            "at most {} left  {done}/{} done  {}  block {}  {known}",
            print_time(Duration::from_secs(left.as_secs())),
            states.len(),
            state.cell.id,
            blocks.len() + 1
        ));
    }

    /// Takes the line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
