//! The rules about the sources, held by reading them: who may import whom, where `unsafe` may stand,
//! what an event loop may not name, how a file begins and how long it may be. Read as tokens, so that
//! comments and strings are not mistaken for code, and a path counts wherever it stands.
//!
//! Test code is a module or item under `#[cfg(test)]`. It may import any room (a test of a policy may
//! need its user) and may print; `unsafe` is bound to its rooms there too.

use libtest_mimic::{Failed, Trial};
use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Who may import whom: DESIGN.md, "The rooms". A room may always name itself.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("statistics", &[]),
    ("conn", &[]),
    ("counters", &[]),
    ("stop", &[]),
    ("sys", &[]),
    ("result", &["units"]),
    ("features", &["units"]),
    ("host", &["units"]),
    ("config", &["units", "features"]),
    ("worker", &["config", "conn", "counters", "stop"]),
    ("ring", &["host", "features"]),
    ("uring", &["ring", "conn", "counters", "stop", "config", "features", "worker"]),
    ("epoll_baseline", &["conn", "counters", "stop", "config", "features", "worker"]),
    (
        "server",
        &[
            "uring",
            "epoll_baseline",
            "ring",
            "config",
            "features",
            "host",
            "counters",
            "stop",
            "result",
            "sys",
            "worker",
        ],
    ),
    ("load", &["ring", "units", "host", "stop", "statistics", "result"]),
    ("doctor", &["ring", "features", "host", "result", "units"]),
    ("bench", &["features", "units", "host", "statistics", "result"]),
    ("report", &["result", "statistics", "features", "units"]),
    ("cli", &["config", "features", "units", "server", "load", "doctor", "bench", "report"]),
    ("main", &["cli", "config", "features", "units", "server", "load", "doctor", "bench", "report"]),
    ("lib", &[]),
];

/// Where `unsafe` may stand: paths that begin so.
const UNSAFE_ROOMS: &[&str] = &["src/ring/", "src/uring/buffers", "src/sys", "src/load/buffers"];
/// Where the printing macros may stand.
const PRINTERS: &[&str] = &["src/main.rs"];
/// Files longer than [`LINES_MAX`], each with its reason. There is none.
const LONG_FILES: &[&str] = &[];
const LINES_MAX: usize = 600;

/// One source file.
struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
    /// Whether all of it is test code: another file declares it, or a module around it, as such.
    test: bool,
}

/// A rule: what is wrong with a source.
type Rule = fn(&Source) -> Vec<String>;

const RULES: &[(&str, Rule)] = &[
    ("every_room_imports_only_what_it_may", imports),
    ("unsafe_stands_only_in_its_rooms", unsafe_rooms),
    ("nobody_prints_but_the_printers", printing),
    ("an_event_loop_names_no_kernel_no_clock_and_no_feature", event_loops),
    ("every_file_begins_with_what_it_is", beginnings),
    ("no_file_is_longer_than_it_may_be", lengths),
];

/// The trials: every rule against the sources, and every rule against samples that break it.
pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = RULES
        .iter()
        .map(|&(name, rule)| Trial::test(format!("rooms::{name}"), move || holds(rule)))
        .collect();
    trials.push(Trial::test("rooms::every_rule_notices_what_breaks_it", || {
        broken_samples();
        Ok(())
    }));
    trials.push(Trial::test("rooms::no_rule_cries_over_nothing", || {
        sound_samples();
        Ok(())
    }));
    trials
}

fn holds(rule: Rule) -> Result<(), Failed> {
    let sources = sources();
    assert!(sources.len() > 10, "the sources were not found");
    let wrong: Vec<String> = sources.iter().flat_map(rule).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for folder in ["src", "epoll_baseline", "tests", "benches", "examples"] {
        collect(root, &root.join(folder), &mut sources);
    }
    let tests: Vec<Vec<String>> = sources.iter().flat_map(test_modules).collect();
    for source in &mut sources {
        let module = source.module();
        source.test = source.is_program() && tests.iter().any(|test| module.starts_with(test));
    }
    sources
}

/// The modules a file declares as test code that stands in files of its own: `#[cfg(test)] mod x;`.
fn test_modules(source: &Source) -> Vec<Vec<String>> {
    let tokens = if source.is_program() { source.tokens() } else { Vec::new() };
    let declared =
        tokens.windows(3).filter(|three| three[0].test && three[0].text == "mod" && three[2].text == ";");
    declared.map(|three| [&three[0].module[..], std::slice::from_ref(&three[1].text)].concat()).collect()
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a text");
            let path = path.strip_prefix(root).expect("under the root").to_str().expect("a plain name");
            sources.push(Source { path: path.into(), text, test: false });
        }
    }
}

