//! From [`Typed`] to [`Config`]: every setting read, bounded, and held against the others and the host.

use super::addresses;
use super::settings::Setting;
use super::{Backend, Config, Facts, Format, Typed};
use crate::features::{self, Answers, Buffers, Epoll, Problem, Resolved, Uring, table};
use crate::units;
use std::time::Duration;

/// A configuration that can run, and what is worth knowing about it.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What runs.
    pub config: Config,
    /// Every dimension of the backend and the value in force.
    pub in_force: Vec<(&'static str, String)>,
    /// What was decided otherwise than by default and what limits bite, a sentence each.
    pub notes: Vec<String>,
}

/// Checks everything.
///
/// # Errors
/// All problems, a sentence each.
pub fn resolve(typed: &Typed, facts: &Facts) -> Result<Checked, Vec<Problem>> {
    let mut check = Check { facts, problems: Vec::new(), notes: Vec::new() };
    let listen = addresses::listen(&typed.listen, &mut check.problems);
    let cpus = addresses::cpus(typed.cpus.as_deref(), &facts.cpus, &mut check.problems);
    let untyped_workers = if cpus.is_empty() { facts.cpus.len() } else { cpus.len() };
    let workers = check.number("--workers", &typed.workers).unwrap_or(untyped_workers as u64) as usize;
    let uring = check.typed_features("--uring", table::URING, &typed.uring);
    let max_connections = check.max_connections(typed, workers, listen.len(), &uring);
    let (backend, features) = check.features(typed, &uring, workers, max_connections);
    let config = Config {
        backend,
        listen,
        workers,
        cpus,
        max_connections,
        idle_timeout: check.time("--idle-timeout", &typed.idle_timeout),
        write_timeout: check.time("--write-timeout", &typed.write_timeout),
        drain_timeout: check.time("--drain-timeout", &typed.drain_timeout).unwrap_or_default(),
        backlog: check.number("--backlog", &typed.backlog).unwrap_or(1) as u32,
        unsent_limit: check.number("--unsent-limit", &typed.unsent_limit).unwrap_or(1) as u32,
        spill_limit: check.number("--spill-limit", &typed.spill_limit).unwrap_or(0),
        recv_buffer: check.number("--recv-buffer", &typed.recv_buffer).map(|bytes| bytes as u32),
        keepalive: check.keepalive(typed),
        user_timeout: check.time("--user-timeout", &typed.user_timeout),
        congestion: check.congestion(typed),
        stats_every: check.time("--stats-every", &typed.stats_every),
        format: check.choice("--format", &typed.format, &[("text", Format::Text), ("json", Format::Json)]),
        verbosity: typed.verbosity,
        uring: features.uring,
        epoll: features.epoll,
    };
    check.memory(&config);
    check.backlog(typed, &config);
    match check.problems {
        problems if !problems.is_empty() => Err(problems),
        _ => Ok(Checked { config, in_force: features.in_force, notes: check.notes }),
    }
}

struct Features {
    uring: Uring,
    epoll: Epoll,
    in_force: Vec<(&'static str, String)>,
}

struct Check<'a> {
    facts: &'a Facts,
    problems: Vec<Problem>,
    notes: Vec<String>,
}

