//! A picture that is being written. Everything that comes from outside is escaped here.

use std::fmt::{Display, Write as _};

/// A picture.
pub(super) struct Svg {
    body: String,
}

/// Where a text is held.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    pub(super) fn new() -> Self {
        Self { body: String::new() }
    }

    /// The whole element. The title and the description are what a reader of the screen hears; `id`
    /// is unique within the page.
    pub(super) fn finish(self, id: &str, title: &str, description: &str, size: (f64, f64)) -> String {
        let (width, height) = size;
        format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\
             <title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>{}</svg>",
            escaped(title),
            escaped(description),
            self.body
        )
    }

    /// An element without content. Attribute values are ours, not the user's.
    pub(super) fn element(&mut self, name: &str, class: &str, attributes: &[(&str, &dyn Display)]) {
        let _ = write!(self.body, "<{name} class=\"{class}\"");
        for (name, value) in attributes {
            let _ = write!(self.body, " {name}=\"{value}\"");
        }
        self.body.push_str("/>");
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let values = [pixel(from.0), pixel(from.1), pixel(to.0), pixel(to.1)];
        self.element(
            "line",
            class,
            &[("x1", &values[0]), ("y1", &values[1]), ("x2", &values[2]), ("y2", &values[3])],
        );
    }

    pub(super) fn rectangle(&mut self, class: &str, corner: (f64, f64), size: (f64, f64)) {
        let values = [pixel(corner.0), pixel(corner.1), pixel(size.0), pixel(size.1)];
        self.element(
            "rect",
            class,
            &[("x", &values[0]), ("y", &values[1]), ("width", &values[2]), ("height", &values[3])],
        );
    }

    pub(super) fn text(&mut self, class: &str, at: (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = write!(
            self.body,
            "<text class=\"{class}\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            pixel(at.0),
            pixel(at.1),
            escaped(text)
        );
    }

    /// A line through points.
    pub(super) fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let mut data = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let _ = write!(data, "{command}{} {}", pixel(*x), pixel(*y));
        }
        self.element("path", class, &[("d", &data)]);
    }

    /// One of four marks that are told apart without colour: disc, diamond, square, triangle.
    pub(super) fn mark(&mut self, shape: usize, class: &str, (x, y): (f64, f64), radius: f64) {
        let at = |dx: f64, dy: f64| format!("{} {}", pixel(x + dx * radius), pixel(y + dy * radius));
        let data = match shape % 4 {
            0 => {
                let (cx, cy, r) = (pixel(x), pixel(y), pixel(radius));
                return self.element("circle", class, &[("cx", &cx), ("cy", &cy), ("r", &r)]);
            }
            1 => format!("M{}L{}L{}L{}Z", at(0.0, -1.3), at(1.3, 0.0), at(0.0, 1.3), at(-1.3, 0.0)),
            2 => format!("M{}L{}L{}L{}Z", at(-0.9, -0.9), at(0.9, -0.9), at(0.9, 0.9), at(-0.9, 0.9)),
            _ => format!("M{}L{}L{}Z", at(0.0, -1.2), at(1.1, 0.9), at(-1.1, 0.9)),
        };
        self.element("path", class, &[("d", &data)]);
    }
}

/// A coordinate, with one digit behind the point at most.
fn pixel(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), String::from)
}

/// Text that is nothing but text.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter => safe.push(letter),
        }
    }
    safe
}

/// At most so many letters, the last a sign that there are more.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    let short: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", short.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_becomes_an_element() {
        let mut picture = Svg::new();
        picture.text("label", (1.0, 2.25), Anchor::End, "<script>alert('x')</script>");
        let text = picture.finish("one", "a<b", "\"&", (10.0, 20.0));
        assert!(text.contains("&lt;script&gt;") && !text.contains("<script"), "{text}");
        assert!(
            text.contains("a&lt;b") && text.contains("&quot;&amp;") && text.contains("y=\"2.2\""),
            "{text}"
        );
    }

    #[test]
    fn a_long_name_says_that_it_goes_on() {
        assert_eq!(shortened("12345", 5), "12345");
        assert_eq!(shortened("12345 7", 6), "12345…");
    }
}