impl Source {
    /// Whether it is part of the program, not of its tests.
    fn is_program(&self) -> bool {
        self.path.starts_with("src/") || self.path.starts_with("epoll_baseline/")
    }

    /// The path of its module in the crate; empty for the root.
    fn module(&self) -> Vec<String> {
        let path = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let path = path.strip_suffix(".rs").expect("a source");
        let path = path.strip_suffix("/mod").unwrap_or(path);
        match path {
            "lib" | "main" => Vec::new(),
            path => path.split('/').map(String::from).collect(),
        }
    }

    /// The room it belongs to.
    fn room(&self) -> String {
        match self.path.as_str() {
            "src/main.rs" => "main".into(),
            "src/lib.rs" => "lib".into(),
            _ => self.module()[0].clone(),
        }
    }

    fn tokens(&self) -> Vec<Token> {
        let stream: TokenStream =
            self.text.parse().unwrap_or_else(|error| panic!("{}: not Rust: {error}", self.path));
        let mut tokens = Vec::new();
        flatten(stream, &self.module(), self.test, &mut tokens);
        tokens
    }

    fn at(&self, token: &Token, what: &str) -> String {
        format!("{}:{}: {what}", self.path, token.line)
    }
}

/// A word or sign, brackets included, and where it stands.
struct Token {
    text: String,
    line: usize,
    /// The module it stands in.
    module: Vec<String>,
    /// Whether that is test code.
    test: bool,
}

/// All tokens in order, groups opened. A literal is a token without text, so that nothing in a string
/// is taken for code; documentation is an attribute with a literal.
fn flatten(stream: TokenStream, module: &[String], test: bool, out: &mut Vec<Token>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    // True from a `#[cfg(test)]` to the end of its item.
    let mut test_item = false;
    for (index, tree) in trees.iter().enumerate() {
        let mut token = |text: String, line: usize| {
            out.push(Token { text, line, module: module.to_vec(), test: test || test_item });
        };
        let line = tree.span().start().line;
        match tree {
            TokenTree::Ident(ident) => token(ident.to_string(), line),
            TokenTree::Literal(_) => token(String::new(), line),
            TokenTree::Punct(sign) => {
                token(sign.as_char().to_string(), line);
                test_item &= sign.as_char() != ';';
            }
            TokenTree::Group(group) => {
                let (open, close) = brackets(group);
                token(open.into(), line);
                let inner = match named_module(&trees[..index], group) {
                    Some(name) => [module, &[name.to_string()]].concat(),
                    None => module.to_vec(),
                };
                flatten(group.stream(), &inner, test || test_item, out);
                let line = group.span_close().start().line;
                out.push(Token {
                    text: close.into(),
                    line,
                    module: module.to_vec(),
                    test: test || test_item,
                });
                test_item |= is_cfg_test(&trees[..index], group);
                test_item &= group.delimiter() != Delimiter::Brace;
            }
        }
    }
}

fn brackets(group: &Group) -> (&'static str, &'static str) {
    match group.delimiter() {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::None => ("", ""),
    }
}

/// The name in `mod name { … }`.
fn named_module<'a>(before: &'a [TokenTree], group: &Group) -> Option<&'a Ident> {
    match before {
        [.., TokenTree::Ident(word), TokenTree::Ident(name)]
            if *word == "mod" && group.delimiter() == Delimiter::Brace =>
        {
            Some(name)
        }
        _ => None,
    }
}

/// Whether it is the bracket of `#[cfg(test)]`: exactly that, not a condition other builds may meet.
fn is_cfg_test(before: &[TokenTree], group: &Group) -> bool {
    matches!(before.last(), Some(TokenTree::Punct(sign)) if sign.as_char() == '#')
        && group.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// The rooms a file names, with the token: what follows `crate::`, enough `super::`, or, in the
/// binary, the name of the library; in a group, each of its members.
fn named_rooms<'a>(source: &Source, tokens: &'a [Token]) -> Vec<(String, &'a Token)> {
    let binary = source.path == "src/main.rs";
    let mut named = Vec::new();
    for start in 0..tokens.len() {
        let token = &tokens[start];
        let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
        let continues = start >= 2 && text(start - 1) == ":" && text(start - 2) == ":";
        let mut base = match token.text.as_str() {
            "crate" if text(start + 1) == "as" => {
                named.push(("*".into(), token));
                continue;
            }
            "crate" => Vec::new(),
            "c10k" if binary && !continues => Vec::new(),
            "super" | "self" if !continues => token.module.clone(),
            _ => continue,
        };
        let mut at = start;
        if token.text == "super" {
            base.pop();
        }
        while text(at + 1) == ":" && text(at + 2) == ":" && text(at + 3) == "super" {
            base.pop();
            at += 3;
        }
        if text(at + 1) != ":" || text(at + 2) != ":" {
            continue;
        }
        match (base.first(), text(at + 3)) {
            (Some(room), _) => named.push((room.clone(), token)),
            (None, "{") => named.extend(members(tokens, at + 3)),
            (None, name) => named.push((name.into(), &tokens[at + 3])),
        }
    }
    named
}

