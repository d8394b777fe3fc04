//! What has to be typed to do it again.

use super::Matter;
use crate::report::document::{Command, Part};
use crate::result::bench::Side;

pub(super) fn parts(matter: &Matter<'_>) -> Vec<Part> {
    let mut parts = Vec::new();
    for (index, source) in matter.sources.iter().enumerate() {
        let result = &source.result;
        if matter.several() {
            parts.push(Part::heading(format!("{}, read from {}", source.label, source.name)));
        }
        let mut items = vec![Command { what: "all of it again".into(), line: result.plan.command.clone() }];
        let cells = result.comparisons.iter().map(|comparison| &comparison.cell);
        for variant in cells.flat_map(|cell| [&cell.variant, &cell.reference]) {
            let what = format!("server {}", variant.name);
            if !items.iter().any(|item| item.what == what) {
                items.push(Command { what, line: shell(&variant.command) });
            }
        }
        items.extend(matter.sources[index].clients.iter().map(|client| {
            let side = if client.side == Side::A { "variant" } else { "reference" };
            let purpose = super::purpose(client.purpose);
            let what = format!("client, {}, {purpose} of the {side}", client.cell);
            Command { what, line: client.command.clone() }
        }));
        parts.push(Part::Commands { items });
    }
    parts
}

/// Words as a shell takes them.
fn shell(words: &[String]) -> String {
    let plain = |word: &str| {
        !word.is_empty()
            && word.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_./:=,@+%{}".contains(letter))
    };
    let quoted = |word: &String| match plain(word) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::shell;

    #[test]
    fn words_are_quoted_where_a_shell_would_take_them_apart() {
        let words = ["c10k", "--uring", "recv=single,taskrun=coop", "a b", "it's", ""].map(String::from);
        assert_eq!(shell(&words), r"c10k --uring recv=single,taskrun=coop 'a b' 'it'\''s' ''");
    }
}
