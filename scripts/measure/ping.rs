//! Messages for a server somebody else started and watches: connecting, sending and closing are told
//! apart by lines, so that a tracer can be attached to the messages alone.

use crate::client::Client;
use std::io::{self, BufRead};
use std::net::SocketAddr;

/// What may be typed.
#[derive(clap::Args)]
pub struct Arguments {
    /// Where the server listens.
    address: SocketAddr,
    /// Connections.
    connections: usize,
    /// Messages over all connections; a multiple of the connections.
    messages: u64,
    /// Bytes of a message.
    #[arg(long, default_value_t = 64)]
    size: usize,
}

/// Connects and echoes one message each, prints `ready`; after a line on standard input sends the
/// messages, prints `done`; after another line closes everything.
pub fn run(arguments: &Arguments) -> io::Result<()> {
    let mut client = Client::new(arguments.address, arguments.connections, arguments.size)?;
    let mut lines = io::stdin().lock().lines();
    println!("ready");
    lines.next().transpose()?;
    let messages = client.run_messages(arguments.messages / arguments.connections as u64)?;
    println!("done {messages}");
    lines.next().transpose()?;
    Ok(())
}
