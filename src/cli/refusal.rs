//! The sentence for a command line that cannot be read, in the words of the other problems: what is
//! meant, what is wrong with it, what would do. Wrong values are not among them: `config` has those.

use super::Command;
use crate::config::LISTEN_DEFAULT;
use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The sentence for an answer of [`super::parse`]; `None` where it is a text that was asked for.
#[must_use]
pub fn sentence(answer: &clap::Error) -> Option<String> {
    if !answer.use_stderr() {
        return None;
    }
    let words = Words { answer };
    let known = match answer.kind() {
        ErrorKind::UnknownArgument => words.unknown_option(),
        ErrorKind::InvalidSubcommand => words.unknown_verb(),
        ErrorKind::InvalidValue => words.missing_value(),
        ErrorKind::TooManyValues => words.unwanted_value(),
        ErrorKind::ArgumentConflict => words.conflict(),
        ErrorKind::InvalidUtf8 => words.no_text(),
        _ => None,
    };
    Some(format!("{}; --help lists what there is", known.unwrap_or_else(|| words.of_clap())))
}

/// What clap knows about its answer.
struct Words<'a> {
    answer: &'a clap::Error,
}

impl Words<'_> {
    fn get(&self, kind: ContextKind) -> Option<&str> {
        match self.answer.get(kind)? {
            ContextValue::String(text) => Some(text),
            ContextValue::Strings(texts) => texts.first().map(String::as_str),
            _ => None,
        }
    }

    /// Whether it is about what follows `load`.
    fn is_load(&self) -> bool {
        let usage = match self.answer.get(ContextKind::Usage) {
            Some(ContextValue::StyledStr(usage)) => usage.to_string(),
            _ => String::new(),
        };
        usage.contains("c10k load")
    }

    /// An option as it is typed: clap has its value's name and dots behind it.
    fn option(&self, kind: ContextKind) -> Option<&str> {
        self.get(kind).map(|shown| shown.split(' ').next().unwrap_or(shown).trim_end_matches('.'))
    }

    fn unknown_option(&self) -> Option<String> {
        let name = self.get(ContextKind::InvalidArg)?;
        if !name.starts_with('-') && self.is_load() {
            return Some(format!("{name}: one word too many; WORKLOAD and HOST:PORT would do"));
        }
        if !name.starts_with('-') {
            return Some(no_verb(name, "no word is expected here", None));
        }
        let instead = match (name, self.get(ContextKind::SuggestedArg)) {
            ("--port" | "-p", _) if self.is_load() => "; 127.0.0.1:PORT as the second word would do".into(),
            ("--port" | "-p", _) => "; --listen 127.0.0.1:PORT would do".into(),
            (_, Some(near)) => format!("; did you mean {near}?"),
            _ => String::new(),
        };
        Some(format!("{name}: there is no such option{instead}"))
    }

    fn unknown_verb(&self) -> Option<String> {
        let near = self.get(ContextKind::SuggestedSubcommand);
        Some(no_verb(self.get(ContextKind::InvalidSubcommand)?, "there is no such verb", near))
    }

    fn missing_value(&self) -> Option<String> {
        let shown = self.get(ContextKind::InvalidArg)?;
        let name = shown.split_once('<').map_or("", |(_, rest)| rest.trim_end_matches('>'));
        Some(format!(
            "{}: its value is missing; {} would do",
            self.option(ContextKind::InvalidArg)?,
            example(name)
        ))
    }

    fn unwanted_value(&self) -> Option<String> {
        let (option, value) = (self.option(ContextKind::InvalidArg)?, self.get(ContextKind::InvalidValue)?);
        Some(format!("{option}: {value:?} is one value too many, it takes none; {option} alone would do"))
    }

    fn conflict(&self) -> Option<String> {
        let prior = self.option(ContextKind::PriorArg);
        if let Some(verb) = self.get(ContextKind::InvalidSubcommand) {
            if Command::command().find_subcommand(verb).is_none() {
                return Some(no_verb(verb, "there is no such verb", None));
            }
            let prior = prior?;
            return Some(format!("{prior}: it stands before the verb; c10k {verb} {prior} would do"));
        }
        let option = self.option(ContextKind::InvalidArg)?;
        Some(match prior.filter(|&prior| prior != option) {
            Some(prior) => format!("{option}: it excludes {prior}; one of them would do"),
            None => format!("{option}: it is given more than once; once would do"),
        })
    }

    fn no_text(&self) -> Option<String> {
        let argument = self.get(ContextKind::InvalidArg)?;
        Some(format!("{argument}: it is not UTF-8; plain ASCII would do"))
    }

    /// The first line of what clap says, without its label.
    fn of_clap(&self) -> String {
        let text = self.answer.render().to_string();
        let line = text.lines().next().unwrap_or_default();
        line.strip_prefix("error: ").unwrap_or(line).into()
    }
}

/// A word where a verb, or nothing, can stand. What looks like an address was meant for `--listen`.
fn no_verb(word: &str, wrong: &str, near: Option<&str>) -> String {
    let is_port = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let instead = match near {
        Some(near) => format!("; did you mean {near}?"),
        None if word == "help" => "; --help would do".into(),
        None if is_port => format!("; --listen {}:{word} would do", LISTEN_DEFAULT.ip()),
        None if word.contains(':') => format!("; --listen {word} would do"),
        None => String::new(),
    };
    format!("{word}: {wrong}{instead}")
}

/// What would do, by the name of the value.
fn example(value: &str) -> &str {
    match value {
        "BACKEND" => "auto, uring or epoll",
        "FEATURES" => "help, or features as DIMENSION=VALUE,...,",
        "ADDR:PORT" => "127.0.0.1:8888 or [::1]:8888",
        "COUNT" => "a count like 100 or 10k",
        "TIME" => "a time like 50ms, 10s or 1m",
        "BYTES" => "an amount like 64Ki or 1Mi",
        "CPUS" => "CPUs like 0,2-3",
        "NAME" => "a name like cubic",
        "FORMAT" => "text or json",
        "RATE" => "a rate like 500 or 200k",
        "SPACING" => "poisson or uniform",
        "CONDITION" => "a condition like 'p99<1ms'",
        "ENGINE" => "auto, uring or epoll",
        "VARIANT" => "uring, epoll:trigger=edge or 'NAME=COMMAND {port}'",
        "WORKLOAD" => "a workload like pingpong:64:100",
        "PACE" => "half, closed or a rate like 50k",
        "DIR" => "the name of a directory",
        "WHEN" => "auto, on or off",
        "ADDRESSES" => "auto, or addresses like 127.0.0.1-127.0.0.9",
        "PROCESS" => "auto, a PID or 10.0.0.2:8889",
        "NUMBER" => "a number like 7",
        "LIST" => "percentiles like 50,99,99.9",
        "FILE" => "the name of a file",
        _ => "one after it",
    }
}
