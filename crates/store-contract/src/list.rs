//! Tasks are listed newest first, in pages that stay true while tasks are created.

use soloist::{NewTask, Status, TaskFilter, TaskPage, limits};

use crate::{
    Harness,
    stage::{Stage, completed, json, key},
};

fn page(limit: usize) -> TaskFilter {
    TaskFilter { limit, ..TaskFilter::default() }
}

fn ids(page: &TaskPage) -> Vec<&str> {
    page.tasks.iter().map(|task| task.key.id()).collect()
}

async fn list<H: Harness>(stage: &Stage<H>, filter: TaskFilter) -> TaskPage {
    stage.store.list(filter).await.expect("the store works")
}

/// Whatever they are called, and whatever became of them since.
pub async fn tasks_are_listed_newest_first<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for id in ["b", "10", "9", "a"] {
        stage.pending(id).await;
    }
    stage.won(&key("b")).await;
    let all = list(&stage, page(10)).await;
    assert_eq!((ids(&all), all.next_cursor), (vec!["a", "9", "10", "b"], None));
    assert_eq!((all.tasks[3].status, all.tasks[0].status), (Status::Running, Status::Pending));
    assert_eq!(all.tasks[3].input, json("{}"));
}

/// App, model, status, owner, and all of them together.
pub async fn every_part_of_a_filter_counts<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let mut id = 0;
    for app in ["a", "b"] {
        for model in ["M", "N"] {
            for owner in [None, Some("ada"), Some("bob")] {
                id += 1;
                let key = soloist::Key::new(app, model, &id.to_string()).expect("a valid key");
                let mut new = NewTask::named(key.clone(), json("1"));
                new.owner = owner.map(str::to_owned);
                stage.store.create(new, stage.now()).await.expect("created");
                if owner == Some("bob") {
                    stage.won(&key).await;
                }
            }
        }
    }
    let text = |text: &str| Some(text.to_owned());
    let filters = [
        (TaskFilter { app: text("a"), ..page(9) }, vec!["6", "5", "4", "3", "2", "1"]),
        (TaskFilter { model: text("N"), ..page(9) }, vec!["12", "11", "10", "6", "5", "4"]),
        (TaskFilter { status: Some(Status::Running), ..page(9) }, vec!["12", "9", "6", "3"]),
        (TaskFilter { status: Some(Status::Failed), ..page(9) }, vec![]),
        (TaskFilter { owner: text("ada"), ..page(9) }, vec!["11", "8", "5", "2"]),
        (TaskFilter { app: text("b"), model: text("M"), ..page(9) }, vec!["9", "8", "7"]),
        (
            TaskFilter { app: text("b"), owner: text("bob"), status: Some(Status::Running), ..page(9) },
            vec!["12", "9"],
        ),
        (
            TaskFilter {
                app: text("a"),
                model: text("N"),
                owner: text("bob"),
                status: Some(Status::Running),
                ..page(9)
            },
            vec!["6"],
        ),
        (TaskFilter { app: text("a' OR 1=1 --"), ..page(9) }, vec![]),
    ];
    for (filter, expected) in filters {
        let found = list(&stage, filter.clone()).await;
        assert_eq!((ids(&found), found.next_cursor), (expected, None), "{filter:?}");
    }
}

/// Tasks created and deleted between two pages shift nothing: each old one that stays is seen once.
pub async fn paging_is_stable_while_tasks_are_created<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for n in 0..10 {
        stage.pending(&format!("old-{n}")).await;
    }
    let (mut seen, mut before, mut pages) = (Vec::new(), None, 0);
    loop {
        let found = list(&stage, TaskFilter { before, ..page(3) }).await;
        seen.extend(found.tasks.iter().map(|task| task.key.id().to_owned()));
        pages += 1;
        stage.pending(&format!("new-{pages}")).await;
        stage.delete(&key("old-9")).await;
        before = found.next_cursor;
        if before.is_none() {
            break;
        }
    }
    let expected: Vec<String> = (0..10).rev().map(|n| format!("old-{n}")).collect();
    assert_eq!((seen, pages), (expected, 4));
}

/// A limit of nothing is one task, and large payloads make shorter pages; the cursor goes on exactly there.
pub async fn s8_a_page_is_bounded_in_tasks_and_in_bytes<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let large = json(&format!("\"{}\"", "x".repeat(limits::INPUT_MAX_BYTES - 2)));
    let count = limits::LIST_MAX_BYTES / limits::INPUT_MAX_BYTES + 4;
    for n in 0..count {
        let key = key(&n.to_string());
        // Half of the bytes stand in inputs, half in final values.
        let (input, value) = if n % 2 == 0 { (large.as_str(), "1") } else { ("1", large.as_str()) };
        stage.store.create(NewTask::named(key.clone(), json(input)), stage.now()).await.expect("created");
        let lease = stage.won(&key).await;
        stage.finish(&lease, 0, completed(value)).await;
    }
    let none = list(&stage, page(0)).await;
    assert_eq!((none.tasks.len(), none.next_cursor.is_some()), (1, true));
    let first = list(&stage, page(limits::LIST_MAX_TASKS + 1)).await;
    assert_eq!((first.tasks.len(), first.next_cursor.is_some()), (count - 4, true));
    let rest = list(&stage, TaskFilter { before: first.next_cursor, ..page(100) }).await;
    assert_eq!((ids(&rest), rest.next_cursor), (vec!["3", "2", "1", "0"], None));
}
