//! The misses of one key, one by one, and how a set is judged by them: the rule of
//! `src/cache/fence/record/mod.rs`, without limits. And the class of all keys of a history: which sets answer
//! a miss.

use super::{AGE_S, LOAD_S};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answers {
    Miss,
    Late,
    Repeat,
    Nothing,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Takes {
    Every,
    Repeats,
    None,
}

/// The outcome of a set.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    pub answers: Answers,
    /// Whether misses were known before it.
    pub has_misses: bool,
    pub is_stored: bool,
}

#[derive(Default)]
pub struct Misses {
    /// Whether the server has a record of the key.
    pub is_known: bool,
    pub marked: u64,
    times: Vec<u64>,
    taken: [usize; 2],
    old: usize,
    old_taken: [usize; 2],
    /// Values since the newest invalidation, and by how many sets each exceeds the doubt.
    values: Vec<(String, i64)>,
    lapsed: usize,
    lapsed_old: usize,
    lapsed_s: u64,
}

impl Misses {
    pub fn age(&mut self, now_s: u64) {
        while self.times.first().is_some_and(|time_s| now_s - time_s > LOAD_S) {
            self.times.remove(0);
            if self.taken[0] == 0 {
                self.lapsed += 1;
                self.lapsed_s = now_s;
                self.lapsed_old += usize::from(self.old > 0);
            }
            self.old = self.old.saturating_sub(1);
            let counts = self.taken.iter_mut().chain(&mut self.old_taken);
            counts.for_each(|count| *count = count.saturating_sub(1));
        }
        if self.lapsed > 1 && now_s - self.lapsed_s > AGE_S {
            (self.lapsed, self.lapsed_old) = (1, self.lapsed_old.min(1));
        }
    }

    pub fn invalidate(&mut self, marked: u64) {
        self.marked = marked;
        (self.old, self.old_taken, self.lapsed_old) = (self.times.len(), self.taken, self.lapsed);
        self.values.clear();
    }

    pub fn miss(&mut self, now_s: u64) {
        self.times.push(now_s);
    }

    pub fn is_answered(&self) -> bool {
        self.taken[0] == self.times.len() && self.lapsed == 0
    }

    /// A fill with a valid token.
    pub fn fill(&mut self) {
        if self.taken[0] == self.times.len() && self.lapsed > 0 {
            self.take_lapsed();
        }
        self.taken = self.taken.map(|taken| self.times.len().min(taken + 1));
        self.finish();
    }

    /// Once all misses are answered, no load is running.
    fn finish(&mut self) {
        for (taken, old_taken) in self.taken.iter().zip(&mut self.old_taken) {
            if *taken == self.times.len() {
                *old_taken = self.old;
            }
        }
    }

    pub fn set(&mut self, text: &str, takes: Takes) -> Judged {
        let all = self.times.len();
        let known = self.values.iter().position(|(value, _)| value == text);
        // A value is looked at only where it matters.
        let is_counted = takes != Takes::Every || self.old > self.old_taken[0];
        let known = known.filter(|_| is_counted);
        let answers = match known {
            _ if self.taken[0] < all => Answers::Miss,
            _ if self.lapsed > 0 => Answers::Late,
            Some(_) if self.taken[1] >= all => Answers::Repeat,
            Some(_) | None => Answers::Nothing,
        };
        let taken = match takes {
            Takes::Every => self.taken[0],
            Takes::Repeats => self.taken[1],
            Takes::None => 0,
        };
        let has_misses = taken < all || self.lapsed > 0;
        let excess = if is_counted { self.count(text, known, takes) } else { 1 };
        self.taken[0] = all.min(self.taken[0] + 1);
        if known.is_some() {
            self.taken[1] = all.min(self.taken[1] + 1);
        }
        self.finish();
        let is_stored = excess > 0 && (answers != Answers::Late || self.take_lapsed());
        Judged { answers, has_misses, is_stored }
    }

    /// A set was stored that invalidates the key. If it answered a miss, only its connection takes it for a
    /// write.
    pub fn wrote(&mut self, text: &str, answers: Answers, is_quiet: bool, seq: u64) {
        if matches!(answers, Answers::Miss | Answers::Late) && is_quiet {
            self.marked = seq;
            return;
        }
        let is_counted = self.values.iter().any(|(value, _)| value == text);
        self.invalidate(seq);
        if is_counted {
            self.values.push((text.to_owned(), 1));
        }
    }

    fn count(&mut self, text: &str, known: Option<usize>, takes: Takes) -> i64 {
        let (taken, old_taken) = match takes {
            Takes::Every => (self.taken[0], self.old_taken[0]),
            Takes::Repeats => (self.taken[1], self.old_taken[1]),
            Takes::None => (0, 0),
        };
        let doubt = self.old.saturating_sub(old_taken).min(self.times.len() - taken) as i64;
        let before = known.map_or(i64::MIN / 2, |place| self.values[place].1);
        let excess = (before + 1).max(1 - doubt);
        let counted = (text.to_owned(), excess);
        match known {
            Some(place) => self.values[place] = counted,
            None if self.values.len() < 4 => self.values.push(counted),
            None => {
                *self.values.iter_mut().min_by_key(|(_, excess)| *excess).expect("there are four") = counted
            }
        }
        excess
    }

    fn take_lapsed(&mut self) -> bool {
        let is_old = self.lapsed_old > 0;
        self.lapsed -= 1;
        self.lapsed_old -= usize::from(is_old);
        !is_old
    }
}

/// The class of all keys, and what its sets have taught.
#[derive(Clone, Copy)]
pub struct Class {
    clean: u64,
    takes: Takes,
    /// Until when the mode stays as it is.
    until_s: u64,
}

impl Class {
    pub fn new() -> Self {
        Class { clean: 0, takes: Takes::Repeats, until_s: 0 }
    }

    pub fn takes(&self, now_s: u64) -> Takes {
        if now_s == 0 { Takes::None } else { self.mode(now_s) }
    }

    fn mode(&self, now_s: u64) -> Takes {
        match self.takes {
            Takes::None if now_s >= self.until_s => Takes::Repeats,
            takes => takes,
        }
    }

    pub fn judged(&mut self, answers: Answers, now_s: u64) {
        match (answers, self.mode(now_s)) {
            (Answers::Miss | Answers::Late, Takes::Repeats) if now_s >= self.until_s => {
                self.clean += 1;
                self.takes = if self.clean >= 1_000 { Takes::Every } else { Takes::Repeats };
            }
            (Answers::Miss | Answers::Late, _) | (Answers::Nothing, Takes::None) => {}
            (Answers::Repeat, _) => self.bind(Takes::None, now_s),
            (Answers::Nothing, _) => self.bind(Takes::Repeats, now_s),
        }
    }

    /// The same mode is not bound anew for less than a minute more.
    fn bind(&mut self, takes: Takes, now_s: u64) {
        if self.takes != takes || now_s + 3_600 >= self.until_s + 60 {
            *self = Class { clean: 0, takes, until_s: now_s + 3_600 };
        }
    }
}
