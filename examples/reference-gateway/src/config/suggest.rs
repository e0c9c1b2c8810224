//! "Did you mean": the nearest of the known words.

/// Longer words are not compared: nobody mistypes them by one letter, and the cost grows with the
/// square.
const LONGEST: usize = 64;

/// The known word that differs from `word` by a slip of the finger: one letter in three, at least
/// one.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if word.len() > LONGEST {
        return None;
    }
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}
