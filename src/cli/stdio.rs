//! `tailops stdio`: for clients that start a program and speak the protocol over its standard input and output. Carries
//! their messages to a gateway and back. Standard output holds messages only, one a line; everything else goes to
//! standard error.

mod answer;
mod bridge;
mod link;
mod message;
mod session;

use std::{
    io::{self, BufRead, Read, Write},
    path::PathBuf,
    thread,
};

use bytes::Bytes;
use clap::Args;
use reqwest::Url;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

pub(super) use self::link::{check, innermost, is_inside, tls};
use self::{bridge::Bridge, link::Link};
use super::{Exit, block_on};

/// The longest line that is read. The gateway's own limit is lower.
const LONGEST_LINE: usize = 64 << 20;
/// Messages waiting to be carried or written.
const WAITING: usize = 64;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The gateway, e.g. https://gateway.example.ts.net/mcp
    #[arg(long)]
    url: Url,
    /// The file that holds the token, mode 0600; read again when the gateway refuses the token
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// Go through this proxy; those of the environment are not used
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
}

/// One line, or the news that it was too long to be one.
enum Line {
    Whole(Bytes),
    TooLong,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Exit> {
    let Arguments { url, token_file, proxy } = arguments;
    let link = Link::new(url, token_file, proxy.as_deref()).map_err(|error| Exit::with(2, error))?;
    block_on(async {
        let mut lines = read_lines();
        let (out, mut written) = write_lines();
        let mut terminate = signal(SignalKind::terminate())?;
        let bridge = Bridge::new(link, out.clone());
        let result = loop {
            tokio::select! {
                line = lines.recv() => match line {
                    Some(Line::Whole(line)) => bridge.carry(line).await,
                    Some(Line::TooLong) => drop(out.send(message::too_long(LONGEST_LINE)).await),
                    None => break Ok(()),
                },
                // Nobody reads what we write, so nobody is there to answer.
                result = &mut written => return Ok(result.unwrap_or(Ok(()))?),
                _ = terminate.recv() => break Ok(()),
            }
        };
        bridge.stop().await;
        drop((bridge, out));
        written.await.unwrap_or(Ok(()))?;
        result
    })
}

/// The lines of standard input. Read in a thread of its own: such a read cannot be given up.
fn read_lines() -> mpsc::Receiver<Line> {
    let (lines, receiver) = mpsc::channel(WAITING);
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Ok(Some(line)) = next_line(&mut input, LONGEST_LINE) {
            let blank = matches!(&line, Line::Whole(line) if line.trim_ascii().is_empty());
            if !blank && lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The next line without its end; none after the last. Keeps at most `most` bytes of it.
fn next_line(input: &mut impl BufRead, most: usize) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let limit = most as u64 + 1;
    if Read::by_ref(input).take(limit).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.pop_if(|byte| *byte == b'\n').is_none() && line.len() > most {
        drop(line);
        input.skip_until(b'\n')?;
        return Ok(Some(Line::TooLong));
    }
    line.pop_if(|byte| *byte == b'\r');
    Ok(Some(Line::Whole(line.into())))
}

/// Where messages go, and how writing ended.
fn write_lines() -> (mpsc::Sender<String>, oneshot::Receiver<io::Result<()>>) {
    let (out, mut lines) = mpsc::channel::<String>(WAITING);
    let (ended, written) = oneshot::channel();
    thread::spawn(move || {
        let mut output = io::stdout().lock();
        let mut write = || {
            while let Some(line) = lines.blocking_recv() {
                output.write_all(line.as_bytes())?;
                output.write_all(b"\n")?;
                output.flush()?;
            }
            Ok(())
        };
        let _ = ended.send(write());
    });
    (out, written)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8], most: usize) -> Vec<Option<Vec<u8>>> {
        let mut input = text;
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut input, most).unwrap() {
            lines.push(match line {
                Line::Whole(line) => Some(line.to_vec()),
                Line::TooLong => None,
            });
        }
        lines
    }

    #[test]
    fn lines_end_with_newlines_and_long_ones_are_skipped() {
        let some = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(lines(b"a\r\nbc\n\nd", 10), [some("a"), some("bc"), some(""), some("d")]);
        assert_eq!(lines(b"abc\nabcd\nabcdefgh\nab\n", 3), [some("abc"), None, None, some("ab")]);
        assert_eq!(lines(b"abcdef", 3), [None]);
        assert_eq!(lines(b"", 3), [] as [Option<Vec<u8>>; 0]);
    }
}
