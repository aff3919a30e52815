//! Which rows a slice has.

use std::collections::BTreeMap;

use karat_core::{ScoredRows, policy::SliceRef, scored::SliceColumn};

use crate::metric::NotMeasured;

/// The slice of all rows.
pub const ALL: &str = "all";

/// Combinations that one crossing may have.
pub const CROSSED_MAX: usize = 10_000;

/// A slice that has a name and rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceRows {
    /// `all`, `evening`, `carrier=UA`, `carrier=UA & evening`.
    pub label: String,
    /// `carrier=*` for `carrier=UA`; none for `all`, a predicate and what a rule named itself.
    pub family: Option<String>,
    /// Rows of the predictions file, ascending.
    pub rows: Vec<u32>,
}

/// Every slice the predictions declare: `all` first, then in declared order; after them what rules cross.
#[derive(Clone, Debug)]
pub struct Slices {
    found: Vec<SliceRows>,
    /// `all` and the declared ones.
    n_declared: usize,
    /// Declared families, also those without a value.
    families: Vec<String>,
    /// Crossings as asked, and why one cannot be had.
    crossed: BTreeMap<String, Result<(), NotMeasured>>,
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
        let found: Vec<SliceRows> =
            std::iter::once(all).chain(rows.slices.iter().flat_map(of_column)).collect();
        Self {
            n_declared: found.len(),
            found,
            families: families.collect(),
            crossed: BTreeMap::new(),
        }
    }

    /// The same with every crossing among `asked`.
    #[must_use]
    pub fn with_crossed<'a>(
        mut self,
        rows: &ScoredRows,
        asked: impl IntoIterator<Item = &'a SliceRef>,
    ) -> Self {
        for slice in asked {
            let SliceRef::Crossed(parts) = slice else { continue };
            let name = slice.to_string();
            if self.crossed.contains_key(&name) {
                continue;
            }
            let cells = self.cells(rows, parts);
            let family = slice.is_family().then(|| name.clone());
            let is_known = cells.map(|cells| {
                self.found.extend(cells.into_iter().map(|(label, rows)| SliceRows {
                    label,
                    family: family.clone(),
                    rows,
                }));
            });
            self.crossed.insert(name, is_known);
        }
        self
    }

    /// All of them, in order.
    #[must_use]
    pub fn every(&self) -> &[SliceRows] {
        &self.found
    }

    /// `all` and those that the predictions declare.
    #[must_use]
    pub fn declared(&self) -> &[SliceRows] {
        &self.found[..self.n_declared]
    }

    /// The slices a rule means, as places in [`Slices::every`]: one for a name, any number for a family.
    pub fn resolve(&self, slice: &SliceRef) -> Result<Vec<usize>, NotMeasured> {
        let asked = slice.to_string();
        if let Some(Err(why)) = self.crossed.get(&asked) {
            return Err(why.clone());
        }
        let is_meant = |it: &SliceRows| match slice.is_family() {
            true => it.family.as_ref() == Some(&asked),
            false => it.label == asked,
        };
        // What a rule names is one slice, also where a family of another rule has it too.
        let most = if slice.is_family() { usize::MAX } else { 1 };
        let found: Vec<usize> =
            (0..self.found.len()).filter(|at| is_meant(&self.found[*at])).take(most).collect();
        let is_known = match slice {
            SliceRef::Every(family) => self.families.contains(family),
            SliceRef::Crossed(_) => self.crossed.contains_key(&asked),
            SliceRef::All | SliceRef::Named(_) => !found.is_empty(),
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

    /// The combinations that have rows, in text order of their first part.
    fn cells(
        &self,
        rows: &ScoredRows,
        parts: &[SliceRef],
    ) -> Result<Vec<(String, Vec<u32>)>, NotMeasured> {
        // For each part the slices it stands for, and which of them each row is in: of one part, at most one.
        const OUTSIDE: u32 = u32::MAX;
        let mut sides = Vec::with_capacity(parts.len());
        for part in parts {
            let members = self.resolve(part)?;
            let mut member_of_row = vec![OUTSIDE; rows.n_rows()];
            for (member, at) in (0_u32..).zip(&members) {
                for row in &self.found[*at].rows {
                    member_of_row[*row as usize] = member;
                }
            }
            sides.push((members, member_of_row));
        }
        let mut cells: BTreeMap<Vec<u32>, Vec<u32>> = BTreeMap::new();
        for row in 0..rows.n_rows() {
            let place: Vec<u32> = sides.iter().map(|(_, of_row)| of_row[row]).collect();
            if place.contains(&OUTSIDE) {
                continue;
            }
            cells.entry(place).or_default().push(row as u32);
            if CROSSED_MAX < cells.len() {
                return Err(NotMeasured::new(format!(
                    "it has more than {} combinations",
                    karat_core::thousands(CROSSED_MAX as u64)
                )));
            }
        }
        let label = |place: &[u32]| {
            let of = |(member, (members, _)): (&u32, &(Vec<usize>, Vec<u32>))| {
                self.found[members[*member as usize]].label.clone()
            };
            place.iter().zip(&sides).map(of).collect::<Vec<_>>().join(" & ")
        };
        Ok(cells.into_iter().map(|(place, rows)| (label(&place), rows)).collect())
    }

    fn names(&self) -> Vec<String> {
        let families = self.families.iter().map(|it| format!("{it}=*"));
        self.declared().iter().map(|it| it.label.clone()).chain(families).collect()
    }
}

fn of_column(column: &SliceColumn) -> Vec<SliceRows> {
    let mut found: Vec<SliceRows> = column
        .values
        .iter()
        .map(|value| {
            let (label, family) = if column.is_family {
                (format!("{}={value}", column.name), Some(format!("{}=*", column.name)))
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
    #[test]
    fn crossed_slices_are_the_combinations_that_have_rows() {
        let mut rows = rows();
        rows.slices.push(family("origin", &["JFK", "JFK", "LGA"]));
        let carriers = SliceRef::Every("carrier".to_owned());
        let named = |text: &str| SliceRef::Named(text.to_owned());
        let asked = [
            SliceRef::Crossed(vec![carriers.clone(), SliceRef::Every("origin".to_owned())]),
            SliceRef::Crossed(vec![carriers.clone(), named("evening")]),
            SliceRef::Crossed(vec![named("carrier=UA"), named("origin=LGA")]),
            SliceRef::Crossed(vec![named("carrier=UA"), named("evening")]),
            SliceRef::Crossed(vec![carriers, named("evenin")]),
        ];
        let slices = Slices::new(&rows).with_crossed(&rows, &asked);
        assert_eq!(slices.declared().len(), 7);
        let found = |slice: &SliceRef| {
            let found = slices.resolve(slice).map_err(|why| why.reason)?;
            let of = |at: usize| &slices.every()[at];
            Ok(found
                .into_iter()
                .map(|at| (of(at).label.as_str(), of(at).rows.as_slice()))
                .collect())
        };
        type Cells<'a> = Vec<(&'a str, &'a [u32])>;
        let expected: [Result<Cells<'_>, String>; 4] = [
            Ok(vec![
                ("carrier=AA & origin=JFK", &[1]),
                ("carrier=UA & origin=JFK", &[0]),
                ("carrier=UA & origin=LGA", &[2]),
            ]),
            Ok(vec![("carrier=AA & evening", &[1])]),
            Ok(vec![("carrier=UA & origin=LGA", &[2])]),
            Err("slice `carrier=UA & evening` has no labelled row".to_owned()),
        ];
        for (slice, expected) in asked.iter().zip(expected) {
            assert_eq!(found(slice), expected, "{slice}");
        }
        let message = found(&asked[4]).expect_err("misspelt");
        assert!(message.starts_with("no slice `evenin`: the nearest are `evening`"), "{message}");
    }
}
