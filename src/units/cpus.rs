//! Lists of CPUs as people write them: `0,2-3`. It leaves out which of them may be used; that mask is
//! given.

use std::collections::BTreeSet;

/// CPUs the kernel's fixed-size mask can name.
const CPUS_MAX: usize = 1024;

/// CPUs as `0,2-3`: every one once, and in `mask`. In the order they are written.
///
/// # Errors
/// Every problem, as a sentence without the flag.
pub fn parse_cpus(text: &str, mask: &[usize]) -> Result<Vec<usize>, Vec<String>> {
    let (mut named, mut problems) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for part in text.split(',') {
        let problem = match range(part) {
            Ok(cpus) => cpus.into_iter().find_map(|cpu| {
                named.push(cpu);
                if !seen.insert(cpu) {
                    Some(format!("{cpu} is named twice (in {text}); once would do"))
                } else if !mask.contains(&cpu) {
                    let may = print_cpus(mask);
                    Some(format!("{cpu} is not in the affinity mask of this process; {may} would do"))
                } else {
                    None
                }
            }),
            Err(reason) => Some(format!("{part:?} {reason}")),
        };
        problems.extend(problem);
    }
    if problems.is_empty() { Ok(named) } else { Err(problems) }
}

fn range(part: &str) -> Result<Vec<usize>, String> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let cpu = digits.then(|| text.parse::<usize>().ok()).flatten();
        match cpu {
            Some(cpu) if cpu < CPUS_MAX => Ok(cpu),
            _ if digits => Err(format!("is no CPU; 0 to {} would do", CPUS_MAX - 1)),
            _ => Err("is no CPU; written like 0,2-3".to_string()),
        }
    };
    let Some((first, last)) = part.split_once('-') else { return Ok(vec![number(part)?]) };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("runs backwards; {last}-{first} would do"));
    }
    Ok((first..=last).collect())
}

/// CPUs as `0-1,3`; neighbours that follow each other are drawn together.
#[must_use]
pub fn print_cpus(cpus: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let part = |(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    parts.into_iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cpus_reads_back_in_the_order_it_was_written() {
        let mask: Vec<usize> = (0..16).collect();
        for cpus in [vec![0], vec![3, 1], vec![0, 1, 2, 7, 9, 10], vec![5, 4]] {
            assert_eq!(parse_cpus(&print_cpus(&cpus), &mask), Ok(cpus));
        }
        assert_eq!(print_cpus(&[0, 1, 3]), "0-1,3");
    }

    #[test]
    fn every_cpu_that_is_none_or_may_not_be_used_is_named() {
        let problems = parse_cpus("0,0,9,x,3-1", &[0, 1]).unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[1].contains("0-1 would do"), "{problems:?}");
    }
}
