//! `soloist signal`

use soloist_client::Client;

use super::json;
use crate::{
    args::Signal,
    exit::{Exit, Stop},
    render::Out,
};

pub(crate) async fn signal(args: Signal, client: &Client, out: &Out) -> Result<Exit, Stop> {
    let data = json("the data", &args.data)?;
    let answer = client.signal(&args.key.to_string(), &args.name, &data).await?;
    if out.json() {
        out.value(&answer)?;
    } else {
        out.line(&format!("signal {} of run {} of {} is on record", answer.number, answer.run, args.key))?;
    }
    Ok(Exit::Completed)
}
