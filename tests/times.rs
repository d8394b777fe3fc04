//! How long each row took: what is printed is for people, never a gate.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

static TIMES: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());

/// A row that runs; its time is kept at the end, whatever the end is.
pub struct Running {
    row: String,
    since: Instant,
}

/// From now on the time of this row runs.
pub fn begin(row: String) -> Running {
    Running { row, since: Instant::now() }
}

impl Drop for Running {
    fn drop(&mut self) {
        let row = (self.since.elapsed(), std::mem::take(&mut self.row));
        TIMES.lock().unwrap_or_else(PoisonError::into_inner).push(row);
    }
}

/// Prints the rows that took so long, the longest first, and the sum of all.
pub fn print(least: Duration) {
    let mut times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    times.sort_unstable_by(|one, other| other.cmp(one));
    let sum: Duration = times.iter().map(|(time, _)| *time).sum();
    println!("{} rows took {:.0} s, one after the other:", times.len(), sum.as_secs_f64());
    for (time, name) in times.iter().take_while(|(time, _)| *time >= least) {
        println!("{:8.1} s  {name}", time.as_secs_f64());
    }
    println!();
}
