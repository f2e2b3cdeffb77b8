//! Feed: what is written to a command's stdin.
//!
//! Decides: how the input looks there, and which signals follow it. Never holds up the attempt: a command need not read,
//! and may close its stdin or exit whenever it likes.

use serde::Serialize;
use soloist::{Context, Error, Failure, Json, limits, store::Signal};
use tokio::{io::AsyncWriteExt, net::unix::pipe, time::sleep};
use tokio_util::sync::CancellationToken;

use super::options::Signals;

/// Writes the input and what follows it, as far as the command reads it, and closes its stdin.
pub(super) async fn feed(
    stdin: Option<pipe::Sender>,
    input: &Json,
    signals: Signals,
    context: &Context,
    exited: &CancellationToken,
) -> Result<(), Failure> {
    let Some(stdin) = stdin else { return Ok(()) };
    let writing = async {
        match signals {
            Signals::None => just_input(stdin, input).await,
            Signals::Stdin => input_and_signals(stdin, input, context).await,
        }
    };
    exited.run_until_cancelled(writing).await.unwrap_or(Ok(()))
}

async fn just_input(mut stdin: pipe::Sender, input: &Json) -> Result<(), Failure> {
    // A command that closes its stdin early does not want the rest: that is no failure.
    let _ = stdin.write_all(input.as_str().as_bytes()).await;
    Ok(())
}

/// Ends only when the command has closed its stdin and there is something to write.
async fn input_and_signals(mut stdin: pipe::Sender, input: &Json, context: &Context) -> Result<(), Failure> {
    let mut line = one_line(input.as_str());
    loop {
        line.push('\n');
        if stdin.write_all(line.as_bytes()).await.is_err() {
            return Ok(());
        }
        line = signal_line(&next(context).await?);
    }
}

/// The next signal of the run. Waits for a store that is away, as the work itself does.
async fn next(context: &Context) -> Result<Signal, Failure> {
    loop {
        match context.next_signal().await {
            Ok(signal) => return Ok(signal),
            Err(Error::Unavailable { .. }) => sleep(limits::STORE_RETRY_MAX).await,
            // There will be none any more. Stdin stays open all the same: its end would tell the command something else.
            Err(Error::Closed) => std::future::pending().await,
            Err(error) => return Err(error.into()),
        }
    }
}

fn signal_line(signal: &Signal) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        signal: &'a str,
        number: u64,
        data: &'a Json,
    }
    let line = Line { signal: &signal.name, number: signal.number, data: &signal.data };
    one_line(&serde_json::to_string(&line).expect("names, numbers and JSON are JSON"))
}

/// JSON text without line breaks. They stand between its tokens only, where a space means the same; within a string
/// they are escaped.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_one_line_whatever_it_holds() {
        let data = Json::parse("{\"a\":\r\n [1.50,\n\"x\\ny\"]}").expect("JSON");
        let signal = Signal { number: 3, name: "a \"b\"\n".to_owned(), data };
        assert_eq!(
            signal_line(&signal),
            r#"{"signal":"a \"b\"\n","number":3,"data":{"a":   [1.50, "x\ny"]}}"#
        );
    }
}