impl Check<'_> {
    fn wrong(&mut self, text: String) {
        self.problems.push(Problem::usage(text));
    }

    /// What was typed, or the default of the row; `None` is off, follows the host, or was wrong.
    fn number(&mut self, flag: &str, typed: &Option<String>) -> Option<u64> {
        let row = Setting::of(flag);
        let Some(text) = typed else { return row.default };
        row.read(text).unwrap_or_else(|sentence| {
            self.wrong(sentence);
            row.default
        })
    }

    fn time(&mut self, flag: &str, typed: &Option<String>) -> Option<Duration> {
        self.number(flag, typed).map(Duration::from_micros)
    }

    fn choice<T: Copy>(&mut self, flag: &str, typed: &Option<String>, choices: &[(&str, T)]) -> T {
        let Some(text) = typed else { return choices[0].1 };
        if let Some((_, value)) = choices.iter().find(|(name, _)| name == text) {
            return *value;
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        self.wrong(format!(
            "{flag}: {text:?} is none of its values; {} would do",
            units::alternatives(&names)
        ));
        choices[0].1
    }

    fn keepalive(&mut self, typed: &Typed) -> Option<Duration> {
        let time = self.time("--keepalive", &typed.keepalive)?;
        if time.subsec_micros() != 0 {
            let (below, above) = (time.as_secs(), time.as_secs() + 1);
            self.wrong(format!(
                "--keepalive: {} is not whole seconds; {below}s or {above}s would do",
                units::print_time(time)
            ));
        }
        Some(time)
    }

    fn congestion(&mut self, typed: &Typed) -> Option<String> {
        let name = typed.congestion.as_ref()?;
        let available = self.facts.congestion_controls.as_ref();
        if name.is_empty() || name.len() > 15 || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.wrong(format!("--congestion: {name:?} is no name of a congestion control; cubic would do"));
        } else if let Some(names) = available.filter(|names| !names.contains(name)) {
            let names = units::alternatives(names);
            self.wrong(format!("--congestion: {name} is not loaded in this kernel; {names} would do"));
        }
        Some(name.clone())
    }

    /// Descriptors the server needs for itself: standard streams, signals, and for each worker a ring
    /// or epoll instance, an eventfd, and its listeners.
    fn reserve(workers: usize, addresses: usize) -> u64 {
        (16 + workers as u64 * (2 + addresses as u64)).max(64)
    }

    /// A direct descriptor is none of the process: there the limit bounds the table of each worker, all
    /// but its margin. What is not typed is as much as the table of any one of them can hold.
    fn max_connections(
        &mut self,
        typed: &Typed,
        workers: usize,
        addresses: usize,
        uring: &features::Typed,
    ) -> u32 {
        const DEFAULT_MAX: u64 = 65_536;
        const GROUPS: u64 = features::GROUPS_MAX as u64;
        let is_grouped = |value: &str| value == "send" || value == "both";
        let groups = uring.get("bundle").filter(|typed| is_grouped(typed.value.form.name()));
        const WORTH_SAYING: u64 = 10_000;
        let reserve = Self::reserve(workers, addresses);
        let limit = self.facts.descriptors.unwrap_or(u64::MAX);
        let own = limit.saturating_sub(reserve);
        let direct = uring.get("files").is_some_and(|typed| typed.value.form == table::Form::Word("direct"));
        let room = if direct { own.saturating_mul(workers as u64) } else { own };
        let remedy = match direct {
            true => {
                "more --workers, with a table each; or raise it with ulimit -Hn or the LimitNOFILE of the service"
            }
            false => {
                "raise it with ulimit -Hn or the LimitNOFILE of the service, or --uring files=direct with \
                      more --workers"
            }
        };
        match self.number("--max-connections", &typed.max_connections) {
            Some(asked) if asked > room => self.wrong(format!(
                "--max-connections: {asked} does not fit into the hard limit of {limit} descriptors, of which the \
                 server itself needs {reserve}; {} would do, or {remedy}",
                if room == 0 { "nothing".into() } else { format!("{room} or less") }
            )),
            Some(asked) if groups.is_some() && asked > GROUPS => self.wrong(format!(
                "--max-connections: with bundle={} each connection needs a buffer group of its own, and a ring has \
                 {GROUPS} for them; {GROUPS} or less would do",
                groups.map_or("send", |typed| typed.value.form.name())
            )),
            Some(asked) => return asked as u32,
            None if own == 0 => self.wrong(format!(
                "--max-connections: the hard limit of {limit} descriptors leaves none for connections, the server \
                 itself needs {reserve}; {remedy}"
            )),
            None => {
                let connections = own.min(if groups.is_some() { GROUPS } else { DEFAULT_MAX });
                if connections < WORTH_SAYING {
                    self.notes.push(format!(
                        "at most {connections} connections: the hard limit is {limit} descriptors; {remedy}"
                    ));
                }
                return connections as u32;
            }
        }
        1
    }

    fn features(
        &mut self,
        typed: &Typed,
        uring: &features::Typed,
        workers: usize,
        max_connections: u32,
    ) -> (Backend, Features) {
        let epoll = self.typed_features("--epoll", table::EPOLL, &typed.epoll);
        let (mut backend, reason) = self.backend(typed);
        let epoll = self.resolved(features::epoll(&epoll));
        let mut reason = reason.map(|reason| format!("--backend auto took {}: {reason}", backend.name()));
        let mut uring_resolved = None;
        if backend == Backend::Uring {
            uring_resolved = self.resolved(features::uring(uring, &self.facts.answers, max_connections));
        }
        if let Some(resolved) = &mut uring_resolved {
            match self.fit_locked_memory(resolved, workers, uring) {
                Ok(shrunk) => {
                    self.notes.append(&mut resolved.notes);
                    self.notes.extend(shrunk);
                }
                Err(sentence) if reason.is_some() && typed.uring.is_empty() => {
                    backend = Backend::Epoll;
                    reason =
                        Some(format!("--backend auto took epoll, because uring does not fit: {sentence}"));
                }
                Err(sentence) => self.wrong(sentence),
            }
        }
        self.notes.extend(reason);
        // What is not used, or was wrong, is filled with what runs where nothing is typed.
        let untyped = features::Typed::default();
        let default = || features::uring(&untyped, &Answers::default(), 1).expect("nothing typed resolves");
        let uring = uring_resolved.unwrap_or_else(default);
        let epoll = epoll.unwrap_or_else(|| features::epoll(&untyped).expect("nothing typed resolves"));
        let in_force = match backend {
            Backend::Uring => uring.in_force,
            Backend::Epoll => epoll.in_force,
        };
        (backend, Features { uring: uring.features, epoll: epoll.features, in_force })
    }

    fn typed_features(
        &mut self,
        flag: &str,
        table: &'static [table::Dimension],
        texts: &[String],
    ) -> features::Typed {
        features::Typed::parse(flag, table, texts).unwrap_or_else(|problems| {
            self.problems.extend(problems);
            features::Typed::default()
        })
    }

    fn resolved<T>(&mut self, result: Result<Resolved<T>, Vec<Problem>>) -> Option<Resolved<T>> {
        result.map_err(|problems| self.problems.extend(problems)).ok()
    }

    /// Which server, and where `auto` decided, why: the one whose features were typed, else uring where
    /// it can run.
    fn backend(&mut self, typed: &Typed) -> (Backend, Option<String>) {
        let choices = [("auto", None), ("uring", Some(Backend::Uring)), ("epoll", Some(Backend::Epoll))];
        let asked = self.choice("--backend", &typed.backend, &choices);
        let (uring, epoll) = (!typed.uring.is_empty(), !typed.epoll.is_empty());
        match asked {
            Some(Backend::Epoll) if uring => {
                self.wrong("--uring: does not go with --backend epoll; --backend uring would do".into());
            }
            Some(Backend::Uring) if epoll => {
                self.wrong("--epoll: does not go with --backend uring; --backend epoll would do".into());
            }
            None if uring && epoll => {
                self.wrong(
                    "--uring: does not go with --epoll, a server is one or the other; one would do".into(),
                );
            }
            _ => {}
        }
        let auto = || match self.facts.answers.unavailable() {
            _ if uring => (Backend::Uring, "its features were typed".into()),
            _ if epoll => (Backend::Epoll, "its features were typed".into()),
            None => (Backend::Uring, "this kernel allows it".into()),
            Some(sentence) => (Backend::Epoll, format!("uring cannot run here: {sentence}")),
        };
        match asked {
            Some(backend) => (backend, None),
            None => {
                let (backend, reason) = auto();
                (backend, Some(reason))
            }
        }
    }

    /// Makes the rings of all workers fit into the memory this user may lock: sizes nobody typed are
    /// halved, the completion queue first. What shrank, as a sentence, or why it cannot.
    fn fit_locked_memory(
        &self,
        resolved: &mut Resolved<Uring>,
        workers: usize,
        typed: &features::Typed,
    ) -> Result<Option<String>, String> {
        const SQ_LEAST: u32 = 64;
        let Some(limit) = self.facts.locked_memory else { return Ok(None) };
        let (sq_typed, cq_typed) = (typed.get("sq").is_some(), typed.get("cq").is_some());
        let planned = (resolved.features.sq, resolved.features.cq);
        let need = |features: &Uring| features.locked_bytes(self.facts.page) * workers as u64;
        let features = &mut resolved.features;
        while need(features) > limit {
            if !cq_typed && features.cq > features.sq * 2 {
                features.cq /= 2;
            } else if !sq_typed && !cq_typed && features.sq > SQ_LEAST {
                (features.sq, features.cq) = (features.sq / 2, features.cq / 2);
            } else if !cq_typed && features.cq > features.sq {
                features.cq /= 2;
            } else {
                return Err(match features.groups {
                    0 => Self::locked_too_small(features, need(features), limit, workers),
                    _ => self.groups_too_many(features, limit, workers),
                });
            }
        }
        let (sq, cq) = (features.sq, features.cq);
        if (sq, cq) == planned {
            return Ok(None);
        }
        resolved.print_sizes();
        let limit = units::approximate_bytes(limit);
        Ok(Some(format!(
            "sq={sq},cq={cq} instead of sq={},cq={}: this user may lock {limit} (ulimit -l) over all rings",
            planned.0, planned.1
        )))
    }

    /// Each group is a locked page, in every worker: any one of them may have to serve all connections.
    fn groups_too_many(&self, features: &Uring, limit: u64, workers: usize) -> String {
        let page = self.facts.page;
        let rings = Uring { groups: 0, ..features.clone() }.locked_bytes(page) * workers as u64;
        let room = limit.saturating_sub(rings) / (page * workers as u64);
        let fewer = match room {
            0 => "fewer --workers".into(),
            room => format!("--max-connections {room}, fewer --workers"),
        };
        format!(
            "--uring: bundle: a buffer group for each of {} connections locks a page in each of {workers} workers, \
             {} with the rings, and this user may lock {}; {fewer}, a higher ulimit -l, CAP_IPC_LOCK or \
             bundle=off would do",
            features.groups,
            units::approximate_bytes(features.locked_bytes(page) * workers as u64),
            units::approximate_bytes(limit)
        )
    }

    fn locked_too_small(features: &Uring, need: u64, limit: u64, workers: usize) -> String {
        format!(
            "--uring: sq={},cq={},buffer-count={} for {workers} workers locks {}, and this user may lock {}; smaller \
             sizes, fewer --workers, a higher ulimit -l or CAP_IPC_LOCK would do",
            features.sq,
            features.cq,
            features.buffer_count,
            units::approximate_bytes(need),
            units::approximate_bytes(limit)
        )
    }

    /// The large reservations against the memory there is, in 128 bits: products of typed numbers.
    fn memory(&mut self, config: &Config) {
        let Some(memory) = self.facts.memory else { return };
        // A connection is one worker's: together they use one buffer for each.
        let owned = config.backend == Backend::Uring && config.uring.buffers == Buffers::Owned;
        let workers = if owned { 1 } else { config.workers as u128 };
        let (flag, buffers) = match config.backend {
            Backend::Uring => {
                ("--uring", u128::from(config.uring.buffer_count) * u128::from(config.uring.buffer_size))
            }
            Backend::Epoll => ("--epoll", u128::from(config.epoll.buffer_size)),
        };
        let bytes = |amount: u128| units::approximate_bytes(u64::try_from(amount).unwrap_or(u64::MAX));
        if buffers * workers > u128::from(memory) {
            self.wrong(if owned {
                format!(
                    "--uring: buffers=owned with buffer-size={} for {} connections does not fit into the {} of memory \
                     there are; smaller buffers or a lower --max-connections would do",
                    config.uring.buffer_size,
                    config.max_connections,
                    bytes(memory.into())
                )
            } else { format!(
                "{flag}: buffers of {} for {workers} workers each do not fit into the {} of memory there are; \
                 smaller buffers or fewer --workers would do",
                bytes(buffers),
                bytes(memory.into())
            )});
        }
        if config.spill_limit > memory {
            self.wrong(format!(
                "--spill-limit: {} is more than the {} of memory there are; {} would do",
                units::print_bytes(config.spill_limit),
                bytes(memory.into()),
                units::print_bytes(memory >> 24 << 20)
            ));
        }
    }

    fn backlog(&mut self, typed: &Typed, config: &Config) {
        let Some(most) = self.facts.backlog_max.filter(|&most| u64::from(config.backlog) > most) else {
            return;
        };
        // Untyped it is only worth a word where bursts of connects would be lost.
        if typed.backlog.is_some() || most < 1024 {
            self.notes.push(format!(
                "backlog {most} instead of {}: net.core.somaxconn is {most}; root can raise it",
                config.backlog
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of `--uring FEATURES --max-connections CONNECTIONS` where so much memory may be locked.
    fn resolved(features: &str, connections: Option<&str>, locked: Option<u64>) -> Result<u32, String> {
        let typed = Typed {
            uring: vec![features.into()],
            max_connections: connections.map(String::from),
            ..Typed::default()
        };
        let facts = Facts { locked_memory: locked, ..Facts::for_tests() };
        let checked = resolve(&typed, &facts);
        checked.map(|checked| checked.config.uring.groups).map_err(|problems| problems[0].text.clone())
    }

    #[test]
    fn a_group_for_each_connection_is_held_against_what_there_is() {
        assert_eq!(resolved("bundle=recv", Some("70000"), None), Ok(0));
        // Untyped there are as many connections as there are groups.
        assert_eq!(resolved("bundle=send", None, None), Ok(65_535));
        assert_eq!(resolved("bundle=both", Some("300"), Some(8 << 20)), Ok(300));
        let told = resolved("bundle=both", Some("65536"), None).unwrap_err();
        assert!(told.starts_with("--max-connections: with bundle=both each connection needs"), "{told}");
        assert!(told.ends_with("65535 or less would do"), "{told}");
    }

    #[test]
    fn groups_that_may_not_be_locked_are_refused_with_a_number_that_may() {
        let told = resolved("bundle=send", Some("10000"), Some(8 << 20)).unwrap_err();
        assert!(
            told.starts_with("--uring: bundle: a buffer group for each of 10000 connections locks"),
            "{told}"
        );
        let (_, rest) = told.split_once("--max-connections ").expect("a remedy");
        let fits: u32 = rest.split(',').next().and_then(|count| count.parse().ok()).expect("a number");
        assert_eq!(resolved("bundle=send", Some(&fits.to_string()), Some(8 << 20)), Ok(fits));
        assert!((1_900..2_048).contains(&fits), "{told}");
    }
}
