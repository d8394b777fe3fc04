//! The three forms of a report: everything measured is in them, nothing that is typed becomes code, and
//! nothing outside the page is asked for. The gates, and what is refused.

use super::document::{Document, Part};
use super::for_tests::{both, newer, older, source};
use super::gate;
use super::read::{self, Source};
use super::{chapters, compare, markdown, numbers, page, text};
use crate::result::bench::{BenchResult, Judgement};
use crate::result::gate::Condition;
use crate::result::report::{REPORT_VERSION, Report, ReportSource};
use std::path::Path;

fn report(sources: &[Source], conditions: &[&str]) -> Report {
    let gates: Vec<Condition> = conditions.iter().map(|text| gate::parse(text).expect("right")).collect();
    let changes = compare::changes(sources);
    let gates = gate::hold(&gates, sources, &changes).expect("cells are there");
    let source = |source: &Source| ReportSource {
        name: source.name.clone(),
        label: source.label.clone(),
        result: source.result.clone(),
    };
    Report {
        version: REPORT_VERSION,
        program: "c10k test".into(),
        sources: sources.iter().map(source).collect(),
        differences: compare::differences(sources),
        changes,
        gates,
        exit_code: 0,
    }
}

fn document(sources: &[Source]) -> Document {
    chapters::document(sources, &report(sources, &["uring/epoll>1.00"]))
}

fn forms(document: &Document) -> [(&'static str, String); 3] {
    [
        ("text", text::render(document)),
        ("markdown", markdown::render(document)),
        ("html", page::render(document)),
    ]
}

/// Without line ends and columns, as a reader who only looks for words.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_number_of_a_result_is_in_every_form() {
    for sources in [vec![source(newer())], both()] {
        let document = document(&sources);
        for (form, text) in forms(&document) {
            // Cells of a table may be broken over lines in text; without blanks they are whole again.
            let has = |number: &str| {
                // In text the interval stands below its ratio.
                let parts = if form == "text" { number.replacen(" (", "\n(", 1) } else { number.into() };
                for part in parts.split('\n') {
                    let found = text.contains(part) || (form == "text" && words(&text).contains(part));
                    assert!(found, "{form} has no {part}");
                }
            };
            for source in &sources {
                numbers_of(&source.result, form == "text" && sources.len() > 1)
                    .iter()
                    .for_each(|number| has(number));
            }
        }
    }
}

/// What has to be read somewhere. Where a table of text is crowded its ratios are broken over lines, and
/// only their medians are looked for.
fn numbers_of(result: &BenchResult, crowded: bool) -> Vec<String> {
    let mut numbers = vec![result.plan.environment.kernel.clone().unwrap(), result.plan.seed.to_string()];
    for comparison in &result.comparisons {
        numbers.push(numbers::word(comparison.verdict).into());
        for metric in &comparison.metrics {
            numbers.push(numbers::plain(metric.variant));
            numbers.push(numbers::plain(metric.reference));
            for ratio in metric.ratio.iter().chain(&metric.floor) {
                let whole = numbers::ratio(Some(ratio));
                numbers.push(if crowded { whole.split(' ').next().unwrap().into() } else { whole });
            }
        }
        if let Some(latency) = &comparison.latency {
            for curve in [&latency.variant, &latency.reference] {
                numbers.push(numbers::whole(curve.samples));
                numbers.extend(curve.points.iter().map(|point| numbers::plain(Some(point.us))));
            }
        }
        let health = comparison.variant_health.values().chain(comparison.reference_health.values());
        numbers.extend(health.map(|count| numbers::whole(*count)));
    }
    numbers
}

#[test]
fn every_slice_is_in_the_forms_that_promise_it() {
    let document = document(&[source(newer())]);
    for (form, text) in forms(&document) {
        if form == "text" {
            assert!(words(&text).contains("--format markdown and --format html have every block"), "{text}");
            continue;
        }
        for slice in newer().comparisons.iter().flat_map(|comparison| comparison.slices.clone()) {
            let numbers = slice.numbers.map(|numbers| numbers::plain(Some(numbers.server_cpu_ns)));
            assert!(numbers.is_none_or(|number| text.contains(&number)), "{form}");
        }
        assert!(text.contains("no, invalid: the client was the limit: 99 % busy"), "{form}");
    }
}

