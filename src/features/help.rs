//! What `--uring help` and `--epoll help` print: every dimension, its values, the default, the release
//! each came with, and what this kernel says.

use super::answers::Answers;
use super::resolve::default_size;
use super::table::{self, Dimension, Value};

/// For `--uring help`.
#[must_use]
pub fn uring(answers: &Answers) -> String {
    let kernel = if answers.release.is_empty() { "n/a" } else { &answers.release };
    let says = match answers.unavailable() {
        None => {
            format!("`yes` and `no` are this kernel's own answers ({kernel}); a blank needs nothing new.\n")
        }
        Some(sentence) => format!("Not available here: {sentence}\n"),
    };
    page("--uring", table::URING, "recv=single,taskrun=coop", &says, answers)
}

/// For `--epoll help`.
#[must_use]
pub fn epoll() -> String {
    page("--epoll", table::EPOLL, "trigger=edge", "", &Answers::default())
}

fn page(flag: &str, table: &[Dimension], example: &str, says: &str, answers: &Answers) -> String {
    let mut text = format!(
        "{flag} DIMENSION=VALUE[,DIMENSION=VALUE]...   for example {flag} {example}\n\
         The value marked * is used where nothing is typed and the kernel has it.\n{says}"
    );
    for dimension in table {
        text.push_str(&format!("\n{} - {}\n", dimension.name, dimension.about));
        for (index, value) in dimension.values.iter().enumerate() {
            let size = default_size(flag, dimension.name).filter(|_| index == 0);
            text.push_str(&line(value, index == 0, size, answers));
        }
    }
    text
}

fn line(value: &Value, first: bool, size: Option<String>, answers: &Answers) -> String {
    let mark = if first { '*' } else { ' ' };
    let since = value.since.map_or(String::new(), |since| format!("Linux {since}"));
    let about = value.about.to_string() + &size.map_or(String::new(), |size| format!(" [default: {size}]"));
    let line = format!("  {mark} {:<15} {about:<42} {since:<11} {}", value.form.name(), says(value, answers));
    format!("{}\n", line.trim_end())
}

fn says(value: &Value, answers: &Answers) -> String {
    match value.needs {
        Some(_) if answers.barred.is_some() => "not asked".into(),
        Some(needs) => answers.refusal(needs).map_or("yes".into(), |answer| format!("no ({answer})")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Capability;
    use super::*;

    #[test]
    fn help_names_every_dimension_and_value_and_what_the_kernel_said() {
        let refused = vec![(Capability::DeferTaskrun, "EINVAL".to_string())];
        let text = uring(&Answers { release: "6.0.1".into(), barred: None, refused });
        for dimension in table::URING {
            assert!(text.contains(&format!("\n{} - ", dimension.name)), "{}", dimension.name);
            for value in dimension.values {
                assert!(text.contains(value.form.name()), "{}", value.form.name());
            }
        }
        let line =
            |word: &str| text.lines().find(|line| line.trim_start_matches([' ', '*']).starts_with(word));
        assert!(line("defer").unwrap().ends_with("no (EINVAL)"));
        assert!(line("coop").unwrap().ends_with("yes"));
        assert!(line("sqpoll").unwrap().ends_with("yes"));
        assert!(line("msg-ring").unwrap().ends_with("yes"));
        assert!(text.contains("6.0.1"));
        for size in
            ["a power of two [default: 128]", "[default: follows --max-connections]", "[default: 64Ki]"]
        {
            assert!(text.contains(size), "{size}");
        }
        assert!(epoll().contains("64 to 16Mi [default: 64Ki]"));
        assert!(epoll().contains("threads - who waits on what"));
    }
}
