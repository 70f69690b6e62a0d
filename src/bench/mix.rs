//! The mix of requests.

use std::str::FromStr;

use rand::RngExt;
use rand::rngs::SmallRng;

/// The action of one entry of a mix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Task {
    /// Delete, then lease, so that there is always something to load.
    Cycle,
    Delete,
    Get,
    /// lease-get, and lease-set if the lease is granted.
    Lease,
    MetaDelete,
    MetaGet,
    MetaSet,
    Set,
}

/// Tasks with weights.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mix {
    /// Each with the sum of the weights up to and including its own.
    tasks: Vec<(Task, u32)>,
}

impl Task {
    const ALL: [Task; 8] = [
        Task::Cycle,
        Task::Delete,
        Task::Get,
        Task::Lease,
        Task::MetaDelete,
        Task::MetaGet,
        Task::MetaSet,
        Task::Set,
    ];

    /// The name in the notation of a mix.
    pub fn name(self) -> &'static str {
        match self {
            Task::Cycle => "cycle",
            Task::Delete => "delete",
            Task::Get => "get",
            Task::Lease => "lease",
            Task::MetaDelete => "md",
            Task::MetaGet => "mg",
            Task::MetaSet => "ms",
            Task::Set => "set",
        }
    }

    fn is_for_redis(self) -> bool {
        match self {
            Task::Delete | Task::Get | Task::Set => true,
            Task::Cycle | Task::Lease | Task::MetaDelete | Task::MetaGet | Task::MetaSet => false,
        }
    }
}

impl Mix {
    /// A mix of sets only.
    pub fn sets() -> Mix {
        Mix { tasks: vec![(Task::Set, 1)] }
    }

    /// The first task that Redis does not support.
    pub fn beyond_redis(&self) -> Option<Task> {
        self.tasks.iter().map(|(task, _)| *task).find(|task| !task.is_for_redis())
    }

    /// Draws the next task.
    #[inline]
    pub fn draw(&self, random: &mut SmallRng) -> Task {
        if let [(task, _)] = self.tasks[..] {
            return task;
        }
        let (_, sum) = self.tasks.last().expect("a mix has a task");
        let drawn = random.random_range(0..*sum);
        let (task, _) = self.tasks.iter().find(|(_, up_to)| drawn < *up_to).expect("it is below the sum");
        *task
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        let mut tasks = Vec::new();
        let mut sum: u32 = 0;
        for entry in text.split(',') {
            let (name, weight) = entry.split_once('=').unwrap_or((entry, "1"));
            let task = Task::ALL.into_iter().find(|task| task.name() == name);
            let task = task.ok_or_else(|| {
                format!("unknown request {name:?}: expected get, set, delete, mg, ms, md, lease or cycle")
            })?;
            let weight: u32 =
                weight.parse().map_err(|_| format!("invalid weight {weight}: expected a whole number"))?;
            sum = sum.checked_add(weight).ok_or("these weights are too large")?;
            if weight > 0 {
                tasks.push((task, sum));
            }
        }
        if tasks.is_empty() { Err("all weights are 0".to_owned()) } else { Ok(Mix { tasks }) }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn tasks_are_drawn_by_weight() {
        let mix: Mix = "get=6,set=3,cycle,delete=0".parse().unwrap();
        let mut random = SmallRng::seed_from_u64(7);
        let mut drawn = [0_u32; Task::ALL.len()];
        (0..100_000).for_each(|_| drawn[mix.draw(&mut random) as usize] += 1);
        assert!(drawn[Task::Get as usize].abs_diff(60_000) < 1_000);
        assert!(drawn[Task::Set as usize].abs_diff(30_000) < 1_000);
        assert!(drawn[Task::Cycle as usize].abs_diff(10_000) < 1_000);
        assert_eq!(drawn[Task::Delete as usize], 0);
    }

    #[test]
    fn invalid_mixes_are_refused() {
        for (text, why) in [
            ("", "unknown request \"\": expected get, set, delete, mg, ms, md, lease or cycle"),
            (
                "get,fetch=2",
                "unknown request \"fetch\": expected get, set, delete, mg, ms, md, lease or cycle",
            ),
            ("get=x", "invalid weight x: expected a whole number"),
            ("get=-1", "invalid weight -1: expected a whole number"),
            ("get=0", "all weights are 0"),
            ("get=4294967295,set", "these weights are too large"),
        ] {
            assert_eq!(text.parse::<Mix>(), Err(why.to_owned()), "{text}");
        }
    }

    #[test]
    fn redis_supports_get_set_and_delete() {
        assert_eq!("get,set,delete".parse::<Mix>().unwrap().beyond_redis(), None);
        assert_eq!("get,lease".parse::<Mix>().unwrap().beyond_redis(), Some(Task::Lease));
    }
}