#[test]
fn the_verdict_is_read_first_and_the_rest_in_its_order() {
    for (form, text) in forms(&document(&[source(newer())])) {
        let text = words(&text);
        let order = [
            "costs 0.87 of epoll",
            "18,064 descriptors",
            "99.99",
            "pool empty",
            "Invented Processor 9000\u{0}",
            "softirq",
            "c10k load pingpong 127.0.0.1:40123",
        ];
        let mut from = 0;
        for mark in order.iter().filter(|mark| !mark.ends_with('\u{0}')) {
            let at =
                text[from..].find(mark).unwrap_or_else(|| panic!("{form}: {mark} is not after the others"));
            from += at;
        }
    }
}

#[test]
fn a_client_near_its_ceiling_stands_in_every_form_and_earlier_results_have_none() {
    let mut result = newer();
    for (form, text) in forms(&document(&[source(result.clone())])) {
        let text = words(&text);
        let told = ["ceiling beside what was measured", "1.04", "reckoned"];
        assert!(told.iter().all(|told| text.contains(told)), "{form}");
    }
    result.comparisons.iter_mut().for_each(|one| one.client_ceiling = None);
    for (form, text) in forms(&document(&[source(result)])) {
        assert!(!text.contains("ceiling beside what was measured"), "{form}");
    }
}

#[test]
fn the_least_slices_stand_below_their_costs_in_every_form_and_earlier_results_have_none() {
    let mut result = newer();
    let cost = &result.comparisons[0].metrics[0];
    let least = [cost.variant_least, cost.reference_least].map(numbers::plain);
    for (form, text) in forms(&document(&[source(result.clone())])) {
        assert!(least.iter().all(|number| text.contains(number)), "{form} has not {least:?}");
    }
    for metric in result.comparisons.iter_mut().flat_map(|one| &mut one.metrics) {
        (metric.variant_least, metric.reference_least) = (None, None);
    }
    for (form, text) in forms(&document(&[source(result)])) {
        assert!(!words(&text).contains("by which nothing is judged"), "{form}");
    }
}

#[test]
fn many_comparisons_have_a_line_each_unless_all_is_asked_for() {
    let document_of_many = document(&[source(newer())]);
    let brief = text::brief(&document_of_many);
    let line = |name: &str| {
        let found = brief.lines().filter(|line| line.contains(name) && line.contains(" ("));
        found.map(String::from).collect::<Vec<_>>()
    };
    // Everything that ran has one; the stream has the mark of a client near its limit.
    assert_eq!(line("uring / epoll").len(), 5, "{brief}");
    assert!(line("same  ")[0].ends_with("same       h"), "{brief}");
    assert!(brief.contains("h: the client's ceiling is below 1.5 times"), "{brief}");
    assert!(brief.contains("\nVERDICT\n"), "{brief}");
    for told in [
        "9000 connections: uring against epoll: 9,000 connections need",
        "costs 0.87 of epoll's CPU",
        "--details prints the pictures",
    ] {
        assert!(words(&brief).contains(told), "{told}: {brief}");
    }
    assert!(brief.lines().count() < 50 && brief.lines().all(|line| line.chars().count() <= text::WIDTH));
    let (matrix, verdict) = (brief.find("uring / epoll"), brief.find("VERDICT"));
    assert!(matrix < verdict, "the lines stand at the top");
    // Few are told in full, also without being asked for.
    let few = document(&[source(older())]);
    assert_eq!(text::brief(&few), text::render(&few));
}

#[test]
fn a_sentence_for_each_of_many_cells_does_not_bury_the_verdict() {
    let mut result = newer();
    result.verdict = vec!["this one is told".into(); 12];
    let told =
        |result: &BenchResult| text::render(&document(&[source(result.clone())])).matches("is told").count();
    assert_eq!(told(&result), 12);
    result.verdict.push("this one is told".into());
    assert_eq!(told(&result), 0);
}

#[test]
fn of_many_comparisons_the_page_folds_numbers_and_shows_pictures() {
    let many = page::render(&document(&[source(newer())]));
    let mut few = newer();
    few.comparisons.truncate(2);
    let few = page::render(&document(&[source(few)]));
    assert_eq!(
        (many.matches("class=\"numbers\"").count() > 8, few.contains("class=\"numbers\"")),
        (true, false)
    );
    // What it is about is not folded.
    let matrix =
        many.split("<figure id=\"figure-matrix\"").nth(1).unwrap().split("</figure>").next().unwrap();
    assert!(matrix.contains("<table>") && !matrix.contains("<details"), "{matrix}");
}

