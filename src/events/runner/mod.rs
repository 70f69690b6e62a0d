//! The runner: carries out what the delivery of each source asks for, on a thread of its own.
//!
//! Delivery decides and does nothing; sources and sinks do and decide nothing. A source is one task. It waits
//! only in its source, so a task that is dropped has never applied events without saving their position.

mod identities;
mod task;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::task::Task;
use super::config::{Kind, SourceConfig};
use super::delivery::Delivery;
use super::position::Position;
use super::rule::Rules;
use super::sink::Sink;
use super::source::http::{Http, Posted};
use super::source::postgres::Postgres;
use crate::clock::Clock;
use crate::metrics::SourceStatus;

/// Sources that run.
#[derive(Debug)]
pub struct Runner {
    posts: BTreeMap<String, mpsc::Sender<Posted>>,
    rules: watch::Sender<Arc<Rules>>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// One source to run.
pub struct Started<S> {
    /// Its configuration.
    pub config: SourceConfig,
    /// How far it was applied by the process before.
    pub position: Option<Position>,
    /// Where it is applied.
    pub sink: S,
    /// Where its state is shown.
    pub status: Arc<SourceStatus>,
}

impl Runner {
    /// Runs sources until this is dropped. Returns once each of them was attached or has failed, or after
    /// `within`, with the names of those that were not attached.
    ///
    /// # Errors
    /// If the thread or its runtime cannot be created.
    pub fn start<S: Sink + 'static>(
        sources: Vec<Started<S>>,
        rules: Arc<Rules>,
        clock: &Clock,
        within: Duration,
    ) -> io::Result<(Runner, Vec<String>)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (rules_sender, rules_receiver) = watch::channel(rules);
        let (stop, mut stopped) = watch::channel(false);
        let mut posts = BTreeMap::new();
        let names: Vec<String> = sources.iter().map(|source| source.config.name.clone()).collect();
        let (first_sender, first) = std::sync::mpsc::channel();
        let mut tasks = JoinSet::new();
        for Started { config, position, sink, status } in sources {
            let rules = rules_receiver.clone();
            let delivery = Delivery::new(config.settings(), Arc::clone(&rules.borrow()), position);
            let task =
                Task::new(&config, delivery, sink, status, (rules, first_sender.clone()), clock.clone());
            match config.kind {
                Kind::Http(_) => {
                    let (sender, receiver) = mpsc::channel(POSTS_WAITING_MAX);
                    posts.insert(config.name.clone(), sender);
                    tasks.spawn_on(task.run(Http::new(receiver)), runtime.handle());
                }
                Kind::Postgres(settings) => {
                    let rules = Arc::clone(&rules_receiver.borrow());
                    let report =
                        identities::report(config.name.clone(), settings.clone(), rules, clock.clone());
                    tasks.spawn_on(report, runtime.handle());
                    let (name, rules) = (config.name.clone(), rules_receiver.clone());
                    let is_named = move |table: &str| {
                        let rules = rules.borrow();
                        rules.iter().any(|rule| rule.is_for(&name) && rule.is_for_table(table))
                    };
                    let source = Postgres::new(settings, clock.clone()).with_tables(is_named);
                    tasks.spawn_on(task.run(source), runtime.handle());
                }
            }
        }
        let work = move || {
            runtime.block_on(async move {
                // It fails only if the runner was dropped.
                let _ = stopped.wait_for(|stopped| *stopped).await;
                tasks.shutdown().await;
            });
        };
        let thread = thread::Builder::new().name("events".to_owned()).spawn(work)?;
        drop(first_sender);
        let unattached = unattached(names, &first, within);
        let runner = Runner { posts, rules: rules_sender, stop, thread: Some(thread) };
        Ok((runner, unattached))
    }

    /// Applies other rules from the next event on.
    pub fn set_rules(&self, rules: Arc<Rules>) {
        self.rules.send_replace(rules);
    }

    /// Where events for an HTTP source of this name are sent.
    pub fn posts(&self, name: &str) -> Option<mpsc::Sender<Posted>> {
        self.posts.get(name).cloned()
    }

    /// Stops all sources. What they have applied is saved.
    pub fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread of the sources does not panic");
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The sources that have not been attached when each of them was attached or has failed.
fn unattached(
    mut names: Vec<String>,
    first: &std::sync::mpsc::Receiver<(String, bool)>,
    within: Duration,
) -> Vec<String> {
    let start = Instant::now();
    // It ends with the time, and once no source is left that has not reported.
    while let Ok((name, is_attached)) = first.recv_timeout(within.saturating_sub(start.elapsed())) {
        if is_attached {
            names.retain(|other| *other != name);
        }
    }
    names
}

/// Requests that wait to be applied; more wait in their connections.
const POSTS_WAITING_MAX: usize = 64;
