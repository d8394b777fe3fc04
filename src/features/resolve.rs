//! From what was typed and what the kernel answered to what runs: every dimension decided.

use super::exclusions::{EXCLUSIONS, Exclusion, without_effect};
use super::table::{self, CQ_MAX, Dimension, Form, Value};
use super::{
    Accept, Answers, Buffers, Capability, Epoll, Files, Problem, Read, Recv, Spread, Taskrun, Threads,
    Trigger, Typed, Uring, Wait,
};
use crate::units;

mod sizes {
    //! The sizes nobody typed; each stands here and nowhere else. Measured: docs/figures.md.

    /// Entries of the submission queue: a batch is some tens long, and the entries stay in the first
    /// cache. 512 cost 1 to 2 % more.
    pub(super) const SQ: u32 = 128;
    /// Least entries of the completion queue; above, it follows the connection limit.
    pub(super) const CQ_MIN: u32 = 4096;
    /// With deferred task work the kernel posts completions only in the worker's own enters, some tens
    /// at a time: a queue for every fourth connection is far more than a batch, and stays in the cache.
    pub(super) const CQ_DEFERRED: u32 = 4;
    /// Buffers of a worker's ring: 64 cost 18 % more at 1,000 connections, as they run out.
    pub(super) const BUFFER_COUNT: u32 = 128;
    /// Bytes of each: at 64 KiB messages 16 KiB cost 1.7 times as much, and 4 KiB 5 times.
    pub(super) const BUFFER_SIZE: u32 = 64 * 1024;
    /// Bytes an epoll worker receives into: one buffer's, so that both ask the kernel alike.
    pub(super) const EPOLL_BUFFER_SIZE: u32 = BUFFER_SIZE;
}

/// The size in force where nobody typed one, as help names it; `None` for what is no size.
pub(super) fn default_size(flag: &str, dimension: &str) -> Option<String> {
    match (flag, dimension) {
        ("--uring", "sq") => Some(units::print_count(sizes::SQ.into())),
        ("--uring", "cq") => Some("follows --max-connections".into()),
        ("--uring", "buffer-count") => Some(units::print_count(sizes::BUFFER_COUNT.into())),
        ("--uring", "buffer-size") => Some(units::print_bytes(sizes::BUFFER_SIZE.into())),
        ("--epoll", "buffer-size") => Some(units::print_bytes(sizes::EPOLL_BUFFER_SIZE.into())),
        _ => None,
    }
}

/// A backend's features, all decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved<T> {
    /// What runs.
    pub features: T,
    /// Every dimension and the value in force, in the order of the table.
    pub in_force: Vec<(&'static str, String)>,
    /// What was decided otherwise than by default, and why, a sentence each.
    pub notes: Vec<String>,
}

/// What the server by completion runs with.
///
/// # Errors
/// Every problem: a typed value this kernel refuses, sizes that do not go together, or a kernel below
/// the floor ([`Answers::unavailable`]).
pub fn uring(
    typed: &Typed,
    answers: &Answers,
    max_connections: u32,
) -> Result<Resolved<Uring>, Vec<Problem>> {
    if let Some(sentence) = answers.unavailable() {
        let text = format!("--backend uring: {sentence} --backend epoll would do");
        return Err(vec![Problem::unavailable(text)]);
    }
    let mut choice = Choice::of("--uring", table::URING, typed, answers);
    let deferred = choice.is("taskrun", "defer");
    let queues = queues(typed, max_connections, deferred).unwrap_or_else(|problem| {
        choice.problems.push(problem);
        Queues { sq: 0, cq: 0, typed: false }
    });
    EXCLUSIONS.iter().for_each(|rule| choice.exclude(rule));
    let buffer_size = size(typed, "buffer-size", sizes::BUFFER_SIZE);
    choice.problems.extend(without_effect(typed, queues.cq, buffer_size));
    let owned = choice.is("buffers", "owned");
    let features = Uring {
        accept: if choice.is("accept", "multishot") { Accept::Multishot } else { Accept::Single },
        recv: match choice.word("recv") {
            "multishot" => Recv::Multishot,
            "poll" => Recv::Poll,
            _ => Recv::Single,
        },
        buffers: match choice.word("buffers") {
            "incremental" => Buffers::Incremental,
            "classic" => Buffers::Classic,
            "owned" => Buffers::Owned,
            _ => Buffers::Ring,
        },
        bundle_receive: choice.is("bundle", "recv") || choice.is("bundle", "both"),
        groups: if choice.is("bundle", "send") || choice.is("bundle", "both") { max_connections } else { 0 },
        cqe_skip: choice.is("cqe-skip", "on"),
        zero_copy: choice.is("send", "zc"),
        files: if choice.is("files", "direct") { Files::Direct } else { Files::Normal },
        taskrun: match choice.word("taskrun") {
            "defer" => Taskrun::Defer,
            "coop" => Taskrun::Coop,
            "sqpoll" => Taskrun::Sqpoll,
            _ => Taskrun::Default,
        },
        spread: if choice.is("spread", "msg-ring") { Spread::MsgRing } else { Spread::Reuseport },
        wait: typed.amounts("wait").map_or(Wait::One, |[count, time]| Wait::Minimum { count, time }),
        poll_first: choice.is("poll-first", "on"),
        receive_cap: typed.amounts("recv-cap").map(|[cap, _]| cap),
        no_iowait: choice.is("no-iowait", "on"),
        napi: typed.amounts("napi").map(|[time, _]| time),
        ring_fd_registered: choice.is("ring-fd", "registered"),
        sqarray: choice.is("sqarray", "on"),
        sq: queues.sq,
        cq: queues.cq,
        sizes_typed: queues.typed,
        buffer_count: if owned { max_connections } else { size(typed, "buffer-count", sizes::BUFFER_COUNT) },
        buffer_size,
        receive_limit: answers.offers(Capability::ReceiveLimit),
        counts_arrived: answers.offers(Capability::CountArrived),
    };
    let mut resolved = choice.resolved(features)?;
    resolved.print_sizes();
    Ok(resolved)
}