#[test]
fn results_of_one_kernel_are_called_by_their_numbers_and_a_thing_against_itself_by_its_sides() {
    let mut sources = [source(newer()), source(newer())];
    read::label(&mut sources);
    assert_eq!((sources[0].label.as_str(), sources[1].label.as_str()), ("[1]", "[2]"));
    let lead = &document(&sources).lead[1];
    assert!(lead.starts_with("[2] results/6.18.44, Linux 6.18.44, "), "{lead}");
    let mut same = newer();
    same.comparisons.iter_mut().for_each(|one| one.cell.variant.name = "epoll".into());
    let sources = [source(same)];
    assert_eq!(compare::groups(&sources)[0].sides(), ["variant", "reference"]);
}

#[test]
fn an_earlier_result_is_reported_though_it_has_none_of_the_newer_fields() {
    let mut value = serde_json::to_value(newer()).unwrap();
    let mut removed = 0;
    let mut without = |value: &mut serde_json::Value, names: &[&str]| {
        let object = value.as_object_mut().unwrap();
        removed += names.iter().filter(|name| object.remove(**name).is_some()).count();
    };
    for comparison in value["comparisons"].as_array_mut().unwrap() {
        without(comparison, &["marks", "disturbances", "drifted", "client_ceiling"]);
        for metric in comparison["metrics"].as_array_mut().unwrap() {
            without(metric, &["variant_least", "reference_least"]);
        }
        for slice in comparison["slices"].as_array_mut().unwrap() {
            without(slice, &["before", "server_padding_bytes"]);
            if !slice["numbers"].is_null() {
                without(&mut slice["numbers"], &["second_half"]);
            }
        }
    }
    assert!(removed > 500, "{removed} fields are newer");
    let read = read::parse(&value.to_string()).expect("it is read");
    assert_eq!(read.comparisons[0].marks, None);
    let document = document(&[source(read)]);
    for (form, text) in forms(&document).into_iter().chain([("brief", text::brief(&document))]) {
        assert!(text.contains("0.87") && !text.contains("NaN"), "{form}");
    }
    assert!(text::brief(&document).contains("?: this result is from a program that marked nothing"));
}

#[test]
fn a_line_of_text_is_no_wider_than_a_hundred_columns_but_a_command() {
    for sources in [vec![source(newer())], both()] {
        let text = text::render(&document(&sources));
        for line in text.lines().filter(|line| !line.starts_with("    ")) {
            assert!(line.chars().count() <= text::WIDTH, "{}: {line}", line.chars().count());
        }
    }
}

#[test]
fn what_is_typed_becomes_no_code() {
    let attack = "<script>alert(1)</script>\"'`|";
    let mut result = newer();
    for comparison in &mut result.comparisons {
        comparison.cell.variant.name = attack.into();
        comparison.cell.question = Some(attack.into());
        comparison.cell.workload.words = attack.into();
        comparison.sentence = attack.into();
        comparison.reasons = vec![attack.into()];
    }
    result.verdict = vec![attack.into()];
    result.caveats = vec![attack.into()];
    result.plan.environment.kernel = Some(attack.into());
    result.plan.environment.build.insert(attack.into(), attack.into());
    result.plan.command = attack.into();
    let mut source = source(result);
    source.clients[0].command = attack.into();
    let document =
        chapters::document(std::slice::from_ref(&source), &report(std::slice::from_ref(&source), &[]));
    let page = page::render(&document);
    assert!(!page.contains("<script"), "the page has a script");
    assert!(page.matches("&lt;script&gt;").count() > 20, "and says what was typed");
    let markdown = markdown::render(&document);
    let mut fenced = false;
    for line in markdown.lines() {
        fenced ^= line.starts_with("```");
        assert!(fenced || !line.contains("<script"), "{line}");
        // A bar of the attack would begin another column.
        assert!(fenced || !line.contains("`|"), "{line}");
    }
}

