//! Colours of the style sheet against their grounds, by WCAG 2.2's formula: text at least 4.5 (1.4.3), curves at least 3
//! (1.4.11), light and dark.

use std::collections::BTreeMap;

use karat_report::STYLE;

/// The custom properties of one `:root{…}`, as sRGB from 0 to 1.
fn colours(block: &str) -> BTreeMap<&str, [f64; 3]> {
    let properties =
        block.split(';').filter_map(|it| it.trim().strip_prefix("--")?.split_once(":#"));
    let channel = |text: &str| f64::from(u8::from_str_radix(text, 16).expect("hex")) / 255.0;
    properties
        .map(|(name, hex)| {
            let long: String = match hex.len() {
                3 => hex.chars().flat_map(|it| [it, it]).collect(),
                _ => hex.to_owned(),
            };
            (name, [channel(&long[..2]), channel(&long[2..4]), channel(&long[4..6])])
        })
        .collect()
}

fn luminance(colour: [f64; 3]) -> f64 {
    let linear = |c: f64| if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
    let [r, g, b] = colour.map(linear);
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn text_and_curves_stand_out_in_light_and_dark() {
    assert!((contrast([0.0; 3], [1.0; 3]) - 21.0).abs() < 1e-9, "black on white");
    let blocks: Vec<&str> =
        STYLE.split(":root{").skip(1).map(|it| it.split_once('}').expect("it ends").0).collect();
    assert_eq!(blocks.len(), 2, "light and dark");
    for block in blocks {
        let colours = colours(block);
        let text = ["ink", "soft", "one", "two", "good", "bad", "hmm", "dunno"];
        let curves = ["three", "four", "five", "six", "seven", "eight"];
        for ground in ["page", "card"] {
            for (names, least) in [(text.as_slice(), 4.5), (curves.as_slice(), 3.0)] {
                for name in names {
                    let found = contrast(colours[name], colours[ground]);
                    assert!(least <= found, "--{name} on --{ground}: {found:.2}, needs {least}");
                }
            }
        }
    }
}
