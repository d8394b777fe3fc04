//! What a load prints and writes: for people, for programs, and as histograms. It is told by the run what
//! happens ([`Observer`]) and given the result at the end. A standard output that is closed or full loses
//! what goes there and nothing else; a file that cannot be written is a failure, said once.

pub(super) mod figures;
mod histogram;
mod lines;
mod progress;
mod server;
#[cfg(test)]
mod tests;
mod text;

use super::check::Checked;
use super::outcome::{Observer, Row};
use super::plan::{End, Format, Outputs, Workload};
use super::summary;
use super::tally::Interval;
use crate::result::load::{LoadLine, LoadResult};
use crate::statistics::Latencies;
use histogram::{Log, LogParts};
use progress::Progress;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The opened files of a load.
pub struct Files {
    out: Box<dyn Write>,
    /// Whether `out` is a file, so that not writing it is a failure.
    is_file: bool,
    hdr: Option<Box<dyn Write>>,
    hlog: Option<LogParts>,
}

impl Files {
    /// Opens what the result goes to, so that what cannot be written is known before the load.
    ///
    /// # Errors
    /// Every file that cannot be written, a sentence each.
    pub fn open(outputs: &Outputs) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut open = |flag: &str, path: &Path| -> Option<Box<dyn Write>> {
            if path.as_os_str() == "-" {
                return Some(Box::new(io::stdout()));
            }
            match File::create(path) {
                Ok(file) => Some(Box::new(file)),
                Err(error) => {
                    let path = path.display();
                    problems.push(format!(
                        "{flag}: {path} cannot be written ({error}); a file in a folder that is there would do"
                    ));
                    None
                }
            }
        };
        let out = outputs.file.as_deref().map(|path| open("--output", path));
        let hdr = outputs.hdr.as_deref().and_then(|path| open("--hdr", path));
        let hlog = outputs.hlog.as_deref().and_then(|path| open("--hlog", path)).map(LogParts::new);
        if !problems.is_empty() {
            return Err(problems);
        }
        let is_file = out.is_some();
        let out = out.flatten().unwrap_or_else(|| Box::new(io::stdout()));
        // The log is written a line an interval, and stays unbuffered: nothing of it is lost at the end.
        let buffered = |out| Box::new(io::BufWriter::new(out)) as Box<dyn Write>;
        Ok(Self { out: buffered(out), is_file, hdr: hdr.map(buffered), hlog })
    }

    /// Everything to `out`, and no other files.
    #[cfg(test)]
    fn to(out: Box<dyn Write>) -> Self {
        Self { out, is_file: true, hdr: None, hlog: None }
    }
}

/// Prints while a load runs, and its result.
pub struct Printer<'a> {
    checked: &'a Checked,
    out: &'a mut dyn Write,
    is_file: bool,
    hdr: Option<&'a mut (dyn Write + 'static)>,
    hlog: Option<Log<'a>>,
    progress: Progress,
    /// What the last interval came to, for the moving line.
    last: String,
    /// The first edge of the first interval; the window began there.
    begin: Option<u64>,
    /// Why a file could not be written, the first time.
    failure: Option<String>,
}

impl<'a> Printer<'a> {
    /// Prints to these files, and says what is going to be done.
    #[must_use]
    pub fn new(checked: &'a Checked, files: &'a mut Files) -> Self {
        let Files { out, is_file, hdr, hlog } = files;
        let log = hlog.as_mut().map(|parts| Log::begin(parts, SystemTime::now(), &checked.command));
        let (hlog, failure) = match log.transpose() {
            Ok(log) => (log, None),
            Err(error) => (None, Some(format!("--hlog: cannot be written ({error})"))),
        };
        let mut printer = Self {
            checked,
            out: out.as_mut(),
            is_file: *is_file,
            hdr: hdr.as_deref_mut(),
            hlog,
            progress: Progress::new(checked.outputs.quiet),
            last: String::new(),
            begin: None,
            failure,
        };
        printer.head();
        printer
    }

    fn head(&mut self) {
        let (plan, outputs) = (&self.checked.plan, &self.checked.outputs);
        self.write(|out| match outputs.format {
            Format::Text => {
                text::heading(plan, out)?;
                if outputs.interval_lines { text::interval_names(out) } else { Ok(()) }
            }
            Format::Csv => lines::csv_names(out),
            Format::Json | Format::Ndjson => Ok(()),
        });
    }