#[test]
fn a_page_asks_for_nothing_outside_itself() {
    let page = page::render(&document(&both()));
    let mut attributes = 0;
    for name in ["src=", "href=", "srcset=", "action=", "data=", "poster=", "xlink:href="] {
        for rest in page.split(name).skip(1) {
            attributes += 1;
            assert!(rest.starts_with("\"#"), "{name}{}", &rest[..rest.len().min(60)]);
        }
    }
    assert!(attributes >= 5, "the links within the page are seen by this test");
    for rest in page.split("url(").skip(1) {
        assert!(rest.starts_with('#'), "url({}", &rest[..rest.len().min(60)]);
    }
    for word in ["<script", "@import", "<link", "<iframe", "<img", "<object", "<embed", "://", "javascript:"]
    {
        assert!(!page.contains(word), "{word}");
    }
}

#[test]
fn every_picture_has_words_and_its_numbers_and_an_id_of_its_own() {
    let document = document(&both());
    let figures: Vec<_> = document
        .chapters
        .iter()
        .flat_map(|chapter| &chapter.parts)
        .filter_map(|part| if let Part::Figure(figure) = part { Some(figure) } else { None })
        .collect();
    assert!(figures.len() == 7, "{}", figures.len());
    let mut ids: Vec<&str> = figures.iter().map(|figure| figure.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), figures.len());
    for figure in figures {
        assert!(figure.svg.contains("<title id=") && figure.svg.contains("<desc id="), "{}", figure.id);
        assert!(!figure.table.rows.is_empty(), "{}", figure.id);
        assert!(!figure.svg.contains("NaN") && !figure.svg.contains("inf"), "{}", figure.svg);
    }
    let page = page::render(&document);
    for part in page.split("<figure").skip(1) {
        let figure = part.split("</figure>").next().unwrap();
        assert!(figure.contains("<svg") && figure.contains("<table>"), "{figure}");
    }
}

#[test]
fn the_picture_in_letters_shows_where_the_interval_lies() {
    let text = text::render(&document(&[source(newer())]));
    let line =
        text.lines().find(|line| line.starts_with("uring / epoll") && line.contains("better")).unwrap();
    let drawn: String = line.split('|').nth(1).unwrap().into();
    let (median, one) = (drawn.find('o').unwrap(), drawn.find(':').unwrap());
    assert!(median < one, "0.87 stands left of 1: {line}");
    let worse = text.lines().find(|line| line.contains("worse") && line.contains('|')).unwrap();
    let drawn: String = worse.split('|').nth(1).unwrap().into();
    assert!(drawn.find('o').unwrap() > drawn.find(':').unwrap(), "1.18 stands right of 1: {worse}");
}

#[test]
fn the_same_cell_of_two_results_is_compared_and_others_are_not() {
    let sources = both();
    let changes = compare::changes(&sources);
    let found: Vec<(&str, Judgement)> =
        changes.iter().map(|change| (change.workload.as_str(), change.verdict)).collect();
    assert_eq!(
        found,
        [
            ("pingpong:64:100", Judgement::Better),
            ("stream:65536:16", Judgement::Undecided),
            ("pingpong:64:1000", Judgement::Better)
        ]
    );
    let first = changes[0].server_cpu.as_ref().unwrap();
    assert!((first.median - 0.87 / 0.98).abs() < 0.03, "{first:?}");
    assert!(first.low < first.median && first.median < first.high && first.confidence >= 0.95);
    // The other way round it is as much dearer.
    let turned: Vec<Source> = sources.into_iter().rev().collect();
    let back = &compare::changes(&turned)[0];
    assert_eq!(back.verdict, Judgement::Worse);
    assert!((back.server_cpu.as_ref().unwrap().median * first.median - 1.0).abs() < 1e-9);
}

#[test]
fn what_differs_between_results_is_listed_and_what_is_alike_is_not() {
    let differences = compare::differences(&both());
    let of = |what: &str| differences.iter().find(|one| one.what == what).map(|one| one.values.clone());
    assert_eq!(of("kernel"), Some(vec!["6.12.9".into(), "6.18.44".into()]));
    assert_eq!(of("uring: taskrun"), Some(vec!["coop".into(), "defer".into()]));
    assert_eq!((of("processor"), of("uring: recv"), of("epoll: trigger")), (None, None, None));
}

