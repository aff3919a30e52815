//! Operations: each file of `kernels` that defines one has its definition and the test that compares with it.

use crate::rule::{Rule, Violation};

/// Files of `kernels/src` that define no operation.
const NOT_AN_OPERATION: &[&str] = &[
    "lib.rs",
    "elementary.rs",
    "flex.rs",
    "frozen.rs",
    "gpu.rs",
    "memory.rs",
    "philox.rs",
    "precision.rs",
    "simd.rs",
    "testing.rs",
    "window.rs",
];

const COMPARED: Rule = Rule {
    says: "every operation has `reference` and a test `matches_reference`",
    why: "fast code is trusted because obviously right code agrees with it (ARCHITECTURE.md, Kernels and models).\n      \
          A file that defines no operation is named in NOT_AN_OPERATION.",
    find: |tree| {
        let mut found = Vec::new();
        for (file, code) in tree.rust() {
            let is_operation =
                file.dir() == "kernels/src" && !NOT_AN_OPERATION.contains(&file.name());
            // A large operation has its tests in a folder of its name.
            let folder = file.path.trim_end_matches(".rs");
            let has = |needed: &str| {
                code.bare.contains(needed)
                    || tree
                        .rust()
                        .any(|(it, code)| it.dir() == folder && code.bare.contains(needed))
            };
            // `fn reference…`: a file may hold two variants of one operation.
            for needed in ["fn reference", "fn matches_reference"] {
                if is_operation && !has(needed) {
                    found.push(Violation::of(&file.path, format!("no `{needed}`")));
                }
            }
        }
        found
    },
};

#[cfg(test)]
mod tests {
    use super::COMPARED;
    use crate::tree::Tree;

    #[test]
    fn operations_are_compared_with_their_definition() {
        COMPARED.holds();
    }

    #[test]
    fn an_operation_without_definition_is_found() {
        COMPARED.finds(
            &Tree::of(&[("kernels/src/a.rs", "pub fn fused() {}\nfn matches_reference() {}")]),
            &["kernels/src/a.rs:1"],
        );
        COMPARED.finds(
            &Tree::of(&[(
                "kernels/src/a.rs",
                "pub fn reference() {}\nfn matches_reference_bit_for_bit() {}",
            )]),
            &[],
        );
        COMPARED.finds(
            &Tree::of(&[
                ("kernels/src/a.rs", "pub fn reference() {}"),
                ("kernels/src/a/tests.rs", "fn matches_reference() {}"),
                ("kernels/src/b.rs", "pub fn reference() {}"),
            ]),
            &["kernels/src/b.rs:1"],
        );
        COMPARED.finds(&Tree::of(&[("kernels/src/lib.rs", ""), ("models/src/a.rs", "")]), &[]);
    }
}
