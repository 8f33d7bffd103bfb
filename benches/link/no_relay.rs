//! What stands for the relay where there is no `epoll`.

use crate::support::Result;

/// The hidden first argument.
pub const ROLE: &str = "__relay";

pub fn serve(_: &[String]) -> Result<()> {
    Err("the relay only runs on Linux".into())
}
