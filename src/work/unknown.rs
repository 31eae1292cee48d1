//! Unknown: the types of tasks that a worker met and does not know. Such tasks come back every few seconds for as long as
//! nobody takes them, and one line a minute says enough of each type.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Between two lines about a type.
const AGAIN: Duration = Duration::from_secs(60);

/// When each type was told of last.
#[derive(Default)]
pub(super) struct Unknown(HashMap<String, Instant>);

impl Unknown {
    /// Those of the types that have not been told of for a while, each once. They are taken as told now.
    pub(super) fn news(&mut self, types: Vec<String>, now: Instant) -> Vec<String> {
        let told = &mut self.0;
        told.retain(|_, at| now.duration_since(*at) < AGAIN);
        let mut news = types;
        news.sort_unstable();
        news.dedup();
        news.retain(|name| !told.contains_key(name));
        told.extend(news.iter().map(|name| (name.clone(), now)));
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_told_of_once_a_minute() {
        let mut unknown = Unknown::default();
        let start = Instant::now();
        let mut news = |types: &[&str], after: u64| {
            let types = types.iter().map(|name| (*name).to_owned()).collect();
            unknown.news(types, start + Duration::from_secs(after))
        };
        assert_eq!(news(&["a"], 0), ["a"]);
        assert_eq!(news(&["b", "a", "b"], 5), ["b"]);
        assert!(news(&["a", "b"], 59).is_empty());
        assert_eq!(news(&["a", "b"], 60), ["a"]);
        assert_eq!(news(&["a", "b"], 65), ["b"]);
    }
}