/// What the server by readiness runs with.
///
/// # Errors
/// Every problem with what was typed.
pub fn epoll(typed: &Typed) -> Result<Resolved<Epoll>, Vec<Problem>> {
    let choice = Choice::of("--epoll", table::EPOLL, typed, &Answers::default());
    let buffer_size = size(typed, "buffer-size", sizes::EPOLL_BUFFER_SIZE);
    let features = Epoll {
        trigger: if choice.is("trigger", "edge") { Trigger::Edge } else { Trigger::Level },
        read: if choice.is("read", "drain") { Read::Drain } else { Read::Once },
        threads: if choice.is("threads", "shared") { Threads::Shared } else { Threads::PerCore },
        busy_poll: typed.amounts("busy-poll").map(|[time, _]| time),
        buffer_size,
    };
    let mut resolved = choice.resolved(features)?;
    resolved.in_force.push(("buffer-size", buffer_size.to_string()));
    Ok(resolved)
}

impl Resolved<Uring> {
    /// Writes the sizes into what is in force, again after one of them has shrunk.
    pub fn print_sizes(&mut self) {
        let features = &self.features;
        let sizes = [
            ("sq", features.sq),
            ("cq", features.cq),
            ("buffer-count", features.buffer_count),
            ("buffer-size", features.buffer_size),
        ];
        self.in_force.retain(|(name, _)| sizes.iter().all(|(size, _)| size != name));
        self.in_force.extend(sizes.map(|(name, size)| (name, size.to_string())));
    }
}

impl Uring {
    /// Bytes of locked memory one worker's ring costs: the two queues and the buffer ring, each in
    /// whole pages of `page` bytes. The buffers themselves are not locked.
    #[must_use]
    pub fn locked_bytes(&self, page: u64) -> u64 {
        const HEADER: u64 = 512;
        let (sq, cq) = (u64::from(self.sq), u64::from(self.cq));
        let index = if self.sqarray { sq * 4 } else { 0 };
        let pages = |bytes: u64| bytes.next_multiple_of(page);
        let has_ring =
            matches!(self.buffers, Buffers::Ring | Buffers::Incremental) && self.recv != Recv::Poll;
        let buffers = if has_ring { u64::from(self.buffer_count) * 16 } else { 0 };
        // A page for each group, however little of it is used.
        let groups = u64::from(self.groups) * page;
        pages(sq * 64) + pages(HEADER + cq * 16 + index) + pages(buffers) + groups
    }
}

struct Queues {
    sq: u32,
    cq: u32,
    typed: bool,
}

