//! Programs for a terminal: `leasehold cli` to talk to it, `leasehold top` to watch it.
//!
//! A [`Cli`] makes `question`s of what is typed, `link` asks them, `reply` cuts the answers into lines, and
//! `printer` prints them. Neither program is particular about its server: any that speaks memcached's text
//! protocol will do.
//!
//! Deliberately absent: rings of servers, and pipelines. Who needs these writes a program.

mod body;
mod cli;
mod connect;
mod history;
mod json;
mod link;
mod printer;
mod prompt;
mod question;
mod reply;
mod top;
mod verbs;
mod verdict;

pub use self::cli::Cli;
pub use self::top::Top;
pub use self::verdict::FAILED;
