//! Which rows a slice has.

use karat_core::{ScoredRows, policy::SliceRef, scored::SliceColumn};

use crate::metric::NotMeasured;

/// The slice of all rows.
pub const ALL: &str = "all";

/// A slice that has a name and rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceRows {
    /// `all`, `evening`, `carrier=UA`.
    pub label: String,
    /// `carrier` for `carrier=UA`; none for `all` and for a predicate.
    pub family: Option<String>,
    /// Rows of the predictions file, ascending.
    pub rows: Vec<u32>,
}

/// Every slice the predictions declare: `all` first, then in declared order.
#[derive(Clone, Debug)]
pub struct Slices {
    found: Vec<SliceRows>,
    /// Declared families, also those without a value.
    families: Vec<String>,
}

impl Slices {
    /// Of these rows.
    #[must_use]
    pub fn new(rows: &ScoredRows) -> Self {
        let all = SliceRows {
            label: ALL.to_owned(),
            family: None,
            rows: (0..rows.n_rows() as u32).collect(),
        };
        let families = rows.slices.iter().filter(|it| it.is_family).map(|it| it.name.clone());
        Self {
            found: std::iter::once(all).chain(rows.slices.iter().flat_map(of_column)).collect(),
            families: families.collect(),
        }
    }

    /// All of them, in order.
    #[must_use]
    pub fn every(&self) -> &[SliceRows] {
        &self.found
    }

    /// The slices a rule means, as places in [`Slices::every`]: one for a name, any number for a family.
    pub fn resolve(&self, slice: &SliceRef) -> Result<Vec<usize>, NotMeasured> {
        let asked = slice.to_string();
        let is_meant = |it: &SliceRows| match slice {
            SliceRef::All | SliceRef::Named(_) => it.label == asked,
            SliceRef::Every(family) => it.family.as_ref() == Some(family),
            SliceRef::Crossed(_) => false,
        };
        let found: Vec<usize> =
            (0..self.found.len()).filter(|at| is_meant(&self.found[*at])).collect();
        let is_known = match slice {
            SliceRef::Every(family) => self.families.contains(family),
            SliceRef::All | SliceRef::Named(_) | SliceRef::Crossed(_) => !found.is_empty(),
        };
        if !is_known {
            let known = self.names();
            let near = karat_core::nearest(&asked, known.iter().map(String::as_str));
            let near = near.join("`, `");
            return Err(NotMeasured::new(format!("no slice `{asked}`: the nearest are `{near}`")));
        }
        if found.iter().all(|at| self.found[*at].rows.is_empty()) {
            return Err(NotMeasured::new(format!("slice `{asked}` has no labelled row")));
        }
        Ok(found)
    }

    fn names(&self) -> Vec<String> {
        let families = self.families.iter().map(|it| format!("{it}=*"));
        self.found.iter().map(|it| it.label.clone()).chain(families).collect()
    }
}

fn of_column(column: &SliceColumn) -> Vec<SliceRows> {
    let mut found: Vec<SliceRows> = column
        .values
        .iter()
        .map(|value| {
            let (label, family) = if column.is_family {
                (format!("{}={value}", column.name), Some(column.name.clone()))
            } else {
                (column.name.clone(), None)
            };
            SliceRows { label, family, rows: Vec::new() }
        })
        .collect();
    for (row, code) in column.codes.iter().enumerate() {
        if let Some(slice) = found.get_mut(*code as usize) {
            slice.rows.push(row as u32);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use karat_core::policy::SliceRef;

    use super::Slices;
    use crate::testing::{binary, family, predicate};

    fn rows() -> karat_core::ScoredRows {
        let mut rows = binary(vec![0.0, 1.0, 0.0], vec![0.1, 0.9, 0.4]);
        rows.slices = vec![
            family("carrier", &["UA", "AA", "UA"]),
            predicate("evening", [false, true, false]),
            predicate("night", [false; 3]),
        ];
        rows
    }

    fn resolved(slice: &SliceRef) -> Result<Vec<(String, Vec<u32>)>, String> {
        let slices = Slices::new(&rows());
        let found = slices.resolve(slice).map_err(|why| why.reason)?;
        Ok(found
            .iter()
            .map(|at| &slices.every()[*at])
            .map(|it| (it.label.clone(), it.rows.clone()))
            .collect())
    }

    fn named(text: &str) -> Result<Vec<(String, Vec<u32>)>, String> {
        resolved(&SliceRef::Named(text.to_owned()))
    }

    #[test]
    fn slices_are_found_by_name_and_families_whole() {
        let carrier = |value: &str, rows: &[u32]| (format!("carrier={value}"), rows.to_vec());
        assert_eq!(resolved(&SliceRef::All), Ok(vec![("all".to_owned(), vec![0, 1, 2])]));
        assert_eq!(named("carrier=UA"), Ok(vec![carrier("UA", &[0, 2])]));
        assert_eq!(named("evening"), Ok(vec![("evening".to_owned(), vec![1])]));
        let both = resolved(&SliceRef::Every("carrier".to_owned()));
        assert_eq!(both, Ok(vec![carrier("AA", &[1]), carrier("UA", &[0, 2])]));
    }

    #[test]
    fn absent_and_empty_slices_are_errors_with_names() {
        let refused = |found: Result<Vec<(String, Vec<u32>)>, String>| found.expect_err("refused");
        let message = refused(named("carrier=UB"));
        assert!(
            message.starts_with("no slice `carrier=UB`: the nearest are `carrier=UA`"),
            "{message}"
        );
        let message = refused(named("carrier"));
        assert!(message.contains("`carrier=*`"), "{message}");
        assert!(refused(named("morning")).starts_with("no slice `morning`"));
        assert_eq!(refused(named("night")), "slice `night` has no labelled row");
        let message = refused(resolved(&SliceRef::Every("evening".to_owned())));
        assert!(message.starts_with("no slice `evening=*`"), "{message}");
    }
}
