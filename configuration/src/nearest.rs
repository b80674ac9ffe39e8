//! "Did you mean …": the known word nearest to a misspelt one.

/// The nearest of `known` to `word`, if it is near enough to be what was meant.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let spelt = word.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|candidate| (distance(&spelt, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, remove or exchange to make one of the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 1..row.len() {
            let exchanged = diagonal + usize::from(to[column - 1] != letter);
            diagonal = row[column];
            row[column] = exchanged.min(row[column] + 1).min(row[column - 1] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("prioritty", "priority"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn finds_what_was_meant_and_nothing_else() {
        let known = ["name", "interface", "real_servers", "port"];
        assert_eq!(nearest("intreface", &known), Some("interface"));
        assert_eq!(nearest("real-servers", &known), Some("real_servers"));
        assert_eq!(nearest("Port", &known), Some("port"));
        assert_eq!(nearest("lb_algo", &known), None);
        assert_eq!(nearest("", &known), None);
    }
}