    /// Writes to where the result goes. Nobody reads a standard output that is closed; that is no failure.
    fn write(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        let out = &mut *self.out;
        let written = self.progress.aside(|| write(out));
        if let (Err(error), true) = (written, self.is_file) {
            self.failure.get_or_insert_with(|| format!("--output: cannot be written ({error})"));
        }
    }

    /// Writes the result and ends. `times` is the distribution of the latency that matters most: response
    /// in an open loop, else service.
    ///
    /// # Errors
    /// Why a file could not be written, a sentence.
    pub fn finish(mut self, result: &LoadResult, times: &Latencies) -> Result<(), String> {
        self.progress.finish();
        let outputs = &self.checked.outputs;
        self.write(|out| match outputs.format {
            Format::Text => text::result(result, times, &outputs.percentiles, out),
            Format::Json => lines::json(result, out),
            Format::Ndjson => lines::ndjson(&LoadLine::Result(Box::new(result.clone())), out),
            Format::Csv => lines::csv_result(result, out),
        });
        if let Some(out) = self.hdr.as_deref_mut() {
            let written = histogram::percentiles(times, out).and_then(|()| out.flush());
            if let Err(error) = written {
                self.failure.get_or_insert_with(|| format!("--hdr: cannot be written ({error})"));
            }
        }
        self.failure.map_or(Ok(()), Err)
    }

    /// A sentence on standard error. One that is closed has no reader.
    fn say(&self, sentence: &str) {
        let _ = self.progress.aside(|| writeln!(io::stderr(), "c10k: {sentence}"));
    }

    fn window(&self) -> Option<Duration> {
        match self.checked.plan.end {
            End::After(duration) => Some(duration),
            End::Messages(_) => None,
        }
    }
}

impl Observer for Printer<'_> {
    fn ramping(&mut self, connected: u32, given_up: u32) {
        if self.checked.plan.workload == Workload::Churn {
            return; // Connecting is what it does, and it has not begun.
        }
        self.progress.ramping(connected, given_up, self.checked.plan.connections);
    }

    fn passing(&mut self, measured: Option<Duration>, open: u32) {
        let text = format!("{} open  {}", figures::whole(open.into()), self.last);
        self.progress.passing(measured, self.window(), text.trim_end());
    }

    fn interval(&mut self, row: &Row, interval: &Interval) {
        let begin = *self.begin.get_or_insert(row.begin);
        let line = summary::interval(row, begin);
        let (rate, p99) =
            (text::interval_rate(self.checked.plan.workload, &line), figures::time(line.p99_us));
        self.last = format!("{rate}/s  p99 {p99}  errors {}", line.errors);
        if self.checked.find_rate.is_some() {
            // An interval of a search says little; each step has its line.
            return;
        }
        let (plan, outputs) = (&self.checked.plan, &self.checked.outputs);
        match outputs.format {
            Format::Text if outputs.interval_lines => {
                self.write(|out| text::interval(plan.workload, &line, out));
            }
            Format::Ndjson => self.write(|out| lines::ndjson(&LoadLine::Interval(line), out)),
            Format::Csv => self.write(|out| lines::csv_interval(&line, out)),
            Format::Text | Format::Json => {}
        }
        let times = if interval.response.samples() > 0 { &interval.response } else { &interval.service };
        let written = self.hlog.as_mut().map(|log| log.interval(row.begin, row.end, times));
        if let Some(Err(error)) = written {
            self.failure.get_or_insert_with(|| format!("--hlog: cannot be written ({error})"));
        }
    }

    fn snapshot(&mut self, measured: Duration, total: &Interval) {
        let outputs = &self.checked.outputs;
        let snapshot = summary::snapshot(measured, total, &outputs.percentiles);
        match outputs.format {
            Format::Ndjson => self.write(|out| lines::ndjson(&LoadLine::Snapshot(snapshot), out)),
            Format::Text => self.write(|out| {
                writeln!(out, " {}", text::snapshot(&snapshot))?;
                out.flush()
            }),
            // They have no place for it; who asked is looking at the terminal, quiet or not.
            Format::Json | Format::Csv => self.say(&text::snapshot(&snapshot)),
        }
    }

    fn notice(&mut self, sentence: &str) {
        if !self.checked.outputs.quiet {
            self.say(sentence);
        }
    }
}
