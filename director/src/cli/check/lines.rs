//! What there is to say of one thing, a line each.

/// Labels and words; a label may be empty, where its line continues the one above.
#[derive(Default)]
pub(super) struct Lines(pub(super) Vec<[String; 2]>);

impl Lines {
    pub(super) fn add(&mut self, label: &str, words: impl Into<String>) {
        self.0.push([label.to_owned(), words.into()]);
    }

    /// The label stands before the first only.
    pub(super) fn extend(&mut self, label: &str, items: impl IntoIterator<Item = String>) {
        for (index, words) in items.into_iter().enumerate() {
            self.add(if index == 0 { label } else { "" }, words);
        }
    }
}
