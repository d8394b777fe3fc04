//! Variants: `uring`, `epoll:trigger=edge`, `tokio=./tokio-echo {port}`, from what is typed to what is
//! executed. Pure. A word `uring` or `epoll`, up to a colon or the end, is ours; anything else is
//! NAME=COMMAND.

use crate::features::{self, Kind, table};
use crate::result::bench::Variant;
use crate::units::print_cpus;

/// The first word of a command that is this program itself.
pub const OURS: &str = "c10k";

/// Reads a variant, to be served on these CPUs, one worker each.
///
/// # Errors
/// A sentence without the flag. What this release or kernel does not offer is no error here: it is left
/// out by name when it does not start.
pub fn parse(text: &str, cpus: &[usize]) -> Result<Variant, String> {
    let (backend, chosen) = text.split_once(':').unwrap_or((text, ""));
    let command = match backend {
        "uring" => ours("uring", table::URING, text, chosen, cpus)?,
        "epoll" => ours("epoll", table::EPOLL, text, chosen, cpus)?,
        _ => foreign(text)?,
    };
    Ok(Variant { name: text.into(), command, features: None })
}

fn ours(
    backend: &str,
    table: &'static [table::Dimension],
    text: &str,
    chosen: &str,
    cpus: &[usize],
) -> Result<Vec<String>, String> {
    let flag = format!("--{backend}");
    let workers = cpus.len().to_string();
    let cpus = print_cpus(cpus);
    let words = ["serve", "--backend", backend, "--cpus", &cpus, "--workers", &workers];
    let mut command = vec![OURS.to_string()];
    command.extend(words.map(String::from));
    if text.contains(':') {
        let problems = features::Typed::parse(&flag, table, &[chosen.to_string()]).err().unwrap_or_default();
        if let Some(problem) = problems.iter().find(|problem| problem.kind == Kind::Usage) {
            return Err(problem.text.strip_prefix(&format!("{flag}: ")).unwrap_or(&problem.text).into());
        }
        command.extend([flag, chosen.to_string()]);
    }
    command.extend(["--listen", "{addr}", "--format", "json", "-q"].map(String::from));
    Ok(command)
}

fn foreign(text: &str) -> Result<Vec<String>, String> {
    const WOULD_DO: &str = "uring, epoll:trigger=edge or 'NAME=COMMAND {port}' would do";
    let named = text.split_once('=').filter(|(name, _)| !name.is_empty() && !name.contains([':', ' ']));
    let Some((_, command)) = named else {
        return Err(format!("{text:?} is neither uring nor epoll and names no command; {WOULD_DO}"));
    };
    let words = words(command).ok_or_else(|| format!("{text:?} ends within a quotation; {WOULD_DO}"))?;
    if words.is_empty() || !words.iter().any(|word| word.contains("{port}") || word.contains("{addr}")) {
        return Err(format!("{text:?} does not say where its port goes; {WOULD_DO}"));
    }
    Ok(words)
}

/// The words of a command as a shell has them: blanks separate, quotations hold together. `None` where a
/// quotation does not end.
fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in text.chars() {
        match quote {
            Some(mark) if mark == letter => quote = None,
            None if letter == '"' || letter == '\'' => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            None if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// Whether it is this program's own server.
#[must_use]
pub fn is_ours(variant: &Variant) -> bool {
    variant.command.first().is_some_and(|word| word == OURS)
        && matches!(variant.name.split(':').next(), Some("uring" | "epoll"))
}

/// What it is called in a sentence: without the command.
#[must_use]
pub fn short(variant: &Variant) -> &str {
    match is_ours(variant) {
        true => &variant.name,
        false => variant.name.split('=').next().unwrap_or(&variant.name),
    }
}

/// Whether sizes of the ring's queues were asked for, so that one that overflows is what was asked for.
#[must_use]
pub fn sizes_its_queues(variant: &Variant) -> bool {
    let mut chosen = variant.name.split_once(':').map_or("", |(_, chosen)| chosen).split(',');
    is_ours(variant) && chosen.any(|one| one.starts_with("sq=") || one.starts_with("cq="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_served_by_this_program_and_others_by_their_command() {
        let edge = parse("epoll:trigger=edge", &[0]).unwrap();
        assert_eq!(
            edge.command.join(" "),
            "c10k serve --backend epoll --cpus 0 --workers 1 --epoll trigger=edge --listen {addr} --format json -q"
        );
        assert!(is_ours(&edge) && short(&edge) == "epoll:trigger=edge");
        let other = parse("tokio=./tokio-echo --greeting 'two words' {port}", &[0]).unwrap();
        assert_eq!(other.command, ["./tokio-echo", "--greeting", "two words", "{port}"]);
        assert!(!is_ours(&other) && short(&other) == "tokio");
        assert!(!is_ours(&parse("same=c10k serve --listen {addr}", &[0]).unwrap()));
    }

    #[test]
    fn what_is_no_variant_is_refused_with_what_would_do() {
        for (text, named) in [
            ("urin", "neither uring nor epoll"),
            ("uring:rcev=single", "did you mean recv?"),
            ("uring:", "is not dimension=value"),
            ("=x {port}", "names no command"),
            ("x=./server 8888", "where its port goes"),
            ("x=./server '{port}", "ends within a quotation"),
        ] {
            let sentence = parse(text, &[0]).unwrap_err();
            assert!(sentence.contains(named), "{text}: {sentence}");
        }
    }

    #[test]
    fn what_is_not_built_yet_is_left_to_the_server_to_refuse() {
        assert!(parse("uring:recv=poll,napi=50us", &[0]).is_ok());
    }

    #[test]
    fn an_overflow_was_asked_for_where_sizes_were() {
        let sizes = |text: &str| sizes_its_queues(&parse(text, &[0]).unwrap());
        assert!(sizes("uring:sq=4,recv=single") && sizes("uring:cq=64"));
        assert!(!sizes("uring") && !sizes("uring:recv=single") && !sizes("x=./y {port} sq=4"));
    }
}