#[test]
fn a_gate_is_breached_only_by_a_whole_interval() {
    let sources = [source(newer())];
    let held = |text: &str| {
        let gates = report(&sources, &[text]).gates;
        gates.iter().filter(|gate| gate.breached).map(|gate| gate.cell.clone().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(held("uring/epoll>1.00"), ["c4"], "churn costs more");
    // A part of the interval of c1 is above 1.
    assert_eq!(held("uring/epoll < 1.00"), ["c0", "c2", "c3"]);
    assert_eq!(held("uring:recv=single/epoll<1"), ["c5"]);
    assert_eq!(held("uring/epoll>=1.5"), Vec::<String>::new());
    // What was left out is held to nothing where others were measured.
    let gates = report(&sources, &["uring/epoll>1.00"]).gates;
    assert!(!gates.iter().any(|gate| gate.cell.as_deref() == Some("c6") || gate.measured.is_none()));
}

#[test]
fn a_gate_on_few_blocks_is_not_breached_however_far_they_are() {
    let mut result = newer();
    for metric in &mut result.comparisons[4].metrics {
        metric.ratio.as_mut().into_iter().for_each(|ratio| ratio.confidence = 0.9375);
    }
    let gates = report(&[source(result)], &["uring/epoll>1.00"]).gates;
    let churn = gates.iter().find(|gate| gate.cell.as_deref() == Some("c4")).unwrap();
    assert!(!churn.breached && churn.measured.as_ref().unwrap().contains("94 % sure"), "{churn:?}");
}

#[test]
fn a_gate_on_what_was_only_left_out_is_not_measured() {
    let mut result = newer();
    result.comparisons.retain(|one| one.verdict == Judgement::LeftOut);
    let gates = report(&[source(result)], &["uring/epoll>1.00"]).gates;
    assert_eq!((gates.len(), &gates[0].measured, gates[0].breached), (1, &None, false));
}

#[test]
fn a_gate_on_the_change_is_held_between_results() {
    let turned: Vec<Source> = both().into_iter().rev().collect();
    let breached = |sources: &[Source], text: &str| {
        report(sources, &[text]).gates.iter().filter(|gate| gate.breached).count()
    };
    assert_eq!((breached(&turned, "change>1.02"), breached(&both(), "change>1.02")), (2, 0));
}

#[test]
fn a_wrong_gate_gets_a_sentence_with_what_would_do() {
    for (text, words) in [
        ("uring/epoll", "'uring/epoll>1.00' would do"),
        ("uring>1", "VARIANT/REFERENCE"),
        ("uring/epoll>", "no ratio like 1.00"),
        ("uring/epoll>fast", "no ratio like 1.00"),
        ("uring/epoll>-1", "no ratio like 1.00"),
        ("uring/epoll>1e3", "no ratio like 1.00"),
        ("uring/epoll>inf", "no ratio like 1.00"),
        ("uring/epoll>0", "no ratio like 1.00"),
    ] {
        let why = gate::parse(text).expect_err(text);
        assert!(why.starts_with(&format!("{text:?}")) && why.contains(words), "{why}");
    }
    let sources = [source(newer())];
    for (text, words) in [
        ("tokio/epoll>1", "uring/epoll or uring:recv=single/epoll would do"),
        ("change>1", "two results of the same bench would do"),
    ] {
        let gate = gate::parse(text).unwrap();
        let problems = gate::hold(&[gate], &sources, &[]).unwrap_err();
        assert!(problems.len() == 1 && problems[0].contains(words), "{problems:?}");
    }
}

#[test]
fn a_server_with_a_command_is_named_by_its_word() {
    let mut result = newer();
    result.comparisons[0].cell.variant.name = "tokio=./bin/tokio > log {port}".into();
    let sources = [source(result)];
    for text in ["tokio/epoll<1.00", "tokio=./bin/tokio > log {port}/epoll<1.00"] {
        assert_eq!(report(&sources, &[text]).gates[0].cell.as_deref(), Some("c0"), "{text}");
    }
}

#[test]
fn what_is_no_result_is_refused_with_what_would_do() {
    let text = |result: &BenchResult| serde_json::to_string(result).unwrap();
    let good = text(&newer());
    assert_eq!(read::parse(&good), Ok(newer()));
    let mut other_version = newer();
    other_version.version = 7;
    let mut impossible = newer();
    impossible.comparisons[1].metrics[0].ratio.as_mut().unwrap().low = -1.0;
    let plan = serde_json::to_string(&newer().plan).unwrap();
    let report = serde_json::to_string(&report(&[source(newer())], &[])).unwrap();
    for (text, usage, words) in [
        (String::new(), false, "damaged: no JSON"),
        (good[..good.len() / 2].into(), false, "damaged: no JSON"),
        (good.replacen("\"took_us\"", "\"took\"", 1), false, "damaged: it is not all there (missing field"),
        (text(&impossible), false, "of server_cpu_ns in c1 cannot be"),
        (text(&other_version), true, "version 7, written by c10k 0.1.0, and this program reads version 1"),
        (plan, true, "the plan of a bench"),
        (report, true, "it is a report, not a result"),
        ("{\"rates\": {}, \"ramp\": {}}".into(), true, "the result of one c10k load"),
        ("[1, 2]".into(), true, "not the result of a bench"),
    ] {
        let (why, is_usage) = read::parse(&text).expect_err(words);
        assert!(why.contains(words) && why.contains("c10k") | why.contains("would do"), "{why}");
        assert_eq!(is_usage, usage, "{why}");
    }
}

#[test]
fn a_result_without_cells_is_reported_all_the_same() {
    let mut empty = older();
    empty.comparisons.clear();
    empty.verdict = vec!["Nothing was measured in the time there was.".into()];
    let sources = [source(empty)];
    let document = chapters::document(&sources, &report(&sources, &[]));
    for (form, text) in forms(&document) {
        assert!(words(&text).contains("Nothing was measured in the time"), "{form}");
        assert!(words(&text).contains("was interrupted before its time"), "{form}");
    }
}

fn schema() -> serde_json::Value {
    serde_json::to_value(schemars::schema_for!(Report)).unwrap()
}

/// `C10K_WRITE_SCHEMA=1 cargo test schema` writes it anew.
#[test]
fn the_schema_of_a_report_in_the_repository_is_that_of_the_types() {
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    is_committed("schema/report.json", &text);
}

/// The invented results as files; `C10K_WRITE_SCHEMA=1 cargo test fixtures` writes them anew.
#[test]
fn the_fixtures_in_the_repository_are_these_results() {
    for (name, result) in [("newer", newer()), ("older", older())] {
        let text = serde_json::to_string(&result).unwrap() + "\n";
        is_committed(&format!("tests/fixtures/bench/{name}/result.json"), &text);
    }
}

fn is_committed(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("C10K_WRITE_SCHEMA").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "{name} is not what the types say; C10K_WRITE_SCHEMA=1 writes it");
}

#[test]
fn a_report_as_json_obeys_its_schema_and_reads_back() {
    let report = report(&both(), &["uring/epoll>1.00", "change>1.02"]);
    let text = serde_json::to_string(&report).unwrap();
    let read: Report = serde_json::from_str(&text).unwrap();
    assert_eq!((&read.sources, &read.gates), (&report.sources, &report.gates));
    // Quotients of long numbers may lose their last digit on the way.
    let first = |report: &Report| report.changes[0].server_cpu.as_ref().unwrap().median;
    assert!((first(&read) - first(&report)).abs() < 1e-12 && read.changes.len() == report.changes.len());
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let problems: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(!validator.is_valid(&serde_json::json!({"version": 1})), "it knows what has to be there");
}

#[test]
fn a_thing_compared_with_itself_twice_stands_twice_in_each_result() {
    let twice = |mut result: BenchResult| {
        result.comparisons.truncate(1);
        result.comparisons.push(result.comparisons[0].clone());
        result
    };
    let sources = [source(twice(older())), source(twice(newer()))];
    let members: Vec<Vec<usize>> = compare::groups(&sources)
        .iter()
        .map(|group| group.members.iter().map(|(index, _)| *index).collect())
        .collect();
    assert_eq!(members, [[0, 1], [0, 1]]);
    assert_eq!(compare::changes(&sources).len(), 2);
}

#[test]
fn a_change_between_too_few_blocks_is_no_verdict() {
    let few = |mut result: BenchResult| {
        for metric in &mut result.comparisons[0].metrics {
            metric.ratio.iter_mut().for_each(|ratio| ratio.pairs.truncate(3));
        }
        source(result)
    };
    let change = &compare::changes(&[few(older()), few(newer())])[0];
    let server = change.server_cpu.as_ref().unwrap();
    // Three against three: as far apart as can be, and 90 % sure.
    assert!(server.confidence < 0.95 && server.high < 1.0, "{server:?}");
    assert_eq!(change.verdict, Judgement::Undecided);
}
