//! What all rows share: the programs, the traces, and how much of everything.

use std::io;
use std::path::PathBuf;
use std::thread;

use crate::server::{Kind, Program};
use crate::trace::Values;

pub struct Bench {
    pub is_large: bool,
    /// Shows that it works, and measures nothing.
    pub is_quick: bool,
    pub programs: Vec<Program>,
    pub traces: PathBuf,
    pub values: Values,
}

impl Bench {
    /// Does the same with a server of each kind, in the same minute: what disturbs one disturbs them all.
    pub fn on_each<T: Send>(
        &self,
        work: impl Fn(&Program) -> io::Result<T> + Sync,
    ) -> io::Result<Vec<(Kind, T)>> {
        let results = self.at_once(&self.programs, |program| program.blamed(work(program)))?;
        Ok(self.programs.iter().map(|program| program.kind).zip(results).collect())
    }

    /// A thread for each of `jobs`.
    pub fn at_once<J: Sync, T: Send>(
        &self,
        jobs: &[J],
        work: impl Fn(&J) -> io::Result<T> + Sync,
    ) -> io::Result<Vec<T>> {
        thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = jobs.iter().map(|job| scope.spawn(move || work(job))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a panic has ended all")).collect()
        })
    }

    pub fn rounds<T>(&self, work: impl FnMut() -> io::Result<T>) -> io::Result<Vec<T>> {
        let rounds = if self.is_quick { 1 } else { 3 };
        std::iter::repeat_with(work).take(rounds).collect()
    }

    pub fn program(&self, kind: Kind) -> Option<&Program> {
        self.programs.iter().find(|program| program.kind == kind)
    }

    pub fn scaled(&self, count: u32) -> u32 {
        if self.is_quick { count / 100 } else { count }
    }

    /// From the first store of a mass expiry to its end.
    pub fn lead_seconds(&self) -> u64 {
        if self.is_quick { 2 } else { 40 }
    }

    /// For how long the end of a mass expiry is waited for.
    pub fn patience_ms(&self) -> u64 {
        if self.is_quick { 3_000 } else { 20_000 }
    }
}
