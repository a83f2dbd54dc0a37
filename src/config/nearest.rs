//! "Did you mean": the known word that somebody probably wanted to write.

/// The word closest to `given`, when it is close enough to be meant.
pub(super) fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given = plain(given);
    if given.len() > 64 {
        return None;
    }
    let (distance, word) = known.map(|word| (distance(&given, &plain(word)), word)).min()?;
    (distance <= (given.len() / 3).min(3)).then_some(word)
}

/// Case and separators are no difference that anybody means.
fn plain(word: &str) -> Vec<char> {
    word.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

/// Levenshtein's distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_are_understood_and_other_words_are_not() {
        let known = || ["listen", "public_url", "max_body_bytes"].into_iter();
        for (given, want) in [
            ("listn", Some("listen")),
            ("Listen", Some("listen")),
            ("publicUrl", Some("public_url")),
            ("public-url", Some("public_url")),
            ("max_body_byte", Some("max_body_bytes")),
            ("port", None),
            ("", None),
            ("xyz", None),
        ] {
            assert_eq!(nearest(given, known()), want, "{given}");
        }
        assert_eq!(nearest(&"x".repeat(100_000), known()), None);
        assert_eq!(nearest("x", std::iter::empty()), None);
    }
}