/// The first words of the members of the group that opens at `open`.
fn members(tokens: &[Token], open: usize) -> Vec<(String, &Token)> {
    let mut found = Vec::new();
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        let first = index == open + 1 || (depth == 1 && tokens[index - 1].text == ",");
        if first && token.text != "}" {
            found.push((token.text.clone(), token));
        }
    }
    found
}

fn imports(source: &Source) -> Vec<String> {
    if !source.is_program() || source.test {
        return Vec::new();
    }
    let room = source.room();
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{}: the room {room} is not in the table", source.path)];
    };
    let rooms: BTreeSet<&str> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
    let tokens = source.tokens();
    named_rooms(source, &tokens)
        .into_iter()
        .filter(|(_, token)| !token.test)
        .filter(|(name, _)| *name != room && !allowed.contains(&name.as_str()))
        // The root's own items would be neither rooms nor allowed; `*` would be all of them.
        .map(|(name, token)| match rooms.contains(name.as_str()) {
            true => source.at(token, &format!("the room {room} may not import {name}")),
            false => source.at(token, &format!("{name} is no room")),
        })
        .collect()
}

fn unsafe_rooms(source: &Source) -> Vec<String> {
    if UNSAFE_ROOMS.iter().any(|room| source.path.starts_with(room)) {
        return Vec::new();
    }
    let tokens = source.tokens();
    let found = tokens.iter().filter(|token| token.text == "unsafe");
    found.map(|token| source.at(token, "`unsafe` outside its rooms")).collect()
}

fn printing(source: &Source) -> Vec<String> {
    if !source.is_program() || PRINTERS.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let tokens = source.tokens();
    let prints = ["print", "println", "eprint", "eprintln", "dbg"];
    tokens
        .windows(2)
        .filter(|pair| !pair[0].test && prints.contains(&pair[0].text.as_str()) && pair[1].text == "!")
        .map(|pair| source.at(&pair[0], "prints, and would panic where nobody reads"))
        .collect()
}

fn event_loops(source: &Source) -> Vec<String> {
    if !source.path.ends_with("/event_loop.rs") {
        return Vec::new();
    }
    let tokens: Vec<Token> = source.tokens().into_iter().filter(|token| !token.test).collect();
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let follows = |index: usize| {
        if text(index + 1) == ":" && text(index + 2) == ":" { text(index + 3) } else { "" }
    };
    let wrong = |index: usize| match text(index) {
        "features" => Some("a feature"),
        "uring" | "epoll" if index > 0 && text(index - 1) == "." => Some("a feature"),
        "Instant" | "SystemTime" => Some("a clock"),
        "libc" | "rustix" | "io_uring" => Some("the kernel"),
        "nix" if follows(index) != "errno" => Some("the kernel"),
        "*" if ["const", "mut"].contains(&text(index + 1)) => Some("a raw pointer"),
        "NonNull" | "as_ptr" | "as_mut_ptr" => Some("a raw pointer"),
        _ => None,
    };
    (0..tokens.len())
        .filter_map(|index| {
            Some(source.at(&tokens[index], &format!("an event loop names {}", wrong(index)?)))
        })
        .collect()
}

fn beginnings(source: &Source) -> Vec<String> {
    let sound = source.text.lines().next().is_some_and(|line| line.starts_with("//! ") && line.len() > 20);
    if sound { Vec::new() } else { vec![format!("{}: does not begin with what it is", source.path)] }
}

fn lengths(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= LINES_MAX || LONG_FILES.contains(&source.path.as_str()) {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines, more than {LINES_MAX}", source.path)]
}

fn sample(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into(), test: false }
}

