//! Programs for a terminal: `leasehold cli` to send commands, `leasehold top` to watch a server.
//!
//! [`Cli`] parses typed lines into `request`s, `link` sends them, `reply` splits the answers into lines,
//! and `printer` prints them. Both programs work with any server that speaks memcached's text protocol.
//!
//! Neither supports several servers or pipelining; these need a client library.

mod body;
mod cli;
mod connect;
mod history;
mod json;
mod link;
mod printer;
mod prompt;
mod reply;
mod request;
mod top;
mod verbs;
mod verdict;

pub use self::cli::Cli;
pub use self::top::Top;
pub use self::verdict::FAILED;
