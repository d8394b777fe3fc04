//! The form for a browser: one file with nothing outside it, no script, its own style sheet. What comes
//! from a result is escaped by the template; the pictures escape for themselves.

use super::document::Document;
use minijinja::{Environment, Value, context};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");

/// The whole report.
#[must_use]
pub fn render(document: &Document) -> String {
    let mut environment = Environment::new();
    // The name decides that values are escaped.
    environment.add_template("page.html", PAGE).expect("the template in the program is right");
    let template = environment.get_template("page.html").expect("it was just added");
    let values = context! {
        document => Value::from(minijinja::value::Serde(document)),
        style => Value::from_safe_string(STYLE.into()),
        program => concat!("c10k ", env!("CARGO_PKG_VERSION")),
    };
    template.render(values).expect("a document has all that the template asks for")
}
