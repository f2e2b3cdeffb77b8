//! What a PostgreSQL database has on record, read by SQL of its own.

use serde_json::value::RawValue;
use tokio_postgres::NoTls;

use super::{Row, Task};

/// Every task with its log, as of one moment.
pub(super) async fn read(url: &str) -> Vec<(Task, Vec<Row>)> {
    let (mut client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let driving = tokio::spawn(connection);
    // One moment for all queries.
    let moment = client.build_transaction().read_only(true);
    let moment =
        moment.isolation_level(tokio_postgres::IsolationLevel::RepeatableRead).start().await.unwrap();
    // What a deleted task has left is cleared away later.
    let strays = "SELECT count(*) FROM soloist.event_batch AS batch
                   WHERE NOT EXISTS (SELECT 1 FROM soloist.task WHERE number = batch.task)
                     AND NOT EXISTS (SELECT 1 FROM soloist.deleted WHERE deleted.task = batch.task)";
    let strays: i64 = moment.query_one(strays, &[]).await.unwrap().get(0);
    assert_eq!(strays, 0, "S3: events of no task");
    let tasks = "SELECT number, app || '/' || model || '/' || id, status, run, epoch, last_seq, final_value, error_type,
                        attempt::bigint, retry_count::bigint, node
                   FROM soloist.task WHERE status <> 'deleted'";
    let mut read = Vec::new();
    for row in moment.query(tasks, &[]).await.unwrap() {
        let count = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap();
        let task = Task {
            name: row.get(1),
            status: row.get(2),
            run: count(3),
            epoch: count(4),
            last_seq: count(5),
            final_value: row.get(6),
            error_type: row.get(7),
            attempt: count(8),
            retry_count: count(9),
            node: row.get(10),
        };
        let batches = "SELECT first_seq, last_seq, run, epoch, events FROM soloist.event_batch
                        WHERE task = $1 ORDER BY last_seq";
        let batches = moment.query(batches, &[&row.get::<_, i64>(0)]).await.unwrap();
        let mut log = Vec::new();
        for batch in &batches {
            let count = |at: usize| u64::try_from(batch.get::<_, i64>(at)).unwrap();
            let events: Vec<Vec<&RawValue>> = serde_json::from_str(batch.get(4)).unwrap();
            assert_eq!(count(0) + events.len() as u64, count(1) + 1, "S3: a batch of {}", task.name);
            for (event, seq) in events.iter().zip(count(0)..) {
                let text = |at: usize| serde_json::from_str::<String>(event[at].get()).unwrap();
                let data = if event.len() > 3 { text(3) } else { event[2].get().to_owned() };
                log.push(Row { seq, run: count(2), epoch: count(3), kind: text(1), data });
            }
        }
        read.push((task, log));
    }
    drop(moment);
    drop(client);
    driving.abort();
    read
}
