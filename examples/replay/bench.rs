//! The state shared by all rows: the programs, the traces, and the amounts.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::server::{Kind, Program};
use crate::trace::Values;

pub struct Bench {
    pub is_large: bool,
    /// Plays traces without pace one request at a time, with all servers as they are by default.
    pub is_one_by_one: bool,
    /// Tests the program without measuring.
    pub is_quick: bool,
    /// The traces of `curves`; all if there are none.
    pub names: Vec<String>,
    pub programs: Vec<Program>,
    /// The file for the chart of `curves`.
    pub chart: Option<PathBuf>,
    /// The folder of the recorded traces, which are too large for the repository.
    pub traces: Option<PathBuf>,
    pub values: Values,
}

impl Bench {
    /// Runs the same work on a server of each kind at the same time, so that disturbances affect all of them.
    pub fn on_each<T: Send>(
        &self,
        work: impl Fn(&Program) -> io::Result<T> + Sync,
    ) -> io::Result<Vec<(Kind, T)>> {
        let results = self.at_once(&self.programs, |program| program.named(work(program)))?;
        Ok(self.programs.iter().map(|program| program.kind).zip(results).collect())
    }

    /// Runs each of `jobs` in its own thread.
    pub fn at_once<J: Sync, T: Send>(
        &self,
        jobs: &[J],
        work: impl Fn(&J) -> io::Result<T> + Sync,
    ) -> io::Result<Vec<T>> {
        thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = jobs.iter().map(|job| scope.spawn(move || work(job))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a panic ends the program")).collect()
        })
    }

    /// Runs `jobs` in as many threads as there are cores, so that none is starved. The results have the order
    /// of the jobs.
    pub fn in_turn<J: Sync, T: Send>(
        &self,
        jobs: &[J],
        work: impl Fn(&J) -> io::Result<T> + Sync,
    ) -> io::Result<Vec<T>> {
        let (next, cores) = (AtomicUsize::new(0), thread::available_parallelism()?.get());
        let take = |_: &usize| {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(job) = jobs.get(index) else { return Ok(done) };
                done.push((index, work(job)?));
            }
        };
        let workers: Vec<usize> = (0..cores).collect();
        let mut results: Vec<_> = self.at_once(&workers, take)?.into_iter().flatten().collect();
        results.sort_by_key(|(index, _)| *index);
        Ok(results.into_iter().map(|(_, result)| result).collect())
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

    /// Seconds from the first store to the mass expiry.
    pub fn lead_seconds(&self) -> u64 {
        if self.is_quick { 2 } else { 40 }
    }

    /// The time limit for a mass expiry.
    pub fn patience_ms(&self) -> u64 {
        if self.is_quick { 3_000 } else { 20_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_have_the_order_of_their_jobs_and_an_error_ends_them() {
        let bench = Bench {
            chart: None,
            is_large: false,
            is_one_by_one: false,
            is_quick: true,
            names: Vec::new(),
            programs: Vec::new(),
            traces: None,
            values: Values::new(),
        };
        let jobs: Vec<u32> = (0..100).collect();
        let doubled = bench.in_turn(&jobs, |job| Ok(2 * job)).unwrap();
        assert!(doubled.into_iter().eq((0..100).map(|job| 2 * job)));
        let failing = |job: &u32| if *job == 50 { Err(io::Error::other("no")) } else { Ok(()) };
        assert!(bench.in_turn(&jobs, failing).is_err());
    }
}