/// The sizes of both queues. The kernel wants the completion queue at least as long as the other.
fn queues(typed: &Typed, max_connections: u32, deferred: bool) -> Result<Queues, Problem> {
    let typed_size = |name| typed.get(name).map(|entry| entry.amount as u32);
    let expected = max_connections / if deferred { sizes::CQ_DEFERRED } else { 1 };
    let longest = expected.clamp(sizes::CQ_MIN, CQ_MAX as u32).next_power_of_two();
    let (sq, cq) = match (typed_size("sq"), typed_size("cq")) {
        (Some(sq), Some(cq)) if cq < sq => {
            return Err(Problem::usage(format!(
                "--uring: cq={cq} is below sq={sq}, and the kernel wants it at least as long; \
                 sq={cq},cq={cq} or cq={sq} would do"
            )));
        }
        (Some(sq), Some(cq)) => (sq, cq),
        (Some(sq), None) => (sq, longest.max(sq)),
        (None, Some(cq)) => (sizes::SQ.min(cq), cq),
        (None, None) => (sizes::SQ, longest),
    };
    Ok(Queues { sq, cq, typed: typed_size("sq").is_some() || typed_size("cq").is_some() })
}

fn size(typed: &Typed, name: &str, default: u32) -> u32 {
    typed.get(name).map_or(default, |entry| entry.amount as u32)
}

/// The value of every dimension whose default is a word.
struct Choice {
    words: Vec<Chosen>,
    problems: Vec<Problem>,
    notes: Vec<String>,
}

/// The value of one dimension.
struct Chosen {
    dimension: &'static str,
    /// Its name in the table.
    word: &'static str,
    /// As it could be typed.
    printed: String,
    typed: bool,
}

impl Choice {
    fn of(flag: &str, table: &'static [Dimension], typed: &Typed, answers: &Answers) -> Self {
        let mut choice = Self { words: Vec::new(), problems: Vec::new(), notes: Vec::new() };
        for dimension in table.iter().filter(|dimension| is_word(dimension)) {
            let chosen = match typed.get(dimension.name) {
                Some(entry) => {
                    choice.problems.extend(refused(flag, dimension, entry.value, answers));
                    let word = entry.value.form.name();
                    Chosen { dimension: dimension.name, word, printed: entry.print(), typed: true }
                }
                None => {
                    let word = choice.untyped(dimension, answers).form.name();
                    Chosen { dimension: dimension.name, word, printed: word.into(), typed: false }
                }
            };
            choice.words.push(chosen);
        }
        choice
    }

    /// The first value this kernel accepts. The last one needs nothing, or only what is below the floor
    /// of the backend.
    fn untyped(&mut self, dimension: &'static Dimension, answers: &Answers) -> &'static Value {
        let mut values = dimension.values.iter();
        let value = values.find(|value| value.needs.is_none_or(|needs| answers.offers(needs)));
        let value = value.or(dimension.values.last()).expect("every dimension has a value");
        let first = &dimension.values[0];
        if let Some(missing) = first.needs.and_then(|needs| answers.missing(needs)) {
            let name = dimension.name;
            let (used, wanted) = (value.form.name(), first.form.name());
            self.notes.push(format!("{name}={used} instead of {name}={wanted}: {missing}"));
        }
        value
    }

    fn word(&self, dimension: &str) -> &'static str {
        self.words.iter().find(|chosen| chosen.dimension == dimension).map_or("", |chosen| chosen.word)
    }

    fn chosen(&mut self, dimension: &str, word: &str) -> Option<&mut Chosen> {
        self.words.iter_mut().find(|chosen| chosen.dimension == dimension && chosen.word == word)
    }

    /// Holds the rule against what was chosen: both typed is a problem; what was not typed yields, and it
    /// is said.
    fn exclude(&mut self, rule: &Exclusion) {
        let Exclusion { one, other, instead, kind, why } = *rule;
        let Some(one) = self.chosen(one.0, one.1).map(|chosen| format!("{}={}", one.0, chosen.printed))
        else {
            return;
        };
        let Some(yielding) = self.chosen(other.0, other.1) else { return };
        let both = format!("{}={}", other.0, yielding.printed);
        if yielding.typed {
            let text =
                format!("--uring: {one} does not go with {both}: {why}; {}={instead} would do", other.0);
            return self.problems.push(Problem { kind, text });
        }
        (yielding.word, yielding.printed) = (instead, instead.into());
        self.notes.push(format!("{}={instead} instead of {both}: {why}", other.0));
    }

    fn is(&self, dimension: &str, word: &str) -> bool {
        self.word(dimension) == word
    }

    fn resolved<T>(self, features: T) -> Result<Resolved<T>, Vec<Problem>> {
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let in_force = self.words.into_iter().map(|chosen| (chosen.dimension, chosen.printed)).collect();
        Ok(Resolved { features, in_force, notes: self.notes })
    }
}

