//! `soloist create`

use soloist_client::{Client, Created};
use soloist_wire::CreateBody;

use super::{Once, json};
use crate::{
    args::{Create, Name},
    exit::{Exit, Stop},
    render::{Out, due, status},
};

pub(crate) async fn create(args: Create, client: &Client, out: &Out) -> Result<Exit, Stop> {
    let body = CreateBody {
        input: Some(json("the input", &args.input)?),
        start: args.start.then_some(true),
        max_retries: args.max_retries,
        timeout_seconds: args.timeout,
        deadline_seconds: args.deadline,
        run_at: args.run_at.map(|at| at.to_string()),
    };
    let once = Once::new(args.idempotency);
    let keyed = client.keyed(&once.0);
    let (created, is_replayed) = match &args.name {
        Name::Task(key) => {
            let put = keyed.put(&key.to_string(), &body).await.map_err(|e| once.stop(e))?;
            (put.answer, put.is_replayed)
        }
        Name::Model(model) => {
            let created = keyed.create(&model.to_string(), &body).await.map_err(|e| once.stop(e))?;
            (Created::New(created.answer), created.is_replayed)
        }
    };
    let record = created.record();
    if out.json() {
        out.value(record)?;
        return Ok(Exit::Completed);
    }
    let first = match &created {
        _ if is_replayed => format!("{} was created by this request before", record.key()),
        Created::New(_) => format!("created {}", record.key()),
        Created::Exists(_) => format!("{} is there already, with the same input", record.key()),
    };
    let then = match record.run {
        0 => "it is pending: `soloist start` or its first viewer starts it".to_owned(),
        run => match &record.due_at {
            Some(at) => format!("run {run} is {}, due {}", status(&record.status), due(at)),
            None => format!("run {run} is {}", status(&record.status)),
        },
    };
    out.line(&format!("{first}; {then}"))?;
    Ok(Exit::Completed)
}