/// Each of these breaks the rule, in its own way.
fn broken_samples() {
    let broken: &[(Rule, &str, &str)] = &[
        (imports, "src/conn/machine.rs", "use crate::config::Config;"),
        (imports, "src/conn/machine.rs", "fn f() -> crate::config::Config { todo!() }"),
        (imports, "src/conn/machine.rs", "fn f() { assert_eq!(crate::config::X, 1); }"),
        (imports, "src/conn/machine.rs", "use super::super::config::Config;"),
        (imports, "src/conn/machine.rs", "mod inner { use super::super::super::config; }"),
        (imports, "src/conn/machine.rs", "pub(in crate::ring) struct X;"),
        (imports, "src/conn.rs", "use super::ring;"),
        (imports, "src/uring/mod.rs", "use crate::{conn::Machine, epoll_baseline};"),
        (imports, "src/uring/mod.rs", "use crate::{conn::{self, Machine}, server::{A, B}};"),
        (imports, "src/uring/mod.rs", "use crate::*;"),
        (imports, "src/uring/mod.rs", "use crate as everything;"),
        (imports, "src/uring/mod.rs", "#[cfg(any(test, feature = \"sim\"))] mod x { use crate::server::A; }"),
        (imports, "epoll_baseline/sockets.rs", "use crate::ring::Ring;"),
        (imports, "src/main.rs", "use c10k::uring;"),
        (imports, "src/novelty.rs", ""),
        (imports, "src/uring/mod.rs", "#[cfg(test)] use a::b; fn f() { crate::server::x() }"),
        (imports, "src/uring/mod.rs", "#[cfg(test)] mod tests {} fn f() { crate::server::x() }"),
        (unsafe_rooms, "src/uring/mod.rs", "fn f() { unsafe { g() } }"),
        (unsafe_rooms, "src/stop.rs", "unsafe impl Send for X {}"),
        (unsafe_rooms, "src/stop.rs", "#[cfg(test)] mod tests { fn f() { m!(unsafe { g() }) } }"),
        (unsafe_rooms, "tests/client.rs", "unsafe fn f() {}"),
        (printing, "src/stop.rs", "fn f() { println!(\"x\"); }"),
        (printing, "epoll_baseline/mod.rs", "fn f() { std::eprintln!(\"x\"); }"),
        (event_loops, "src/uring/event_loop.rs", "use crate::features::Recv;"),
        (event_loops, "src/uring/event_loop.rs", "fn f(c: &Config) { c.uring.sq; }"),
        (event_loops, "src/uring/event_loop.rs", "use std::time::{Duration, Instant};"),
        (event_loops, "src/uring/event_loop.rs", "fn f() { libc::close(1); }"),
        (event_loops, "epoll_baseline/event_loop.rs", "use nix::sys::socket;"),
        (event_loops, "epoll_baseline/event_loop.rs", "use nix::{errno::Errno, unistd};"),
        (event_loops, "epoll_baseline/event_loop.rs", "fn f(p: *mut u8) {}"),
        (event_loops, "epoll_baseline/event_loop.rs", "fn f(p: *const u8) {}"),
        (beginnings, "src/stop.rs", "use x;\n//! Too late, and long enough otherwise."),
        (beginnings, "src/stop.rs", "//! x\n"),
        (beginnings, "src/stop.rs", ""),
        (lengths, "src/stop.rs", &"\n".repeat(LINES_MAX + 1)),
    ];
    for (rule, path, text) in broken {
        assert!(!rule(&sample(path, text)).is_empty(), "not noticed in {path}: {text}");
    }
}

/// None of these breaks a rule, though a search for words would say so.
fn sound_samples() {
    let sound: &[(Rule, &str, &str)] = &[
        (imports, "src/conn/machine.rs", "use super::Tick; use crate::conn::table::Table;"),
        (
            imports,
            "src/conn/machine.rs",
            "/* use crate::config; */ // crate::ring\nconst X: &str = \"crate::uring\";",
        ),
        (imports, "src/conn/machine.rs", "/// See [`crate::config`].\nmod inner { use super::super::Tick; }"),
        (imports, "src/conn/machine.rs", "#[cfg(test)] mod tests { use crate::ring::sim; use super::*; }"),
        (imports, "src/uring/mod.rs", "use crate::{conn::{Machine, Step}, ring::{self, Ring}};"),
        (imports, "src/main.rs", "use c10k::{cli, server}; fn main() { cli::run() }"),
        (imports, "src/conn/machine.rs", "pub(crate) struct X; impl X { fn f(self) {} }"),
        (unsafe_rooms, "src/ring/real.rs", "fn f() { unsafe { g() } }"),
        (unsafe_rooms, "src/stop.rs", "#![deny(unsafe_code)] // unsafe\nconst X: &str = \"unsafe {}\";"),
        (
            printing,
            "src/stop.rs",
            "#[cfg(test)] mod tests { fn f() { println!(\"x\") } } fn g() { writeln!(a) }",
        ),
        (event_loops, "src/uring/event_loop.rs", "use nix::errno::Errno; fn f(a: u8, b: &mut u8) { a * b; }"),
        (event_loops, "src/uring/event_loop.rs", "#[cfg(test)] mod tests { use std::time::Instant; }"),
        (event_loops, "src/uring/run.rs", "use std::time::Instant;"),
        (beginnings, "src/stop.rs", "//! How the server is told to end.\n"),
        (lengths, "src/stop.rs", &"\n".repeat(LINES_MAX)),
    ];
    for (rule, path, text) in sound {
        assert_eq!(rule(&sample(path, text)), Vec::<String>::new(), "in {path}: {text}");
    }
}