fn is_word(dimension: &Dimension) -> bool {
    matches!(dimension.values[0].form, Form::Word(_))
}

fn refused(flag: &str, dimension: &Dimension, value: &Value, answers: &Answers) -> Option<Problem> {
    let missing = value.needs.and_then(|needs| answers.missing(needs))?;
    let name = dimension.name;
    let offered = |other: &&Value| other.needs.is_none_or(|needs| answers.offers(needs));
    let instead = dimension.values.iter().find(offered).map(|other| other.form.name());
    let instead = instead.map_or(String::new(), |other| format!("; {name}={other} would do"));
    Some(Problem::unavailable(format!("{flag}: {name}={}: {missing}{instead}", value.form.name())))
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    fn typed(text: &str) -> Typed {
        if text.is_empty() {
            return Typed::default();
        }
        Typed::parse("--uring", table::URING, &[text.into()]).unwrap()
    }

    fn without(refused: &[Capability]) -> Answers {
        let refused = refused.iter().map(|&capability| (capability, "EINVAL".into())).collect();
        Answers { release: "5.15.0".into(), barred: None, refused }
    }

    #[test]
    fn nothing_typed_on_a_new_kernel_is_the_first_value_of_each() {
        let resolved = uring(&typed(""), &without(&[]), 10_000).unwrap();
        for (name, word) in &resolved.in_force {
            let dimension = table::find(table::URING, name).unwrap();
            assert!(!is_word(dimension) || dimension.values[0].form.name() == word, "{name}={word}");
        }
        assert_eq!(resolved.in_force.len(), table::URING.len());
        assert!(resolved.notes.is_empty());
        assert!(resolved.features.receive_limit && !resolved.features.sizes_typed);
    }

    #[test]
    fn an_untyped_dimension_takes_the_first_value_the_kernel_accepts_and_says_so() {
        let answers = without(&[Capability::DeferTaskrun, Capability::NoSqarray, Capability::ReceiveLimit]);
        let resolved = uring(&typed(""), &answers, 10_000).unwrap();
        assert_eq!(resolved.features.taskrun, Taskrun::Coop);
        assert!(resolved.features.sqarray && !resolved.features.receive_limit);
        assert_eq!(resolved.notes.len(), 2);
        for told in ["taskrun=coop instead of taskrun=defer", "5.15.0", "EINVAL", "Linux 6.1"] {
            assert!(resolved.notes[0].contains(told), "{}", resolved.notes[0]);
        }
        let older = without(&[Capability::DeferTaskrun, Capability::CoopTaskrun]);
        assert_eq!(uring(&typed(""), &older, 1).unwrap().features.taskrun, Taskrun::Default);
    }

    #[test]
    fn a_typed_value_the_kernel_lacks_is_refused_by_name() {
        let problems =
            uring(&typed("taskrun=defer,sqarray=off"), &without(&[Capability::DeferTaskrun]), 1).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].kind, Kind::Unavailable);
        for told in ["--uring: taskrun=defer", "5.15.0", "EINVAL", "Linux 6.1", "taskrun=coop would do"] {
            assert!(problems[0].text.contains(told), "{}", problems[0].text);
        }
    }

    #[test]
    fn values_that_do_not_go_together_are_refused_by_name_and_an_untyped_one_yields() {
        let resolved = uring(&typed("buffers=owned"), &without(&[]), 1).unwrap();
        assert_eq!(resolved.features.recv, Recv::Single);
        assert!(
            resolved.notes[0].starts_with("recv=single instead of recv=multishot: "),
            "{:?}",
            resolved.notes
        );
        for rule in EXCLUSIONS {
            let name = |(dimension, word): (&str, &str)| match word {
                "min:COUNT:TIME" => format!("{dimension}=min:2:50us"),
                word => format!("{dimension}={word}"),
            };
            let (one, other) = (name(rule.one), name(rule.other));
            let problems = uring(&typed(&format!("{other},{one}")), &without(&[]), 1).unwrap_err();
            assert_eq!((problems.len(), problems[0].kind), (1, rule.kind), "{problems:?}");
            let told = format!("--uring: {one} does not go with {other}: ");
            assert!(problems[0].text.starts_with(&told), "{}", problems[0].text);
            let instead = format!("{}={}", rule.other.0, rule.instead);
            assert!(problems[0].text.ends_with(&format!("{instead} would do")), "{}", problems[0].text);
            let allowed = format!("{one},{instead}");
            assert!(uring(&typed(&allowed), &without(&[]), 1).is_ok(), "{allowed}");
        }
    }

    #[test]
    fn a_buffer_of_its_own_for_every_connection_is_counted_by_the_limit() {
        let resolved = uring(&typed("buffers=owned"), &without(&[]), 300).unwrap();
        assert_eq!((resolved.features.buffers, resolved.features.recv), (Buffers::Owned, Recv::Single));
        assert_eq!(resolved.features.buffer_count, 300);
        assert!(resolved.in_force.contains(&("recv", "single".into())));
        let problems = uring(&typed("buffers=owned,buffer-count=64"), &without(&[]), 300).unwrap_err();
        assert!(problems[0].text.contains("leaving it out would do"), "{}", problems[0].text);
    }

    #[test]
    fn a_number_that_would_change_nothing_is_refused() {
        for (text, told) in [
            ("wait=min:5:50us,cq=4", "wait=min:4 or cq=8 would do"),
            ("recv-cap=8Ki,buffer-size=4Ki", "recv-cap=4Ki would do"),
        ] {
            let problems = uring(&typed(text), &without(&[]), 1).unwrap_err();
            assert_eq!((problems.len(), problems[0].kind), (1, Kind::Usage));
            assert!(problems[0].text.ends_with(told), "{}", problems[0].text);
        }
        let resolved = uring(&typed("wait=min:4:50us,cq=4,recv-cap=4Ki"), &without(&[]), 1).unwrap();
        assert_eq!(resolved.features.wait, Wait::Minimum { count: 4, time: 50 });
        assert_eq!(resolved.features.receive_cap, Some(4096));
        assert!(resolved.in_force.contains(&("wait", "min:4:50us".into())), "{:?}", resolved.in_force);
    }

    #[test]
    fn below_the_floor_the_backend_is_refused_with_the_release() {
        for needed in Capability::FLOOR {
            let problems = uring(&typed(""), &without(&[needed]), 1).unwrap_err();
            assert_eq!(problems[0].kind, Kind::Unavailable);
            assert!(problems[0].text.contains(needed.since()), "{}", problems[0].text);
            assert!(problems[0].text.contains("--backend epoll"), "{}", problems[0].text);
        }
        let barred = Answers { barred: Some("seccomp.".into()), ..Answers::default() };
        assert!(uring(&typed(""), &barred, 1).unwrap_err()[0].text.contains("seccomp."));
    }

    #[test]
    fn the_completion_queue_follows_the_limit_and_the_submission_queue_follows_it_down() {
        let sizes = |text: &str, connections| {
            let features = uring(&typed(text), &without(&[]), connections).map(|resolved| resolved.features);
            features.map(|features| (features.sq, features.cq))
        };
        assert_eq!(sizes("", 1), Ok((sizes::SQ, sizes::CQ_MIN)));
        assert_eq!(sizes("", 20_000), Ok((sizes::SQ, 8192)));
        assert_eq!(sizes("taskrun=coop", 10_000), Ok((sizes::SQ, 16_384)));
        assert_eq!(sizes("taskrun=default", 65_536), Ok((sizes::SQ, 65_536)));
        assert_eq!(sizes("", 16_000_000), Ok((sizes::SQ, 65_536)));
        assert_eq!(sizes("cq=4", 10_000), Ok((4, 4)));
        assert_eq!(sizes("sq=4,cq=4", 10_000), Ok((4, 4)));
        assert_eq!(sizes("sq=32768", 1), Ok((32_768, 32_768)));
        assert!(sizes("sq=2,cq=1", 1).is_err());
        let problems = sizes("sq=8,cq=4", 1).unwrap_err();
        assert_eq!(problems[0].kind, Kind::Usage);
        assert!(problems[0].text.contains("sq=4,cq=4 or cq=8 would do"), "{}", problems[0].text);
    }

    #[test]
    fn locked_memory_is_counted_in_whole_pages() {
        let mut features = uring(&typed("sq=4096,cq=16384,sqarray=on"), &without(&[]), 1).unwrap().features;
        features.buffer_count = 512;
        // 64 pages of entries, 64 of completions with 4 of indices and one begun, 2 of buffers.
        assert_eq!(features.locked_bytes(4096), (64 + 69 + 2) * 4096);
        features.groups = 300;
        assert_eq!(features.locked_bytes(4096), (64 + 69 + 2 + 300) * 4096);
    }
}
